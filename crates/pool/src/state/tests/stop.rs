//! What a pool does whose user does not want to wait.

use super::*;

#[test]
fn a_stopping_pool_asks_what_runs_and_begins_nothing_more() {
    let mut bench = Bench::new(2);
    let count = u32::try_from(SLOTS).expect("small") + 10;
    for user_data in 0..count {
        bench.submit_with(user_data, Some(retrying()));
    }
    let (actors, _) = bench.plan(0);
    let entries: Vec<Entry> = actors.iter().filter_map(Actor::claim).collect();
    let mut user_data = bench.state.stop(0);
    user_data.sort_unstable();
    assert_eq!(user_data, (0..count).collect::<Vec<_>>());
    assert_eq!(bench.state.check_open(), Err(Refused::Closed));
    assert_eq!(actors[0].claim(), None, "a task has moved into a slot that became free");
    assert_eq!(bench.plan(1).1, [Action::Interrupt(0), Action::Interrupt(1), Action::WakeWorkers]);
    // One obeys and ends, the other does not.
    assert_eq!(actors[0].finish(entries[0], flag::RAISED), Finish::Published);
    assert_eq!(actors[0].side.try_next(), Some(Next::End));
    bench.reap(&actors[0]);
    assert_eq!(bench.plan(SECOND - 1).1, [Action::Nudge(1), Action::WakeWorkers]);
    assert!(bench.plan(SECOND + 1).1.contains(&Action::Kill(1)));
    bench.reap(&actors[1]);
    assert_eq!(bench.plan(SECOND + 2).1, [Action::QuitZygote]);
    bench.state.zygote_gone();
    assert_eq!(bench.plan(SECOND + 3).1, [Action::End]);
    assert!(bench.user_data().is_empty(), "each user data once");
}

#[test]
fn a_worker_that_does_not_end_delays_a_stopping_pool_only_so_long() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    let (actors, _) = bench.plan(0);
    actors[0].work();
    bench.user_data();
    bench.state.stop(0);
    assert_eq!(bench.plan(1).1, [Action::WakeWorkers]);
    let (_, next) = bench.state.plan(2);
    assert_eq!(next, Some(SECOND + 1));
    assert_eq!(bench.plan(SECOND + 1).1, [Action::KillZygote]);
}

#[test]
fn workers_that_cannot_be_killed_go_with_the_zygote() {
    let mut bench = Bench::new(1);
    let token = bench.submit(0);
    let (actors, _) = bench.plan(0);
    actors[0].claim().expect("a task");
    assert_eq!(bench.state.cancel(token, true, 0), Cancelled::Ending(0));
    bench.plan(0);
    assert_eq!(bench.plan(SECOND).1, [Action::Kill(0)]);
    bench.state.close();
    let (actions, next) = bench.state.plan(2 * SECOND);
    assert_eq!((actions, next), (vec![Action::WakeWorkers], Some(6 * SECOND)));
    assert_eq!(bench.plan(6 * SECOND).1, [Action::KillZygote]);
    bench.state.zygote_gone();
    assert_eq!(bench.plan(6 * SECOND).1, [Action::End]);
}
