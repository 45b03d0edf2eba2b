use super::super::keys::Key;
use super::super::screen::{Sheet, screen};
use super::super::server::tests::server;
use super::super::tests::{lock, shop};
use super::{Answer, Order, View};
use crate::ink::Ink;
use crate::top::Snapshot;
use manyhands_server::ledger::Count;

fn sheet(columns: usize, rows: usize) -> Sheet {
    Sheet { columns, rows: Some(rows), ink: Ink::Colourless }
}

/// Fifty locks beside what is in the shop.
fn many() -> Snapshot {
    let mut many = shop();
    many.objects.extend((0..50).map(|n| lock(Some(&format!("lock {n:02}")), vec![], vec![])));
    many.sort();
    many
}

/// A view that has seen a snapshot drawn, and that snapshot.
fn seen(snapshot: Snapshot) -> (View, Snapshot) {
    let (mut view, mut snapshot) = (View::default(), snapshot);
    view.take_in(&mut snapshot, 10.0);
    let _ = screen(&snapshot, &mut view, sheet(80, 24));
    (view, snapshot)
}

fn press(view: &mut View, keys: &[Key]) {
    for key in keys {
        assert_eq!(view.press(*key), Answer::Draw, "{key:?}");
    }
}

fn typed(view: &mut View, text: &str) {
    press(view, &text.chars().map(Key::Letter).collect::<Vec<_>>());
}

#[test]
fn q_ends_and_an_unknown_key_looks_again() {
    let mut view = View::default();
    assert_eq!(view.press(Key::Letter('q')), Answer::Quit);
    assert_eq!(view.press(Key::Letter('x')), Answer::Look);
}

#[test]
fn pages_down_show_every_row_below_its_titles() {
    for (columns, rows) in [(40, 24), (50, 24), (80, 24), (120, 10), (50, 7)] {
        let (mut view, snapshot) = seen(many());
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let lines = screen(&snapshot, &mut view, sheet(columns, rows));
            assert_eq!(lines.len(), rows);
            let found = lines.iter().filter_map(|line| line.trim_start().strip_prefix("lock "));
            names.extend(found.map(|rest| rest[..2].to_owned()));
            press(&mut view, &[Key::PageDown]);
        }
        assert_eq!(names.len(), 50, "{columns} × {rows}");
        let lines = screen(&snapshot, &mut view, sheet(columns, rows));
        assert!(lines[rows - 1].contains(" of "), "{lines:#?}");
        press(&mut view, &[Key::Home]);
        let lines = screen(&snapshot, &mut view, sheet(columns, rows));
        assert!(lines[rows - 1].starts_with("↑↓ scroll"), "{lines:#?}");
    }
}

#[test]
fn titles_stay_above_their_rows() {
    let (mut view, snapshot) = seen(many());
    press(&mut view, &[Key::PageDown, Key::Down]);
    let lines = screen(&snapshot, &mut view, sheet(80, 24));
    assert!(lines[1].starts_with("OBJECTS "), "{lines:#?}");
    press(&mut view, &[Key::Up, Key::PageUp]);
    assert_eq!(view.offset, None, "back where it began");
}

#[test]
fn what_fits_does_not_scroll() {
    let (mut view, snapshot) = seen(shop());
    press(&mut view, &[Key::Down, Key::End]);
    let lines = screen(&snapshot, &mut view, sheet(80, 40));
    assert_eq!(view.offset, None);
    assert_eq!(lines[39], "/ filter · s sort: waiting · p pool");
}

#[test]
fn orders_follow_each_other() {
    let (mut view, snapshot) = seen(shop());
    let names = |view: &View| -> Vec<Option<String>> {
        view.of(&snapshot).objects.into_iter().map(|object| object.label.name).collect()
    };
    let [till, open] = ["till", "open"].map(|name| Some(name.to_owned()));
    assert_eq!(names(&view), [None, till.clone(), open.clone()]);
    for (order, expected) in [
        (Order::Name, [None, open.clone(), till.clone()]),
        (Order::Kind, [open.clone(), None, till.clone()]),
        (Order::Size, [None, till.clone(), open.clone()]),
        (Order::Waiting, [None, till, open]),
    ] {
        press(&mut view, &[Key::Letter('s')]);
        assert_eq!((view.order, names(&view)), (order, expected.to_vec()));
    }
}

#[test]
fn servers_have_rates_from_the_second_look_on_and_can_be_filtered() {
    let mut snapshot = Snapshot { servers: vec![server()], ..Snapshot::default() };
    let mut view = View::default();
    view.take_in(&mut snapshot, 10.0);
    assert_eq!(snapshot.servers[0].whole.rates, None);
    let whole = &mut snapshot.servers[0].whole;
    whole.numbers = whole.numbers.with(Count::Served, 4711 + 30);
    view.take_in(&mut snapshot, 12.0);
    let rates = snapshot.servers[0].whole.rates.expect("two looks");
    assert_eq!((rates.served, rates.accepted), (15.0, 0.0));
    for (filter, count) in [("9000", 1), ("PROCESS", 1), ("4733", 1), ("shop.py", 1), ("thread", 0)] {
        view.filter = filter.to_owned();
        assert_eq!(view.of(&snapshot).servers.len(), count, "{filter}");
    }
}

#[test]
fn a_filter_is_typed_rubbed_out_kept_and_given_up() {
    let (mut view, snapshot) = seen(many());
    press(&mut view, &[Key::Letter('/')]);
    typed(&mut view, "LOCK 07q");
    let lines = screen(&snapshot, &mut view, sheet(50, 24));
    assert!(lines[23].starts_with("/LOCK 07q_"), "{lines:#?}");
    assert_eq!(lines[2], "Nothing matches the filter.");
    press(&mut view, &[Key::Backspace, Key::Enter]);
    let found = view.of(&snapshot);
    assert_eq!((found.objects.len(), found.pools.len(), found.queues.len()), (1, 0, 0));
    let lines = screen(&snapshot, &mut view, sheet(50, 24));
    assert_eq!(lines[23], "/ filter: LOCK 07 · s sort: waiting · p pool");
    press(&mut view, &[Key::Escape]);
    assert_eq!(view.of(&snapshot), snapshot);
}

#[test]
fn filters_know_classes_parties_and_tasks() {
    let (mut view, snapshot) = seen(shop());
    let mut count = |filter: &str| {
        view.filter = filter.to_owned();
        let found = view.of(&snapshot);
        [found.pools.len(), found.queues.len(), found.objects.len(), found.unreadable.len()]
    };
    assert_eq!(count("event"), [0, 0, 1, 0]);
    assert_eq!(count("4712"), [0, 1, 1, 0]);
    assert_eq!(count("bake"), [1, 0, 0, 0]);
    assert_eq!(count("evil"), [0, 0, 0, 1]);
    assert_eq!(count("SHOP.py"), [1, 2, 3, 1]);
}

#[test]
fn a_pool_has_a_page() {
    let (mut view, mut snapshot) = seen(shop());
    snapshot.pools[0].crew[0].cpu_s += 0.49;
    view.take_in(&mut snapshot, 10.5);
    press(&mut view, &[Key::Letter('p')]);
    let lines = screen(&snapshot, &mut view, sheet(50, 8));
    let expected = "
pool of 4711 shop.py                       q: quit
2 workers · 2 running · 1,234,567 queued

WORKERS   task             running    CPU   memory
 4721     bake               3.1 s   98 %    45 MB
 4722     –                      –    0 %    45 MB

Esc back · / filter · s sort: waiting · p next";
    assert_eq!(lines.join("\n"), expected[1..]);
    let narrow = screen(&snapshot, &mut view, sheet(40, 8));
    assert_eq!(narrow[4], " 4721     bake             98 %    45 MB");
    let wide = screen(&snapshot, &mut view, sheet(60, 8));
    assert_eq!(wide[4], " 4721     bake                3.1 s   98 %     13 s    45 MB");
    press(&mut view, &[Key::Right]);
    assert!(view.page.is_some(), "the only one follows itself");
    press(&mut view, &[Key::Escape]);
    assert!(screen(&snapshot, &mut view, sheet(50, 8))[0].starts_with("manyhands top"));
}

#[test]
fn a_page_goes_with_its_pool() {
    let (mut view, mut snapshot) = seen(shop());
    press(&mut view, &[Key::Letter('p')]);
    snapshot.pools.clear();
    view.take_in(&mut snapshot, 11.0);
    assert!(screen(&snapshot, &mut view, sheet(80, 24))[0].starts_with("manyhands top"));
    press(&mut view, &[Key::Letter('p')]);
    assert_eq!(view.page, None, "there is none");
}

#[test]
fn pages_are_those_of_the_pools_that_the_filter_leaves() {
    let mut two = shop();
    let mut other = two.pools[0].clone();
    (other.place, other.crew) = ((77, 0x8000), vec![]);
    two.pools.insert(0, other);
    let (mut view, snapshot) = seen(two);
    press(&mut view, &[Key::Letter('p')]);
    assert_eq!(view.page, Some((77, 0x8000)));
    press(&mut view, &[Key::Letter('p')]);
    assert_eq!(view.page, Some((77, 0x2000)));
    press(&mut view, &[Key::Left]);
    assert_eq!(view.page, Some((77, 0x8000)));
    press(&mut view, &[Key::Escape, Key::Letter('/')]);
    typed(&mut view, "bake");
    let _ = screen(&snapshot, &mut view, sheet(80, 24));
    press(&mut view, &[Key::Enter, Key::Letter('p')]);
    assert_eq!(view.page, Some((77, 0x2000)));
}

#[test]
fn workers_are_sorted() {
    let (mut view, snapshot) = seen(shop());
    let mut pids = |order| {
        view.order = order;
        view.crew(&snapshot.pools[0]).iter().map(|worker| worker.pid).collect::<Vec<_>>()
    };
    assert_eq!(pids(Order::Waiting), [4721, 4722]);
    assert_eq!(pids(Order::Name), [4722, 4721]);
    assert_eq!(pids(Order::Kind), [4721, 4722]);
    assert_eq!(pids(Order::Size), [4722, 4721]);
}

#[test]
fn a_filter_leaves_the_workers_of_the_pool_that_has_it_or_those_that_have_it() {
    let (mut view, snapshot) = seen(shop());
    let mut count = |filter: &str| {
        view.filter = filter.to_owned();
        view.crew(&snapshot.pools[0]).len()
    };
    assert_eq!([count("shop"), count("bake"), count("4722"), count("nobody")], [2, 1, 1, 0]);
}

#[test]
fn shares_need_two_looks() {
    let mut snapshot = shop();
    let mut view = View::default();
    view.take_in(&mut snapshot, 5.0);
    assert!(snapshot.pools[0].crew.iter().all(|worker| worker.cpu_share.is_none()));
    snapshot.pools[0].crew[1].cpu_s += 1.0;
    view.take_in(&mut snapshot, 7.0);
    let shares: Vec<_> = snapshot.pools[0].crew.iter().map(|worker| worker.cpu_share).collect();
    assert_eq!(shares, [Some(0.0), Some(0.5)]);
}

#[test]
fn a_narrow_table_has_all_its_figures() {
    let mut view = View::default();
    let lines = screen(&shop(), &mut view, sheet(50, 30));
    let expected = "
manyhands top  1 process · 3 waiting       q: quit

POOLS                    work    run  queue  ended
 4711 shop.py               2      2  1234k     89

QUEUES                   size    max   puts   gets
 orders         JoinQ     100    100   1034    934
  4712/4720 shop.py waiting 61 s to put
 empty          Queue       0      –      9      9
  shut down

OBJECTS               state       held by
 (77:0x1a40)    Lock  held        4711/4715 shop.…
  4713/4720 shop.py waiting 3.1 s to acquire
  4712/4720 shop.py waiting 0.2 s to acquire
 till           Lock  held        4699 (dead)
 open           Event set";
    assert_eq!(lines[..17].join("\n"), expected[1..], "\n{}\n", lines.join("\n"));
}
