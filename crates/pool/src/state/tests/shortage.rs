//! What a pool decides when nobody can be started.

use super::*;

#[test]
fn a_shortage_is_waited_out_while_the_workers_that_are_there_go_on() {
    let mut bench = Bench::new(2);
    bench.submit(1);
    let (actors, _) = bench.plan(0);
    bench.submit(2);
    let (actions, _) = bench.state.plan(0);
    assert_eq!(actions, [Action::AddWorkerSlot]);
    bench.state.run_short("too few", true, 0);
    // Nothing is tried before the pause has passed.
    let (actions, next) = bench.state.plan(1);
    assert!(actions.is_empty(), "{actions:?}");
    assert_eq!(next, Some(10_000_000));
    assert_eq!((actors[0].work(), actors[0].work()), (Some(1), Some(2)));
    assert_eq!(bench.user_data(), [1, 2]);
    // Even a lasting one breaks no pool that has a worker.
    bench.submit(3);
    bench.submit(4);
    for seconds in 1..100 {
        bench.state.run_short("too few", true, seconds * SECOND);
    }
    assert_eq!(bench.state.check_open(), Ok(()));
    let (more, _) = bench.plan(200 * SECOND);
    assert_eq!(more.len(), 1);
}

#[test]
fn a_pool_without_workers_gives_up_in_the_end() {
    let mut bench = Bench::new(1);
    bench.submit(1);
    let (actions, _) = bench.state.plan(0);
    assert_eq!(actions, [Action::StartZygote, Action::AddWorkerSlot]);
    bench.state.zygote_not_started();
    bench.state.run_short("no processes", true, 0);
    let (actions, _) = bench.state.plan(9 * SECOND);
    assert_eq!(actions, [Action::StartZygote, Action::AddWorkerSlot], "it tries again");
    bench.state.run_short("no processes", true, 10 * SECOND);
    assert!(matches!(bench.state.check_open(), Err(Refused::Broken(_))));
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::Broken(_)));
}

#[test]
fn a_worker_that_was_not_forked_leaves_its_worker_slot_free() {
    let mut bench = Bench::new(1);
    bench.submit(1);
    bench.plan(0);
    let (worker_slot, generation) = (0, bench.state.worker_slots[0].generation);
    bench.state.worker_gone(worker_slot, generation, Some(9), None);
    let (actions, _) = bench.state.plan(1);
    assert_eq!(actions, [Action::Reclaim(1), Action::Fork(0, generation + 1)]);
    bench.state.not_started(0, generation);
    assert_eq!(bench.state.plan(2).0, [], "news of an earlier worker changes nothing");
    bench.state.not_started(0, generation + 1);
    assert_eq!(bench.state.plan(3).0, [Action::Fork(0, generation + 2)]);
    bench.state.close();
    bench.state.not_started(0, generation + 2);
    assert!(!bench.state.withdraw_all().is_empty());
    assert_eq!(bench.state.plan(4).0, [Action::QuitZygote], "nobody waits for a worker that never was");
}

/// Has workers started, and kills them before they have done anything.
fn kill_at_birth(bench: &mut Bench, now: u64) {
    let (actors, _) = bench.plan(now);
    actors.iter().for_each(|actor| bench.reap(actor));
}

#[test]
fn a_pool_whose_workers_are_killed_at_birth_goes_on_for_a_while() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    for _ in 0..100 {
        kill_at_birth(&mut bench, SECOND);
    }
    let (actors, _) = bench.plan(10 * SECOND);
    assert_eq!(actors[0].work(), Some(0), "whoever lives does its task");
    assert_eq!(bench.user_data(), [0]);
    bench.reap(&actors[0]);
    // The time is counted from the start.
    bench.submit(1);
    for second in 11..=21 {
        assert_eq!(bench.state.check_open(), Ok(()));
        kill_at_birth(&mut bench, second * SECOND);
    }
    bench.plan(22 * SECOND);
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::Broken(_)));
}

#[test]
fn who_lives_after_many_kills_may_work_for_long() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    for _ in 0..20 {
        kill_at_birth(&mut bench, SECOND);
    }
    let (actors, _) = bench.plan(2 * SECOND);
    let entry = actors[0].claim().expect("its task");
    bench.plan(60 * SECOND);
    assert_eq!(bench.state.check_open(), Ok(()));
    assert_eq!(actors[0].finish(entry, 0), Finish::Published);
    assert_eq!(bench.user_data(), [0]);
}
