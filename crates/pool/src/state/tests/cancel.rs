//! Tasks that are cancelled while they run.

use super::*;

/// A pool whose only worker is at a task, 5, that has been cancelled at 0.
fn with_a_cancelled_task() -> (Bench, Vec<Actor>, Entry) {
    let mut bench = Bench::new(1);
    let token = bench.submit(5);
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("a task");
    assert_eq!(bench.state.cancel(token, true, 0), Cancelled::Ending(5));
    (bench, actors, entry)
}

#[test]
fn a_cancelled_running_task_is_asked_first_and_killed_after_the_grace() {
    let mut bench = Bench::new(1);
    let token = bench.submit(5);
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("a task");
    assert_eq!(bench.state.cancel(token, false, 0), Cancelled::TooLate, "running is left alone");
    assert_eq!(bench.state.cancel(token, true, 0), Cancelled::Ending(5));
    assert!(actors[0].side.is_cancelling(entry));
    assert_eq!(bench.plan(1).1, [Action::Interrupt(0)]);
    assert_eq!(bench.plan(SECOND - 1).1, [Action::Nudge(0)]);
    assert_eq!(bench.plan(SECOND + 1).1, [Action::Kill(0)]);
    assert_eq!(actors[0].side.finish(entry), Finish::Killed, "nothing comes from it any more");
    bench.reap(&actors[0]);
    assert!(bench.take_completions().is_empty());
}

#[test]
fn a_cancelled_task_that_stops_in_time_keeps_its_worker() {
    let (mut bench, actors, entry) = with_a_cancelled_task();
    assert_eq!(bench.plan(1).1, [Action::Interrupt(0)]);
    assert_eq!(actors[0].finish(entry, flag::RAISED), Finish::Published);
    assert_eq!(bench.plan(2 * SECOND).1, []);
    assert!(bench.take_completions().is_empty(), "its future was cancelled long ago");
    bench.submit(6);
    assert_eq!(actors[0].work(), Some(6));
}

#[test]
fn a_worker_that_may_not_have_noticed_is_nudged_ever_more_rarely() {
    let (mut bench, actors, entry) = with_a_cancelled_task();
    let mut nudged = Vec::new();
    for millisecond in 0..200 {
        match bench.plan(millisecond * SECOND / 1000).1[..] {
            [] => {}
            [Action::Interrupt(0)] => assert_eq!(millisecond, 0, "it is asked once"),
            [Action::Nudge(0)] => nudged.push(millisecond),
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(nudged, [10, 30, 70, 150]);
    assert_eq!(actors[0].finish(entry, flag::RAISED), Finish::Published);
    assert_eq!(bench.plan(SECOND / 2).1, []);
}
