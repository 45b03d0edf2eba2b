//! Buffers that this process has received as its own, and that its forks must not share with it.
//!
//! The memory they lie in is common to parent and workers. That is no matter as long as this process is the only one
//! that still uses a buffer; but a child that it forks would go on using the same memory, and each would see what the
//! other writes. So before a fork their pages are made private, which costs a system call for each and no copy: from
//! then on parent and child both have what was there, and each page that one of them writes to is copied. The block is
//! held until both have let go.

use std::ops::Range;
use std::sync::Arc;

use manyhands_channel::arena::{Block, BlockRef};
use manyhands_os::memory::{Segment, page_size};

use super::{Entry, Hold, Mapping, table};
use crate::sweep::sweep;

/// Whole pages of a block that are this process's own, as long as this value lives.
#[derive(Debug)]
pub struct Received {
    mapping: Arc<Mapping>,
    block: BlockRef,
    start: usize,
}

/// The pages, by their first byte in the segment.
pub(super) struct Pages {
    end: usize,
    /// Whether they are private by now.
    are_private: bool,
}

impl Received {
    /// Notes that `len` bytes from byte `at` of `block` on are this process's own. `None` when they begin inside a page,
    /// or share their last one with what comes behind the block, or when nobody knows the segment.
    #[must_use]
    pub fn keep(block: &Block, at: usize, len: usize) -> Option<Self> {
        let start = block.offset() + at;
        let end = start.checked_add(len)?.checked_next_multiple_of(page_size())?;
        let are_whole = start.is_multiple_of(page_size()) && end <= block.offset() + block.len();
        if are_whole { Self::note(block, start..end) } else { None }
    }

    fn note(block: &Block, pages: Range<usize>) -> Option<Self> {
        let mut table = table();
        let entry = table.entries.get_mut(&block.segment().number())?;
        let mapping = entry.mapping.upgrade()?;
        let reference = block.reference();
        let hold = entry.records.entry(reference);
        hold.or_insert_with(|| Hold { records: 0, block: block.clone() }).records += 1;
        entry.received.insert(pages.start, Pages { end: pages.end, are_private: false });
        drop(table);
        Some(Self { mapping, block: reference, start: pages.start })
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let mut table = table();
        let Some(entry) = table.entries.get_mut(&self.mapping.inode) else { return };
        let pages = entry.received.remove(&self.start).filter(|pages| pages.are_private);
        if let Some(pages) = &pages {
            // Before the memory can be used for anything else, which this process would not see.
            if self.mapping.segment().make_common(self.start..pages.end).is_err() {
                return; // it stays held for good
            }
        }
        let own = table.release(&self.mapping, self.block);
        drop(table);
        // A child that had it, too, may be dead by now.
        if let Some(arena) = own.filter(|_| pages.is_some()) {
            sweep(self.mapping.site(), &arena);
        }
    }
}

impl Entry {
    /// Before a fork: has the child get pages of its own.
    pub(super) fn make_received_private(&mut self, segment: &Segment) {
        for (start, pages) in &mut self.received {
            // Where that fails, for want of mappings say, the child shares them: no worse than refusing to fork.
            pages.are_private = pages.are_private || segment.make_private(*start..pages.end).is_ok();
        }
    }
}
