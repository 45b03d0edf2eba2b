use super::json;
use super::screen::{Sheet, table};
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter};
use crate::ink::Ink;

fn party(pid: i32, thread: u32) -> Party {
    Party { pid, process: "shop.py".into(), thread: Some(thread), is_dead: false }
}

fn label(kind: &str, name: Option<&str>) -> Label {
    let users = vec![Party { thread: None, ..party(4711, 4711) }];
    Label { kind: kind.into(), name: name.map(Into::into), place: (77, 0x1a40), users }
}

fn waiter(pid: i32, purpose: &'static str, seconds: f64) -> Waiter {
    Waiter { party: party(pid, 4720), purpose, is_async: purpose == "get", seconds }
}

fn lock(name: Option<&str>, holders: Vec<Holder>, waiters: Vec<Waiter>) -> Object {
    let state = if holders.is_empty() { "free" } else { "held" };
    Object { label: label("Lock", name), state: state.into(), holders, waiters }
}

fn shop() -> Snapshot {
    let parent = Party { thread: None, ..party(4711, 4711) };
    let holder = |party| Holder { party, count: 1 };
    let dead = Party { process: String::new(), is_dead: true, ..party(4699, 4699) };
    let mut snapshot = Snapshot {
        pools: vec![Pool { parent, workers: 2, running: 2, queued: 1_234_567, ended: 89 }],
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

fn sheet(columns: usize, rows: impl Into<Option<usize>>) -> Sheet {
    Sheet { columns, rows: rows.into(), ink: Ink::Colourless }
}

#[track_caller]
fn assert_screen(lines: &[String], expected: &str) {
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
    4712/4720 shop.py waits 61 s to put
  empty             Queue                     0         –         9         9
    shut down

OBJECTS                                state         held by
  (77:0x1a40)       Lock               held          4711/4715 shop.py
    4713/4720 shop.py waits 3.1 s to acquire
    4712/4720 shop.py waits 0.2 s to acquire
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
    assert_eq!(*cut, format!("  and {} more", super::screen::number(3003 - shown as u64)));
    assert!(lines.iter().any(|line| line.contains("(77:0x1a40)")), "what is waited for comes first");
}

#[test]
fn many_waiters_are_counted() {
    let mut snapshot = Snapshot::default();
    let waiters = (0..40).map(|n| waiter(5000 + n, "acquire", f64::from(n))).collect();
    snapshot.objects.push(lock(Some("busy"), vec![], waiters));
    snapshot.sort();
    let lines = table(&snapshot, "", sheet(80, 24));
    assert_eq!(lines[4], "    5039/4720 shop.py waits 39 s to acquire");
    assert_eq!(lines[7], "    and 37 more");
    assert_eq!(table(&snapshot, "", sheet(80, None)).len(), 44, "without a limit all are shown");
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
    assert_eq!(lines[2], "Nothing is shared: no pool, no named object, nobody waits.");
    assert_eq!(
        json::object(&Snapshot::default()),
        r#"{"pools": [], "queues": [], "objects": [], "unreadable": []}"#
    );
}

#[test]
fn coroutines_and_colours_are_told() {
    let mut snapshot = shop();
    snapshot.queues[1].waiters.push(waiter(4712, "get", 7200.0));
    snapshot.objects[1].waiters.push(waiter(4713, "wait", 200_000.0));
    let coloured = Sheet { ink: Ink::Coloured, ..sheet(100, None) };
    let text = table(&snapshot, "", coloured).join("\n");
    assert!(text.contains("\x1b[34m    4712/4720 shop.py waits 2 h to get, in a coroutine\x1b[0m"), "{text}");
    assert!(text.contains("4713/4720 shop.py waits 2 d\x1b[0m"), "{text}");
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
fn json_has_everything() {
    let text = json::object(&shop());
    for part in [
        r#"{"pools": [{"parent": {"pid": 4711, "process": "shop.py", "thread": null, "dead": false}, "workers": 2"#,
        r#""running": 2, "queued": 1234567, "ended": 89}]"#,
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
