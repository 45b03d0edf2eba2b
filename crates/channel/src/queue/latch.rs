//! The lock of one side of a queue: held for the length of one copy, by a process and not by a thread.
//!
//! Its word names the process that holds it, so that whoever finds it taken can tell whether the holder lives. A dead
//! holder's latch is taken over as it is, and what it protects is repaired before anything else is done
//! ([`Guard::inherited`]). A stopped process keeps what it has. A copy made by fork holds nothing: the word names the
//! parent.
//!
//! | bits | meaning | set by | cleared by |
//! |---|---|---|---|
//! | 0-53 | the [`Identity`] of the holder, 0: free | who enters, by compare-and-swap | the holder, by a swap with 0 |
//! | 63 | somebody sleeps, or is about to | whoever found it taken; whoever enters after a sleep | the same swap |

use manyhands_os::process::{Identity, identity};
use manyhands_sync::EventCount;
use manyhands_sync::atomic::{AtomicU64, Ordering, spin_loop};

const WAITERS: u64 = 1 << 63;

/// How often to look again: a holder that runs is done with a small item by then.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 80 };

/// How much an attempt to enter may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The only one: nobody will sleep afterwards.
    Only,
    /// One of many in a row: not worth more than a glance.
    Look,
    /// The caller sleeps when this fails.
    First,
    /// The caller has slept: others may sleep, too, and the holder may be dead.
    Woken,
}

impl Attempt {
    /// Whether it may ask who is dead, which takes some microseconds.
    pub(crate) fn may_ask(self) -> bool {
        matches!(self, Self::Only | Self::Woken)
    }
}

/// The latch is taken by this process, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy(pub Option<Identity>);

/// A view of a latch.
#[derive(Clone, Copy)]
pub(crate) struct Latch<'q> {
    word: &'q AtomicU64,
    events: EventCount<'q>,
}

impl<'q> Latch<'q> {
    pub(crate) fn new(word: &'q AtomicU64, events: EventCount<'q>) -> Self {
        Self { word, events }
    }

    /// Its holder.
    pub(crate) fn holder(&self) -> Option<Identity> {
        Identity::from_bits(self.word.load(Ordering::Relaxed) & Identity::MASK)
    }

    /// What those sleep on who wait for it.
    pub(crate) fn events(&self) -> EventCount<'q> {
        self.events
    }

    #[inline]
    pub(crate) fn enter(&self, attempt: Attempt) -> Result<Guard<'q>, Busy> {
        let mut mine = identity().to_bits();
        if attempt == Attempt::Woken {
            mine |= WAITERS;
        }
        match self.word.compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed) {
            // pairs with: Guard::drop
            Ok(_) => Ok(Guard { latch: *self, inherited: false }),
            Err(_) => self.enter_contended(mine, attempt),
        }
    }

    #[cold]
    fn enter_contended(&self, mine: u64, attempt: Attempt) -> Result<Guard<'q>, Busy> {
        let me = identity();
        let mut looks = LOOKS;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen == 0 {
                if let Some(guard) = self.swap(0, mine) {
                    return Ok(guard);
                }
                continue;
            }
            if looks > 0 {
                looks -= 1;
                spin_loop();
                continue;
            }
            let holder = Identity::from_bits(seen & Identity::MASK);
            // No process can be the holder of a damaged word.
            let dead = holder.is_none_or(|it| attempt.may_ask() && it != me && it.is_dead());
            if dead {
                if let Some(guard) = self.swap(seen, mine | seen & WAITERS) {
                    return Ok(guard);
                }
                continue;
            }
            let marked = matches!(attempt, Attempt::Only | Attempt::Look)
                || seen & WAITERS != 0
                || self
                    .word
                    .compare_exchange(seen, seen | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if marked {
                return Err(Busy(holder));
            }
        }
    }

    fn swap(&self, seen: u64, mine: u64) -> Option<Guard<'q>> {
        // pairs with: Guard::drop. What a dead holder wrote is ordered by the kernel, which ended it before we knew.
        let swapped = self.word.compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed);
        swapped.ok().map(|_| Guard { latch: *self, inherited: seen != 0 })
    }
}

/// The right to change one side. Dropping it gives it up.
pub(crate) struct Guard<'q> {
    latch: Latch<'q>,
    inherited: bool,
}

impl Guard<'_> {
    /// Whether it was taken from a dead process, which may have been in the middle of something, even of repairing
    /// what another one had left behind.
    #[inline]
    pub(crate) fn inherited(&self) -> bool {
        self.inherited
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // pairs with: Latch::enter
        if self.latch.word.swap(0, Ordering::Release) & WAITERS != 0 {
            self.latch.events.notify(1);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;
    use manyhands_sync::atomic::AtomicU32;

    #[derive(Default)]
    struct Scene {
        word: AtomicU64,
        sequence: AtomicU32,
        sleepers: AtomicU32,
        /// Only changed with the latch, by two steps.
        counter: AtomicU32,
    }

    impl Scene {
        /// As whoever waits for a latch does it: the same steps as `Site::block`.
        fn count(&self) {
            let latch = Latch::new(&self.word, EventCount::new(&self.sequence, &self.sleepers));
            let mut attempt = Attempt::First;
            let guard = loop {
                let key = latch.events().prepare();
                if let Ok(guard) = latch.enter(attempt) {
                    break guard;
                }
                latch.events().wait(key, None);
                attempt = Attempt::Woken;
            };
            let seen = self.counter.load(Ordering::Relaxed);
            self.counter.store(seen + 1, Ordering::Relaxed);
            drop(guard);
        }
    }

    fn model(threads: usize, preemptions: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(move || {
            let scene = Arc::new(Scene::default());
            let others: Vec<_> = (1..threads)
                .map(|_| {
                    let scene = Arc::clone(&scene);
                    loom::thread::spawn(move || scene.count())
                })
                .collect();
            scene.count();
            others.into_iter().for_each(|other| other.join().expect("it ends"));
            assert_eq!(scene.counter.load(Ordering::Relaxed), threads as u32);
            assert_eq!(scene.word.load(Ordering::Relaxed), 0);
        });
    }

    /// One at a time, and nobody sleeps forever.
    #[test]
    fn two_take_turns() {
        model(2, 4);
    }

    #[test]
    fn three_take_turns() {
        model(3, 2);
    }
}
