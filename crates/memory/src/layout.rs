//! Where everything is in a shared heap's segment: the site, the table of pools, the list of latecomers, the arena.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::memory::Segment;
use manyhands_sync::site::SITE_BYTES;

/// Where the table of pools is, right behind the site: a word for each, the offset of its control block; zero for none.
pub(crate) const TABLE: usize = SITE_BYTES;

pub(crate) const TABLE_BYTES: usize = 4096;

/// Where the list of latecomers is.
pub(crate) const LIST: Range<usize> = TABLE + TABLE_BYTES..TABLE + TABLE_BYTES + 4096;

/// The part of a shared heap's segment that is its arena.
#[must_use]
pub fn region(segment: &Segment) -> Range<usize> {
    LIST.end..segment.len()
}

/// The words of the table of pools in `segment`.
pub(crate) fn table(segment: &Segment) -> impl Iterator<Item = &AtomicU64> {
    let words = if segment.len() < TABLE + TABLE_BYTES { 0 } else { TABLE_BYTES / 8 };
    (0..words).map(|index| segment.word64(TABLE + 8 * index))
}

/// The offsets of the control blocks of the pools that stand on the shared heap in `segment`, for whoever looks at it
/// from outside.
#[must_use]
pub fn pools(segment: &Segment) -> Vec<usize> {
    // pairs with: announce_pool (Release)
    let offsets = table(segment).map(|word| word.load(Ordering::Acquire) as usize);
    offsets.filter(|offset| *offset != 0).collect()
}
