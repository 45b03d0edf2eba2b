//! What the fuzz target does, with random scripts: runs with everything else and without its tools.
// Neither loom nor Miri knows shared memory.
#![cfg(not(any(loom, miri)))]

mod damage;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_to_it_every_operation_ends(script in prop::collection::vec(any::<u8>(), 0..300)) {
        damage::run(&script);
    }
}
