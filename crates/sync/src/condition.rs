//! Condition variables: waiting until somebody says that something has changed.
//!
//! A waiter writes itself into the site's table of waiters while it has the lock, then releases the lock and sleeps on
//! its own entry. A notifier picks the oldest entries and calls them, each by one compare-and-swap. So exactly as many
//! are woken as were asked for, in the order in which they came, and those that have given up or died are skipped.
//! Nobody has to answer: a waiter that dies holds up nobody. If it dies after it was called and before it can have
//! made use of that, one of the others finds out within 200 ms, and the next is called instead (see `Site::forget`).
//!
//! When the table is full (more than eight thousand threads and coroutines wait in one segment), waiters cannot be told apart. They then
//! wait for the number of *calls to all*, which grows whenever there are fewer entries than should be notified; all of
//! them wake, and each has to look again at what it waits for. Callers have to do that anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manyhands_os::process::Identity;

use crate::site::{AsyncTicket, Listed, Site, WaitKind};
use crate::site_error::SiteError;
use crate::waiting::{Owners, Stopped, Wait, Waiting};
use crate::words::{SegmentWords, Words};
use crate::{EventCount, Patience, SpinPolicy};

static SPIN: SpinPolicy = SpinPolicy::new();

/// Word of the number of calls to all.
const CALLS: usize = 0;
/// Futex: the sequence of the event count of those who are not in the table.
const SEQUENCE: usize = 1;
/// Futex: its sleepers.
const SLEEPERS: usize = 2;

/// A condition variable in a segment, between threads and processes. It goes with any lock, of the caller's choice.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | 0 | calls to all who are not in the table of waiters | `notify`, when the table has too few: +1 |
/// | 1, 2 | their event count (futexes) | those waiters, and `notify` |
///
/// The caller has the lock when it calls [`enlist`](Self::enlist), releases it before [`Enlisted::wait`], and takes it
/// again afterwards. It should have it while it notifies, too.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use manyhands_os::memory::Segment;
/// use manyhands_sync::Patience;
/// use manyhands_sync::condition::Condition;
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use manyhands_sync::waiting::Patient;
/// use manyhands_sync::words::SegmentWords;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + 4096)?);
/// let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
/// segment.commit(SITE_BYTES..SITE_BYTES + 4096)?;
/// let words = SegmentWords::new(segment, SITE_BYTES, Condition::WORDS);
/// let condition = Condition::open(Arc::clone(&site), words)?;
/// site.publish();
///
/// let ready = Mutex::new(false); // any lock; one in the segment if processes wait
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *ready.lock().unwrap() = true;
///         condition.notify(1);
///     });
///     let mut guard = ready.lock().unwrap();
///     while !*guard {
///         let enlisted = condition.enlist(false);
///         drop(guard);
///         enlisted.wait(Patience::Forever, &mut Patient).expect("notified");
///         guard = ready.lock().unwrap();
///     }
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Condition {
    site: Arc<Site>,
    spin: &'static SpinPolicy,
    words: SegmentWords,
    key: u64,
}

/// A waiter that can be notified already, from [`Condition::enlist`]. Dropping it means not to wait; a notification that
/// has come in between goes to somebody else.
#[derive(Debug)]
pub struct Enlisted<'a> {
    condition: &'a Condition,
    /// `None` when it has been notified, or has given up.
    slot: Option<WaiterSlot>,
}

#[derive(Debug)]
enum WaiterSlot {
    Listed(Listed),
    /// The table is full: the calls to all there were.
    Unlisted(u64),
}

/// A waiter with a wake socket, from [`Condition::enlist_async`].
#[derive(Debug)]
pub struct AsyncEnlisted {
    ticket: AsyncTicket,
}

impl Condition {
    /// How many words a condition takes. All zero they are a condition for which nobody waits.
    pub const WORDS: usize = 3;

    /// The condition of these words.
    ///
    /// # Errors
    /// When there are too few words.
    pub fn open(site: Arc<Site>, words: SegmentWords) -> Result<Self, SiteError> {
        if words.count() < Self::WORDS {
            return Err(SiteError::Corrupt("a condition without room"));
        }
        let key = words.offset_of(0) as u64;
        Ok(Self { site, spin: &SPIN, words, key })
    }

    /// Has threads of this process spin as long as `spin` finds it worthwhile before they sleep, instead of by what all
    /// conditions of this process have learned.
    #[must_use]
    pub fn with_spin(self, spin: &'static SpinPolicy) -> Self {
        Self { spin, ..self }
    }

    /// Makes the caller a waiter: a notification from here on is for it. `timed` says that it will wait with a deadline.
    #[must_use]
    pub fn enlist(&self, timed: bool) -> Enlisted<'_> {
        let slot = match self.site.enlist(WaitKind::Condition, self.key, timed) {
            Some(listed) => WaiterSlot::Listed(listed),
            None => WaiterSlot::Unlisted(self.calls()),
        };
        Enlisted { condition: self, slot: Some(slot) }
    }

    /// As [`enlist`](Self::enlist), for a waiter that is woken at this process's wake socket `socket`. `None` when the
    /// table of waiters is full.
    #[must_use]
    pub fn enlist_async(&self, socket: u32) -> Option<AsyncEnlisted> {
        let ticket = self.site.enlist_async(self.events(), WaitKind::Condition, self.key, socket)?;
        Some(AsyncEnlisted { ticket })
    }

    /// Ends the wait of one with a wake socket; returns whether it has been notified. When it was and the caller has
    /// no use for it (`wanted` is false: it was cancelled), the notification goes to somebody else.
    #[expect(clippy::must_use_candidate, reason = "a waiter that is cancelled need not know")]
    pub fn leave_async(&self, enlisted: AsyncEnlisted, wanted: bool) -> bool {
        let notified = !enlisted.ticket.withdraw();
        // Satisfied in any case: passing on is done here.
        enlisted.ticket.leave(self.events(), true);
        if notified && !wanted {
            self.notify(1);
        }
        notified
    }

    /// Wakes the `count` that have waited longest, or all when there are no more; returns how many. The dead, and those
    /// whose time was over, are not among them. (Those for whom there was no room in the table are woken all, when the
    /// others are fewer than `count`, and are not counted.)
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn notify(&self, count: u32) -> u32 {
        let mut waiting: Vec<(u64, usize, Identity)> = self
            .site
            .waiters_of(self.key)
            .filter(|entry| !entry.called && entry.kind == WaitKind::Condition)
            .map(|entry| (entry.ticket, entry.index, entry.identity))
            .collect();
        waiting.sort_unstable();
        let mut notified = 0;
        for (ticket, index, identity) in waiting {
            if notified == count {
                return notified;
            }
            if self.site.is_dead(identity) {
                self.site.forget(identity);
            } else if self.site.call(index, ticket) {
                notified += 1;
            }
        }
        if notified < count {
            // pairs with: `calls`; and, for the sleepers, the fence in `EventCount::prepare`.
            self.words.word(CALLS).fetch_add(1, Ordering::SeqCst);
            if self.events().has_sleepers() {
                self.events().notify_all();
            }
        }
        notified
    }

    /// Wakes all; returns how many.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn notify_all(&self) -> u32 {
        self.notify(u32::MAX)
    }

    /// How many wait and have not been notified.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.site.waiters_of(self.key).filter(|entry| !entry.called).count()
    }

    /// What waiters wait for.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    fn events(&self) -> EventCount<'_> {
        EventCount::new(self.words.futex(SEQUENCE), self.words.futex(SLEEPERS))
    }

    fn calls(&self) -> u64 {
        // Acquire pairs with the SeqCst in `notify`.
        self.words.word(CALLS).load(Ordering::Acquire)
    }
}

impl Enlisted<'_> {
    /// Waits until notified, as long as `patience` lasts.
    ///
    /// # Errors
    /// [`Stopped`] when the caller has not been notified; if it has been in the moment in which `waiting` said to stop,
    /// the notification has gone to somebody else.
    pub fn wait(mut self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), Stopped> {
        let ended = match &self.slot {
            Some(WaiterSlot::Listed(listed)) => self.wait_listed(listed, patience, waiting),
            Some(WaiterSlot::Unlisted(calls)) => self.wait_unlisted(*calls, patience, waiting),
            None => Ok(()),
        };
        match ended {
            // Notified after all, at the last moment.
            Err(Stopped::TimedOut) if !self.give_up() => Ok(()),
            Ok(()) => {
                self.slot = None;
                Ok(())
            }
            // The drop passes on.
            stopped => stopped,
        }
    }

    /// Whether it has been notified.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        match &self.slot {
            Some(WaiterSlot::Listed(listed)) => listed.is_called(),
            Some(WaiterSlot::Unlisted(calls)) => self.condition.calls() != *calls,
            None => true,
        }
    }

    fn wait_listed(
        &self,
        listed: &Listed,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), Stopped> {
        let (key, kind) = (self.condition.key, WaitKind::Condition);
        let spin = self.condition.spin;
        let wait = Wait { events: listed.events(), key, kind, patience, spin, listed: Some(listed) };
        let site = &self.condition.site;
        // A waiter that has been notified and dies before it wakes must be found by those that are left.
        let notified = |owners: &mut Owners| {
            let mut called = site.waiters_of(key).filter(|entry| entry.called && entry.kind == kind);
            _ = called.all(|entry| owners.push(entry.identity));
        };
        // A forked child that goes on here is on no list: as if notified, it looks at what it waits for.
        site.block(wait, waiting, notified, |_| (listed.is_called() || !listed.is_own()).then_some(()))
    }

    fn wait_unlisted(
        &self,
        calls: u64,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), Stopped> {
        let (condition, kind) = (self.condition, WaitKind::Condition);
        // Another key: in case it gets an entry while it waits, that one must not be called.
        let key = condition.key + 1;
        let spin = condition.spin;
        let wait = Wait { events: condition.events(), key, kind, patience, spin, listed: None };
        condition.site.block(wait, waiting, |_| (), |_| (condition.calls() != calls).then_some(()))
    }

    /// Gives up being notified; false when it has been already.
    fn give_up(&mut self) -> bool {
        match self.slot.take() {
            Some(WaiterSlot::Listed(listed)) => listed.withdraw(),
            Some(WaiterSlot::Unlisted(_)) => true,
            None => false,
        }
    }
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        if self.slot.is_some() && !self.give_up() {
            self.condition.notify(1);
        }
    }
}

impl AsyncEnlisted {
    /// What a wake-up for it says; see [`WakeSocket::drain`](manyhands_os::socket::WakeSocket::drain).
    #[must_use]
    pub fn call_number(&self) -> u64 {
        self.ticket.call_number()
    }

    /// Whether it has been notified: to be asked after a wake-up, and now and then. Looks after those who were
    /// notified and have died, since threads that would may not be waiting here.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        // As of a thread: the copy in a forked child has nobody to notify it.
        self.ticket.is_called() || !self.ticket.is_own() || {
            self.ticket.forget_dead_called();
            self.ticket.is_called()
        }
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.waiting()).finish()
    }
}
