//! Cycles of threads that wait for each other.
//!
//! Nothing is kept for this while locks are free. A thread that has waited for a lock for a while looks who owns it,
//! whether that thread waits for a lock itself, which thread owns that, and so on. What it reads on the way may change
//! under its eyes; so a cycle counts only when a second look some time later finds the very same waits, and all their
//! processes alive: a death ends a wait, too. Of its members the one that began to wait last is told, among those that
//! may end without their lock. All members read the same words, so all come to the same answer.
//!
//! A member writes down its wait before its stack, which takes longer, and may take very long where many threads want the
//! interpreter. Stacks are waited for, but not forever ([`PATIENCE`]).
//!
//! Waits with a deadline end by themselves and are no part of a cycle. A plain lock may be released by any thread, also
//! by one that is in no cycle; so a cycle through plain locks is only likely to last forever. One thread that waits for
//! a plain lock which it has itself is not reported: that is how locks are used as signals.
//!
//! # Where a look goes
//!
//! First through all sites that its process has mapped. When the chain of waits comes to a thread of another process that
//! waits for nothing there, it may still wait for a lock that this process never opened: so the look goes on in the
//! segments which that process has open ([`Survey`]), each mapped only for the moment.
//!
//! That costs much more than the rest, most of all where that process has thousands of files open, and mostly for
//! nothing: the owner just works. But it need not be done often. The owner of a lock got it before beginning to wait
//! for the next one; so a cycle is closed by the member that begins to wait last, the very one to tell. By then the
//! others are waiting, and 20 ms later all have written it down. So what the first looks of a wait do not find is not
//! there, unless some member was kept from running in just these milliseconds, or the last one must not be told.
//! Therefore the first looks may survey whatever it costs, looks at a cycle that has just been found may, too, and all
//! others as long as surveys stay within a small part of the time waited ([`Budget`]).
//!
//! Nothing of a look outlives it. A fork waits for its end ([`names::hold_still`]), or the child would keep forever
//! what was mapped for a moment. A look waits for nothing: not for a fork, nor for another look of this process.

use std::sync::Arc;

use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::process::Identity;

use crate::lock_record::owner_in;
use crate::names;
use crate::site::{Entry, Site, WaitKind, registry};

mod survey;

use survey::{Budget, Survey};

/// Longer cycles are not found.
const LONGEST: usize = 64;

/// How long to wait between looks, in nanoseconds: often at first, as a cycle is closed by the last to begin waiting,
/// then seldom.
const PAUSES: [u64; 6] = [
    20 * MILLISECOND,
    20 * MILLISECOND,
    20 * MILLISECOND,
    20 * MILLISECOND,
    40 * MILLISECOND,
    50 * MILLISECOND,
];
const LAST_PAUSE: u64 = 200 * MILLISECOND;

/// How long to wait for the stacks of all members, in nanoseconds.
const PATIENCE: u64 = SECOND;

/// For how long to look often at the same cycle, in nanoseconds: somebody is told in this time, as a rule.
const TRAIL: u64 = 2 * PATIENCE;

/// A thread in a cycle.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its process.
    pub identity: Identity,
    /// The kernel's number of the thread.
    pub thread: u32,
    /// What kind of lock it waits for.
    pub kind: WaitKind,
    /// Which one: byte offset of its record in the segment where it is.
    pub key: u64,
    /// The [number](manyhands_os::memory::Segment::number) of that segment.
    pub segment: u64,
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
    fn name(&self) -> (u64, u64) {
        (self.site.segment().number(), self.entry.ticket)
    }

    /// The last to begin waiting is told, and everybody must come to the same answer.
    fn age(&self) -> (u64, Identity, u32) {
        (self.entry.since, self.entry.identity, self.entry.thread)
    }

    fn has_stack(&self) -> bool {
        self.site.has_published_stack(self.entry.index)
    }

    fn into_member(self) -> Member {
        let Entry { index, identity, thread, kind, key, since, .. } = self.entry;
        let stack = self.site.stack_of(index);
        let segment = self.site.segment().number();
        Member { identity, thread, kind, key, segment, since, stack }
    }
}

/// The search of one waiting thread.
pub(crate) struct Search {
    on: bool,
    looks: usize,
    /// Whether it was not this thread's turn to look, the last time.
    skipped: bool,
    /// The cycle that the last look found, and when the first of those looks was that have found it in a row.
    last: Vec<(u64, u64)>,
    found_at: u64,
    budget: Budget,
}

impl Search {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, looks: 0, skipped: false, last: Vec::new(), found_at: 0, budget: Budget::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// How long to sleep until the next look, in nanoseconds.
    pub(crate) fn pause(&self) -> u64 {
        match PAUSES.get(self.looks) {
            _ if self.is_on_trail() || self.skipped => PAUSES[0],
            Some(pause) if self.on => *pause,
            _ => LAST_PAUSE,
        }
    }

    /// Whether there may be a cycle of which somebody is about to be told.
    fn is_on_trail(&self) -> bool {
        !self.last.is_empty() && clock::now() < self.found_at + TRAIL
    }

    /// Looks for a cycle through the wait at `index` of `site`, which is the calling thread's. Returns its members, the
    /// caller first, when the last look found the same and the caller is the one to be told.
    pub(crate) fn look(&mut self, site: &Site, index: usize) -> Option<Vec<Member>> {
        if !self.on {
            return None;
        }
        // One look at a time, and no fork during it: whatever is found is released before this is. A look that would have
        // to wait for its turn is left out: by then the lock may be free.
        let turn = names::try_looking();
        self.skipped = turn.is_none();
        let _turn = turn?;
        self.looks += 1;
        let goes_far = self.is_on_trail() || self.budget.allows(self.looks);
        let mut view = View { sites: registry::sites(), survey: goes_far.then(Survey::default) };
        let cycle = cycle_through(&mut view, site, index).unwrap_or_default();
        self.budget.spend(view.survey.as_ref().map_or(0, Survey::cost));
        let names: Vec<_> = cycle.iter().map(Link::name).collect();
        let confirmed = cycle.len() > 1 && names == self.last;
        if !confirmed {
            self.found_at = clock::now();
        }
        self.last = names;
        let youngest = cycle.iter().filter(|link| !link.entry.steadfast).map(Link::age).max();
        let told = confirmed
            && youngest == cycle.first().map(Link::age)
            && (cycle.iter().all(Link::has_stack) || clock::now() >= self.found_at + PATIENCE)
            && !cycle.iter().any(|link| link.site.is_dead(link.entry.identity));
        told.then(|| cycle.into_iter().map(Link::into_member).collect())
    }
}

/// What one look sees.
struct View {
    /// The sites that this process has mapped.
    sites: Vec<Arc<Site>>,
    /// Those of other processes, if the look goes that far.
    survey: Option<Survey>,
}

impl View {
    /// The wait for a lock in which this thread is.
    fn wait_of(&mut self, (identity, thread): (Identity, u32)) -> Option<Link> {
        let wait_in = |site: &Site| {
            let is_theirs = |entry: &Entry| {
                let waits = entry.kind.is_lock() && !entry.timed && !entry.by_socket;
                waits && (entry.identity, entry.thread) == (identity, thread)
            };
            site.waiters().find(is_theirs)
        };
        let here = self.sites.iter().find_map(|site| {
            let entry = wait_in(site)?;
            Some(Link { site: Arc::clone(site), entry })
        });
        here.or_else(|| {
            let (site, entry) = self.survey.as_mut()?.find(identity, &self.sites, wait_in)?;
            // Others of the chain may wait there, too.
            self.sites.push(Arc::clone(&site));
            Some(Link { site, entry })
        })
    }
}

/// The waits from the one at `index` of `site` back to it, if they go round.
fn cycle_through(view: &mut View, site: &Site, index: usize) -> Option<Vec<Link>> {
    let first = view.sites.iter().find(|known| std::ptr::eq(Arc::as_ptr(known), site))?;
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
            None => chain.push(view.wait_of(owner)?),
        }
    }
    None
}
