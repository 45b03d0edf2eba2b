//! Cycles of threads that wait for each other.
//!
//! Nothing is kept for this while locks are free. A thread that has waited for a lock for a while looks who owns it,
//! whether that thread waits for a lock itself, who owns that, and so on, through all sites that its process has mapped.
//! What it reads on the way may change under its eyes; so a cycle counts only when a second look some time later finds
//! the very same waits. Of its members the one that began to wait last is told.
//!
//! Waits with a deadline end by themselves and are no part of a cycle. A plain lock may be released by any thread, also
//! by one that is in no cycle; so a cycle through plain locks is only likely to last for ever. One thread that waits for
//! a plain lock which it has itself is not reported: that is how locks are used as signals.

use std::sync::Arc;

use manyhands_os::clock::MILLISECOND;
use manyhands_os::process::Identity;

use crate::lock::owner_in;
use crate::site::{Entry, Site, WaitKind, registry};

/// Longer cycles are not found.
const LONGEST: usize = 64;

/// How long to wait between looks, in nanoseconds: often at first, as a cycle is closed by who began to wait last, then
/// seldom.
const PAUSES: [u64; 6] = [
    20 * MILLISECOND,
    20 * MILLISECOND,
    20 * MILLISECOND,
    20 * MILLISECOND,
    40 * MILLISECOND,
    50 * MILLISECOND,
];
const LAST_PAUSE: u64 = 200 * MILLISECOND;

/// A thread in a cycle.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its process.
    pub identity: Identity,
    /// The kernel's number of the thread.
    pub thread: u32,
    /// What kind of lock it waits for.
    pub kind: WaitKind,
    /// Which one: byte offset of its record in the segment of `site`.
    pub key: u64,
    /// Where that lock is.
    pub site: Arc<Site>,
    /// Since when it waits, in nanoseconds of the clock.
    pub since: u64,
    /// The text of its stack; empty when it has published none.
    pub stack: String,
}

/// One wait in a chain of waits.
struct Link {
    site: Arc<Site>,
    entry: Entry,
}

impl Link {
    /// What tells this wait from every other.
    fn name(&self) -> (*const Site, u64) {
        (Arc::as_ptr(&self.site), self.entry.ticket)
    }

    /// Who began to wait last is told, and everybody has to come to the same answer.
    fn age(&self) -> (u64, Identity, u32) {
        (self.entry.since, self.entry.identity, self.entry.thread)
    }

    fn into_member(self) -> Member {
        let Entry { index, identity, thread, kind, key, since, .. } = self.entry;
        let stack = self.site.stack_of(index);
        Member { identity, thread, kind, key, site: self.site, since, stack }
    }
}

/// The search of one waiting thread.
pub(crate) struct Search {
    on: bool,
    looks: usize,
    /// The cycle that the last look found.
    last: Vec<(*const Site, u64)>,
}

impl Search {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, looks: 0, last: Vec::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// How long to sleep until the next look, in nanoseconds.
    pub(crate) fn pause(&self) -> u64 {
        if self.on { PAUSES.get(self.looks).copied().unwrap_or(LAST_PAUSE) } else { LAST_PAUSE }
    }

    /// Looks for a cycle through the wait at `index` of `site`, which is the calling thread's. Returns its members, the
    /// caller first, when the last look found the same and the caller is the one to be told.
    pub(crate) fn look(&mut self, site: &Site, index: usize) -> Option<Vec<Member>> {
        if !self.on {
            return None;
        }
        self.looks += 1;
        let cycle = cycle_through(site, index).unwrap_or_default();
        let names: Vec<_> = cycle.iter().map(Link::name).collect();
        let confirmed = cycle.len() > 1 && names == self.last;
        self.last = names;
        let youngest = cycle.iter().map(Link::age).max();
        let told = confirmed && youngest == cycle.first().map(Link::age);
        told.then(|| cycle.into_iter().map(Link::into_member).collect())
    }
}

/// The waits from the one at `index` of `site` back to it, if they go round.
fn cycle_through(site: &Site, index: usize) -> Option<Vec<Link>> {
    let sites = registry::sites();
    let first = sites.iter().find(|known| std::ptr::eq(Arc::as_ptr(known), site))?;
    let entry = site.entry(index)?;
    let mut chain = vec![Link { site: Arc::clone(first), entry }];
    while chain.len() <= LONGEST {
        let last = chain.last()?;
        let owner = owner_in(&last.site, last.entry.key)?;
        let known = chain.iter().position(|link| (link.entry.identity, link.entry.thread) == owner);
        match known {
            Some(0) => return Some(chain),
            // A cycle, but not through this thread: its members find it.
            Some(_) => return None,
            None => chain.push(wait_of(&sites, owner)?),
        }
    }
    None
}

/// The wait for a lock in which this thread is.
fn wait_of(sites: &[Arc<Site>], (identity, thread): (Identity, u32)) -> Option<Link> {
    let is_theirs = |entry: &Entry| {
        let waits = entry.kind.is_lock() && !entry.timed && !entry.at_door;
        waits && (entry.identity, entry.thread) == (identity, thread)
    };
    sites.iter().find_map(|site| {
        let entry = site.waiters().find(is_theirs)?;
        Some(Link { site: Arc::clone(site), entry })
    })
}
