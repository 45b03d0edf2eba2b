//! What looking and sleeping cost on this machine, and beside what else it does.

use std::sync::atomic::{AtomicU32, Ordering};

/// Nanoseconds from waking a thread until it runs, as long as nothing is known.
const FIRST_WAKING: u32 = 50_000;
/// The least and the most that is believed.
const LEAST_WAKING: u64 = 2_000;
pub(super) const MOST_WAKING: u64 = 100_000;

/// The system calls of a sleep and a waking, in nanoseconds.
const CALLS: u32 = 10_000;

/// So many nanoseconds of looking make all that was before count half.
const MUCH: u32 = 20_000_000;

/// What all threads of this process have seen together.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | `waking` | nanoseconds from waking a thread until it runs | who has waited |
/// | `looked` | for how many nanoseconds threads have looked | who has looked |
/// | `absent` | for how many those that looked had lost their CPU | who has looked |
///
/// All are guesses: of writers that are in each other's way one is not heard, nothing more.
#[derive(Debug)]
pub(super) struct Machine {
    waking: AtomicU32,
    looked: AtomicU32,
    absent: AtomicU32,
}

impl Machine {
    pub(super) const fn new() -> Self {
        Self { waking: AtomicU32::new(FIRST_WAKING), looked: AtomicU32::new(0), absent: AtomicU32::new(0) }
    }

    /// Learns that a waking took no longer than this. What is remembered is nearer to the least than to the mean:
    /// whatever else a wait is made of comes on top.
    pub(super) fn learn_waking(&self, nanoseconds: u64) {
        let seen = nanoseconds.clamp(LEAST_WAKING, MOST_WAKING) as u32;
        let known = self.waking.load(Ordering::Relaxed);
        let moved = if seen < known { known - (known - seen) / 8 } else { known + (seen - known) / 32 };
        self.waking.store(moved, Ordering::Relaxed);
    }

    /// As [`learn_waking`](Self::learn_waking), of a wait that may have had other reasons to be long.
    pub(super) fn learn_quick_waking(&self, nanoseconds: u64) {
        if nanoseconds < u64::from(self.waking.load(Ordering::Relaxed)) {
            self.learn_waking(nanoseconds);
        }
    }

    /// Learns that a thread spun for so long, and that the CPU was another's for so much of it.
    pub(super) fn learn_crowding(&self, looked: u64, absent: u64) {
        let looked = self.looked.load(Ordering::Relaxed).saturating_add(looked as u32);
        let absent = self.absent.load(Ordering::Relaxed).saturating_add(absent.min(MUCH.into()) as u32);
        let fade = u32::from(looked > MUCH);
        self.looked.store(looked >> fade, Ordering::Relaxed);
        self.absent.store(absent >> fade, Ordering::Relaxed);
    }

    pub(super) fn prices(&self) -> Prices {
        let looked = u64::from(self.looked.load(Ordering::Relaxed)) + u64::from(MUCH / 8);
        let crowding = u64::from(self.absent.load(Ordering::Relaxed)) * 16 / looked;
        Prices { waking: self.waking.load(Ordering::Relaxed), crowding: crowding.min(256) as u32 }
    }
}

/// What looking and sleeping are like at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    waking: u32,
    /// How many nanoseconds are lost to other threads for every 16 of looking.
    crowding: u32,
}

impl Prices {
    /// What a sleep costs, in nanoseconds: two wakings, the waiter's own and, because one who sleeps is late, its
    /// partner's; and the system calls of both.
    pub(super) fn sleep(self) -> u32 {
        2 * self.waking + CALLS
    }

    /// What it costs to have looked for so many nanoseconds: a quarter of them when nobody else needs the CPU, and what
    /// was lost to others when somebody does.
    pub(super) fn looking(self, looked: u32) -> u32 {
        u32::try_from(u64::from(looked) * u64::from(4 + self.crowding) / 16).unwrap_or(u32::MAX)
    }
}
