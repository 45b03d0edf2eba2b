//! Runs of 64-bit words, in shared memory or (for models and tests) on the heap.
//!
//! Every structure of this crate that several processes touch is built from such words, so that
//! each access is atomic by type and the protocols above need no `unsafe`.

use manyhands_sync::atomic::AtomicU64;

/// A fixed run of 64-bit words that several threads or processes may touch.
pub trait Words {
    /// The word at `index`; panics when `index >= self.count()`.
    fn word(&self, index: usize) -> &AtomicU64;
    /// How many words there are.
    fn count(&self) -> usize;
}

/// Words on the heap of this process, all zero at first.
pub struct HeapWords(Vec<AtomicU64>);

impl HeapWords {
    /// `count` words of zero.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Words for HeapWords {
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0[index]
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

impl<W: Words> Words for std::sync::Arc<W> {
    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        (**self).word(index)
    }

    fn count(&self) -> usize {
        (**self).count()
    }
}

#[cfg(not(loom))]
pub use segment::SegmentWords;

#[cfg(not(loom))]
mod segment {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use manyhands_os::memory::Segment;

    /// Words in a segment: the same words for every process that maps it.
    #[derive(Clone)]
    pub struct SegmentWords {
        segment: Arc<Segment>,
        offset: usize,
        count: usize,
    }

    impl SegmentWords {
        /// The `count` words that start at byte `offset` of `segment`.
        ///
        /// Panics when they do not lie inside the segment or `offset` is not a multiple of 8.
        #[must_use]
        pub fn new(segment: Arc<Segment>, offset: usize, count: usize) -> Self {
            assert!(offset.is_multiple_of(8), "words start at a multiple of 8");
            assert!(
                count
                    .checked_mul(8)
                    .and_then(|bytes| offset.checked_add(bytes))
                    .is_some_and(|end| end <= segment.len()),
                "words lie inside their segment"
            );
            Self { segment, offset, count }
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
        #[must_use]
        pub fn part(&self, first: usize, count: usize) -> Self {
            assert!(first + count <= self.count, "a part lies inside the whole");
            Self { segment: Arc::clone(&self.segment), offset: self.offset_of(first), count }
        }
    }

    impl super::Words for SegmentWords {
        #[inline]
        fn word(&self, index: usize) -> &AtomicU64 {
            assert!(index < self.count, "word {index} of {}", self.count);
            self.segment.word64(self.offset + index * 8)
        }

        fn count(&self) -> usize {
            self.count
        }
    }
}
