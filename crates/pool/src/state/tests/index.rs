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
    assert_eq!(bench.state.seats[replacements[0].seat].index, 0);
    // One that must end keeps its seat until it does, but not its index.
    bench.state.retire(actors[1].seat);
    let (replacements, _) = bench.plan(0);
    assert_ne!(replacements[0].seat, actors[1].seat);
    assert_eq!(bench.state.seats[replacements[0].seat].index, 1);
}
