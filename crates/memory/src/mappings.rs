//! What this process shares with others: which segments it has mapped, which records it uses in them, and what becomes
//! of both when it forks.
//!
//! A *place* is a segment that begins with a [`Site`], as this process takes part in it; a *record* is a block of a
//! mapping's arena with the words of one object (a lock, say). Every segment is mapped once, and every record holds its
//! block: it is freed when the last process that uses it lets go or is dead.
//!
//! A child that comes into being by `fork()` has all objects of its parent and must be able to use them at once, even
//! when the parent releases them or ends. So before the fork, in the thread that forks, a participant slot is reserved
//! for the child in every mapping with records in use, and its holds are set; the child adopts the participant slot.
//! Threads that change something here at that time are waited for: a fork never copies a half-made change.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_channel::arena::{Arena, Block, BlockRef, Participant};
use manyhands_os::fork::{Steps, at_fork};
use manyhands_os::memory::Segment;
use manyhands_os::process::identity;
use manyhands_os::{clock, memfd};
use manyhands_sync::names::{self, Kind, NameError};
use manyhands_sync::site::Site;
use manyhands_sync::words::SegmentWords;

use self::received::Pages;
pub use self::received::Received;
pub use self::record_error::RecordError;
use crate::heir::Heir;
use crate::latecomers::{self, LATECOMERS};
use crate::layout;
use crate::sweep::sweep;

mod received;
mod record_error;

/// After so many forks this process's own shared heap is swept: the children may be dead by now, and hold what they had.
const FORKS_PER_SWEEP: u32 = 16;

/// When a record of so many bytes is released, the shared heap is swept first: the dead must not keep it.
const LARGE: usize = 64 << 10;

/// How long a record whose address has been given away is kept for its receiver, in nanoseconds.
const LINGER: u64 = 60 * clock::SECOND;

static TABLE: Mutex<Table> =
    Mutex::new(Table { entries: BTreeMap::new(), lingering: VecDeque::new(), forks: 0 });

/// All that can change. Nobody who has the lock may drop a [`Mapping`] or a [`HeapRecord`]: they take it themselves.
struct Table {
    /// By the number of the segment's memfd.
    entries: BTreeMap<u64, Entry>,
    /// Records whose addresses were given away, and until when they are kept.
    lingering: VecDeque<(u64, Arc<HeapRecord>)>,
    /// How often this process has forked.
    forks: u32,
}

/// What this process knows of a mapping.
struct Entry {
    mapping: Weak<Mapping>,
    /// The arena as this process takes part in it, if it does already.
    arena: Option<Arc<Arena>>,
    records: HashMap<BlockRef, Hold>,
    received: BTreeMap<usize, Pages>,
    /// While this process forks: the participant that the child will be.
    heir: Option<Heir>,
}

/// The hold of this process on a block.
struct Hold {
    /// How many records there are of it.
    records: usize,
    /// The handle; one of before a fork does nothing.
    block: Block,
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment with a site, mapped by this process.
#[derive(Debug)]
pub struct Mapping {
    site: Arc<Site>,
    inode: u64,
}

impl Mapping {
    /// Notes that this process has mapped `site`; `arena` is its view of the arena behind it, if it has one already. If
    /// another thread was faster, this is the mapping it has made.
    ///
    /// # Errors
    /// What the kernel says about the descriptor.
    pub fn register(site: Arc<Site>, arena: Option<Arc<Arena>>) -> io::Result<Arc<Self>> {
        Self::register_with(site, arena, |site| {
            if is_watched(site) {
                site.enter();
            }
        })
    }

    /// As [`register`](Self::register), for a process that takes part as `participant`, whose participant slot is
    /// reserved for it; `arena` is its view as that one.
    ///
    /// If code that ran before has opened the segment already, this process has a number from then, under which it goes
    /// on holding what it has opened.
    ///
    /// # Errors
    /// What the kernel says about the descriptor.
    pub fn register_as(participant: u16, site: Arc<Site>, arena: Arc<Arena>) -> io::Result<Arc<Self>> {
        let mapping = Self::register_with(site, Some(arena), |_| ())?;
        // Without the participant slot, which only a damaged segment refuses, others learn later of this process's death.
        mapping.site.adopt(participant);
        Ok(mapping)
    }

    fn register_with(
        site: Arc<Site>,
        arena: Option<Arc<Arena>>,
        enter: impl FnOnce(&Site),
    ) -> io::Result<Arc<Self>> {
        settle();
        let inode = memfd::inode_of(site.segment().fd())?;
        let mut table = table();
        if let Some(mapping) = table.entries.get(&inode).and_then(|entry| entry.mapping.upgrade()) {
            return Ok(mapping);
        }
        enter(&site);
        let mapping = Arc::new(Self { site, inode });
        let entry = Entry {
            mapping: Arc::downgrade(&mapping),
            arena,
            records: HashMap::new(),
            received: BTreeMap::new(),
            heir: None,
        };
        table.entries.insert(inode, entry);
        Ok(mapping)
    }

    /// The mapping in this process whose memfd has this number, or else the one that process `pid` has as its
    /// descriptor `fd`.
    ///
    /// # Errors
    /// When nobody has it any more, or it was made by another version.
    pub fn find(pid: i32, fd: i32, inode: u64) -> Result<Arc<Self>, NameError> {
        let known = table().entries.get(&inode).and_then(|entry| entry.mapping.upgrade());
        match known {
            Some(mapping) => Ok(mapping),
            None => Ok(Self::register(names::open(pid, fd, inode)?, None)?),
        }
    }

    /// The site that the segment begins with.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        self.site.segment()
    }

    /// The number of its memfd.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut table = table();
        let entry = table.entries.get(&self.inode);
        // Somebody may have mapped it again by now.
        if entry.is_some_and(|entry| entry.mapping.strong_count() == 0) {
            table.entries.remove(&self.inode);
        }
    }
}

impl Entry {
    /// The arena; takes part in it if this process does not yet.
    fn arena(&mut self, site: &Arc<Site>) -> io::Result<&Arc<Arena>> {
        if self.arena.is_none() {
            let participant = site.enter().unwrap_or_else(|| {
                latecomers::join(site);
                LATECOMERS
            });
            self.arena = Some(Arc::new(attach(site, participant)?));
        }
        self.arena.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Releases a block, as far as it is this process that holds it.
    fn release(&self, block: Block) {
        let Some(arena) = &self.arena else { return std::mem::forget(block) };
        if arena.participant() == LATECOMERS.into() {
            // Others hold it as the same participant.
            return std::mem::forget(block);
        }
        // A handle of before the fork does nothing; the hold is that of the heir, if it came so far.
        if !Arc::ptr_eq(block.segment(), arena.segment()) || block.participant() != arena.participant() {
            drop(arena.inherit(block.reference()));
        }
    }
}

/// See [`Kind::is_watched`].
fn is_watched(site: &Site) -> bool {
    Kind::from_number(site.kind()).is_some_and(Kind::is_watched)
}

/// The arena behind `site`, as `participant` sees it.
fn attach(site: &Arc<Site>, participant: u16) -> io::Result<Arena> {
    let segment = site.segment();
    Arena::attach(Arc::clone(segment), layout::region(segment), participant.into())
}

/// The tag of a block that holds a record of this kind.
fn tag_of(kind: Kind) -> u16 {
    kind.number() as u16
}

/// A record in a shared heap, held by this process.
#[derive(Debug)]
pub struct HeapRecord {
    mapping: Arc<Mapping>,
    reference: BlockRef,
    offset: usize,
    len: usize,
    /// Until when it is kept, at least, because its address has been given away.
    lingers: AtomicU64,
}

impl HeapRecord {
    /// A new record of `len` bytes, all zero, in the arena of `mapping`, which this process has made. What it is for
    /// can be seen from outside.
    ///
    /// # Errors
    /// [`RecordError::Full`].
    pub fn allocate(mapping: &Arc<Mapping>, kind: Kind, len: usize) -> Result<Self, RecordError> {
        let mut table = table();
        let block = table.entry(mapping)?.arena(mapping.site())?.allocate(len).map_err(RecordError::Full)?;
        let over = table.no_longer_lingering(clock::now());
        drop(table);
        drop(over);
        // Unlocked, as it may take long. Nobody knows of the block yet, and a child that is forked now has no use for it.
        mapping.segment().zero(block.offset(), len);
        block.set_tag(tag_of(kind));
        let (reference, offset) = (block.reference(), block.offset());
        self::table().entry(mapping)?.records.insert(reference, Hold { records: 1, block });
        Ok(Self { mapping: Arc::clone(mapping), reference, offset, len, lingers: AtomicU64::new(0) })
    }

    /// The record that `reference` names in `mapping`.
    ///
    /// # Errors
    /// [`RecordError::Freed`] when nobody holds it any more, [`RecordError::OtherKind`] and
    /// [`RecordError::OtherSize`] when it was not made as one of this kind with `len` bytes.
    pub fn open(
        mapping: &Arc<Mapping>,
        reference: BlockRef,
        kind: Kind,
        len: usize,
    ) -> Result<Self, RecordError> {
        let mut table = table();
        let entry = table.entry(mapping)?;
        let arena = Arc::clone(entry.arena(mapping.site())?);
        let (offset, is, tag) = match entry.records.get_mut(&reference) {
            Some(hold) => {
                hold.records += 1;
                (hold.block.offset(), hold.block.len(), hold.block.tag())
            }
            None => {
                let block = arena.open(reference).map_err(RecordError::Freed)?;
                let found = (block.offset(), block.len(), block.tag());
                entry.records.insert(reference, Hold { records: 1, block });
                found
            }
        };
        drop(table);
        let record =
            Self { mapping: Arc::clone(mapping), reference, offset, len: is, lingers: AtomicU64::new(0) };
        if tag != tag_of(kind) {
            return Err(RecordError::OtherKind(Kind::from_number(tag.into()), kind));
        }
        if is == len { Ok(record) } else { Err(RecordError::OtherSize(is, len)) }
    }

    /// Where it lies.
    #[must_use]
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Its name in its mapping.
    #[must_use]
    pub fn reference(&self) -> BlockRef {
        self.reference
    }

    /// Where its first byte is in the segment: a multiple of 64.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its words.
    #[must_use]
    pub fn words(&self) -> SegmentWords {
        SegmentWords::new(Arc::clone(self.mapping.segment()), self.offset, self.len / 8)
    }

    /// Keeps it for a minute, if it lies in this process's own shared heap: its address has been given away, and the
    /// giver may let go before it has arrived. Others' segments are not kept: they cost a descriptor.
    pub fn linger(self: &Arc<Self>) {
        if self.mapping.site.creator() != Some(identity()) {
            return;
        }
        let now = clock::now();
        let until = self.lingers.load(Ordering::Relaxed);
        let mut table = table();
        // Not again each time: half of the time is enough for most.
        if until < now + LINGER / 2 {
            self.lingers.store(now + LINGER, Ordering::Relaxed);
            table.lingering.push_back((now + LINGER, Arc::clone(self)));
        }
        let over = table.no_longer_lingering(now);
        drop(table);
        drop(over);
    }
}

impl Drop for HeapRecord {
    fn drop(&mut self) {
        let own = table().release(&self.mapping, self.reference).filter(|_| self.len >= LARGE);
        if let Some(arena) = own {
            sweep(self.mapping.site(), &arena);
        }
    }
}

impl Table {
    fn entry(&mut self, mapping: &Mapping) -> io::Result<&mut Entry> {
        let missing = || io::Error::other("a shared segment is not registered in this process");
        self.entries.get_mut(&mapping.inode).ok_or_else(missing)
    }

    /// Takes out what has lingered for long enough; to be dropped when this is unlocked.
    fn no_longer_lingering(&mut self, now: u64) -> Vec<Arc<HeapRecord>> {
        let over = self.lingering.partition_point(|(until, _)| *until < now);
        self.lingering.drain(..over).map(|(_, record)| record).collect()
    }

    /// One record fewer; if it was the last of a block in this process's own shared heap, returns the arena.
    fn release(&mut self, mapping: &Mapping, block: BlockRef) -> Option<Arc<Arena>> {
        let entry = self.entries.get_mut(&mapping.inode)?;
        let hold = entry.records.get_mut(&block)?;
        hold.records -= 1;
        if hold.records > 0 {
            return None;
        }
        let hold = entry.records.remove(&block)?;
        entry.release(hold.block);
        entry.own().cloned()
    }
}

impl Entry {
    /// The arena, if it is this process that has made it.
    fn own(&self) -> Option<&Arc<Arena>> {
        self.arena.as_ref().filter(|arena| arena.participant() == Participant::PARENT)
    }
}

/// Has forks minded from now on. Called before a fork by whoever can tell, too: another thread may be in the middle of
/// the first use of all this.
pub fn settle() {
    at_fork(Steps { before: before_fork, in_parent: after_fork_in_parent, in_child: after_fork_in_child });
}

/// What the thread that forks has locked, and the mappings it must not drop before it has unlocked.
struct Forking {
    table: MutexGuard<'static, Table>,
    _names: names::Still,
    mappings: Vec<Arc<Mapping>>,
}

thread_local! {
    static FORKING: RefCell<Option<Forking>> = const { RefCell::new(None) };
}

/// Sweeps this process's own shared heap, at some of its forks.
fn sweep_at_times() {
    let own: Vec<(Arc<Mapping>, Arc<Arena>)> = {
        let mut table = table();
        table.forks = table.forks.wrapping_add(1);
        let is_time = table.forks.is_multiple_of(FORKS_PER_SWEEP);
        let entries = table.entries.values().filter(|_| is_time);
        entries.filter_map(|entry| Some((entry.mapping.upgrade()?, Arc::clone(entry.own()?)))).collect()
    };
    for (mapping, arena) in own {
        sweep(mapping.site(), &arena);
    }
}

fn before_fork() {
    sweep_at_times();
    let still = names::hold_still();
    let mut table = table();
    let mut mappings = Vec::new();
    for entry in table.entries.values_mut() {
        let Some(mapping) = entry.mapping.upgrade() else { continue };
        if let Some(arena) = entry.arena.as_ref().filter(|_| !entry.records.is_empty()) {
            let heir = Heir::reserve(&mapping.site);
            for reference in entry.records.keys() {
                // What this process does not hold itself nobody can take from the child either: latecomers hold it.
                let _ = arena.bequeath(*reference, heir.participant());
            }
            entry.heir = Some(heir);
            entry.make_received_private(mapping.segment());
        }
        mappings.push(mapping);
    }
    FORKING.set(Some(Forking { table, _names: still, mappings }));
}

fn after_fork_in_parent() {
    let Some(Forking { mut table, _names, mappings }) = FORKING.take() else { return };
    table.entries.values_mut().for_each(|entry| entry.heir = None);
    drop(table);
    drop(mappings);
}

fn after_fork_in_child() {
    let Some(Forking { mut table, _names, mappings }) = FORKING.take() else { return };
    names::inherit();
    for entry in table.entries.values_mut() {
        // The parent's, and maybe locked by one of its threads: neither used nor dropped.
        std::mem::forget(entry.arena.take());
        let Some(mapping) = entry.mapping.upgrade() else { continue };
        if let Some(heir) = entry.heir.take() {
            let participant = heir.adopt(&mapping.site);
            entry.arena = attach(&mapping.site, participant).ok().map(Arc::new);
        } else if is_watched(&mapping.site) {
            mapping.site.enter();
        }
    }
    // The parent has pickled them, and it is the parent that keeps them.
    let lingering = std::mem::take(&mut table.lingering);
    drop(table);
    drop(lingering);
    drop(mappings);
}
