//! The word that a lock is, and what can be done with it without waiting.

use manyhands_os::process::Identity;

use crate::EventCount;
use crate::atomic::Ordering;
use crate::words::Words;

/// How many words a lock has.
pub(crate) const WORDS: usize = 8;

/// Indices of the words.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | state | 0-53 | identity of the owner's process; all zero: free | whoever acquires: →own; whoever releases: →0; whoever takes over: dead→own |
/// | state | 59 | [`RESERVED`]: free, for one that has slept | whoever releases while [`STARVING`] is set; cleared with acquiring, or by a waiter who leaves |
/// | state | 60 | [`POISONED`]: somebody released it abandoned | who does so; cleared by recovering |
/// | state | 61 | [`ABANDONED`]: taken over from a dead owner | whoever takes over; cleared by recovering and by releasing |
/// | state | 62 | [`STARVING`]: somebody waits too long; hand over instead of freeing | that waiter; cleared with releasing |
/// | state | 63 | [`WAITERS`]: somebody may be asleep | whoever goes to sleep, and whoever has slept and acquires; cleared with releasing |
/// | thread | 0-31 | kernel's number of the owner's thread: for [`RLock`](super::lock::RLock) the truth while the process owns the lock, else information | the owner |
/// | sequence, sleepers | | an event count | as there |
/// | depth | | how many more times the owner has acquired an `RLock` | the owner |
/// | reserved at | | when it was reserved, nanoseconds of the clock | who is about to hand over |
pub(crate) const STATE: usize = 0;
pub(crate) const THREAD: usize = 1;
const SEQUENCE: usize = 2;
const SLEEPERS: usize = 3;
#[cfg(not(loom))]
pub(crate) const DEPTH: usize = 4;
#[cfg(not(loom))]
pub(crate) const RESERVED_AT: usize = 5;

const WAITERS: u64 = 1 << 63;
const STARVING: u64 = 1 << 62;
const ABANDONED: u64 = 1 << 61;
const POISONED: u64 = 1 << 60;
const RESERVED: u64 = 1 << 59;
pub(crate) const OWNER: u64 = Identity::MASK;

/// In what state somebody got a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what the lock protects may be half-changed"]
pub enum Acquired {
    /// As its last owner wanted.
    Clean,
    /// Its owner died: this process. What the lock protects may be half-changed; say
    /// [`recover`](LockWord::recover) when it is right again.
    Abandoned(Identity),
    /// An owner that had taken it over from a dead one released it without recovering.
    Poisoned,
}

/// There is nothing to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLocked;

impl std::fmt::Display for NotLocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("release unlocked lock")
    }
}

impl std::error::Error for NotLocked {}

/// How an attempt is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt {
    /// The caller goes to sleep if this fails.
    pub sleeping: bool,
    /// The caller has slept for it, or those who have do not come: it may take what is reserved.
    pub slept: bool,
    /// The caller waits too long already.
    pub starving: bool,
    /// This owner is certainly dead: it may be taken over from.
    pub dead: Option<Identity>,
}

/// The words of a lock. All zero: free.
#[derive(Clone, Debug)]
pub struct LockWord<W> {
    words: W,
}

impl<W: Words> LockWord<W> {
    /// The lock that these words are; 8 of them.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn new(words: W) -> Self {
        assert!(words.count() >= WORDS, "a lock has {WORDS} words");
        Self { words }
    }

    /// Its words.
    #[cfg(not(loom))]
    pub(crate) fn words(&self) -> &W {
        &self.words
    }

    /// Where its waiters sleep.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        EventCount::new(self.words.futex(SEQUENCE), self.words.futex(SLEEPERS))
    }

    /// Acquires it if it is free and clean and nobody waits for it too long already.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self, me: Identity, thread: u32) -> bool {
        // Acquire: all that the last owner did. pairs with: try_release, release (Release)
        let state = self.words.word(STATE);
        let taken = state.compare_exchange(0, me.to_bits(), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            self.words.word(THREAD).store(u64::from(thread), Ordering::Relaxed);
        }
        taken
    }

    /// Releases it if this process has it and nobody waits; otherwise see [`release`](Self::release).
    #[inline]
    #[must_use]
    pub fn try_release(&self, me: Identity) -> bool {
        // Release: all that we did. pairs with: try_acquire, attempt (Acquire)
        let state = self.words.word(STATE);
        state.compare_exchange(me.to_bits(), 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Tries to acquire it in every way there is.
    pub fn attempt(&self, me: Identity, thread: u32, how: Attempt) -> Option<Acquired> {
        let state = self.words.word(STATE);
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            let (next, acquired) = self.plan(me, seen, how);
            if next == seen {
                return None;
            }
            // Acquire: all that the last owner did. pairs with: try_release, release (Release)
            match state.compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed) {
                Err(changed) => seen = changed,
                Ok(_) => {
                    if acquired.is_some() {
                        self.words.word(THREAD).store(u64::from(thread), Ordering::Relaxed);
                    }
                    return acquired;
                }
            }
        }
    }

    /// What an attempt makes of a state, and what the caller has then.
    fn plan(&self, me: Identity, seen: u64, how: Attempt) -> (u64, Option<Acquired>) {
        // A thread that has slept cannot know whether others sleep on; with the bit set its own release looks.
        let waiters = if how.slept { WAITERS } else { seen & WAITERS };
        let owner = Identity::from_bits(seen & OWNER);
        match owner {
            None if seen & RESERVED != 0 && !how.slept => (seen, None),
            None => {
                let poisoned = seen & POISONED;
                let acquired = if poisoned == 0 { Acquired::Clean } else { Acquired::Poisoned };
                (me.to_bits() | waiters | poisoned, Some(acquired))
            }
            Some(owner) if how.dead == Some(owner) => {
                let flags = WAITERS | ABANDONED | seen & POISONED;
                (me.to_bits() | flags, Some(Acquired::Abandoned(owner)))
            }
            Some(_) if how.sleeping => {
                let starving = if how.starving { STARVING } else { 0 };
                (seen | WAITERS | starving, None)
            }
            Some(_) => (seen, None),
        }
    }

    /// Releases it, whoever has it; returns whether to notify a waiter at [`events`](Self::events).
    ///
    /// # Errors
    /// When nobody has it.
    pub fn release(&self) -> Result<bool, NotLocked> {
        let state = self.words.word(STATE);
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            if Identity::from_bits(seen & OWNER).is_none() {
                return Err(NotLocked);
            }
            let poisoned = if seen & (ABANDONED | POISONED) == 0 { 0 } else { POISONED };
            let handed_over = if seen & STARVING == 0 { 0 } else { RESERVED | WAITERS };
            // Release: all that we did. pairs with: try_acquire, attempt (Acquire)
            let freed = state.compare_exchange_weak(
                seen,
                poisoned | handed_over,
                Ordering::Release,
                Ordering::Relaxed,
            );
            match freed {
                Ok(_) => return Ok(seen & WAITERS != 0),
                Err(changed) => seen = changed,
            }
        }
    }

    /// Whether releasing it will hand it over to one who has slept.
    #[must_use]
    pub fn is_starving(&self) -> bool {
        self.words.word(STATE).load(Ordering::Relaxed) & STARVING != 0
    }

    /// Whether it is being handed over.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let seen = self.words.word(STATE).load(Ordering::Relaxed);
        seen & OWNER == 0 && seen & RESERVED != 0
    }

    /// Called by a waiter that stops waiting, or when nobody waits: a lock reserved for a sleeper becomes free. Returns whether somebody must
    /// be notified.
    #[must_use]
    pub fn stop_waiting(&self) -> bool {
        let free = |seen: u64| {
            let reserved = seen & OWNER == 0 && seen & RESERVED != 0;
            reserved.then_some(seen & POISONED)
        };
        // Release: passes on what the last owner did. pairs with: try_acquire, attempt (Acquire)
        self.words.word(STATE).fetch_update(Ordering::AcqRel, Ordering::Relaxed, free).is_ok()
    }

    /// Says that what an abandoned or poisoned lock protects is right again; returns whether this process has it, and it
    /// was one of the two.
    pub fn recover(&self, me: Identity) -> bool {
        let recovered = |seen: u64| {
            let bad = seen & (ABANDONED | POISONED) != 0;
            (seen & OWNER == me.to_bits() && bad).then_some(seen & !(ABANDONED | POISONED))
        };
        self.words.word(STATE).fetch_update(Ordering::Relaxed, Ordering::Relaxed, recovered).is_ok()
    }

    /// Its owner: the process, and as a hint its thread; `None` when it is free or being handed over.
    #[must_use]
    pub fn owner(&self) -> Option<(Identity, u32)> {
        let owner = Identity::from_bits(self.words.word(STATE).load(Ordering::Relaxed) & OWNER)?;
        Some((owner, self.words.word(THREAD).load(Ordering::Relaxed) as u32))
    }

    /// Whether somebody has it or is about to be handed it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.words.word(STATE).load(Ordering::Relaxed) & (OWNER | RESERVED) != 0
    }

    /// Whether it has been taken over from a dead owner, or released so, and not been recovered since.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.words.word(STATE).load(Ordering::Relaxed) & (ABANDONED | POISONED) != 0
    }
}
