//! Items in the order in which they came: what a queue of kind `Fifo` and each direction of a pipe is made of.
//!
//! An item is a header and its bytes, rounded up to words, and items follow one another in the extents of a circle (see
//! `extents`); one that does not fit into the rest of an extent goes on in the next. Each side has a latch and *one
//! commit word*: the position up to which it has come, in words from the first extent on (32 bits), and the number of
//! items up to there (32 bits).
//!
//! A producer writes behind its commit, where nobody looks, and then stores the new commit: from that store on all it
//! wrote is in the stream, before it nothing is. A consumer copies out what it takes and then stores its commit: from
//! that store on the items are out, before it none is. So whoever is killed leaves no item half put in or half taken
//! out, and a process that takes over the latch has nothing to repair in the stream itself.
//!
//! The sides meet in the commit words only, and each keeps a copy of the other's in a line of its own: as long as that
//! says that there is an item, or room, it needs to look no further.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use manyhands_os::memory::Segment;
use manyhands_sync::EventCount;
use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::Words;

use super::error::Corrupt;
use super::extents::Extents;
use super::item::Header;
use super::latch::{Attempt, Guard, Latch};
use super::layout::{KEEP, StreamPlan, head};

mod putting;
mod taking;

/// A position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    extent: u32,
    /// Bytes from its beginning, a multiple of 8 up to and including what is usable.
    byte: usize,
}

/// How far a side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    position: Position,
    /// Items up to there, modulo 2³².
    count: u32,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// How many items.
    pub(crate) items: usize,
    /// Whether there is more memory for others now.
    pub(crate) freed: bool,
    /// Whether nothing was left, as far as is known.
    pub(crate) drained: bool,
}

/// The most extents that are given back at once, at a few microseconds each: producers wait for it.
const AT_ONCE: usize = 64;

/// Words of segment memory that items flow through.
pub(crate) struct Stream {
    extents: Extents,
    /// The most extents with items in them, unless one item alone takes more.
    most: usize,
}

impl Stream {
    /// The stream in the bytes `region`, which hold one or will ([`create`](Self::create)); `None` when they are too
    /// few.
    pub(crate) fn over(segment: &Arc<Segment>, region: Range<usize>) -> Option<Self> {
        let plan = StreamPlan::of(region)?;
        Some(Self { extents: Extents::over(segment, plan), most: usize::MAX })
    }

    /// The same, but it is full with about so many bytes in it, if that is more than one item.
    pub(crate) fn with_limit(self, bytes: usize) -> Self {
        Self { most: (bytes / self.extents.len()).max(2), ..self }
    }

    /// Makes an empty stream. All words are zero.
    pub(crate) fn create(&self) -> std::io::Result<()> {
        self.extents.create()
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        self.extents.head.word(index)
    }

    fn events(&self, index: usize) -> EventCount<'_> {
        EventCount::new(self.extents.head.futex(index), self.extents.head.futex(index + 1))
    }

    #[inline]
    pub(crate) fn put_latch(&self) -> Latch<'_> {
        Latch::new(self.word(head::PUT_LATCH), self.events(head::PUT_TURN))
    }

    #[inline]
    pub(crate) fn get_latch(&self) -> Latch<'_> {
        Latch::new(self.word(head::GET_LATCH), self.events(head::GET_TURN))
    }

    /// What a consumer waits for.
    #[inline]
    pub(crate) fn items(&self) -> EventCount<'_> {
        self.events(head::ITEMS)
    }

    /// What a producer waits for.
    #[inline]
    pub(crate) fn space(&self) -> EventCount<'_> {
        self.events(head::SPACE)
    }

    /// The most bytes an item can have.
    pub(crate) fn largest(&self) -> usize {
        // The consumer's extent is never free: in the worst case its end is the producer's position.
        let free = self.extents.count() as usize - 1;
        (free * self.extents.usable() - Header::BYTES).min((1 << 40) - 1)
    }

    #[inline]
    fn unpack(&self, word: u64) -> Result<Commit, Corrupt> {
        let position = (word >> 32) as usize * 8;
        let (extent, byte) = (position / self.extents.len(), position % self.extents.len());
        if extent >= self.extents.count() as usize || byte > self.extents.usable() {
            return Err(Corrupt { what: "a position is outside the queue" });
        }
        Ok(Commit { position: Position { extent: extent as u32, byte }, count: word as u32 })
    }

    #[inline]
    fn pack(&self, commit: Commit) -> u64 {
        let at = commit.position.extent as usize * self.extents.len() + commit.position.byte;
        (at as u64 / 8) << 32 | u64::from(commit.count)
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        loop {
            let got = self.word(head::GOT_COMMIT).load(Ordering::Acquire);
            let put = self.word(head::PUT_COMMIT).load(Ordering::Acquire);
            if self.word(head::GOT_COMMIT).load(Ordering::Relaxed) == got {
                return (put as u32).wrapping_sub(got as u32) as usize;
            }
        }
    }

    /// Repairs what a dead producer left behind.
    pub(crate) fn recover_put(&self) -> Result<(), Corrupt> {
        let deaths = self.word(head::PUT_DEATHS);
        deaths.store(deaths.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let commit = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        self.extents.rebuild(commit.position.extent)
    }

    /// Notes that a consumer died. It left nothing half done here.
    pub(crate) fn recover_get(&self) {
        let deaths = self.word(head::GET_DEATHS);
        deaths.store(deaths.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Drops all items. The caller holds both latches. Returns how many there were.
    pub(crate) fn clear(&self, _put: &Guard<'_>, _get: &Guard<'_>) -> u32 {
        let put = self.word(head::PUT_COMMIT).load(Ordering::Relaxed);
        let got = self.word(head::GOT_COMMIT).load(Ordering::Relaxed);
        // First, so that nobody ever finds it behind the commit.
        self.word(head::SEEN_PUT).store(put, Ordering::Relaxed);
        // pairs with: room, write_across, trim (Acquire)
        self.word(head::GOT_COMMIT).store(put, Ordering::Release);
        (put as u32).wrapping_sub(got as u32)
    }

    /// The number of the item that was taken out last, modulo 2³².
    pub(crate) fn got(&self) -> u32 {
        self.word(head::GOT_COMMIT).load(Ordering::Acquire) as u32
    }

    /// The number of the item that was put in last, modulo 2³².
    pub(crate) fn put_count(&self) -> u32 {
        self.word(head::PUT_COMMIT).load(Ordering::Acquire) as u32
    }

    /// A word of the head.
    pub(crate) fn head_word(&self, index: usize) -> &AtomicU64 {
        self.word(index)
    }

    /// Memory of the extents in use, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.extents.linked() * self.extents.len()
    }

    /// Gives back some of the memory that was needed for more items than there are, if it is much and nobody is putting
    /// anything in. Returns whether there may be more.
    pub(crate) fn trim(&self) -> Result<bool, Corrupt> {
        self.trim_to(KEEP)
    }

    /// Gives back all memory that is not needed, except for `keep` bytes, unless somebody is putting something in.
    pub(crate) fn trim_all(&self, keep: usize) {
        // Counted, so that links that somebody has damaged cannot keep us here.
        let mut rounds = 1 + self.extents.count() as usize / AT_ONCE;
        while rounds > 0 && matches!(self.trim_to(keep), Ok(true)) {
            rounds -= 1;
        }
    }

    fn trim_to(&self, keep: usize) -> Result<bool, Corrupt> {
        if self.memory() <= keep.max(self.extents.len()) {
            return Ok(false);
        }
        let Ok(guard) = self.put_latch().enter(Attempt::Only) else { return Ok(false) };
        if guard.inherited() {
            self.recover_put()?;
        }
        let put = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        // pairs with: take_to
        let got = self.unpack(self.word(head::GOT_COMMIT).load(Ordering::Acquire))?;
        let keep = keep / self.extents.len();
        Ok(self.extents.trim(put.position.extent, got.position.extent, keep, AT_ONCE)? == AT_ONCE)
    }

    /// Items ever put in (`PUTS`) or taken out (`GETS`): the counter, set right by the commit that it follows.
    pub(crate) fn total(&self, counter: usize, commit: usize) -> u64 {
        let counter = self.word(counter).load(Ordering::Relaxed);
        let commit = self.word(commit).load(Ordering::Relaxed) as u32;
        counter.wrapping_add_signed(i64::from(commit.wrapping_sub(counter as u32) as i32))
    }

    /// Adds to a word that only the holder of a latch writes.
    #[inline]
    fn add(&self, index: usize, more: u64) {
        let word = self.word(index);
        word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}
