//! The slabs of one participant, which alone allocates small blocks in them, and what is free there.
//!
//! All of this is private memory of the process. In shared memory a slab is only headers, each with its own state: a
//! process can be killed at any instruction here and leaves nothing half-linked.

use std::io;
use std::sync::Arc;

use super::Participant;
use super::chunks::{Chunk, Chunks, Claim, Use};
use super::header::{BlockHeader, Phase, SlabHeader, State, acquire, release};
use super::layout::{CHUNK, CLASSES, GROWTH, SLAB_HEADER, STRIDES, blocks};

/// How many slabs are looked at for blocks that others freed before a new one is taken. Few enough for an allocation
/// to stay short; slabs that were not looked at get their turn with the next one.
const LOOKS: usize = 8;

/// A slab of ours.
#[derive(Debug)]
struct Slab {
    class: usize,
    /// How many blocks have headers.
    carved: usize,
    /// How many bytes of the chunk are committed, from its start.
    committed: usize,
    /// Blocks that are free, to be used again last in first out: the warmest first.
    free: Vec<u16>,
    /// Whether it is in its class's list of slabs with room.
    listed: bool,
    /// Where it is in its class's list of all slabs.
    place: usize,
}

impl Slab {
    fn is_empty(&self) -> bool {
        self.free.len() == self.carved
    }
}

/// The slabs of one size class.
#[derive(Debug, Default)]
struct Class {
    /// Chunks that may have room; the last is used.
    with_room: Vec<usize>,
    /// All of its chunks.
    all: Vec<usize>,
    /// The next of `all` to look at for blocks that others freed.
    cursor: usize,
}

/// All slabs of one participant.
#[derive(Debug)]
pub(super) struct Slabs {
    chunks: Arc<Chunks>,
    me: Participant,
    classes: [Class; CLASSES],
    /// By chunk.
    owned: Vec<Option<Box<Slab>>>,
    /// What the next new block header starts to count from: arbitrary, so that a reference to what was here before
    /// does not fit.
    generation: u32,
}

impl Slabs {
    pub(super) fn new(chunks: Arc<Chunks>, me: Participant, generation: u32) -> Self {
        let classes = std::array::from_fn(|_| Class::default());
        Self { chunks, me, classes, owned: Vec::new(), generation }
    }

    /// A block of `class` that is pooled and ours now: the offset of its header. `None` when memory is short.
    pub(super) fn take(&mut self, class: usize) -> Option<usize> {
        loop {
            if let Some(offset) = self.pop(class) {
                return Some(offset);
            }
            if !self.collect(class) && self.grow(class).is_err() {
                return None;
            }
        }
    }

    /// As [`take`](Self::take), from what there is, in this class or a larger one.
    pub(super) fn take_any(&mut self, class: usize) -> Option<usize> {
        (class..CLASSES).find_map(|class| {
            self.collect_all(class);
            self.pop(class)
        })
    }

    fn pop(&mut self, class: usize) -> Option<usize> {
        while let Some(chunk) = self.classes[class].with_room.last().copied() {
            let slab = self.owned[chunk].as_deref_mut()?;
            if let Some(index) = slab.free.pop() {
                return Some(self.chunks.layout.block(chunk, class, usize::from(index)));
            }
            if carve(&self.chunks, chunk, slab, &mut self.generation).is_err() || slab.free.is_empty() {
                slab.listed = false;
                self.classes[class].with_room.pop();
            }
        }
        None
    }

    /// Takes back a block of ours that is pooled again.
    #[inline]
    pub(super) fn give_back(&mut self, chunk: usize, index: usize) {
        let Some(slab) = self.owned[chunk].as_deref_mut() else { return };
        slab.free.push(index as u16);
        let class = &mut self.classes[slab.class];
        if !slab.listed {
            slab.listed = true;
            class.with_room.push(chunk);
        }
        // The last slab with room stays: the next block of this size comes soon, as a rule.
        if slab.is_empty() && class.with_room.len() > 1 {
            self.retire(chunk);
        }
    }

    /// Looks at the next few slabs of `class` for blocks that others freed; returns whether there is room now.
    fn collect(&mut self, class: usize) -> bool {
        for _ in 0..LOOKS.min(self.classes[class].all.len()) {
            let list = &mut self.classes[class];
            // The list may have shrunk by now: empty slabs go.
            let Some(chunk) = list.all.get(list.cursor).or(list.all.first()).copied() else { break };
            list.cursor = if list.cursor + 1 < list.all.len() { list.cursor + 1 } else { 0 };
            self.collect_slab(chunk);
        }
        !self.classes[class].with_room.is_empty()
    }

    fn collect_all(&mut self, class: usize) {
        for chunk in self.classes[class].all.clone() {
            self.collect_slab(chunk);
        }
    }

    fn collect_slab(&mut self, chunk: usize) {
        let Some(slab) = self.owned[chunk].as_deref() else { return };
        let (class, carved) = (slab.class, slab.carved);
        if !slab_header_of(&self.chunks, chunk).is_dirty() {
            return;
        }
        let chunks = Arc::clone(&self.chunks);
        let slab_header = slab_header_of(&chunks, chunk);
        for index in slab_header.take_freed(carved) {
            if self.owned[chunk].is_none() {
                // Empty and given back, here: the notes that are left came twice.
                return;
            }
            let header = BlockHeader::at(&chunks.segment, chunks.layout.block(chunk, class, index));
            match header.load() {
                Some(state) if state.phase == Phase::Free => {
                    header.store(State { phase: Phase::Pooled, ..state });
                    self.give_back(chunk, index);
                }
                // A participant that frees it has come this far, and will store once more. Until then the slab is not empty.
                Some(State { phase: Phase::Freeing { .. }, .. }) => slab_header.note_freed(index),
                // A note that came twice. What it is about has been collected.
                _ => {}
            }
        }
    }

    /// Takes another chunk for `class`.
    fn grow(&mut self, class: usize) -> io::Result<()> {
        let claim = self.chunks.claim(1, self.me, Use::Slab).ok_or(io::ErrorKind::OutOfMemory)?;
        let chunk = claim.start;
        let mut committed = if Chunks::was_warm(&claim) { CHUNK } else { 0 };
        // A class's first slab grows with its use. Its second one shows that there is much of this size, and from
        // there on whole chunks are cheaper, and stay committed when they are free again.
        let wanted = if self.classes[class].all.is_empty() { GROWTH.max(STRIDES[class]) } else { CHUNK };
        if let Err(error) = commit(&self.chunks, chunk, &mut committed, wanted) {
            return Err(self.give_up(&claim, error));
        }
        slab_header_of(&self.chunks, chunk).initialise();
        let me = self.me;
        let slab = Chunk::Slab { owner: me, class, pinned: false };
        self.chunks.swap(chunk, Chunk::Claimed { by: me }, slab);
        self.add(chunk, Slab { class, carved: 0, committed, free: Vec::new(), listed: true, place: 0 });
        Ok(())
    }

    fn give_up(&self, claim: &Claim, error: io::Error) -> io::Error {
        self.chunks.discard_cold(claim, self.me);
        error
    }

    fn add(&mut self, chunk: usize, mut slab: Slab) {
        let class = &mut self.classes[slab.class];
        slab.place = class.all.len();
        class.all.push(chunk);
        if slab.listed {
            class.with_room.push(chunk);
        }
        if self.owned.len() <= chunk {
            self.owned.resize_with(chunk + 1, || None);
        }
        self.owned[chunk] = Some(Box::new(slab));
    }

    /// Gives the chunk of an empty slab back, unless recovery reads it at this moment.
    fn retire(&mut self, chunk: usize) {
        let Some(slab) = self.owned[chunk].as_deref() else { return };
        let me = self.me;
        let now = Chunk::Slab { owner: me, class: slab.class, pinned: false };
        let whole = slab.committed == CHUNK;
        let then = if whole { Chunk::Warm { last: me } } else { Chunk::Claimed { by: me } };
        if !self.chunks.swap(chunk, now, then) {
            return;
        }
        if !whole {
            self.chunks.chill(chunk, me);
        }
        self.forget(chunk);
    }

    fn forget(&mut self, chunk: usize) {
        let Some(slab) = self.owned[chunk].take() else { return };
        let class = &mut self.classes[slab.class];
        class.with_room.retain(|other| *other != chunk);
        class.all.swap_remove(slab.place);
        if let Some(moved) = class.all.get(slab.place)
            && let Some(moved) = self.owned[*moved].as_deref_mut()
        {
            moved.place = slab.place;
        }
    }

    /// Collects all that others freed and gives back every chunk that is empty.
    pub(super) fn tidy(&mut self) {
        for class in 0..CLASSES {
            self.collect_all(class);
            for chunk in self.classes[class].all.clone() {
                if self.owned[chunk].as_deref().is_some_and(Slab::is_empty) {
                    self.retire(chunk);
                }
            }
        }
    }

    /// Takes over a slab whose owner is dead. What the dead one had in its list of free blocks is ours; what was freed
    /// since then is noted, or will be by whoever freed it.
    pub(super) fn adopt(&mut self, chunk: usize, dead: Participant, class: usize) {
        let from = Chunk::Slab { owner: dead, class, pinned: false };
        let to = Chunk::Slab { owner: self.me, class, pinned: false };
        if !self.chunks.swap(chunk, from, to) {
            return;
        }
        let chunks = Arc::clone(&self.chunks);
        let slab_header = slab_header_of(&chunks, chunk);
        let carved = acquire(slab_header.carved()).min(blocks(class));
        let pooled = |index: &usize| {
            let offset = chunks.layout.block(chunk, class, *index);
            let state = BlockHeader::at(&chunks.segment, offset).load();
            state.is_some_and(|state| state.phase == Phase::Pooled)
        };
        let free = (0..carved).filter(pooled).map(|index| index as u16).collect();
        // How much the dead one had committed beyond its last block is not known; at least this much.
        let committed = SLAB_HEADER + carved * STRIDES[class];
        self.add(chunk, Slab { class, carved, committed, free, listed: true, place: 0 });
        self.collect_slab(chunk);
        if self.owned[chunk].as_deref().is_some_and(Slab::is_empty) {
            self.retire(chunk);
        }
    }
}

fn slab_header_of(chunks: &Chunks, chunk: usize) -> SlabHeader<'_> {
    SlabHeader::at(&chunks.segment, chunks.layout.chunk(chunk))
}

/// Commits the first `wanted` bytes of a chunk of which `committed` are, and notes it there.
fn commit(chunks: &Chunks, chunk: usize, committed: &mut usize, wanted: usize) -> io::Result<()> {
    if wanted > *committed {
        let start = chunks.layout.chunk(chunk);
        chunks.segment.commit(start + *committed..start + wanted)?;
        *committed = wanted;
    }
    Ok(())
}

/// Gives more blocks of a slab a header, as many as its growth holds; none when it is full.
fn carve(chunks: &Chunks, chunk: usize, slab: &mut Slab, generation: &mut u32) -> io::Result<()> {
    let stride = STRIDES[slab.class];
    let more = (GROWTH / stride).max(1);
    let carved = blocks(slab.class).min(slab.carved + more);
    commit(chunks, chunk, &mut slab.committed, SLAB_HEADER + carved * stride)?;
    for index in (slab.carved..carved).rev() {
        let offset = chunks.layout.block(chunk, slab.class, index);
        *generation = generation.wrapping_add(0x9E37_79B9);
        BlockHeader::at(&chunks.segment, offset).initialise(*generation);
        slab.free.push(index as u16);
    }
    slab.carved = carved;
    release(slab_header_of(chunks, chunk).carved(), carved);
    Ok(())
}
