//! Tasks that may run only so long.

use super::*;
use crate::worker::LOADING;

#[test]
fn a_timeout_counts_from_the_start_of_the_task() {
    let mut bench = Bench::new(1);
    let options = Options { timeout: Some(SECOND), ..Options::default() };
    bench.submit_with(1, Some(options));
    let (actors, _) = bench.plan(0);
    let (_, next) = bench.state.plan(10 * SECOND);
    assert_eq!(next, Some(11 * SECOND), "queued: it cannot be overdue before another second");
    let Some(Next::Task(entry)) = actors[0].side.try_next() else { panic!("a task is queued") };
    actors[0].side.begin(entry, true);
    let claimed = manyhands_os::clock::now();
    assert!(bench.plan(claimed + LOADING).1.is_empty(), "it is being loaded");
    actors[0].side.start();
    let started = manyhands_os::clock::now();
    assert!(bench.plan(started).1.is_empty());
    assert_eq!(bench.plan(started + 2 * SECOND).1, [Action::Interrupt(0)]);
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::TimedOut(_, SECOND)));
    assert_eq!(bench.plan(started + 4 * SECOND).1, [Action::Kill(0)]);
}

#[test]
fn a_load_without_end_ends() {
    let mut bench = Bench::new(1);
    bench.submit_with(1, Some(Options { timeout: Some(SECOND), ..Options::default() }));
    let (actors, _) = bench.plan(0);
    let Some(Next::Task(entry)) = actors[0].side.try_next() else { panic!("a task is queued") };
    actors[0].side.begin(entry, true);
    let claimed = manyhands_os::clock::now();
    assert_eq!(bench.plan(claimed + LOADING + SECOND).1, [Action::Interrupt(0)]);
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::TimedOut(_, SECOND)));
}
