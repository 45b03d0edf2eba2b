//! The ground: the one shared segment of a process tree's root, its arena, and the leases of those who take part in it.
//! All pools of a process stand on the same ground, and so does everything unnamed that it shares.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_channel::arena::{Arena, Block};
use manyhands_os::memory::Segment;
use manyhands_os::process::identity;
use manyhands_os::{clock, procfs};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{MOST_LEASES, PARAMETERS, SITE_BYTES, Site};

use crate::home::{EVERLASTING, Place, Record, RecordError};

/// As whom zygotes read their set-up; nobody else gets this number.
pub const ZYGOTE: u16 = MOST_LEASES as u16 - 1;

const _: () = assert!(EVERLASTING < ZYGOTE);

/// After so many new records the ground is swept.
const RECORDS_PER_SWEEP: u32 = 1024;

/// How long a lease waits for the child it was reserved for, in nanoseconds. A fork that failed leaves one behind.
const BIRTH: u64 = 60 * clock::SECOND;

/// Where the table of pools is, right behind the site: a word for each, the offset of its control block; zero for none.
const TABLE: usize = SITE_BYTES;
const TABLE_BYTES: usize = 4096;

/// The part of a ground's segment that is its arena.
#[must_use]
pub fn region(segment: &Segment) -> Range<usize> {
    TABLE + TABLE_BYTES..segment.len()
}

/// The words of the table of pools in `segment`.
fn table(segment: &Segment) -> impl Iterator<Item = &AtomicU64> {
    let words = if segment.len() < TABLE + TABLE_BYTES { 0 } else { TABLE_BYTES / 8 };
    (0..words).map(|index| segment.word64(TABLE + 8 * index))
}

/// The offsets of the control blocks of the pools that stand on the ground in `segment`, for whoever looks at it from
/// outside.
#[must_use]
pub fn pools(segment: &Segment) -> Vec<usize> {
    // pairs with: announce_pool (Release)
    let offsets = table(segment).map(|word| word.load(Ordering::Acquire) as usize);
    offsets.filter(|offset| *offset != 0).collect()
}

/// The shared memory of a process and its workers.
pub struct Ground {
    place: Arc<Place>,
    arena: Arc<Arena>,
    /// Participants that the pools look after themselves.
    enrolled: Mutex<BTreeSet<u16>>,
    records: AtomicU32,
}

impl Ground {
    /// A new ground whose arena has about `limit` bytes; nothing is used before it is needed.
    ///
    /// # Errors
    /// When the kernel gives no memory file or address range.
    pub fn create(limit: usize) -> io::Result<Self> {
        let segment = Arc::new(Segment::create(c"manyhands:Ground", TABLE + TABLE_BYTES + limit)?);
        let site = Site::create(Arc::clone(&segment), Kind::Ground.number(), [0; PARAMETERS])?;
        segment.commit(TABLE..TABLE + TABLE_BYTES)?;
        let arena = Arc::new(Arena::create(Arc::clone(&segment), region(&segment))?);
        site.enter_as(0);
        site.publish();
        let place = Place::register(site, Some(Arc::clone(&arena)))?;
        Ok(Self { place, arena, enrolled: Mutex::default(), records: AtomicU32::new(0) })
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
        self.place.segment()
    }

    /// The ground as a place among those that this process has mapped.
    #[must_use]
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The arena, as participant 0.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// A number for a new worker, which completes its lease itself; `None` when all are taken.
    #[must_use]
    pub fn enroll(&self) -> Option<u16> {
        self.sweep();
        let mut enrolled = self.enrolled();
        let participant = self.place.site().reserve()?;
        enrolled.insert(participant);
        Some(participant)
    }

    /// Makes the lease ready for the next worker with the same number. Its last holder is gone and its memory reclaimed.
    pub fn renew(&self, participant: u16) {
        let site = self.place.site();
        if let Some(lease) = site.lease(participant)
            && site.renew(participant, lease.identity)
            && !lease.reserved
        {
            site.forget(lease.identity);
        }
    }

    /// Gives a number back. Its holder is gone and its memory reclaimed.
    pub fn dismiss(&self, participant: u16) {
        let mut enrolled = self.enrolled();
        let site = self.place.site();
        if let Some(lease) = site.lease(participant) {
            site.free(participant, lease.identity);
            if !lease.reserved {
                site.forget(lease.identity);
            }
        }
        enrolled.remove(&participant);
    }

    fn enrolled(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts right what others left behind that took part and are dead, other than the workers of pools.
    pub fn sweep(&self) {
        let site = self.place.site();
        if site.creator() != Some(identity()) {
            return;
        }
        let enrolled = self.enrolled();
        for number in (1..EVERLASTING).filter(|number| !enrolled.contains(number)) {
            let Some(lease) = site.lease(number) else { continue };
            let is_over = match lease.reserved {
                true => lease.since + BIRTH < clock::now(),
                false => site.is_dead(lease.identity),
            };
            if is_over {
                self.arena.reclaim(number.into());
                site.free(number, lease.identity);
                if !lease.reserved {
                    site.forget(lease.identity);
                }
            }
        }
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
        self.arena
            .allocate(bytes)
            .map_err(|full| io::Error::new(io::ErrorKind::OutOfMemory, full.to_string()))
    }

    /// A record of `len` bytes, all zero.
    ///
    /// # Errors
    /// When the segment is full.
    pub fn record(&self, len: usize) -> Result<Record, RecordError> {
        if self.records.fetch_add(1, Ordering::Relaxed) % RECORDS_PER_SWEEP == RECORDS_PER_SWEEP - 1 {
            self.sweep();
        }
        let record = Record::allocate(&self.place, len)?;
        self.segment().zero(record.offset(), len);
        Ok(record)
    }
}
