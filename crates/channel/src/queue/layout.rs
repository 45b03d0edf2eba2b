//! Where everything is: the one place for offsets and sizes.
//!
//! A queue is a root, a table of consumers, and a body. Bytes, from the beginning of the region:
//!
//! | from | what |
//! |---|---|
//! | 0 | root: what the queue is, whether it was closed |
//! | [`CONSUMERS`] | one line for each process that took items it has not finished |
//! | [`BODY`] | the head: latches and counters of both sides |
//! | [`BODY`] + [`HEAD_BYTES`] | links of the extents; or the order of the cells |
//! | the next page | extents; or cells |

use std::ops::Range;

use manyhands_os::memory::{Segment, page_size};
use manyhands_sync::words::SegmentWords;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::AttachError;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Lines of the table of consumers, some more than processes that can be told apart; and the bytes of each.
pub(crate) const MOST_CONSUMERS: usize = 256;
pub(crate) const CONSUMER: usize = 16;

/// Where the table of consumers begins.
pub(crate) const CONSUMERS: usize = 512;

/// Where the body begins.
pub(crate) const BODY: usize = CONSUMERS + MOST_CONSUMERS * CONSUMER;

/// The least and the most that a queue can be made of, in bytes.
pub(crate) const SMALLEST: usize = 128 << 10;
pub(crate) const LARGEST: usize = 32 << 30;

/// Words of the root.
pub(crate) mod root {
    /// The mark of a queue that is ready, written last.
    pub(crate) const MAGIC: usize = 0;
    /// Version in the low half, kind and whether it counts tasks in the high one.
    pub(crate) const MAKE: usize = 1;
    /// Length of the region in bytes.
    pub(crate) const LEN: usize = 2;
    /// The most items.
    pub(crate) const MAXSIZE: usize = 3;
    /// Whether it was closed.
    pub(crate) const STATE: usize = 4;
    /// Event count of those who wait for all tasks to be done.
    pub(crate) const JOINED: usize = 8;
    /// Number of words.
    pub(crate) const WORDS: usize = 64;
}

/// Words of the head of a body. Each line of eight words is written by one side only, so that a producer and a consumer
/// that both have work never wait for each other's cache line; the commit words are the exception that carries the
/// news.
pub(crate) mod head {
    // Only producers, under their latch. A heap has one latch, this one.
    pub(crate) const PUT_LATCH: usize = 0;
    /// The consumers' commit as a producer last saw it.
    pub(crate) const SEEN_GOT: usize = 1;
    /// Extents (cells) ever used.
    pub(crate) const FRESH: usize = 2;
    /// The first of the extents (cells) that are out of use, plus one.
    pub(crate) const SPARE: usize = 3;
    /// Extents in the circle.
    pub(crate) const LINKED: usize = 4;
    pub(crate) const BYTES_PUT: usize = 5;
    pub(crate) const PUTS: usize = 6;
    pub(crate) const PUT_DEATHS: usize = 7;

    /// What is in the queue for good: the producers' commit.
    pub(crate) const PUT_COMMIT: usize = 8;

    // Only consumers, under their latch.
    pub(crate) const GET_LATCH: usize = 16;
    /// The producers' commit as a consumer last saw it.
    pub(crate) const SEEN_PUT: usize = 17;
    pub(crate) const BYTES_GOT: usize = 18;
    pub(crate) const GETS: usize = 19;
    pub(crate) const GET_DEATHS: usize = 20;
    /// Items taken and not yet finished, by everybody.
    pub(crate) const OPEN: usize = 21;

    /// What is out of the queue for good: the consumers' commit.
    pub(crate) const GOT_COMMIT: usize = 24;

    /// Event counts, two futexes each: waiting for an item, for room, for either latch.
    pub(crate) const ITEMS: usize = 32;
    pub(crate) const SPACE: usize = 40;
    pub(crate) const PUT_TURN: usize = 48;
    pub(crate) const GET_TURN: usize = 50;

    // Again producers (or whoever has the one latch of a heap).
    /// Extents entered since the circle was last made shorter.
    pub(crate) const STEPS: usize = 56;
    /// Items in a heap.
    pub(crate) const HEAP_LEN: usize = 57;

    /// Number of words.
    pub(crate) const WORDS: usize = 64;
}

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = head::WORDS * 8;

/// Memory that an idle queue keeps, in bytes.
pub(crate) const KEEP: usize = 16 << 20;

/// Where the parts of a stream are, in bytes of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamPlan {
    pub(crate) head: usize,
    pub(crate) links: usize,
    pub(crate) data: usize,
    /// Number of extents.
    pub(crate) extents: u32,
    /// Bytes of one.
    pub(crate) extent: usize,
}

impl StreamPlan {
    /// Divides the bytes `region`; `None` where they are too few for two extents.
    pub(crate) fn of(region: Range<usize>) -> Option<Self> {
        let len = region.len();
        // At least sixteen extents, so that little is lost with one that is half read; beyond 4 GiB larger ones, so
        // that the links stay few.
        let extent = (len / 16).clamp(4 << 10, 64 << 10);
        let extent = (1_usize << extent.ilog2()).max((len >> 16).next_power_of_two());
        let links = region.start + HEAD_BYTES;
        let most = len / extent;
        let data = (links + most * 8).next_multiple_of(page_size());
        let extents = region.end.checked_sub(data)? / extent;
        let extents = u32::try_from(extents).ok().filter(|count| *count >= 2)?;
        Some(Self { head: region.start, links, data, extents, extent })
    }
}

/// Bytes of a cell of a heap.
pub(crate) const CELL: usize = 128;

/// Where the parts of a heap are, in bytes of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeapPlan {
    pub(crate) head: usize,
    pub(crate) order: usize,
    pub(crate) cells: usize,
    /// Number of cells.
    pub(crate) count: u32,
}

impl HeapPlan {
    /// Divides the bytes `region`; `None` where they are too few.
    pub(crate) fn of(region: Range<usize>) -> Option<Self> {
        let order = region.start + HEAD_BYTES;
        let most = region.end.checked_sub(order)? / (CELL + 8);
        let cells = (order + most * 8).next_multiple_of(page_size());
        let count = u32::try_from(region.end.checked_sub(cells)? / CELL).ok().filter(|count| *count >= 2)?;
        Some(Self { head: region.start, order, cells, count })
    }
}

/// Refuses a region that no queue can be in.
pub(crate) fn check(segment: &Segment, region: &Range<usize>) -> Result<(), AttachError> {
    let len = region.end.saturating_sub(region.start);
    let fits = region.end <= segment.len()
        && region.start.is_multiple_of(page_size())
        && (SMALLEST..=LARGEST).contains(&len);
    if fits { Ok(()) } else { Err(AttachError::BadRegion { start: region.start, len }) }
}

/// Refuses a region in which nothing stands that begins with `mark`, of this `version` and made for these bytes; for an
/// error it is a `wanted`. Returns the other half of its make: what its maker chose.
pub(crate) fn open(
    segment: &Segment,
    region: &Range<usize>,
    mark: u64,
    version: u32,
    wanted: &'static str,
) -> Result<u32, AttachError> {
    check(segment, region)?;
    let word = |index: usize| segment.word64(region.start + index * 8);
    // pairs with: Queue::create, Pipe::pair
    if word(root::MAGIC).load(Ordering::Acquire) != mark {
        return Err(AttachError::NotOurs { wanted });
    }
    let make = word(root::MAKE).load(Ordering::Relaxed);
    if make as u32 != version {
        return Err(AttachError::WrongVersion { found: make as u32, ours: version });
    }
    let (found, ours) = (word(root::LEN).load(Ordering::Relaxed), region.len() as u64);
    if found != ours {
        return Err(AttachError::WrongSize { found, ours });
    }
    Ok((make >> 32) as u32)
}

/// The words of a head at byte `at`.
pub(crate) fn head_at(segment: &Arc<Segment>, at: usize) -> SegmentWords {
    SegmentWords::new(Arc::clone(segment), at, head::WORDS)
}
