//! Calling one certain waiter: what it and those who call it agree on, in one word.
//!
//! A waiter's place is used by one waiter after the other. So the word bears the waiter's *ticket*, which nobody has had
//! before: a caller says whom it means, and never reaches a later one by mistake. Being called and giving up are both
//! one compare-and-swap from the same value; exactly one of them succeeds.

use crate::EventCount;
use crate::atomic::{AtomicU64, Ordering};

const PHASE_SHIFT: u32 = 56;
pub(crate) const TICKET: u64 = (1 << PHASE_SHIFT) - 1;
/// Not to be called: the place is being filled, or its waiter has given up.
const SILENT: u64 = 0;
pub(crate) const WAITING: u64 = 1 << PHASE_SHIFT;
pub(crate) const CALLED: u64 = 2 << PHASE_SHIFT;

/// A waiter's place, as a view of its word and of the event count on which it sleeps.
///
/// | bits | meaning | who changes it |
/// |---|---|---|
/// | 0-55 | ticket | the waiter |
/// | 56-57 | phase: 0 silent, 1 waiting, 2 called | the waiter: 0 → 1, 1 → 0, 2 → 1; its caller: 1 → 2 |
///
/// ```
/// use manyhands_sync::EventCount;
/// use manyhands_sync::atomic::{AtomicU32, AtomicU64};
/// use manyhands_sync::call::Call;
///
/// let (state, sequence, sleepers) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
/// let call = Call::new(&state, EventCount::new(&sequence, &sleepers));
/// call.begin(7);
/// assert!(!call.call(6), "another one");
/// assert!(call.call(7) && call.is_called(7));
/// assert!(!call.withdraw(7), "too late");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    state: &'a AtomicU64,
    events: EventCount<'a>,
}

impl<'a> Call<'a> {
    /// A view of a place. Everybody has to use the same words in the same roles.
    #[must_use]
    pub const fn new(state: &'a AtomicU64, events: EventCount<'a>) -> Self {
        Self { state, events }
    }

    /// Where the waiter sleeps.
    #[must_use]
    pub fn events(&self) -> EventCount<'a> {
        self.events
    }

    /// Makes the place that of the waiter with `ticket`, which cannot be called yet.
    pub fn fill(&self, ticket: u64) {
        self.state.store(SILENT | ticket & TICKET, Ordering::Relaxed);
    }

    /// From here on the waiter with `ticket` can be called, and what it wrote about itself can be read.
    pub fn begin(&self, ticket: u64) {
        // pairs with: `state`, and those who call.
        self.state.store(WAITING | ticket, Ordering::Release);
    }

    /// The word, for those who look what is written beside it.
    #[cfg(not(loom))]
    pub(crate) fn state(&self) -> u64 {
        // Acquire pairs with the Release in `begin`.
        self.state.load(Ordering::Acquire)
    }

    /// Whether the place still is the one of the waiter with `ticket`; for those who have read what is beside it.
    #[cfg(not(loom))]
    pub(crate) fn is_of(&self, ticket: u64) -> bool {
        self.state.load(Ordering::Relaxed) & TICKET == ticket
    }

    /// Calls the waiter with `ticket`. Returns whether it has been called by this; [`wake`](Self::wake) it then, if it
    /// may sleep.
    #[must_use]
    pub fn call(&self, ticket: u64) -> bool {
        self.change(WAITING | ticket, CALLED | ticket)
    }

    /// Wakes the waiter, after it has been called.
    pub fn wake(&self) {
        self.events.notify_all();
    }

    /// Whether the waiter with `ticket` has been called.
    #[must_use]
    pub fn is_called(&self, ticket: u64) -> bool {
        // Acquire pairs with the Release in `change`: what was done before the call.
        self.state.load(Ordering::Acquire) == CALLED | ticket
    }

    /// Gives up being called, by the waiter with `ticket`; false when it has been called already. Not called any more
    /// from then on.
    #[must_use]
    pub fn withdraw(&self, ticket: u64) -> bool {
        self.change(WAITING | ticket, SILENT | ticket)
    }

    /// Waits again after a call, by the waiter with `ticket`.
    pub fn rearm(&self, ticket: u64) {
        let _ = self.change(CALLED | ticket, WAITING | ticket);
    }

    /// Leaves nobody at the place to be called. By its waiter, or by a thread that took it from a dead one.
    #[cfg(not(loom))]
    pub(crate) fn silence(&self) {
        self.state.fetch_and(TICKET, Ordering::Relaxed);
    }

    fn change(&self, from: u64, to: u64) -> bool {
        // pairs with: `is_called`, and the next `change`.
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
