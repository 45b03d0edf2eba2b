//! Sleeping until something may have changed.
//!
//! An event count sits beside a condition that lives elsewhere (a ring that is not empty, a slot that is done). Whoever
//! wants to wait says so first ([`EventCount::prepare`]), then looks at the condition once more, and only then sleeps.
//! Whoever makes the condition true calls [`EventCount::notify`] afterwards. No lock, and no system call where nobody
//! waits.
//!
//! # Why no wake-up is lost
//!
//! Waiter: count itself in, *fence*, look at the condition, sleep. Notifier: make the condition true, *fence*, look
//! whether somebody is counted in. The two fences are sequentially consistent, so at least one of the two sees what the
//! other did: either the waiter sees the condition and does not sleep, or the notifier sees the waiter and wakes it. A
//! waiter that is counted in but not yet asleep is reached through the sequence: the notifier changes it, and the
//! kernel refuses to put anyone to sleep on a sequence that is not the one he read before he looked.
//!
//! # Why a death breaks nothing
//!
//! A process that is killed while it waits stays counted in. That only makes notifiers do a system call that wakes
//! nobody, until the next notification of all ([`EventCount::notify_all`], or a [`notify`](EventCount::notify) for at
//! least as many as are counted) starts a new *round*, in which nobody is counted in; a waiter that was counted in an
//! earlier round does not count itself out. The supervisor of the processes calls `notify_all` after each death; that
//! also hands on the wake-up that the dead one may have taken along.

use manyhands_os::clock::Deadline;

use crate::atomic::{AtomicU32, Ordering, fence};
use crate::parking::{self, Wait};

/// One waiter in the low half of the word of sleepers.
const ONE: u32 = 1;

/// The low half: how many are counted in.
const COUNT: u32 = 0xffff;

/// One round in the high half of the word of sleepers.
const ROUND: u32 = 1 << 16;

/// A view of two words, in private or shared memory, both zero at first.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | `sequence` | all | what sleepers sleep on | a notifier that saw somebody: +1 |
/// | `sleepers` | 0-15 | waiters counted in, asleep or about to be, in this round | waiter: +1, and -1 when it goes, if still in the same round; notifier of all: 0 |
/// | `sleepers` | 16-31 | round | notifier of all: +1 (wraps) |
///
/// At most 65,535 may wait at a time.
///
/// ```
/// use manyhands_sync::{EventCount, atomic::{AtomicU32, AtomicBool, Ordering}};
///
/// let (sequence, sleepers) = (AtomicU32::new(0), AtomicU32::new(0));
/// let (events, ready) = (EventCount::new(&sequence, &sleepers), AtomicBool::new(false));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         ready.store(true, Ordering::Release);
///         events.notify(1);
///     });
///     loop {
///         let key = events.prepare();
///         if ready.load(Ordering::Acquire) {
///             break;
///         }
///         events.wait(key, None);
///     }
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EventCount<'a> {
    sequence: &'a AtomicU32,
    sleepers: &'a AtomicU32,
}

/// The right to sleep, from [`EventCount::prepare`]. Dropping it means not to sleep after all.
#[must_use = "a waiter that is counted in makes every notification a system call"]
#[derive(Debug)]
pub struct Key<'a> {
    events: EventCount<'a>,
    sequence: u32,
    round: u32,
}

/// Whom a notification meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    /// Nobody was counted in.
    Nobody,
    /// Fewer than were counted in. `slept`: as many as were meant really slept. If not, nobody sleeps any more:
    /// whoever is counted in still has woken and not run yet, is just looking before it sleeps, or has died.
    Some {
        /// See above.
        slept: bool,
    },
    /// All who were counted in: none of them is counted any more.
    All,
}

impl<'a> EventCount<'a> {
    /// A view of the two words. Everybody has to use the same two in the same roles.
    #[must_use]
    pub const fn new(sequence: &'a AtomicU32, sleepers: &'a AtomicU32) -> Self {
        Self { sequence, sleepers }
    }

    /// Counts the caller in as a waiter. Look at the condition after this and before [`wait`](Self::wait).
    pub fn prepare(&self) -> Key<'a> {
        loop {
            let round = self.sleepers.fetch_add(ONE, Ordering::Relaxed) & !COUNT;
            // Acquire pairs with the Release in `notify`: a waiter that reads the new sequence also sees the condition it
            // announces, and the round that began with it.
            let sequence = self.sequence.load(Ordering::Acquire);
            // pairs with: the fence in `notify`.
            fence(Ordering::SeqCst);
            // A round that ended after we were counted in but before we read the sequence took us off the list, and
            // its wake-up will not reach us: count in again.
            if self.sleepers.load(Ordering::Relaxed) & !COUNT == round {
                return Key { events: *self, sequence, round };
            }
        }
    }

    /// Sleeps until notified, a signal handler has run, or `deadline` passes (`None`: forever); not at all when there
    /// was a notification since `key` was made. Whatever it returns, the condition may hold or not: look again.
    pub fn wait(&self, key: Key<'a>, deadline: Option<Deadline>) -> Wait {
        parking::wait(self.sequence, key.sequence, deadline)
    }

    /// What [`wait`](Self::wait) sleeps on, for a caller that sleeps on other words as well. It must keep the key
    /// while it does.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn words(&self, key: &Key<'a>) -> manyhands_os::park::AnyOf<'a> {
        manyhands_os::park::AnyOf::new(self.sequence, key.sequence)
    }

    /// Wakes `count` waiters, or all when there are no more than that. Call it after the condition was made true.
    /// When nobody waits it costs a fence and a load. Returns whether there was somebody to wake.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn notify(&self, count: u32) -> bool {
        self.notify_some(count) != Notified::Nobody
    }

    /// As [`notify`](Self::notify); says how many it meant.
    pub(crate) fn notify_some(&self, count: u32) -> Notified {
        // pairs with: the fence in `prepare`.
        fence(Ordering::SeqCst);
        let mut sleepers = self.sleepers.load(Ordering::Relaxed);
        loop {
            if sleepers & COUNT == 0 {
                return Notified::Nobody;
            }
            if count < sleepers & COUNT {
                // Those who wake count themselves out. pairs with: `prepare`.
                self.sequence.fetch_add(1, Ordering::Release);
                let woken = parking::wake(self.sequence, count);
                return Notified::Some { slept: woken >= count as usize };
            }
            // Counting everybody out here, and not when they get to run, saves a system call for each notification
            // that comes before they do.
            let next_round = (sleepers & !COUNT).wrapping_add(ROUND);
            // Not Release: the next line is, and it is what `prepare` acquires.
            let taken = self.sleepers.compare_exchange_weak(
                sleepers,
                next_round,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => break,
                Err(changed) => sleepers = changed,
            }
        }
        // pairs with: `prepare`.
        self.sequence.fetch_add(1, Ordering::Release);
        // All, and not as many as were counted: one who came in between could take the place of one of them.
        parking::wake(self.sequence, u32::MAX);
        Notified::All
    }

    /// Wakes every waiter, and forgets those who died. Call it after the condition was made true, or after the death
    /// of a process that may have waited here.
    pub fn notify_all(&self) {
        self.notify(u32::MAX);
    }

    /// Whether somebody waits or is about to (or died while waiting): a hint, out of date at once.
    ///
    /// Asked right after a sequentially consistent read-modify-write that makes the condition true, it takes the place
    /// of the fence in [`notify`](Self::notify): a waiter that is not seen here sees the condition.
    #[must_use]
    pub fn has_sleepers(&self) -> bool {
        // The model checker knows sequential consistency of fences only.
        #[cfg(loom)]
        fence(Ordering::SeqCst);
        // pairs with: the fence in `prepare`.
        self.sleepers.load(Ordering::SeqCst) & COUNT != 0
    }

    /// Counts out one that was counted in, if `round` is still the one it was counted in.
    pub(crate) fn count_out(&self, round: u32) {
        let mut seen = self.sleepers.load(Ordering::Relaxed);
        while seen & !COUNT == round && seen & COUNT != 0 {
            let out = seen - ONE;
            let counted_out =
                self.sleepers.compare_exchange_weak(seen, out, Ordering::Relaxed, Ordering::Relaxed);
            match counted_out {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// Waits until `attempt` returns something: looks at once, then as long as `spin` finds it worthwhile, then
    /// between sleeps. `Err` says why it stopped waiting: [`Wait::TimedOut`] or [`Wait::Interrupted`].
    ///
    /// # Errors
    /// When the deadline has passed or a signal handler has run, and `attempt` still returned nothing.
    pub fn wait_for<T>(
        &self,
        spin: &crate::SpinPolicy,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Wait> {
        let spent = match spin.look(&mut attempt) {
            Ok(value) => return Ok(value),
            Err(spent) => spent,
        };
        loop {
            let key = self.prepare();
            if let Some(value) = attempt() {
                spent.end();
                return Ok(value);
            }
            let outcome = self.wait(key, deadline);
            if outcome == Wait::TimedOut {
                spent.end();
            }
            if matches!(outcome, Wait::TimedOut | Wait::Interrupted) {
                return attempt().ok_or(outcome);
            }
        }
    }
}

#[cfg(not(loom))]
impl Key<'_> {
    /// Stays counted in; the round is what [`EventCount::count_out`] needs.
    pub(crate) fn into_round(self) -> u32 {
        std::mem::ManuallyDrop::new(self).round
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        self.events.count_out(self.round);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::SpinPolicy;
    use manyhands_os::clock;

    #[derive(Default)]
    struct Words {
        sequence: AtomicU32,
        sleepers: AtomicU32,
    }

    impl Words {
        fn events(&self) -> EventCount<'_> {
            EventCount::new(&self.sequence, &self.sleepers)
        }
    }

    #[test]
    fn nobody_waits_nothing_happens() {
        let words = Words::default();
        assert!(!words.events().notify(1));
        assert_eq!(words.sequence.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_key_dropped_counts_out() {
        let words = Words::default();
        let key = words.events().prepare();
        assert!(words.events().has_sleepers());
        drop(key);
        assert!(!words.events().has_sleepers());
    }

    #[test]
    fn a_notification_after_prepare_forbids_the_sleep() {
        let words = Words::default();
        let key = words.events().prepare();
        assert!(words.events().notify(1));
        assert_eq!(words.events().wait(key, None), Wait::Changed);
        assert!(!words.events().has_sleepers());
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let words = Words::default();
        let nothing = words.events().wait_for(&SpinPolicy::none(), Some(clock::now()), || None::<()>);
        assert_eq!(nothing, Err(Wait::TimedOut));
        assert!(!words.events().has_sleepers());
    }

    #[test]
    fn the_dead_are_forgotten() {
        let words = Words::default();
        // A process that is killed here never runs the drop.
        std::mem::forget(words.events().prepare());
        let alive = words.events().prepare();
        assert!(words.events().notify(1), "one of two");
        assert!(words.events().has_sleepers());
        words.events().notify_all();
        assert!(!words.events().has_sleepers());
        drop(alive);
        assert!(!words.events().has_sleepers(), "the drop belongs to an earlier round");
        let next = words.events().prepare();
        assert!(words.events().has_sleepers());
        drop(next);
    }

    #[test]
    fn rounds_wrap() {
        let words = Words::default();
        words.sleepers.store(!COUNT, Ordering::Relaxed);
        let key = words.events().prepare();
        words.events().notify_all();
        assert_eq!(words.sleepers.load(Ordering::Relaxed), 0);
        drop(key);
        assert_eq!(words.sleepers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn two_threads_take_turns() {
        const TURNS: u32 = if cfg!(miri) { 100 } else { 20_000 };
        let (turn, here, there) = (AtomicU32::new(0), Words::default(), Words::default());
        let play = |parity: u32, mine: &Words, theirs: &Words| {
            let spin = SpinPolicy::none();
            for _ in 0..TURNS / 2 {
                let mine_now = || (turn.load(Ordering::Acquire) % 2 == parity).then_some(());
                while mine.events().wait_for(&spin, None, mine_now).is_err() {}
                turn.fetch_add(1, Ordering::Release);
                theirs.events().notify(1);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| play(0, &here, &there));
            play(1, &there, &here);
        });
        assert_eq!(turn.load(Ordering::Relaxed), TURNS);
    }
}
