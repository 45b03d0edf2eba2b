//! What becomes of the memory of a dead worker.

use super::*;

#[test]
fn what_a_dead_worker_held_is_taken_back_before_another_has_its_number() {
    let mut bench = Bench::new(2);
    bench.submit(0);
    bench.submit(1);
    let (actors, _) = bench.plan(0);
    let before = bench.arena.in_use();
    let theirs = Arena::attach(Arc::clone(bench.arena.segment()), 0..bench.arena.segment().len(), 1.into());
    std::mem::forget(theirs.expect("the same arena").allocate(8 << 20).expect("there is room"));
    assert!(bench.arena.in_use() > before);
    bench.reap(&actors[0]);
    assert!(bench.arena.in_use() > before, "the state only says what must be done");
    let (actions, _) = bench.state.plan(1);
    assert_eq!(actions, [Action::Reclaim(1), Action::Fork(0, 2)]);
    bench.arena.reclaim(1.into());
    assert_eq!(bench.arena.in_use(), before);
    assert_eq!(bench.state.plan(2).0, [], "once");

    // At the end, too: only then are its workers' numbers given back.
    bench.reap(&actors[1]);
    bench.state.terminate();
    bench.state.zygote_gone();
    assert_eq!(bench.state.plan(3).0, [Action::Reclaim(2), Action::Reclaim(1), Action::End]);
}
