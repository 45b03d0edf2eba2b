use super::json;
use super::line::width;
use super::screen::{Sheet, table};
use super::server::{Numbers, Rates, Server, Serving};
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter, Worker};
use crate::ink::Ink;
use manyhands_server::ledger::TABLE;

pub(super) fn party(pid: i32, thread: u32) -> Party {
    Party { pid, process: "shop.py".into(), thread: Some(thread), is_dead: false }
}

fn label(kind: &str, name: Option<&str>) -> Label {
    let users = vec![Party { thread: None, ..party(4711, 4711) }];
    Label { kind: kind.into(), name: name.map(Into::into), place: (77, 0x1a40), users }
}

fn waiter(pid: i32, purpose: &'static str, seconds: f64) -> Waiter {
    Waiter { party: party(pid, 4720), purpose, is_async: purpose == "get", seconds }
}

fn crew() -> Vec<Worker> {
    let worker = |pid, task: Option<&str>, cpu_share| Worker {
        pid,
        task: task.map(Into::into),
        task_s: task.map(|_| 3.13),
        cpu_s: 12.3,
        cpu_share,
        rss_bytes: 45_000_000 + u64::try_from(pid).expect("a positive number"),
    };
    vec![worker(4721, Some("bake"), Some(0.98)), worker(4722, None, None)]
}

pub(super) fn lock(name: Option<&str>, holders: Vec<Holder>, waiters: Vec<Waiter>) -> Object {
    let state = if holders.is_empty() { "free" } else { "held" };
    Object { label: label("Lock", name), state: state.into(), holders, waiters }
}

pub(super) fn shop() -> Snapshot {
    let parent = Party { thread: None, ..party(4711, 4711) };
    let holder = |party| Holder { party, count: 1 };
    let dead = Party { process: String::new(), is_dead: true, ..party(4699, 4699) };
    let mut snapshot = Snapshot {
        pools: vec![Pool {
            place: (77, 0x2000),
            parent,
            workers: 2,
            running: 2,
            queued: 1_234_567,
            ended: 89,
            crew: crew(),
        }],
        servers: vec![],
        queues: vec![
            Queue {
                label: label("Queue", Some("empty")),
                size: 0,
                maxsize: None,
                puts: 9,
                gets: 9,
                is_closed: true,
                waiters: vec![],
            },
            Queue {
                label: label("JoinableQueue", Some("orders")),
                size: 100,
                maxsize: Some(100),
                puts: 1034,
                gets: 934,
                is_closed: false,
                waiters: vec![waiter(4712, "put", 61.0)],
            },
        ],
        objects: vec![
            Object {
                label: label("Event", Some("open")),
                state: "set".into(),
                holders: vec![],
                waiters: vec![],
            },
            lock(Some("till"), vec![holder(dead)], vec![]),
            lock(
                None,
                vec![holder(party(4711, 4715))],
                vec![waiter(4712, "acquire", 0.25), waiter(4713, "acquire", 3.125)],
            ),
        ],
        unreadable: vec![Unreadable {
            name: "manyhands:Lock:\x1b[2Jevil".into(),
            users: vec![party(5000, 5000)],
            reason: "not a site: its magic number is 0".into(),
        }],
    };
    snapshot.sort();
    snapshot
}

pub(super) fn sheet(columns: usize, rows: impl Into<Option<usize>>) -> Sheet {
    Sheet { columns, rows: rows.into(), ink: Ink::Colourless }
}

#[track_caller]
pub(super) fn assert_screen(lines: &[String], expected: &str) {
    let screen = lines.join("\n");
    assert_eq!(screen, expected.trim_matches('\n'), "\n{screen}\n");
}

#[test]
fn a_table_at_80_columns() {
    let expected = "
manyhands top  1 process · 1 pool · 2 queues · 3 objects · 3 waiting           q

POOLS                                   workers   running    queued     ended
  4711 shop.py                                2         2 1,234,567        89

QUEUES                                     size   maxsize      puts      gets
  orders            JoinableQueue           100       100     1,034       934
    4712/4720 shop.py waiting 61 s to put
  empty             Queue                     0         –         9         9
    shut down

OBJECTS                                state         held by
  (77:0x1a40)       Lock               held          4711/4715 shop.py
    4713/4720 shop.py waiting 3.1 s to acquire
    4712/4720 shop.py waiting 0.2 s to acquire
  till              Lock               held          4699 (dead)
  open              Event              set

UNREADABLE                             open in       why
  manyhands:Lock:\u{fffd}[2Jevil              5000          not a site: its magic numb…
";
    assert_screen(&table(&shop(), "q", sheet(80, None)), expected);
}

#[test]
fn wider_sheets_give_names_and_reasons_more_room() {
    let lines = table(&shop(), "q: quit", sheet(120, None));
    assert!(lines[0].ends_with("  q: quit"), "{}", lines[0]);
    assert_eq!(lines[0].chars().count(), 120);
    let evil = lines.last().expect("lines");
    assert!(evil.ends_with("not a site: its magic number is 0"), "{evil}");
}

#[test]
fn a_table_is_cut_to_its_rows_and_says_what_is_missing() {
    let mut many = shop();
    let more = (0..3000).map(|n| lock(Some(&format!("lock {n:04}")), vec![], vec![]));
    many.objects.extend(more);
    many.sort();
    for rows in [1, 2, 5, 10, 17, 24, 40] {
        let lines = table(&many, "q", sheet(80, rows));
        assert!(lines.len() <= rows, "{} lines in {rows} rows", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80));
    }
    let lines = table(&many, "q", sheet(80, 24));
    assert_eq!(lines.len(), 24, "no row is wasted: {lines:#?}");
    let cut = lines.iter().find(|line| line.starts_with("  and ")).expect("a line that says how many more");
    let shown = lines.iter().filter(|line| line.contains(" Lock ") || line.contains(" Event ")).count();
    assert_eq!(*cut, format!("  and {} more", super::figure::number(3003 - shown as u64)));
    assert!(lines.iter().any(|line| line.contains("(77:0x1a40)")), "what is waited for comes first");
}

#[test]
fn many_waiters_are_counted() {
    let mut snapshot = Snapshot::default();
    let waiters = (0..40).map(|n| waiter(5000 + n, "acquire", f64::from(n))).collect();
    snapshot.objects.push(lock(Some("busy"), vec![], waiters));
    snapshot.sort();
    let lines = table(&snapshot, "", sheet(80, 24));
    assert_eq!(lines[4], "    5039/4720 shop.py waiting 39 s to acquire");
    assert_eq!(lines[7], "    and 37 more");
    assert_eq!(table(&snapshot, "", sheet(80, None)).len(), 44, "without a limit all are shown");
}

#[test]
fn what_is_longer_than_its_room_is_shown_in_part() {
    let mut snapshot = Snapshot::default();
    let waiters = || (0..3).map(|n| waiter(5000 + n, "acquire", 9.0)).collect();
    snapshot.objects = vec![lock(Some("busy"), vec![], waiters())];
    let shown = |snapshot: &Snapshot| table(snapshot, "", sheet(80, 6)).split_off(3);
    let first =
        ["  busy              Lock               free", "    5000/4720 shop.py waiting 9.0 s to acquire"];
    assert_eq!(shown(&snapshot), [&first[..], &["    …"]].concat());
    snapshot.objects.push(lock(Some("late"), vec![], waiters()));
    assert_eq!(shown(&snapshot), [&first[..], &["  and 1 more"]].concat());
}

#[test]
fn redrawing_erases_before_it_writes() {
    use super::screen::redrawn;
    let lines = ["first", "second", "last"].map(str::to_owned);
    assert_eq!(redrawn(&lines), "\x1b[H\x1b[Kfirst\n\x1b[Ksecond\n\x1b[Jlast");
    assert_eq!(redrawn(&lines[..1]), "\x1b[H\x1b[Jfirst");
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let lines = table(&Snapshot::default(), "", sheet(80, 24));
    assert_eq!(lines[2], "Nothing to show: no pools, no servers, no named objects, nobody waiting.");
    assert_eq!(
        json::object(&Snapshot::default()),
        r#"{"pools": [], "servers": [], "queues": [], "objects": [], "unreadable": []}"#
    );
}

#[test]
fn coroutines_and_colours_are_told() {
    let mut snapshot = shop();
    snapshot.queues[1].waiters.push(waiter(4712, "get", 7200.0));
    snapshot.objects[1].waiters.push(waiter(4713, "wait", 200_000.0));
    let coloured = Sheet { ink: Ink::Coloured, ..sheet(100, None) };
    let text = table(&snapshot, "", coloured).join("\n");
    assert!(
        text.contains("\x1b[34m    4712/4720 shop.py waiting 2 h to get, in a coroutine\x1b[0m"),
        "{text}"
    );
    assert!(text.contains("4713/4720 shop.py waiting 2 d\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[1mOBJECTS"), "{text}");
}

#[test]
fn names_are_cut_by_columns_and_cannot_move_the_cursor() {
    let mut snapshot = Snapshot::default();
    snapshot.objects.push(lock(Some("注文注文注文注文注文注文"), vec![], vec![]));
    snapshot.objects.push(lock(Some("a\r\n\tb\u{9b}2J"), vec![], vec![]));
    let lines = table(&snapshot, "", sheet(80, None));
    assert_eq!(lines[3], "  注文注文注文注文… Lock               free");
    assert!(!lines[4].contains(|letter: char| letter.is_control()), "{:?}", lines[4]);
}

#[test]
fn letters_are_as_wide_as_terminals_show_them() {
    for (text, columns) in [
        ("", 0),
        ("till", 4),
        ("Ka\u{308}se", 4),
        ("注文", 4),
        ("ｶ", 1),
        ("Ａ", 2),
        ("한", 2),
        ("⌚✅⭐", 6),
        ("☎❤…×–", 5),
        ("🦀🏴", 4),
        ("\u{30000}", 2),
    ] {
        assert_eq!(width(text), columns, "{text:?}");
    }
}

#[test]
fn what_terminals_do_not_agree_on_is_left_out() {
    let mut snapshot = Snapshot::default();
    let name = "\u{202e}a\u{200b}b\u{fe0f}c\u{feff}\u{2028}d\u{2067}\u{e0041}\u{ad}";
    snapshot.objects.push(lock(Some(name), vec![], vec![]));
    let lines = table(&snapshot, "", sheet(80, None));
    assert_eq!(lines[3], "  abc\u{fffd}d             Lock               free");
}

#[test]
fn a_narrow_heading_says_less() {
    let heading = |columns| table(&shop(), "q: quit", sheet(columns, None)).swap_remove(0);
    assert_eq!(heading(60), "manyhands top  1 process · 1 pool · 3 waiting        q: quit");
    assert_eq!(heading(48), "manyhands top  1 process · 3 waiting     q: quit");
    assert_eq!(heading(25), "manyhands top  1… q: quit");
    assert_eq!(heading(20), "manyhands top  q: q…");
    assert_eq!(heading(0), "");
}

/// Marsaglia's xorshift: the same snapshots in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn text(&mut self) -> String {
        let texts = [
            String::new(),
            "till".into(),
            "a name that is longer than its column".repeat(9),
            "注文".repeat(90),
            "👩\u{200d}👧❤\u{fe0f}🏳\u{fe0f}⌚✅⭐".repeat(30),
            "\x1b[2J\x1b[31m\r\n\t\x08\u{9b}2J\0\u{7f}".repeat(9),
            "e\u{301}\u{301}".repeat(99),
            "\u{202e}right to left\u{200f}\u{2028}\u{2029}".repeat(9),
            "שָׁלוֹם नमस्ते สวัสดี 안녕하세요".repeat(9),
            " ".repeat(150),
            "…".repeat(150),
        ];
        texts[self.roll(texts.len())].clone()
    }

    fn number(&mut self) -> u64 {
        [0, 1, 999, 12_345, 9_999_999, 10_000_000, u64::MAX][self.roll(7)]
    }

    fn some<T>(&mut self, fewer_than: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.roll(fewer_than)).map(|_| one(self)).collect()
    }

    fn party(&mut self) -> Party {
        Party {
            pid: [1, 4_194_303, i32::MAX, i32::MIN][self.roll(4)],
            process: self.text(),
            thread: [None, Some(7), Some(u32::MAX)][self.roll(3)],
            is_dead: self.roll(4) == 0,
        }
    }

    fn label(&mut self) -> Label {
        let name = Some(self.text()).filter(|_| self.roll(3) > 0);
        Label {
            kind: self.text(),
            name,
            place: (self.number(), self.number()),
            users: self.some(4, Self::party),
        }
    }

    fn waiter(&mut self) -> Waiter {
        Waiter {
            party: self.party(),
            purpose: ["acquire", "wait", "get", "receive"][self.roll(4)],
            is_async: self.roll(2) == 0,
            seconds: [0.0, 9.96, 5969.0, 1e6, 1e18, f64::MAX][self.roll(6)],
        }
    }

    fn worker(&mut self) -> Worker {
        Worker {
            pid: [1, 4_194_303, i32::MAX][self.roll(3)],
            task: Some(self.text()).filter(|_| self.roll(2) > 0),
            task_s: [None, Some(0.0), Some(9.96), Some(f64::MAX)][self.roll(4)],
            cpu_s: [0.0, 12.3, 1e9, f64::MAX][self.roll(4)],
            cpu_share: [None, Some(0.0), Some(0.99), Some(64.0)][self.roll(4)],
            rss_bytes: self.number(),
        }
    }

    fn pool(&mut self) -> Pool {
        Pool {
            place: (self.number(), self.number()),
            parent: self.party(),
            workers: self.number(),
            running: self.roll(1000) as u64,
            queued: self.number() / 2,
            ended: self.number(),
            crew: self.some(30, Self::worker),
        }
    }

    fn serving(&mut self) -> Serving {
        let numbers = TABLE.iter().fold(Numbers::default(), |all, row| all.with(row.0, self.number()));
        let rate = [0.0, 9.96, 1e6, f64::MAX][self.roll(4)];
        let rates = Rates { accepted: rate, served: rate, refused: rate };
        Serving {
            pid: [1, 4_194_303, i32::MAX][self.roll(3)],
            phase: ["starting", "serving", "ending"][self.roll(3)],
            answered_s: [None, Some(0.0), Some(f64::MAX)][self.roll(3)],
            numbers,
            rates: Some(rates).filter(|_| self.roll(2) > 0),
        }
    }

    fn server(&mut self) -> Server {
        Server {
            place: self.number(),
            parent: self.party(),
            address: self.text(),
            workers: self.text(),
            whole: self.serving(),
            processes: self.some(20, Self::serving),
        }
    }

    fn queue(&mut self) -> Queue {
        Queue {
            label: self.label(),
            size: self.number(),
            maxsize: Some(self.number()).filter(|most| *most > 0),
            puts: self.number(),
            gets: self.number(),
            is_closed: self.roll(2) == 0,
            waiters: self.some(8, Self::waiter),
        }
    }

    fn object(&mut self) -> Object {
        Object {
            label: self.label(),
            state: self.text(),
            holders: self.some(8, |dice| Holder { party: dice.party(), count: dice.number() }),
            waiters: self.some(8, Self::waiter),
        }
    }

    /// What nobody would expect.
    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot {
            pools: self.some(6, Self::pool),
            servers: self.some(6, Self::server),
            queues: self.some(6, Self::queue),
            objects: self.some(30, Self::object),
            unreadable: self.some(4, |dice| Unreadable {
                name: dice.text(),
                users: dice.some(30, Self::party),
                reason: dice.text(),
            }),
        };
        snapshot.sort();
        snapshot
    }
}

/// Without the escape sequences that colour text.
fn uncoloured(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').expect("a colour").1)
}

#[test]
fn whatever_there_is_fits_on_the_sheet() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..25 {
        let snapshot = dice.snapshot();
        for columns in [0, 1, 10, 22, 40, 60, 80, 120] {
            for rows in [None, Some(1), Some(24)] {
                let plain = table(&snapshot, "q: quit", sheet(columns, rows));
                let wide = plain.iter().find(|line| width(line) > columns);
                assert_eq!(wide, None, "round {round}, {columns} columns, {rows:?} rows");
                assert!(rows.is_none_or(|rows| plain.len() <= rows));
                assert!(!plain.iter().any(|line| line.contains(char::is_control)), "{plain:#?}");
                let coloured = Sheet { ink: Ink::Coloured, ..sheet(columns, rows) };
                let coloured = table(&snapshot, "q: quit", coloured);
                let coloured: Vec<String> = coloured.iter().map(|line| uncoloured(line)).collect();
                assert_eq!(coloured, plain, "colours change nothing else");
            }
        }
    }
}

#[test]
fn json_has_everything() {
    let text = json::object(&shop());
    for part in [
        r#"{"pools": [{"place": "77:0x2000", "parent": {"pid": 4711, "process": "shop.py", "thread": null, "dead": false}, "workers": 2"#,
        r#""running": 2, "queued": 1234567, "ended": 89, "crew": [{"pid": 4721, "task": "bake", "task_s": 3.130, "cpu_s": 12.30, "rss_bytes": 45004721}"#,
        r#"{"pid": 4722, "task": null, "#,
        r#"{"kind": "JoinableQueue", "name": "orders", "place": "77:0x1a40", "users": [{"pid": 4711,"#,
        r#""size": 100, "maxsize": 100, "puts": 1034, "gets": 934, "closed": false, "waiters": [{"party": {"#,
        r#""purpose": "put", "asyncio": false, "seconds": 61.000}]"#,
        r#""maxsize": null"#,
        r#""name": null, "place": "77:0x1a40""#,
        r#""state": "held", "holders": [{"party": {"pid": 4711, "process": "shop.py", "thread": 4715, "dead": false}, "count": 1}]"#,
        r#""unreadable": [{"name": "manyhands:Lock:\u001b[2Jevil", "reason": "not a site"#,
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains('\n'));
}
