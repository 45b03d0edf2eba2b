//! The ground: the one shared segment of a process tree's root, its arena, and the numbers of those
//! who take part in it. All pools of a process stand on the same ground.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_channel::arena::{Arena, Block};
use manyhands_os::memory::Segment;
use manyhands_os::procfs;

/// Most participants, the parent and the zygotes included.
pub const MOST_PARTICIPANTS: u16 = 512;
/// As whom zygotes read their set-up; no worker gets this number.
pub const ZYGOTE: u16 = MOST_PARTICIPANTS - 1;

/// The shared memory of a process and its workers.
pub struct Ground {
    segment: Arc<Segment>,
    arena: Arc<Arena>,
    free: Mutex<BTreeSet<u16>>,
}

impl Ground {
    /// A new ground of at most `limit` bytes; nothing is used before it is needed.
    ///
    /// # Errors
    /// When the kernel gives no memory file or address range.
    pub fn create(limit: usize) -> io::Result<Self> {
        let segment = Arc::new(Segment::create(c"manyhands", limit)?);
        let arena = Arc::new(Arena::create(Arc::clone(&segment), 0..segment.len())?);
        let free = Mutex::new((1..ZYGOTE).collect());
        Ok(Self { segment, arena, free })
    }

    /// Half of what this process may use of the machine's memory: results that are still in shared
    /// memory must not push out the program that made them.
    #[must_use]
    pub fn default_limit() -> usize {
        usize::try_from(procfs::memory_limit() / 2).unwrap_or(usize::MAX).max(64 << 20)
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The arena, as participant 0.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// A number for a new participant; `None` when all are taken.
    #[must_use]
    pub fn enroll(&self) -> Option<u16> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// Gives a number back. Its holder is gone and its memory reclaimed.
    pub fn dismiss(&self, participant: u16) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).insert(participant);
    }

    /// A block for the parent's own use.
    ///
    /// # Errors
    /// When the segment is full.
    pub fn allocate(&self, bytes: usize) -> io::Result<Block> {
        self.arena
            .allocate(bytes)
            .map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full.to_string()))
    }
}
