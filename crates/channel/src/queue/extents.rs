//! The memory of a stream: extents in a circle.
//!
//! A producer fills extent after extent, a consumer follows. Each extent has a link to the next one, and the links make
//! a circle: from the producer's extent on come those that are free, then the consumer's, then those with items that
//! nobody has taken, and so back to the producer's. So nothing has to be given back: when the consumer moves on, one
//! more extent is free. Where none is, the producer puts another one into the circle behind its own.
//!
//! Only the holder of the producers' latch changes links, and only links that no consumer follows before the next commit.
//! Everything else here is an index that [`Extents::rebuild`] rebuilds from the circle when a holder died:
//!
//! | it died … | what is left | what is done |
//! |---|---|---|
//! | before the link to a new extent | an extent outside of the circle | it becomes spare |
//! | after it | an extent in the circle | it stays, free |
//! | while it took extents out | those already out | they become spare, their memory is given back |

use std::io;
use std::sync::Arc;

use manyhands_os::memory::Segment;
use manyhands_sync::atomic::{Ordering, fence};
use manyhands_sync::words::{SegmentWords, Words};

use super::error::Corrupt;
use super::layout::{StreamPlan, head, head_at};

/// Why there is no extent.
#[derive(Debug)]
pub(super) enum Shortage {
    /// All are in use.
    Full,
    /// The system has no memory.
    OutOfMemory(io::Error),
    Corrupt(Corrupt),
}

impl From<Corrupt> for Shortage {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// The links of a stream, and where its extents are.
pub(super) struct Extents {
    pub(super) segment: Arc<Segment>,
    pub(super) head: SegmentWords,
    links: SegmentWords,
    plan: StreamPlan,
}

impl Extents {
    pub(super) fn over(segment: &Arc<Segment>, plan: StreamPlan) -> Self {
        let links = SegmentWords::new(Arc::clone(segment), plan.links, plan.extents as usize);
        Self { segment: Arc::clone(segment), head: head_at(segment, plan.head), links, plan }
    }

    /// Makes a circle of one extent. The words are zero.
    pub(super) fn create(&self) -> io::Result<()> {
        self.commit(0)?;
        self.word(head::FRESH).store(1, Ordering::Relaxed);
        self.word(head::LINKED).store(1, Ordering::Relaxed);
        Ok(())
    }

    fn word(&self, index: usize) -> &std::sync::atomic::AtomicU64 {
        self.head.word(index)
    }

    /// Bytes of an extent that hold items. The last word is not used, so that the end of one extent is not the
    /// beginning of the next.
    pub(super) fn usable(&self) -> usize {
        self.plan.extent - 8
    }

    pub(super) fn count(&self) -> u32 {
        self.plan.extents
    }

    pub(super) fn len(&self) -> usize {
        self.plan.extent
    }

    /// Where byte `byte` of an extent is in the segment.
    #[inline]
    pub(super) fn address(&self, extent: u32, byte: usize) -> usize {
        self.plan.data + extent as usize * self.plan.extent + byte
    }

    /// The extent after this one.
    #[inline]
    pub(super) fn next(&self, extent: u32) -> Result<u32, Corrupt> {
        // What a consumer follows was written before the commit that let it come here, see `Stream`.
        let next = self.links.word(extent as usize).load(Ordering::Relaxed);
        let known = u32::try_from(next).ok().filter(|next| *next < self.plan.extents);
        known.ok_or(Corrupt { what: "a link does not lead to an extent" })
    }

    fn link(&self, extent: u32, next: u32) {
        // Release: should we die, whoever finds this link finds all that was written before. pairs with: rebuild
        self.links.word(extent as usize).store(u64::from(next), Ordering::Release);
    }

    /// How many extents lie between the two, with one of them counted; not more than `most`.
    pub(super) fn distance(&self, from: u32, to: u32, most: usize) -> Result<usize, Corrupt> {
        let (mut at, mut steps) = (from, 0);
        while at != to && steps < most {
            at = self.next(at)?;
            steps += 1;
        }
        Ok(steps)
    }

    /// Sees to it that `count` extents after `from` are free, none of which is the consumer's, `reader`.
    pub(super) fn reserve(&self, from: u32, count: usize, reader: u32) -> Result<(), Shortage> {
        let mut last = from;
        for _ in 0..count {
            let next = self.next(last)?;
            last = if next == reader { self.insert(last, next)? } else { next };
        }
        Ok(())
    }

    /// Puts another extent between `last` and `next`.
    #[cold]
    fn insert(&self, last: u32, next: u32) -> Result<u32, Shortage> {
        let spare = self.word(head::SPARE).load(Ordering::Relaxed);
        let fresh = self.fresh()?;
        let (extent, rest) = if spare == 0 {
            if fresh == self.plan.extents {
                return Err(Shortage::Full);
            }
            (fresh, 0)
        } else {
            let spare = u32::try_from(spare - 1).ok().filter(|spare| *spare < fresh);
            let spare = spare.ok_or(Corrupt { what: "no such spare extent" })?;
            (spare, self.links.word(spare as usize).load(Ordering::Relaxed))
        };
        self.commit(extent).map_err(Shortage::OutOfMemory)?;
        if spare == 0 {
            self.word(head::FRESH).store(u64::from(fresh) + 1, Ordering::Relaxed);
        } else {
            self.word(head::SPARE).store(rest, Ordering::Relaxed);
        }
        self.link(extent, next);
        self.link(last, extent);
        let linked = self.word(head::LINKED).load(Ordering::Relaxed);
        self.word(head::LINKED).store(linked.wrapping_add(1), Ordering::Relaxed);
        Ok(extent)
    }

    fn fresh(&self) -> Result<u32, Corrupt> {
        let fresh = self.word(head::FRESH).load(Ordering::Relaxed);
        let known = u32::try_from(fresh).ok().filter(|fresh| *fresh <= self.plan.extents);
        known.ok_or(Corrupt { what: "more extents are in use than exist" })
    }

    /// Makes sure that using the extent, and its link, cannot fail.
    fn commit(&self, extent: u32) -> io::Result<()> {
        let (link, start) = (self.plan.links + extent as usize * 8, self.address(extent, 0));
        self.segment.commit(link..link + 8)?;
        self.segment.commit(start..start + self.plan.extent)
    }

    /// How many extents have memory.
    pub(super) fn linked(&self) -> usize {
        let linked = self.word(head::LINKED).load(Ordering::Relaxed);
        usize::try_from(linked).unwrap_or(usize::MAX).min(self.plan.extents as usize)
    }

    /// Takes free extents out of the circle and gives their memory back, except for `keep` of them and at most `most`.
    /// Returns how many.
    pub(super) fn trim(&self, writer: u32, reader: u32, keep: usize, most: usize) -> Result<usize, Corrupt> {
        let mut last = writer;
        for _ in 0..keep {
            match self.next(last)? {
                next if next == reader => return Ok(0),
                next => last = next,
            }
        }
        let mut excess = Vec::new();
        let mut next = self.next(last)?;
        while next != reader && excess.len() < most {
            excess.push(next);
            next = self.next(next)?;
        }
        if excess.is_empty() {
            return Ok(0);
        }
        // One store takes all of them out; only afterwards do they become anything else, even for a process that finds
        // us dead. pairs with: rebuild
        self.link(last, next);
        fence(Ordering::Release);
        let linked = self.word(head::LINKED).load(Ordering::Relaxed);
        self.word(head::LINKED).store(linked.saturating_sub(excess.len() as u64), Ordering::Relaxed);
        Ok(self.retire(excess))
    }

    /// Gives the memory of extents outside of the circle back and notes them as spare.
    fn retire(&self, mut extents: Vec<u32>) -> usize {
        extents.sort_unstable();
        let mut from = 0;
        for index in 1..=extents.len() {
            let goes_on = index < extents.len() && extents[index] == extents[index - 1] + 1;
            if !goes_on {
                let end = self.address(extents[index - 1], self.plan.extent);
                // Only a saving: what is not given back now is used again.
                let _ = self.segment.discard(self.address(extents[from], 0)..end);
                from = index;
            }
        }
        for extent in extents.iter().rev() {
            let spare = self.word(head::SPARE).load(Ordering::Relaxed);
            self.links.word(*extent as usize).store(spare, Ordering::Relaxed);
            self.word(head::SPARE).store(u64::from(*extent) + 1, Ordering::Relaxed);
        }
        extents.len()
    }

    /// Rebuilds everything but the circle. `start` is in the circle.
    pub(super) fn rebuild(&self, start: u32) -> Result<(), Corrupt> {
        // pairs with: link
        fence(Ordering::Acquire);
        let mut in_circle = vec![false; self.plan.extents as usize];
        let (mut at, mut linked) = (start, 0_u64);
        loop {
            let seen = &mut in_circle[at as usize];
            if *seen {
                break;
            }
            *seen = true;
            linked += 1;
            at = self.next(at)?;
        }
        if at != start {
            return Err(Corrupt { what: "the extents do not form a circle" });
        }
        let highest = in_circle.iter().rposition(|it| *it).unwrap_or(0) as u64 + 1;
        let fresh = u64::from(self.fresh()?).max(highest);
        self.word(head::FRESH).store(fresh, Ordering::Relaxed);
        self.word(head::LINKED).store(linked, Ordering::Relaxed);
        self.word(head::SPARE).store(0, Ordering::Relaxed);
        let outside = (0..self.plan.extents).zip(&in_circle).take(fresh as usize);
        let _ = self.retire(outside.filter(|(_, inside)| !**inside).map(|(extent, _)| extent).collect());
        Ok(())
    }
}
