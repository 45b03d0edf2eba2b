//! Tasks that come later.

use super::*;

fn pausing(pauses: &[u64]) -> Options {
    Options { pauses: pauses.to_vec(), ..retrying() }
}

#[test]
fn a_pause_keeps_no_worker_and_no_slot() {
    let mut bench = Bench::new(1);
    let token = bench.submit_with(7, Some(pausing(&[SECOND, 3 * SECOND])));
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("one task");
    assert_eq!(actors[0].finish(entry, flag::RAISED), Finish::Published);
    assert_eq!(bench.take_completions()[0].user_data, None);
    assert_eq!(bench.state.decide_retry(token, true), None);
    assert!(bench.state.has_put_off());
    assert!(!bench.state.is_running(token));
    bench.submit(8);
    assert_eq!(bench.state.plan(10).1, Some(10 + SECOND));
    assert_eq!(actors[0].work(), Some(8), "the worker is free in the meantime");
    assert_eq!(actors[0].work(), None);
    assert_eq!(bench.plan(9 + SECOND).1, []);
    assert_eq!(bench.plan(10 + SECOND).1, [Action::WakeWorkers]);
    let entry = actors[0].claim().expect("its pause is over");
    assert_eq!(actors[0].argument(entry), 7);
    assert_eq!(actors[0].finish(entry, flag::RAISED), Finish::Published);
    assert_eq!(bench.user_data(), [8]);
    assert_eq!(bench.state.decide_retry(token, true), None);
    let (_, next) = bench.state.plan(20 * SECOND);
    assert_eq!(next, Some(23 * SECOND), "the second pause is another one");
    bench.plan(23 * SECOND);
    assert_eq!(actors[0].work(), Some(7));
    assert_eq!(bench.user_data(), [7]);
    assert_eq!(bench.state.counts.retried, 2);
}

#[test]
fn deaths_and_timeouts_wait_as_well() {
    let mut bench = Bench::new(1);
    bench.submit_with(7, Some(pausing(&[SECOND])));
    let (actors, _) = bench.plan(0);
    actors[0].claim().expect("one task");
    bench.reap(&actors[0]);
    assert_eq!(bench.plan(0).0.len(), 1);
    assert!(bench.user_data().is_empty());
    let (_, next) = bench.state.plan(1);
    assert_eq!(next, Some(SECOND));
}

#[test]
fn a_task_that_is_put_off_can_be_withdrawn() {
    let mut bench = Bench::new(1);
    let token = bench.submit_with(7, Some(pausing(&[SECOND])));
    let (actors, _) = bench.plan(0);
    actors[0].claim().expect("one task");
    bench.reap(&actors[0]);
    bench.plan(0);
    assert_eq!(bench.state.cancel(token, false, 1), Cancelled::Withdrawn(7));
    assert_eq!(bench.plan(2 * SECOND).1, [], "nothing is left to be queued");
}

#[test]
fn a_closing_pool_waits_for_what_was_announced() {
    let mut bench = Bench::new(1);
    bench.state.reserve().expect("it is open");
    bench.state.close();
    assert_eq!(bench.state.reserve(), Err(Refused::Closed));
    assert_eq!(bench.plan(0).1, [], "it does not end");
    let function = Arc::clone(&bench.function);
    let arguments = Arguments::Inline(Encoding::Compact, &[0; 4]);
    let refused = bench.state.submit(1, Arc::clone(&function), arguments, 0, None, false);
    assert_eq!(refused, Err((Refused::Closed, 1)));
    let arguments = Arguments::Inline(Encoding::Compact, &[0; 4]);
    assert!(bench.state.submit(2, function, arguments, 0, None, true).is_ok());
    bench.state.give_back();
    let (actors, _) = bench.plan(0);
    assert_eq!(actors[0].work(), Some(0));
    assert_eq!(bench.user_data(), [2]);
    assert_eq!(bench.plan(1).1, [Action::WakeWorkers]);
}

#[test]
fn a_stopping_pool_waits_for_nothing_more() {
    let mut bench = Bench::new(1);
    bench.state.reserve().expect("it is open");
    bench.state.stop(0);
    assert_eq!(bench.plan(0).1, [Action::End]);
}

#[test]
fn what_fails_after_all_was_withdrawn_is_not_begun_again() {
    let mut bench = Bench::new(1);
    let token = bench.submit_with(7, Some(pausing(&[SECOND])));
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("one task");
    assert_eq!(actors[0].finish(entry, flag::RAISED), Finish::Published);
    bench.take_completions();
    assert!(bench.state.withdraw_all().is_empty(), "it awaits a decision");
    bench.state.close();
    assert_eq!(bench.state.decide_retry(token, true), Some(7));
    assert_eq!(bench.plan(0).1, [Action::WakeWorkers]);
}
