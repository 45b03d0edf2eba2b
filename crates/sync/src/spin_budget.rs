//! How long to look again and again before going to sleep.
//!
//! Sleeping and being woken costs some microseconds; looking costs a CPU that somebody else may need. Looking is right
//! when what one waits for comes soon, and only experience tells: the budget follows how long the successful looks took
//! of late, shrinks with each one that was in vain, and is tried at full length from time to time, so that a change for
//! the better is noticed. With one CPU it is zero: there, whoever looks keeps the other from producing what is looked
//! for.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::atomic::spin_loop;

/// The most looks in a row: at some 20-40 ns each about what sleeping and being woken costs.
const LONGEST: u32 = 600;

/// The most between two that answer each other: waking a process on another, idle CPU takes some 50 µs, and both would
/// sleep for ever after if each gave up before the other one can have been woken.
const LONGEST_FOR_AN_ANSWER: u32 = 4000;

/// The least, for conditions that are true at once.
const SHORTEST: u32 = 8;

/// After so many looks in vain, one goes to the full length.
const RETRY_AFTER: u32 = 32;

/// An adaptive number of looks, to be shared by all that wait for the same kind of thing.
///
/// ```
/// use manyhands_sync::SpinBudget;
///
/// let cpus = 2; // manyhands_os::procfs::cpus()
/// let spin = SpinBudget::new(cpus);
/// assert_eq!(spin.look(|| Some(5)), Some(5));
/// assert_eq!(spin.look(|| None::<u8>), None);
/// ```
#[derive(Debug)]
pub struct SpinBudget {
    longest: u32,
    /// The most pauses between two looks.
    widest: u32,
    /// How many looks the next wait may take. Only a guess: races between waiters lose an adjustment, nothing more.
    budget: AtomicU32,
    /// Looks in vain since the last success.
    in_vain: AtomicU32,
}

impl SpinBudget {
    /// A budget for a machine where `cpus` threads can run at the same time.
    #[must_use]
    pub const fn new(cpus: usize) -> Self {
        Self::with_longest(if cpus > 1 { LONGEST } else { 0 })
    }

    /// The same, for those who wait for an answer to what they have just said.
    #[must_use]
    pub const fn for_answers(cpus: usize) -> Self {
        Self::with_longest(if cpus > 1 { LONGEST_FOR_AN_ANSWER } else { 0 })
    }

    /// A budget that is always zero: look once, then sleep.
    #[must_use]
    pub const fn none() -> Self {
        Self::with_longest(0)
    }

    /// A budget of at most `longest` looks.
    #[must_use]
    pub const fn with_longest(longest: u32) -> Self {
        Self { longest, widest: 1, budget: AtomicU32::new(longest / 4), in_vain: AtomicU32::new(0) }
    }

    /// The same, but with pauses between looks that grow up to `widest`; they count as looks. For what others change all
    /// the time: each look takes the cache line away from them.
    #[must_use]
    pub const fn with_pauses(self, widest: u32) -> Self {
        Self { widest, ..self }
    }

    /// Calls `attempt` until it returns something or the budget is used up; at least once.
    pub fn look<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if self.longest == 0 {
            return None;
        }
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        let retry = in_vain >= RETRY_AFTER;
        let budget = if retry { self.longest } else { self.budget.load(Ordering::Relaxed) };
        let (mut used, mut pauses) = (0, 1);
        while used < budget {
            (0..pauses).for_each(|_| spin_loop());
            used += pauses;
            pauses = (pauses * 2).min(self.widest);
            if let Some(value) = attempt() {
                self.learn(used, budget);
                return Some(value);
            }
        }
        self.in_vain.store(if retry { 0 } else { in_vain + 1 }, Ordering::Relaxed);
        let less = budget.min(self.budget.load(Ordering::Relaxed)) / 8 * 7;
        self.budget.store(less.max(SHORTEST).min(self.longest), Ordering::Relaxed);
        None
    }

    /// Moves the budget an eighth of the way to twice what was needed: enough for waits that vary by that much.
    fn learn(&self, used: u32, budget: u32) {
        let wanted = used.saturating_mul(2).max(SHORTEST);
        let moved = if wanted > budget {
            budget + (wanted - budget).div_ceil(8)
        } else {
            budget - (budget - wanted).div_ceil(8)
        };
        self.budget.store(moved.min(self.longest), Ordering::Relaxed);
        self.in_vain.store(0, Ordering::Relaxed);
    }

    /// The number of looks that the next wait may take.
    #[must_use]
    pub fn looks(&self) -> u32 {
        self.budget.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Looks that a wait takes when what it waits for comes after `after` of them.
    fn wait(spin: &SpinBudget, after: u32) -> Option<u32> {
        let mut looks = 0;
        spin.look(|| {
            looks += 1;
            (looks > after).then_some(looks)
        })
    }

    #[test]
    fn one_cpu_never_spins() {
        let spin = SpinBudget::new(1);
        assert_eq!(wait(&spin, 1), None);
        assert_eq!(wait(&spin, 0), Some(1));
        assert_eq!(spin.looks(), 0);
    }

    #[test]
    fn waits_in_vain_make_it_short() {
        let spin = SpinBudget::new(2);
        for _ in 0..RETRY_AFTER - 1 {
            assert_eq!(wait(&spin, u32::MAX - 1), None);
        }
        assert!(spin.looks() < 30, "{}", spin.looks());
    }

    #[test]
    fn a_change_for_the_better_is_noticed() {
        let spin = SpinBudget::new(2);
        for _ in 0..1000 {
            assert_eq!(wait(&spin, u32::MAX - 1), None);
        }
        let mut waits = 0;
        while wait(&spin, 300).is_none() {
            waits += 1;
            assert!(waits <= 4 * RETRY_AFTER, "never tried again");
        }
        let succeeded = (0..100).filter(|_| wait(&spin, 300).is_some()).count();
        assert!(succeeded >= 95, "{succeeded} of 100");
    }

    #[test]
    fn short_waits_keep_it_short() {
        let spin = SpinBudget::new(2);
        for _ in 0..100 {
            assert!(wait(&spin, 5).is_some());
        }
        assert!(spin.looks() <= 10, "{}", spin.looks());
    }
}
