//! Which thread is told that a task has ended, and when.

use manyhands_sync::Wait;
use manyhands_sync::atomic::Ordering;

use super::*;
use crate::control::{Control, STOP};

/// Whether the collector is told of something while `act` runs.
fn tells_collector(control: &Control, act: impl FnOnce()) -> bool {
    let events = control.collector();
    let key = events.prepare();
    act();
    events.wait(key, Some(1)) != Wait::TimedOut
}

/// A pool with one worker and three tasks; its results were last collected by a leader.
fn led() -> (Bench, Actor, Control) {
    let mut bench = Bench::new(1);
    for user_data in 0..3 {
        bench.submit(user_data);
    }
    let actor = bench.plan(0).0.remove(0);
    let control = bench.state.control.clone();
    control.lead();
    control.leave();
    (bench, actor, control)
}

#[test]
fn the_collector_is_told_at_once_where_no_thread_has_led() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    let actor = bench.plan(0).0.remove(0);
    let control = bench.state.control.clone();
    assert!(tells_collector(&control, || assert_eq!(actor.work(), Some(0))));
}

#[test]
fn the_collector_is_told_at_once_when_it_had_to_collect_last_time() {
    let (_bench, actor, control) = led();
    control.expect_no_leader();
    assert!(tells_collector(&control, || assert_eq!(actor.work(), Some(0))));
}

#[test]
fn a_leader_that_is_there_is_told_and_the_collector_is_not() {
    let (_bench, actor, control) = led();
    control.lead();
    let key = control.leader().prepare();
    assert!(!tells_collector(&control, || assert_eq!(actor.work(), Some(0))));
    assert_ne!(control.leader().wait(key, Some(1)), Wait::TimedOut);
}

#[test]
fn an_expected_leader_finds_the_result_and_nobody_is_told() {
    let (mut bench, actor, control) = led();
    assert!(!tells_collector(&control, || {
        assert_eq!(actor.work(), Some(0));
        assert_eq!(bench.user_data(), [0]);
        actor.claim().expect("two tasks are left");
    }));
}

#[test]
fn the_collector_is_told_before_the_next_task_begins() {
    let (_bench, actor, control) = led();
    assert!(!tells_collector(&control, || assert_eq!(actor.work(), Some(0))));
    let entry = actor.claim_only().expect("two tasks are left");
    assert!(tells_collector(&control, || actor.side.begin(entry, false)));
}

#[test]
fn the_collector_is_told_before_the_worker_sleeps() {
    let (_bench, actor, control) = led();
    for user_data in 0..3 {
        assert_eq!(actor.work(), Some(user_data));
    }
    assert!(tells_collector(&control, || {
        let spent = actor.side.spin_next().expect_err("there are no more");
        assert_eq!(actor.side.wait_next(spent, Some(1)), Next::Nothing);
    }));
}

#[test]
fn the_collector_is_told_before_the_worker_ends() {
    let (_bench, actor, control) = led();
    assert!(!tells_collector(&control, || assert_eq!(actor.work(), Some(0))));
    control.flags().store(STOP, Ordering::Relaxed);
    assert!(tells_collector(&control, || assert_eq!(actor.side.try_next(), Some(Next::End))));
}
