//! Blocks of shared memory that outlive whoever made them, but not whoever holds them.
//!
//! An [`Arena`] is a part of a [`Segment`] from which several processes, its *participants*, allocate. Each block has a
//! set of *holds*, at most one per participant; it is free when the last hold is gone. A participant that is killed
//! releases nothing; then participant 0 calls [`Arena::reclaim`], and everything the dead one held, owned or was
//! about to do is repaired.
//!
//! # How
//!
//! The memory is divided into chunks of 1 MiB. A table says of each chunk who uses it and for what; participants take
//! chunks by compare-and-swap, and only the owner of a chunk allocates in it. Small blocks come from slabs, which are
//! chunks divided into blocks of one size; large ones are runs of chunks. Anyone can free a block: by clearing a bit in
//! its header, and if it was the last, by changing its state, which one of the last two can do. What is free in a slab
//! is in private lists of its owner, so that there are no links in shared memory that a death could break.
//!
//! Memory that was in use is used again, if possible by the same participant: a copy into pages that a process has
//! mapped is about ten times as fast as one into new pages. [`Arena::trim`] gives back to the system what is too much.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use manyhands_channel::arena::{Arena, Participant};
//! use manyhands_os::memory::Segment;
//!
//! let segment = Arc::new(Segment::create(c"example", 8 << 20)?);
//! let parent = Arena::create(Arc::clone(&segment), 0..segment.len())?;
//! // In the worker process, as a rule, over the same segment:
//! let worker = Arena::attach(Arc::clone(&segment), 0..segment.len(), Participant::from(1))?;
//!
//! let argument = parent.allocate(1000)?;
//! argument.write(0, b"some bytes");
//! let opened = worker.open(argument.reference())?;
//! drop(argument);
//! let mut bytes = [0; 10];
//! opened.read(0, &mut bytes);
//! assert_eq!(&bytes, b"some bytes");
//!
//! let reference = worker.allocate(2000)?.hand_over(Participant::PARENT);
//! let result = parent.accept(reference)?;
//! assert_eq!(result.len(), 2000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod chunks;
mod error;
mod freeing;
mod header;
mod layout;
mod recovery;
mod slabs;
mod tagged;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::memory::Segment;
use manyhands_os::{clock, process};

pub use block::{Block, BlockRef};
pub use error::{ArenaFull, BadBlock};
pub use tagged::Tagged;

use chunks::{Chunk, Chunks, Use};
use header::{BlockHeader, Phase, SlabHeader, State};
use layout::{CHUNKS, Layout, MAGIC, STRIDES};
use slabs::Slabs;

/// The most participants of an arena.
pub const MAX_PARTICIPANTS: u16 = 512;

/// How much free memory [`Arena::trim`] should leave committed for reuse where nothing speaks for another number, in
/// bytes.
pub const DEFAULT_KEEP: usize = 256 << 20;

/// One of those who share an arena: a number below [`MAX_PARTICIPANTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Participant(u16);

impl Participant {
    /// The one who made the arena and reclaims what the dead leave behind.
    pub const PARENT: Self = Self(0);
}

impl From<u16> for Participant {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

/// "manyhand" and the version of the layout.
const MARK: u64 = u64::from_le_bytes(*b"mhArena1");

/// A participant's view of shared memory from which blocks are allocated. All methods can be called from any thread;
/// clones are the same arena.
#[derive(Clone, Debug)]
pub struct Arena {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chunks: Arc<Chunks>,
    me: Participant,
    /// The value of [`process::fork_count`] in the process this belongs to.
    forks: u32,
    /// What the header of the next run starts to count from.
    generation: AtomicU32,
    local: Mutex<Local>,
    /// Held while the dead are reclaimed: one at a time, as each pins what it reads and unpins it afterwards.
    recovery: Mutex<()>,
}

/// What only this process knows.
#[derive(Debug)]
struct Local {
    slabs: Slabs,
    /// Handles beyond the first to blocks that we hold, by header. Whether we hold a block at all says its header.
    more_handles: HashMap<usize, usize>,
}

impl Arena {
    /// Makes an arena of the bytes `region` of `segment`, which must be zero, as participant 0.
    ///
    /// # Errors
    /// `InvalidInput` when the region is not inside the segment or too small for a single chunk (1 MiB and some),
    /// otherwise when memory is short.
    pub fn create(segment: Arc<Segment>, region: Range<usize>) -> io::Result<Self> {
        let layout = lay_out(&segment, &region)?;
        segment.commit(layout.header..layout.first_chunk)?;
        segment.word64(layout.header + CHUNKS).store(layout.chunks as u64, Ordering::Relaxed);
        // pairs with: `attach`.
        segment.word64(layout.header + MAGIC).store(MARK, Ordering::Release);
        Ok(Self::over(segment, layout, Participant::PARENT))
    }

    /// Takes part, as `participant`, in an arena that another process made of the same bytes. A number can be used
    /// again once its last user is dead and was [reclaimed](Self::reclaim).
    ///
    /// # Errors
    /// `InvalidInput` for a number that is too large, `InvalidData` when there is no such arena.
    pub fn attach(segment: Arc<Segment>, region: Range<usize>, participant: Participant) -> io::Result<Self> {
        if participant.0 >= MAX_PARTICIPANTS {
            let text = format!("participant {} of at most {MAX_PARTICIPANTS}", participant.0);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let layout = check_mark(&segment, lay_out(&segment, &region)?)?;
        Ok(Self::over(segment, layout, participant))
    }

    fn over(segment: Arc<Segment>, layout: Layout, me: Participant) -> Self {
        let chunks = Arc::new(Chunks { segment, layout });
        // Two participants, or two lives of one, had better not count from the same number.
        let seed = (clock::now() >> 10) as u32 ^ u32::from(me.0) << 20;
        let slabs = Slabs::new(Arc::clone(&chunks), me, seed);
        let local = Mutex::new(Local { slabs, more_handles: HashMap::new() });
        let generation = AtomicU32::new(!seed);
        let forks = process::fork_count();
        Self { inner: Arc::new(Inner { chunks, me, forks, generation, local, recovery: Mutex::new(()) }) }
    }

    /// A block of `len` bytes, held by this participant. Its contents are arbitrary.
    ///
    /// # Errors
    /// When no memory is left in the arena or in the system. Also in a process that was forked after the arena was
    /// made: the arena belongs to the parent.
    pub fn allocate(&self, len: usize) -> Result<Block, ArenaFull> {
        let inner = &self.inner;
        let header = match layout::class_of(len) {
            _ if inner.is_copy() => None,
            Some(class) => inner.allocate_small(class),
            None => inner.allocate_run(len),
        };
        let full = || ArenaFull { wanted: len, in_use: self.in_use(), limit: self.limit() };
        let offset = header.ok_or_else(full)?;
        let header = BlockHeader::at(inner.segment(), offset);
        header.set_len(len);
        // First the hold, then the state: what is used is held.
        header.hold(inner.me);
        let generation = header.load().map_or(0, |state| state.generation);
        header.store(State { phase: Phase::Used, generation });
        Ok(Block::new(inner, offset, len, generation))
    }

    /// The block that `reference` names, held by this participant too. Somebody else has to hold the block until this
    /// returns; this participant may do so itself.
    ///
    /// # Errors
    /// When there is no such block, or not any more. This is a safety net: a block whose last holder lets go at the
    /// very moment in which it is opened may be missed.
    pub fn open(&self, reference: BlockRef) -> Result<Block, BadBlock> {
        self.hold(reference, |_| true)
    }

    /// The block that another participant [handed over](Block::hand_over) to this one.
    ///
    /// # Errors
    /// When no such block is on its way to this participant: it was accepted before, or its giver has been reclaimed.
    pub fn accept(&self, reference: BlockRef) -> Result<Block, BadBlock> {
        self.hold(reference, |header| header.receive(reference.giver(), self.inner.me))
    }

    /// Takes a hold and then asks `may_keep`.
    fn hold(
        &self,
        reference: BlockRef,
        may_keep: impl FnOnce(BlockHeader<'_>) -> bool,
    ) -> Result<Block, BadBlock> {
        let (inner, bad) = (&self.inner, BadBlock { reference });
        if inner.is_copy() {
            return Err(bad);
        }
        let capacity = inner.find(reference).ok_or(bad)?;
        let offset = reference.header();
        let header = BlockHeader::at(inner.segment(), offset);
        let used = Some(State { phase: Phase::Used, generation: reference.generation() });
        let mut local = inner.local();
        if header.load() != used {
            return Err(bad);
        }
        if header.hold(inner.me) {
            *local.more_handles.entry(offset).or_default() += 1;
        }
        let len = header.len();
        if header.load() == used && len <= capacity && may_keep(header) {
            return Ok(Block::new(inner, offset, len, reference.generation()));
        }
        inner.drop_handle(&mut local, offset);
        Err(bad)
    }

    /// Sets the hold of `to` on a block that this participant holds: for a process that is about to be forked and that
    /// has everything this one has. It takes the hold over by [`inherit`](Self::inherit).
    ///
    /// # Errors
    /// When this participant does not hold such a block.
    pub fn bequeath(&self, reference: BlockRef, to: Participant) -> Result<(), BadBlock> {
        let header = self.inner.held(reference).ok_or(BadBlock { reference })?;
        header.hold(to);
        Ok(())
    }

    /// A handle for the hold that was [set for](Self::bequeath) this participant: to be called once for each block.
    ///
    /// # Errors
    /// When this participant does not hold such a block.
    pub fn inherit(&self, reference: BlockRef) -> Result<Block, BadBlock> {
        let header = self.inner.held(reference).ok_or(BadBlock { reference })?;
        Ok(Block::new(&self.inner, reference.header(), header.len(), reference.generation()))
    }

    /// Repairs what a dead participant left behind: releases what it held, forgets what it had handed over or was
    /// handed (accept what you want to keep before), finishes or undoes what it was about to do, and takes over its
    /// slabs. Others can go on at the same time. Its number can be used again afterwards.
    ///
    /// # Panics
    /// When called by another participant than 0, or for 0.
    pub fn reclaim(&self, dead: Participant) {
        self.reclaim_all(&[dead]);
    }

    /// As [`reclaim`](Self::reclaim), for several who are dead: in the time that one takes.
    ///
    /// # Panics
    /// When called by another participant than 0, or with 0 among the dead.
    pub fn reclaim_all(&self, dead: &[Participant]) {
        assert!(
            self.inner.me == Participant::PARENT && !dead.contains(&Participant::PARENT),
            "participant {} cannot reclaim what {dead:?} held: only 0 can, and not its own",
            self.inner.me.0,
        );
        if !self.inner.is_copy() {
            self.inner.reclaim(dead);
        }
    }

    /// Memory in chunks that are in use by any participant, in bytes: what it would take to start again, more than the
    /// sum of the blocks.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.inner.chunks.in_use()
    }

    /// The most that can be in use, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.chunks.layout.chunks * layout::CHUNK
    }

    /// Gives memory back to the system: empty slabs of this participant and all free chunks, except for `keep` bytes
    /// (see [`DEFAULT_KEEP`]). Returns how many bytes were given back. Workers should call it, too, before they sleep
    /// for long: nobody else can give back their slabs.
    pub fn trim(&self, keep: usize) -> usize {
        if self.inner.is_copy() {
            return 0;
        }
        self.inner.local().slabs.tidy();
        self.inner.chunks.trim(keep, self.inner.me)
    }

    /// The segment that the arena is a part of.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        self.inner.segment()
    }

    /// The participant that this process is.
    #[must_use]
    pub fn participant(&self) -> Participant {
        self.inner.me
    }
}

/// Divides `region`, which must be inside `segment`.
fn lay_out(segment: &Segment, region: &Range<usize>) -> io::Result<Layout> {
    let layout = Layout::of(region).filter(|_| region.end <= segment.len());
    layout.ok_or_else(|| {
        let text = format!(
            "an arena needs more than 1 MiB: bytes {region:?} of a segment of {} bytes",
            segment.len()
        );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// The layout, if an arena has been made that way.
fn check_mark(segment: &Segment, layout: Layout) -> io::Result<Layout> {
    // pairs with: `create`.
    let mark = segment.word64(layout.header + MAGIC).load(Ordering::Acquire);
    let chunks = segment.word64(layout.header + CHUNKS).load(Ordering::Relaxed);
    if mark != MARK || chunks != layout.chunks as u64 {
        let text = format!("no arena begins at byte {} of the segment", layout.header);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(layout)
}

impl Inner {
    fn segment(&self) -> &Arc<Segment> {
        &self.chunks.segment
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        // Nothing here panics half-way through a change.
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a copy that came into being by a fork. Then nothing may be changed, and the lock not be taken:
    /// another thread of the parent may have had it at the fork.
    fn is_copy(&self) -> bool {
        self.forks != process::fork_count()
    }

    /// A pooled block of `class`: the offset of its header.
    fn allocate_small(&self, class: usize) -> Option<usize> {
        let mut local = self.local();
        local.slabs.take(class).or_else(|| {
            local.slabs.tidy();
            self.chunks.trim(0, self.me);
            local.slabs.take(class).or_else(|| local.slabs.take_any(class))
        })
    }

    /// A pooled block that is a run: the offset of its header.
    fn allocate_run(&self, len: usize) -> Option<usize> {
        self.claim_run(len).or_else(|| {
            // What is free but not where it is needed: in slabs, or committed elsewhere.
            self.local().slabs.tidy();
            self.chunks.trim(0, self.me);
            self.claim_run(len)
        })
    }

    fn claim_run(&self, len: usize) -> Option<usize> {
        let count = layout::chunks_for(len);
        let claim = self.chunks.claim(count, self.me, Use::Run)?;
        let claim = self.chunks.commit(claim, self.me).ok()?;
        self.chunks.premap(&claim, self.me);
        let offset = self.chunks.layout.block(claim.start, 0, 0);
        let generation = self.generation.fetch_add(0x9E37_79B9, Ordering::Relaxed);
        let header = BlockHeader::at(self.segment(), offset);
        header.initialise(generation);
        // Held and used before it is a run: recovery frees a run that nobody holds.
        header.hold(self.me);
        header.store(State { phase: Phase::Used, generation: generation & header::GENERATION });
        self.chunks.publish_run(&claim, self.me);
        Some(offset)
    }

    /// The header of the block that `reference` names, if we hold it.
    fn held(&self, reference: BlockRef) -> Option<BlockHeader<'_>> {
        let capacity = if self.is_copy() { None } else { self.find(reference) }?;
        let header = BlockHeader::at(self.segment(), reference.header());
        let used = Some(State { phase: Phase::Used, generation: reference.generation() });
        (header.load() == used && header.is_held_by(self.me) && header.len() <= capacity).then_some(header)
    }

    /// How many bytes the block may have that `reference` names; `None` when no block can be there.
    fn find(&self, reference: BlockRef) -> Option<usize> {
        let (chunk, within) = self.chunks.layout.locate(reference.header())?;
        match self.chunks.load(chunk) {
            Chunk::Slab { class, .. } => {
                let stride = *STRIDES.get(class)?;
                let slab = self.chunks.layout.chunk(chunk);
                let carved = header::acquire(SlabHeader::at(self.segment(), slab).carved());
                let exists = within.is_multiple_of(stride) && within / stride < carved;
                exists.then_some(layout::capacity(class))
            }
            Chunk::Head { len, .. } => (within == 0).then(|| layout::run_capacity(len)),
            _ => None,
        }
    }

    /// Another handle to a block that we hold.
    fn share(&self, offset: usize) {
        if !self.is_copy() {
            *self.local().more_handles.entry(offset).or_default() += 1;
        }
    }

    /// One handle fewer.
    fn release(&self, offset: usize) {
        if !self.is_copy() {
            self.drop_handle(&mut self.local(), offset);
        }
    }

    fn drop_handle(&self, local: &mut Local, offset: usize) {
        if !local.more_handles.is_empty()
            && let Some(more) = local.more_handles.get_mut(&offset)
        {
            *more -= 1;
            if *more == 0 {
                local.more_handles.remove(&offset);
            }
            return;
        }
        let header = BlockHeader::at(self.segment(), offset);
        let Some((chunk, _)) = self.chunks.layout.locate(offset) else { return };
        // Looked at while we hold the block: from the next line on the place can become anything.
        let (kind, state) = (self.chunks.load(chunk), header.load());
        header.release(self.me);
        if let Some(state) = state {
            self.free_if_unheld(offset, chunk, kind, state, Some(local));
        }
    }

    /// Notes that the block is on its way to `to`; the caller releases it afterwards.
    fn send(&self, offset: usize, to: Participant) {
        let header = BlockHeader::at(self.segment(), offset);
        while !self.is_copy() && !header.send(self.me, to) {
            // Six others hand over this very block, and the receivers have not come to accept it. They will.
            std::thread::yield_now();
        }
    }
}
