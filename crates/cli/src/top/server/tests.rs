use manyhands_server::ledger::Count;

use super::super::line::width;
use super::super::screen::table;
use super::super::tests::{assert_screen, party, sheet};
use super::super::{Party, Snapshot, json};
use super::{Numbers, Rates, Server, Serving};

fn serving(pid: i32, active: u64) -> Serving {
    let numbers = [(Count::Active, active), (Count::Served, 4711), (Count::Accepted, 4720)];
    let numbers = numbers.iter().fold(Numbers::default(), |all, (count, value)| all.with(*count, *value));
    Serving { pid, phase: "serving", answered_s: Some(0.3), numbers, rates: None }
}

/// A server of three processes: one that works, one that starts, one that stands still.
pub(in super::super) fn server() -> Server {
    let rates = Some(Rates { accepted: 1204.2, served: 3.04, refused: 0.0 });
    let starting = Serving { phase: "starting", answered_s: None, ..serving(4732, 0) };
    let silent = Serving { answered_s: Some(12.3), ..serving(4733, 2) };
    let mut whole = serving(4711, 9);
    whole.numbers = whole.numbers.with(Count::Queued, 3).with(Count::Failed, 2).with(Count::Processes, 3);
    Server {
        place: 78,
        parent: Party { thread: None, ..party(4711, 4711) },
        address: "127.0.0.1:9000".into(),
        workers: "process".into(),
        whole: Serving { rates, ..whole },
        processes: vec![Serving { rates, ..serving(4731, 7) }, starting, silent],
    }
}

#[test]
fn servers_have_a_line_for_each_process() {
    let snapshot = Snapshot { servers: vec![server()], ..Snapshot::default() };
    let expected = "
manyhands top  4 processes · 0 pools · 1 server · 0 queues · 0 waiting         q

SERVERS                                    open    active    queued    served
  127.0.0.1:9000    3 processes              12         9         3     4,711
    4711 shop.py  1,204 accepted/s · 3.0 served/s · 0 refused/s · 2 failed
    4731  7 open · 7 active · 1,204 accepted/s · 3.0 served/s
    4732  starting · 0 open · 0 active · 4,720 accepted
    4733  no answer for 12 s · 2 open · 2 active · 4,720 accepted
";
    assert_screen(&table(&snapshot, "q", sheet(80, None)), expected);
    let narrow = table(&snapshot, "q", sheet(40, None));
    assert_eq!(narrow[2], "SERVERS           open   act queue  serv");
    assert_eq!(narrow[3], " 127.0.0.1:9000     12     9     3  4711");
    assert!(narrow.iter().all(|line| width(line) <= 40));
    let text = json::object(&snapshot);
    assert!(text.contains("\"answered_s\": 12.300, \"statistics\": {\"accepted\": 4720, "), "{text}");
}
