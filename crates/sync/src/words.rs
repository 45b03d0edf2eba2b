//! Runs of 64-bit words, in shared memory or (for models and tests) on the heap.
//!
//! Every structure that several processes touch is built from such words, so that each access is atomic by type and the
//! protocols above need no `unsafe`.

use crate::atomic::{AtomicU32, AtomicU64};

/// A fixed run of 64-bit words that several threads or processes may touch.
///
/// An index is used either as a word or as a futex, never as both.
pub trait Words {
    /// The word at `index`; panics when `index >= self.count()`.
    fn word(&self, index: usize) -> &AtomicU64;
    /// The low half of the word at `index`, to sleep on; panics when `index >= self.count()`.
    fn futex(&self, index: usize) -> &AtomicU32;
    /// How many words there are.
    fn count(&self) -> usize;
}

/// Words on the heap of this process, all zero at first.
pub struct HeapWords {
    words: Vec<AtomicU64>,
    futexes: Vec<AtomicU32>,
}

impl HeapWords {
    /// `count` words of zero.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        let futexes = (0..count).map(|_| AtomicU32::new(0)).collect();
        Self { words, futexes }
    }
}

impl Words for HeapWords {
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    #[inline]
    fn futex(&self, index: usize) -> &AtomicU32 {
        &self.futexes[index]
    }

    fn count(&self) -> usize {
        self.words.len()
    }
}

impl<W: Words> Words for std::sync::Arc<W> {
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        (**self).word(index)
    }

    #[inline]
    fn futex(&self, index: usize) -> &AtomicU32 {
        (**self).futex(index)
    }

    fn count(&self) -> usize {
        (**self).count()
    }
}

#[cfg(not(loom))]
pub use segment::SegmentWords;

#[cfg(not(loom))]
mod segment {
    use std::ptr::NonNull;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64};

    use manyhands_os::memory::Segment;

    /// Words in a segment: the same words for every process that maps it.
    #[derive(Clone)]
    pub struct SegmentWords {
        /// Where the first one is: the bounds are checked once and not at every access.
        first: NonNull<AtomicU64>,
        count: usize,
        offset: usize,
        segment: Arc<Segment>,
    }

    // SAFETY: atomics in memory that lives as long as the segment, which the value keeps.
    unsafe impl Send for SegmentWords {}
    // SAFETY: as above; only shared references to atomics are given out.
    unsafe impl Sync for SegmentWords {}

    impl SegmentWords {
        /// The `count` words that start at byte `offset` of `segment`.
        ///
        /// # Panics
        /// When they do not lie inside the segment or `offset` is not a multiple of 8.
        #[must_use]
        pub fn new(segment: Arc<Segment>, offset: usize, count: usize) -> Self {
            assert!(offset.is_multiple_of(8), "words start at a multiple of 8");
            let bytes = count.checked_mul(8).expect("words lie inside their segment");
            let first = segment.pointer(offset, bytes).cast();
            Self { first, count, offset, segment }
        }

        /// The segment they lie in.
        #[must_use]
        pub fn segment(&self) -> &Arc<Segment> {
            &self.segment
        }

        /// Byte offset of word `index` in the segment.
        #[must_use]
        pub fn offset_of(&self, index: usize) -> usize {
            self.offset + index * 8
        }

        /// The `count` words from `first` on, as a run of their own.
        ///
        /// # Panics
        /// When they are not all part of this run.
        #[must_use]
        pub fn part(&self, first: usize, count: usize) -> Self {
            assert!(first <= self.count && count <= self.count - first, "a part lies inside the whole");
            Self::new(Arc::clone(&self.segment), self.offset_of(first), count)
        }
    }

    impl super::Words for SegmentWords {
        #[inline]
        fn word(&self, index: usize) -> &AtomicU64 {
            assert!(index < self.count, "word {index} of {}", self.count);
            // SAFETY: inside the run, whose bounds were checked when it was made.
            let word = unsafe { self.first.add(index) };
            // SAFETY: aligned, mapped as long as `self`, and every bit pattern is a value.
            unsafe { word.as_ref() }
        }

        #[inline]
        fn futex(&self, index: usize) -> &AtomicU32 {
            let low = usize::from(cfg!(target_endian = "big"));
            let halves: *mut u32 = self.word(index).as_ptr().cast();
            // SAFETY: both halves lie inside the word.
            let half = unsafe { halves.add(low) };
            // SAFETY: aligned, mapped as long as `self`, and every bit pattern is a value.
            unsafe { AtomicU32::from_ptr(half) }
        }

        fn count(&self) -> usize {
            self.count
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use manyhands_os::memory::Segment;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    fn words() -> SegmentWords {
        SegmentWords::new(Arc::new(Segment::create(c"test", 4096).expect("a segment")), 64, 4)
    }

    #[test]
    fn parts_are_the_same_words() {
        let words = words();
        let part = words.part(1, 2);
        part.word(1).store(7, Ordering::Relaxed);
        assert_eq!(words.word(2).load(Ordering::Relaxed), 7);
        assert_eq!(words.futex(2).load(Ordering::Relaxed), 7, "the low half");
        assert_eq!(part.offset_of(1), 64 + 16);
        assert_eq!(words.part(4, 0).count(), 0);
    }

    #[test]
    #[should_panic(expected = "word 4 of 4")]
    fn a_word_beyond_is_refused() {
        let _ = words().word(4);
    }

    #[test]
    #[should_panic(expected = "outside a segment")]
    fn a_run_beyond_the_segment_is_refused() {
        let _ = SegmentWords::new(Arc::clone(words().segment()), 4096 - 8, 2);
    }
}
