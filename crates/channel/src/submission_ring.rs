//! The order of queued slots: one producer, many consumers, any of which may be killed anywhere.
//!
//! An entry names a slot and its generation; it is only a *hint* of what comes next. The truth is the
//! slot's own state word, which a consumer takes by one compare-and-swap that names it (see `claim` of
//! [`SubmissionRing::pop`]). So a consumer that dies between taking a slot and moving the head leaves nothing
//! half done: whoever comes next finds the entry stale and moves the head for it. The producer may
//! likewise withdraw a slot without touching the ring.
//!
//! Words (each counter in a cache line of its own):
//!
//! | word | name | set by | meaning |
//! |---|---|---|---|
//! | 0 | tail | producer | number of entries ever pushed |
//! | 8 | head | anyone, by CAS +1 | number of entries known to be settled, never above tail |
//! | 16… | entries | producer | `generation << 32 \| slot`, at `number % capacity` |

use manyhands_sync::atomic::Ordering;

use crate::words::Words;

const TAIL: usize = 0;
const HEAD: usize = 8;
const ENTRIES: usize = 16;

/// What an entry names: a slot in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the slot.
    pub slot: u32,
    /// Which use of the slot is meant; an entry of an earlier use is stale.
    pub generation: u32,
}

impl Entry {
    /// One word that names it, for a participant that notes what it is doing: never 0, which can stand for none.
    ///
    /// ```
    /// use manyhands_channel::submission_ring::Entry;
    /// let entry = Entry { slot: 0, generation: 3 };
    /// assert_eq!(Entry::from_note(entry.to_note()), Some(entry));
    /// assert_eq!(Entry::from_note(0), None);
    /// ```
    #[must_use]
    pub fn to_note(self) -> u64 {
        self.pack() + 1
    }

    /// The entry that a word names; `None` for 0.
    #[must_use]
    pub fn from_note(word: u64) -> Option<Self> {
        word.checked_sub(1).map(Self::unpack)
    }

    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    #[allow(clippy::cast_possible_truncation, reason = "the halves of a word are 32 bits each")]
    fn unpack(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

/// The ring, seen from any process.
///
/// ```
/// use manyhands_channel::{submission_ring::{Entry, SubmissionRing}, words::HeapWords};
/// let ring = SubmissionRing::new(HeapWords::new(SubmissionRing::<HeapWords>::words(4)));
/// assert!(ring.push(Entry { slot: 7, generation: 1 }));
/// let taken = ring.pop(|entry| entry.generation == 1);
/// assert_eq!(taken, Some(Entry { slot: 7, generation: 1 }));
/// assert_eq!(ring.pop(|_| true), None);
/// ```
pub struct SubmissionRing<W> {
    words: W,
    capacity: u64,
}

impl<W: Words> SubmissionRing<W> {
    /// How many words a ring of `capacity` entries takes.
    #[must_use]
    pub fn words(capacity: usize) -> usize {
        ENTRIES + capacity
    }

    /// The ring over `words`, which are zero or hold a ring already.
    #[must_use]
    pub fn new(words: W) -> Self {
        let capacity = (words.count() - ENTRIES) as u64;
        Self { words, capacity }
    }

    fn entry(&self, number: u64) -> &manyhands_sync::atomic::AtomicU64 {
        #[allow(clippy::cast_possible_truncation, reason = "a remainder of the capacity")]
        self.words.word(ENTRIES + (number % self.capacity) as usize)
    }

    /// Appends an entry; false when the ring is full. Only one thread may push at a time.
    pub fn push(&self, entry: Entry) -> bool {
        let tail = self.words.word(TAIL).load(Ordering::Relaxed);
        // Acquire: the consumers' reads of the entry about to be overwritten came before their
        // move of the head. pairs with: advance (Release)
        if tail - self.words.word(HEAD).load(Ordering::Acquire) >= self.capacity {
            return false;
        }
        self.entry(tail).store(entry.pack(), Ordering::Relaxed);
        // Release: the entry, and all the producer wrote to its slot. pairs with: pop (Acquire)
        self.words.word(TAIL).store(tail + 1, Ordering::Release);
        true
    }

    /// Takes the first entry that `claim` accepts; `None` when there is none.
    ///
    /// `claim` is asked once per entry met and must take the slot atomically: true means it is now
    /// the caller's alone. Entries that it refuses are stale (withdrawn, or taken by another) and
    /// are passed over for good.
    pub fn pop(&self, mut claim: impl FnMut(Entry) -> bool) -> Option<Entry> {
        loop {
            // Acquire: sees every entry below head as settled. pairs with: advance (Release)
            let head = self.words.word(HEAD).load(Ordering::Acquire);
            // pairs with: push (Release)
            let tail = self.words.word(TAIL).load(Ordering::Acquire);
            if head >= tail {
                return None;
            }
            // The producer may overwrite this entry once others have moved the head past it; what
            // is read then is a later entry, whose claim is as good, or stale, which claim refuses.
            let entry = Entry::unpack(self.entry(head).load(Ordering::Relaxed));
            let taken = claim(entry);
            self.advance(head);
            if taken {
                return Some(entry);
            }
        }
    }

    /// Moves the head past entry number `head` unless another has done so already.
    fn advance(&self, head: u64) {
        // Release: our read of the entry stays before. pairs with: push (Acquire), pop (Acquire)
        let _ = self.words.word(HEAD).compare_exchange(head, head + 1, Ordering::Release, Ordering::Relaxed);
    }

    /// How many entries stand in the ring, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        let head = self.words.word(HEAD).load(Ordering::Relaxed);
        let tail = self.words.word(TAIL).load(Ordering::Relaxed);
        usize::try_from(tail.saturating_sub(head)).unwrap_or(usize::MAX)
    }

    /// Whether nothing stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::words::HeapWords;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    fn ring(capacity: usize) -> SubmissionRing<HeapWords> {
        SubmissionRing::new(HeapWords::new(SubmissionRing::<HeapWords>::words(capacity)))
    }

    #[test]
    fn first_in_first_out() {
        let ring = ring(4);
        for slot in 0..4 {
            assert!(ring.push(Entry { slot, generation: 9 }));
        }
        assert!(!ring.push(Entry { slot: 4, generation: 9 }), "a full ring refuses");
        for slot in 0..4 {
            assert_eq!(ring.pop(|_| true), Some(Entry { slot, generation: 9 }));
        }
        assert_eq!(ring.pop(|_| true), None);
    }

    #[test]
    fn stale_entries_are_passed_over() {
        let ring = ring(4);
        for slot in 0..3 {
            ring.push(Entry { slot, generation: 1 });
        }
        assert_eq!(ring.pop(|entry| entry.slot == 2).map(|entry| entry.slot), Some(2));
        assert!(ring.is_empty());
    }

    #[test]
    fn a_consumer_dead_after_its_claim_stops_nobody() {
        let ring = ring(4);
        ring.push(Entry { slot: 0, generation: 1 });
        ring.push(Entry { slot: 1, generation: 1 });
        let claimed = AtomicU32::new(0);
        // The first consumer claims slot 0 and dies before it moves the head.
        claimed.store(1, Ordering::Relaxed);
        let next = ring.pop(|entry| entry.slot != 0 || claimed.load(Ordering::Relaxed) == 0);
        assert_eq!(next, Some(Entry { slot: 1, generation: 1 }));
    }

    #[test]
    fn every_entry_is_taken_exactly_once() {
        const ENTRIES: u32 = if cfg!(miri) { 200 } else { 20_000 };
        let ring = Arc::new(ring(16));
        let taken: Arc<Vec<AtomicU64>> = Arc::new((0..ENTRIES).map(|_| AtomicU64::new(0)).collect());
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let (ring, taken) = (Arc::clone(&ring), Arc::clone(&taken));
                std::thread::spawn(move || {
                    while taken[ENTRIES as usize - 1].load(Ordering::Relaxed) == 0 {
                        let claim = |entry: Entry| {
                            taken[entry.generation as usize]
                                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
                                .is_ok()
                        };
                        if ring.pop(claim).is_none() {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for generation in 0..ENTRIES {
            while !ring.push(Entry { slot: generation % 16, generation }) {
                std::thread::yield_now();
            }
        }
        for consumer in consumers {
            consumer.join().expect("no consumer panics");
        }
        assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::words::HeapWords;
    use loom::sync::Arc;
    use manyhands_sync::atomic::AtomicU64;

    /// Two consumers and a producer that laps the ring: each slot's life is claimed once, none is lost.
    #[test]
    fn two_consumers_take_each_entry_once() {
        loom::model(|| {
            let ring = Arc::new(SubmissionRing::new(HeapWords::new(SubmissionRing::<HeapWords>::words(2))));
            let lives: Arc<Vec<AtomicU64>> = Arc::new((0..3).map(|_| AtomicU64::new(0)).collect());
            ring.push(Entry { slot: 0, generation: 0 });
            ring.push(Entry { slot: 1, generation: 1 });
            let consumer = {
                let (ring, lives) = (Arc::clone(&ring), Arc::clone(&lives));
                loom::thread::spawn(move || take(&ring, &lives))
            };
            let mine = take(&ring, &lives);
            let pushed = ring.push(Entry { slot: 0, generation: 2 });
            let theirs = consumer.join().expect("the consumer ends");
            let last = usize::from(take(&ring, &lives).is_some());
            let count = usize::from(mine.is_some()) + usize::from(theirs.is_some()) + last;
            assert!(count >= 2, "two entries at least were there to take");
            assert!(pushed, "one entry was taken before the third came");
        });
    }

    fn take(ring: &SubmissionRing<HeapWords>, lives: &[AtomicU64]) -> Option<Entry> {
        ring.pop(|entry| {
            lives[entry.generation as usize]
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }
}
