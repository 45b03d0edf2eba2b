//! Where things are in the arena's part of the segment, and which sizes there are. Every number of the layout stands
//! here and nowhere else.
//!
//! ```text
//! region:  | region header | chunk table: one word per chunk | … | chunk 0 | chunk 1 | …
//! slab:    | slab header   | block header | payload | block header | payload | …
//! run:     | (unused)      | block header | payload … over as many chunks as it takes
//! ```

use std::ops::Range;

use manyhands_os::memory::page_size;

/// Bytes in a chunk: the unit in which participants take memory.
pub(super) const CHUNK: usize = 1 << 20;

/// Payloads begin at multiples of this: a cache line, and what NumPy likes.
pub(super) const ALIGNMENT: usize = 64;

/// Bytes of a block's header, right before its payload: a line of state and one of holders.
pub(super) const BLOCK_HEADER: usize = 128;

/// Bytes at the start of each chunk that never are the header of a block: the slab header; in a run nothing, and in its
/// further chunks payload like the rest.
pub(super) const SLAB_HEADER: usize = 1024;

/// Bytes of a chunk that blocks can use.
const AREA: usize = CHUNK - SLAB_HEADER;

/// How many bytes a slab grows by: big enough to be worth a system call, small enough for a worker that returns one
/// small result not to cost a megabyte.
pub(super) const GROWTH: usize = 64 << 10;

/// How many size classes there are.
pub(super) const CLASSES: usize = WANTED_PAYLOADS.len() + LARGE_COUNTS.len();

/// What the smaller classes must hold at least: powers of two and the middle between them, and a line for a lock, of
/// which programs make very many.
const WANTED_PAYLOADS: [usize; 19] = [
    64, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152, 65536,
    98304, 131_072,
];

/// How many blocks of the larger classes a chunk should hold.
const LARGE_COUNTS: [usize; 5] = [6, 5, 4, 3, 2];

/// Distance between two blocks of a class, in bytes.
pub(super) const STRIDES: [usize; CLASSES] = strides();

/// The most blocks in a slab.
pub(super) const MAX_BLOCKS: usize = AREA / STRIDES[0];

/// Words that it takes to have a bit for each block of a slab.
pub(super) const FREED_WORDS: usize = MAX_BLOCKS.div_ceil(64);

const fn strides() -> [usize; CLASSES] {
    let mut strides = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let blocks = if class < WANTED_PAYLOADS.len() {
            AREA / (WANTED_PAYLOADS[class] + BLOCK_HEADER)
        } else {
            LARGE_COUNTS[class - WANTED_PAYLOADS.len()]
        };
        // Space that would be left over at the end of the chunk makes its blocks a little larger instead.
        strides[class] = AREA / blocks / ALIGNMENT * ALIGNMENT;
        class += 1;
    }
    strides
}

/// The most bytes that a block of `class` holds.
pub(super) const fn capacity(class: usize) -> usize {
    STRIDES[class] - BLOCK_HEADER
}

/// How many blocks a slab of `class` holds.
pub(super) const fn blocks(class: usize) -> usize {
    AREA / STRIDES[class]
}

/// The smallest class whose blocks hold `len` bytes; `None` when that takes a run of chunks.
pub(super) fn class_of(len: usize) -> Option<usize> {
    let class = STRIDES.partition_point(|stride| *stride < len.saturating_add(BLOCK_HEADER));
    (class < CLASSES).then_some(class)
}

/// How many chunks a run takes that holds `len` bytes.
pub(super) fn chunks_for(len: usize) -> usize {
    len.saturating_add(SLAB_HEADER + BLOCK_HEADER).div_ceil(CHUNK)
}

/// The most bytes that a run of `chunks` holds.
pub(super) const fn run_capacity(chunks: usize) -> usize {
    chunks * CHUNK - SLAB_HEADER - BLOCK_HEADER
}

/// Where the last chunk has to end, in bytes from the start of the segment: what references to blocks can name.
pub(super) const FURTHEST: usize = 2 << 40;

/// Offsets in the region header.
pub(super) const MAGIC: usize = 0;
pub(super) const CHUNKS: usize = 8;
pub(super) const HIGH_WATER: usize = 16;
const REGION_HEADER: usize = 64;

/// Where the table and the chunks of one region are, in bytes from the start of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) header: usize,
    pub(super) table: usize,
    pub(super) first_chunk: usize,
    pub(super) chunks: usize,
}

impl Layout {
    /// Divides `region`; `None` when not a single chunk fits.
    pub(super) fn of(region: &Range<usize>) -> Option<Self> {
        let header = region.start.next_multiple_of(ALIGNMENT);
        let table = header + REGION_HEADER;
        let end = region.end.min(FURTHEST);
        let mut chunks = end.checked_sub(table)? / CHUNK;
        while chunks > 0 {
            // On a page, so that a chunk can be committed and discarded without touching its neighbours.
            let first_chunk = (table + 8 * chunks).next_multiple_of(page_size());
            if first_chunk + chunks * CHUNK <= end {
                return Some(Self { header, table, first_chunk, chunks });
            }
            chunks -= 1;
        }
        None
    }

    /// Where `chunk` starts.
    #[inline]
    pub(super) fn chunk(&self, chunk: usize) -> usize {
        self.first_chunk + chunk * CHUNK
    }

    /// Where the header of block `index` in a slab of `class` is; index 0 is also where a run has its header.
    #[inline]
    pub(super) fn block(&self, chunk: usize, class: usize, index: usize) -> usize {
        self.chunk(chunk) + SLAB_HEADER + index * STRIDES[class]
    }

    /// The chunk that a block header at `offset` lies in, and how far behind the chunk's slab header.
    #[inline]
    pub(super) fn locate(&self, offset: usize) -> Option<(usize, usize)> {
        let from_first = offset.checked_sub(self.first_chunk)?;
        let (chunk, within) = (from_first / CHUNK, from_first % CHUNK);
        (chunk < self.chunks).then_some((chunk, within.checked_sub(SLAB_HEADER)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_and_fit() {
        assert!(STRIDES.is_sorted());
        for (class, stride) in STRIDES.iter().enumerate() {
            assert!(stride.is_multiple_of(ALIGNMENT));
            assert!(blocks(class) * stride <= AREA, "class {class}");
            assert!(blocks(class) >= 2);
            assert_eq!(class_of(capacity(class)), Some(class));
            assert_ne!(class_of(capacity(class) + 1), Some(class));
        }
        assert_eq!(class_of(0), Some(0));
        assert_eq!(class_of(usize::MAX), None);
        for wanted in WANTED_PAYLOADS {
            let class = class_of(wanted).expect("a small one");
            assert!(capacity(class) <= wanted + wanted / 4 + BLOCK_HEADER, "{wanted}");
        }
        const { assert!(128 + FREED_WORDS * 8 <= SLAB_HEADER) };
    }

    #[test]
    fn runs_hold_what_they_are_for() {
        for len in [capacity(CLASSES - 1) + 1, CHUNK, 64 << 20, run_capacity(3), run_capacity(3) + 1] {
            assert!(run_capacity(chunks_for(len)) >= len);
            assert!(chunks_for(len) == 1 || run_capacity(chunks_for(len) - 1) < len);
        }
    }

    #[test]
    fn a_region_is_divided() {
        let layout = Layout::of(&(100..10 * CHUNK)).expect("room");
        assert_eq!(layout.chunks, 9);
        assert!(layout.table > 100 && layout.first_chunk >= layout.table + 9 * 8);
        assert_eq!(layout.locate(layout.chunk(3) + SLAB_HEADER + 64), Some((3, 64)));
        assert_eq!(layout.locate(layout.chunk(3) + SLAB_HEADER - 64), None);
        assert_eq!(layout.locate(layout.chunk(9) + SLAB_HEADER), None);
        let layout = Layout::of(&(0..3 * FURTHEST)).expect("room");
        assert!(layout.chunk(layout.chunks) <= FURTHEST && layout.chunks > 2_000_000);
        assert_eq!(Layout::of(&(0..CHUNK)), None);
        assert_eq!(Layout::of(&Range { start: 10, end: 5 }), None);
    }
}
