//! The example server under load: all three are tested at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use manyhands_os::clock::MILLISECOND;
use manyhands_os::stream::Address;
use manyhands_server::load::{self, Plan, Report};

/// A running example, which is killed in the end.
struct Echo(Child, Address);

impl Drop for Echo {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn echo() -> Echo {
    // Cargo builds examples before tests, and puts them beside the folder of these.
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    let mut child = Command::new(path.join("examples/echo"))
        .arg("127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example has been built");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
    Echo(child, Address::Inet(address))
}

fn run(echo: &Echo, connections: usize, reconnect: bool) -> Report {
    let plan = Plan {
        address: echo.1.clone(),
        connections,
        request: vec![b'x'; 1024],
        answer: Some(1024),
        reconnect,
        length: 200 * MILLISECOND,
    };
    load::run(&plan).expect("descriptors enough")
}

#[test]
fn every_connection_is_answered() {
    let echo = echo();
    let report = run(&echo, 64, false);
    assert_eq!(report.failures, BTreeMap::new());
    assert_eq!(report.shares.len(), 64);
    assert!(report.shares.iter().all(|share| *share > 0), "{:?}", report.shares);
    assert_eq!(report.shares.iter().sum::<u64>(), report.waits.len() as u64);
}

#[test]
fn every_request_has_a_connection_of_its_own() {
    let echo = echo();
    let report = run(&echo, 16, true);
    assert_eq!(report.failures, BTreeMap::new());
    assert!(report.waits.len() > 100, "{}", report.waits.len());
}

#[test]
fn more_clients_than_workers_take_turns() {
    let echo = echo();
    let report = run(&echo, 300, true);
    assert_eq!(report.failures, BTreeMap::new());
    assert!(report.waits.len() > 300, "{}", report.waits.len());
}

#[test]
fn what_goes_wrong_is_counted() {
    let echo = echo();
    let address = echo.1.clone();
    drop(echo);
    let plan = Plan {
        address,
        connections: 3,
        request: b"x".to_vec(),
        answer: Some(1),
        reconnect: true,
        // Each of them has its turn, on a busy machine, too.
        length: 100 * MILLISECOND,
    };
    let report = load::run(&plan).expect("descriptors enough");
    assert_eq!(report.waits, []);
    assert!(report.failures.keys().all(|failure| failure.contains("refused")), "{:?}", report.failures);
    assert!(report.failures.values().sum::<u64>() >= 3);
}
