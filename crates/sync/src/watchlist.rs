//! Whom to watch while waiting for something that many may have.

use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_os::process::{Identity, identity};

use crate::waiting::{FEW_OWNERS, Owners};

/// Takes turns where there are more processes than a thread can watch at a time.
#[derive(Debug, Default)]
pub(crate) struct Watchlist {
    turn: AtomicUsize,
}

impl Watchlist {
    /// Names `holders` (identities as they stand in shared memory), those first whose turn it is. Returns false when there
    /// is one among them that no process can have.
    pub(crate) fn name(&self, holders: impl Iterator<Item = u64>, owners: &mut Owners) -> bool {
        let me = identity().to_bits();
        let mut holders: Vec<u64> = holders.filter(|holder| *holder != me).collect();
        holders.sort_unstable();
        holders.dedup();
        let mut known: Vec<Identity> =
            holders.iter().filter_map(|holder| Identity::from_bits(*holder)).collect();
        if known.len() > FEW_OWNERS {
            let turn = self.turn.fetch_add(FEW_OWNERS, Ordering::Relaxed) % known.len();
            known.rotate_left(turn);
        }
        owners.extend(&known);
        known.len() == holders.len()
    }
}
