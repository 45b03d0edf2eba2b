//! The index that a worker is told.

use super::*;

#[test]
fn a_replacement_gets_the_index_of_whom_it_replaces() {
    let mut bench = Bench::new(2);
    for user_data in 0..4 {
        bench.submit(user_data);
    }
    let (actors, _) = bench.plan(0);
    bench.reap(&actors[0]);
    let (replacements, _) = bench.plan(0);
    assert_eq!(bench.state.worker_slots[replacements[0].worker_slot].index, 0);
    // One that must end keeps its worker slot until it does, but not its index.
    bench.state.retire(actors[1].worker_slot);
    let (replacements, _) = bench.plan(0);
    assert_ne!(replacements[0].worker_slot, actors[1].worker_slot);
    assert_eq!(bench.state.worker_slots[replacements[0].worker_slot].index, 1);
}
