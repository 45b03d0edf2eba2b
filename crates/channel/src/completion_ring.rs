//! A worker's list of finished slots: one producer (the worker), one consumer (the parent).
//!
//! It has room for every slot there is, so a push never waits and never fails.
//!
//! | word | name | set by | meaning |
//! |---|---|---|---|
//! | 0 | tail | the worker | number of entries ever pushed |
//! | 8… | entries | the worker | slot index, at `number % capacity` |
//!
//! The consumer's position is private to the parent: a worker that dies cannot harm it, and a worker
//! that takes a dead one's place starts where the tail stands.

use manyhands_sync::atomic::Ordering;

use crate::words::Words;

const TAIL: usize = 0;
const ENTRIES: usize = 8;

/// The completion ring, seen from either side.
///
/// ```
/// use manyhands_channel::{completion_ring::CompletionRing, words::HeapWords};
/// let ring = CompletionRing::new(HeapWords::new(CompletionRing::<HeapWords>::words(4)));
/// let mut position = ring.tail();
/// ring.push(3);
/// assert_eq!(ring.pop(&mut position), Some(3));
/// assert_eq!(ring.pop(&mut position), None);
/// ```
pub struct CompletionRing<W> {
    words: W,
    capacity: u64,
}

impl<W: Words> CompletionRing<W> {
    /// How many words a completion ring for `capacity` slots takes.
    #[must_use]
    pub fn words(capacity: usize) -> usize {
        ENTRIES + capacity
    }

    /// The completion ring over `words`, which are zero or hold a completion ring already.
    #[must_use]
    pub fn new(words: W) -> Self {
        let capacity = (words.count() - ENTRIES) as u64;
        Self { words, capacity }
    }

    fn entry(&self, number: u64) -> &manyhands_sync::atomic::AtomicU64 {
        #[allow(clippy::cast_possible_truncation, reason = "a remainder of the capacity")]
        self.words.word(ENTRIES + (number % self.capacity) as usize)
    }

    /// Appends a slot index. Only the completion ring's worker pushes.
    pub fn push(&self, slot: u32) {
        let tail = self.words.word(TAIL).load(Ordering::Relaxed);
        self.entry(tail).store(u64::from(slot), Ordering::Relaxed);
        // Release: the entry and the result in its slot. pairs with: pop (Acquire)
        self.words.word(TAIL).store(tail + 1, Ordering::Release);
    }

    /// The number of entries ever pushed: where a new consumer starts.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.words.word(TAIL).load(Ordering::Acquire)
    }

    /// Whether entries stand beyond `position`.
    #[inline]
    #[must_use]
    pub fn has_more(&self, position: u64) -> bool {
        self.words.word(TAIL).load(Ordering::Relaxed) != position
    }

    /// Takes the entry at `position` and moves it on.
    pub fn pop(&self, position: &mut u64) -> Option<u32> {
        // pairs with: push (Release)
        if self.words.word(TAIL).load(Ordering::Acquire) == *position {
            return None;
        }
        let entry = self.entry(*position).load(Ordering::Relaxed);
        *position += 1;
        #[allow(clippy::cast_possible_truncation, reason = "push stores 32 bits")]
        Some(entry as u32)
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::words::HeapWords;
    use loom::sync::Arc;
    use manyhands_sync::atomic::AtomicU64;

    /// What the worker wrote before its push is there after the pop.
    #[test]
    fn a_popped_slot_is_complete() {
        loom::model(|| {
            let ring = Arc::new(CompletionRing::new(HeapWords::new(CompletionRing::<HeapWords>::words(2))));
            let result = Arc::new(AtomicU64::new(0));
            let worker = {
                let (ring, result) = (Arc::clone(&ring), Arc::clone(&result));
                loom::thread::spawn(move || {
                    result.store(42, Ordering::Relaxed);
                    ring.push(1);
                })
            };
            let mut position = 0;
            if ring.pop(&mut position) == Some(1) {
                assert_eq!(result.load(Ordering::Relaxed), 42);
            }
            worker.join().expect("the worker ends");
        });
    }
}
