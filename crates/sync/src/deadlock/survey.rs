//! Looking into the segments of other processes, and what that may cost.

use std::sync::Arc;

use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::process::{Identity, identity};

use crate::names;
use crate::site::Site;

/// How many looks of a wait may survey, whatever it costs.
const FREE_LOOKS: usize = 2;

/// How much CPU time all surveys of a wait may take besides, in nanoseconds: with the few descriptors that most processes
/// have, some more of its first looks.
const ALLOWANCE: u64 = MILLISECOND / 2;

/// And the part of the time waited that they may take: one in so many.
const SHARE: u64 = 10_000;

/// The most segments that one look opens: the rest of a huge process is not searched.
const MOST_OPENED: usize = 2048;

/// How much CPU time the surveys of one wait take.
#[derive(Debug)]
pub(super) struct Budget {
    since: u64,
    spent: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { since: clock::now(), spent: 0 }
    }

    /// Whether this look, the first being 1, may survey.
    pub(super) fn allows(&self, look: usize) -> bool {
        let waited = clock::now().saturating_sub(self.since);
        look <= FREE_LOOKS || self.spent <= ALLOWANCE + waited / SHARE
    }

    pub(super) fn spend(&mut self, cost: u64) {
        self.spent += cost;
    }
}

/// The surveys of one look.
#[derive(Debug, Default)]
pub(super) struct Survey {
    opened: usize,
    cost: u64,
}

impl Survey {
    /// CPU time that it has taken, in nanoseconds.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Goes through the sites that the process of `whom` has open, but the `known` ones, until `wanted` returns something.
    pub(super) fn find<T>(
        &mut self,
        whom: Identity,
        known: &[Arc<Site>],
        wanted: impl Fn(&Site) -> Option<T>,
    ) -> Option<(Arc<Site>, T)> {
        // This process knows its own.
        if whom == identity() {
            return None;
        }
        let start = clock::thread_time();
        let is_known = |number| known.iter().any(|site| site.segment().number() == number);
        let left = MOST_OPENED.saturating_sub(self.opened);
        let mut sites = names::with_locks(whom.pid(), is_known).take(left).inspect(|_| self.opened += 1);
        let found = sites.find_map(|site| {
            let value = wanted(&site)?;
            Some((Arc::new(site), value))
        });
        drop(sites);
        self.cost += clock::thread_time().saturating_sub(start);
        found
    }
}
