//! Whom to watch while waiting for something that many may have.

use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_os::process::{Identity, identity};

use crate::waiting::Owners;

/// Takes turns where there are more processes than a thread can watch at a time.
#[derive(Debug, Default)]
pub(crate) struct Watchlist {
    turn: AtomicUsize,
}

impl Watchlist {
    /// Names those of `holders` (identities as they stand in shared memory) to watch now. Returns false when there is one
    /// among them that no process can have.
    pub(crate) fn name(&self, holders: impl Iterator<Item = u64>, owners: &mut Owners) -> bool {
        let me = identity().to_bits();
        let mut holders: Vec<u64> = holders.filter(|holder| *holder != me).collect();
        holders.sort_unstable();
        holders.dedup();
        let known = |holder: u64| Identity::from_bits(holder);
        let all_possible = holders.iter().all(|holder| known(*holder).is_some());
        // Only a guess where the last one stopped: others change it, too.
        let turn = self.turn.load(Ordering::Relaxed) % holders.len().max(1);
        holders.rotate_left(turn);
        for (named, holder) in (1..).zip(holders.into_iter().filter_map(known)) {
            if !owners.push(holder) {
                self.turn.store(turn + named, Ordering::Relaxed);
                break;
            }
        }
        all_possible
    }
}
