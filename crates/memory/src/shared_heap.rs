//! The shared heap: the one shared segment of a process tree's root, its arena, and the participant slots of those who
//! take part in it. All pools of a process stand on the same shared heap, and so does everything unnamed that it
//! shares.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_channel::arena::{Arena, Block};
use manyhands_os::memory::{self, Segment};
use manyhands_os::procfs;
use manyhands_sync::names::Kind;
use manyhands_sync::site::{MOST_PARTICIPANTS, PARAMETERS, Site};

use crate::latecomers::LATECOMERS;
use crate::layout::{LIST, TABLE, region, table};
use crate::mappings::{HeapRecord, Mapping, RecordError};
use crate::sweep::sweep;

/// As whom zygotes read their set-up; nobody else gets this number.
pub const ZYGOTE: u16 = MOST_PARTICIPANTS as u16 - 1;

const _: () = assert!(LATECOMERS < ZYGOTE);

/// After so many bytes of new records the shared heap is swept; a record counts as [`COUNTED`] bytes at least.
const BYTES_PER_SWEEP: usize = 1 << 20;
const COUNTED: usize = 1024;

/// The least that a shared heap's arena can be limited to, in bytes.
pub const SMALLEST_LIMIT: usize = 16 << 20;

/// The shared memory of a process and its workers.
pub struct SharedHeap {
    mapping: Arc<Mapping>,
    arena: Arc<Arena>,
    /// Bytes of records since the last sweep.
    unswept: AtomicUsize,
    /// The numbers of workers that have not been dismissed.
    enrolled: Mutex<BTreeSet<u16>>,
}

impl SharedHeap {
    /// A new shared heap whose arena has about `limit` bytes; nothing is used before it is needed.
    ///
    /// # Errors
    /// When the kernel gives no memory file or address range.
    pub fn create(limit: usize) -> io::Result<Self> {
        let segment = Arc::new(Segment::create(c"manyhands:SharedHeap", LIST.end + limit)?);
        let site = Site::create(Arc::clone(&segment), Kind::SharedHeap.number(), [0; PARAMETERS])?;
        segment.commit(TABLE..LIST.end)?;
        let arena = Arc::new(Arena::create(Arc::clone(&segment), region(&segment))?);
        // Otherwise the first worker would get the number that is ours.
        if !site.enter_as(0) {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "no memory to register this process in it",
            ));
        }
        site.publish();
        let mapping = Mapping::register(site, Some(Arc::clone(&arena)))?;
        Ok(Self { mapping, arena, unswept: AtomicUsize::new(0), enrolled: Mutex::default() })
    }

    /// Half of what this process may use of the machine's memory: results that are still in shared memory must not
    /// push out the program that made them. And an eighth of the addresses that are left, where they are limited.
    #[must_use]
    pub fn default_limit() -> usize {
        let addresses = memory::address_room().map_or(usize::MAX, |bytes| bytes / 8);
        let half = usize::try_from(procfs::memory_limit() / 2).unwrap_or(usize::MAX).max(64 << 20);
        half.min(addresses).max(SMALLEST_LIMIT)
    }

    /// A new shared heap with the [default limit](Self::default_limit) or, if there are no addresses for that, a
    /// smaller one.
    ///
    /// # Errors
    /// As [`create`](Self::create); `OutOfMemory` when there are no addresses for the smallest.
    pub fn create_default() -> io::Result<Self> {
        let mut limit = Self::default_limit();
        loop {
            match Self::create(limit) {
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory && limit / 2 >= SMALLEST_LIMIT => {
                    limit /= 2;
                }
                outcome => return outcome,
            }
        }
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        self.mapping.segment()
    }

    /// The shared heap as a place among those that this process has mapped.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The arena, as participant 0.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// A number for a new worker, which completes its participant slot itself; `None` when all are taken.
    #[must_use]
    pub fn enroll(&self) -> Option<u16> {
        self.sweep();
        let mut enrolled = self.enrolled();
        // A number that a worker still has is not given out again, whatever its participant slot says: the two would
        // end each other's tasks. One that was found free so stays reserved until that worker is dismissed.
        std::iter::from_fn(|| self.mapping.site().reserve_supervised())
            .find(|number| enrolled.insert(*number))
    }

    fn enrolled(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the participant slot ready for the next worker with the same number. Its last holder is gone and its
    /// memory reclaimed.
    pub fn renew(&self, participant: u16) {
        let site = self.mapping.site();
        if let Some(slot) = site.participant_slot(participant)
            && site.renew(participant, slot.identity)
            && !slot.reserved
        {
            site.forget(slot.identity);
        }
    }

    /// Gives a number back. Its holder is gone and its memory reclaimed.
    pub fn dismiss(&self, participant: u16) {
        self.enrolled().remove(&participant);
        let site = self.mapping.site();
        if let Some(slot) = site.participant_slot(participant) {
            site.free(participant, slot.identity);
            if !slot.reserved {
                site.forget(slot.identity);
            }
        }
    }

    /// Repairs what dead participants left behind, other than the workers of pools.
    pub fn sweep(&self) {
        sweep(self.mapping.site(), &self.arena);
    }

    /// Lets others find the pool whose control block is at `offset`. One too many is not found, and works all the same.
    pub fn announce_pool(&self, offset: usize) {
        // Release: what was written there. pairs with: pools (Acquire)
        let take = |word: &AtomicU64| {
            word.compare_exchange(0, offset as u64, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        table(self.segment()).any(take);
    }

    /// The pool is no longer there.
    pub fn withdraw_pool(&self, offset: usize) {
        let give = |word: &AtomicU64| {
            word.compare_exchange(offset as u64, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        table(self.segment()).any(give);
    }

    /// A block for the parent's own use.
    ///
    /// # Errors
    /// When the segment is full.
    pub fn allocate(&self, bytes: usize) -> io::Result<Block> {
        let allocated = self.arena.allocate(bytes).or_else(|_| {
            self.sweep();
            self.arena.allocate(bytes)
        });
        allocated.map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full.to_string()))
    }

    /// A record of `len` bytes, all zero, for a primitive of this kind.
    ///
    /// # Errors
    /// When the segment is full.
    pub fn record(&self, kind: Kind, len: usize) -> Result<HeapRecord, RecordError> {
        let counted = len.max(COUNTED);
        if self.unswept.fetch_add(counted, Ordering::Relaxed).saturating_add(counted) >= BYTES_PER_SWEEP {
            self.unswept.store(0, Ordering::Relaxed);
            self.sweep();
        }
        match HeapRecord::allocate(&self.mapping, kind, len) {
            Err(RecordError::Full(_)) => {
                self.sweep();
                HeapRecord::allocate(&self.mapping, kind, len)
            }
            other => other,
        }
    }
}
