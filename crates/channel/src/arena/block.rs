//! A block: a piece of shared memory that this process holds.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use manyhands_os::memory::Segment;

use super::header::{BlockHeader, GENERATION};
use super::layout::{ALIGNMENT, BLOCK_HEADER, FURTHEST};
use super::{Inner, MAX_PARTICIPANTS, Participant};

/// The name of a block that all participants understand: where it is, and which use of that place is meant, so that a
/// reference to a block that has been freed does not fit the next one. A number that is never zero.
///
/// | bits | meaning |
/// |---|---|
/// | 0-8 | who handed it over; 0 in the name of a block that stays |
/// | 9-28 | generation of the place |
/// | 29-63 | offset of the header in the segment, in lines of 64 bytes |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef(u64);

const GIVER: u64 = MAX_PARTICIPANTS as u64 - 1;
const GENERATION_SHIFT: u32 = GIVER.count_ones();
const LINE_SHIFT: u32 = GENERATION_SHIFT + GENERATION.count_ones();

// The last header that can be named lies as far as chunks may reach.
const _: () = assert!(FURTHEST == ALIGNMENT << (u64::BITS - LINE_SHIFT));

impl BlockRef {
    pub(super) fn new(header: usize, generation: u32, giver: Participant) -> Self {
        let line = (header / ALIGNMENT) as u64;
        let generation = u64::from(generation & GENERATION);
        Self(line << LINE_SHIFT | generation << GENERATION_SHIFT | u64::from(giver.0))
    }

    /// The number, to be written somewhere.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The reference with this number. Any number will do: [`open`](super::Arena::open) refuses those that do not name
    /// a block.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) fn header(self) -> usize {
        (self.0 >> LINE_SHIFT) as usize * ALIGNMENT
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32 & GENERATION
    }

    pub(super) fn giver(self) -> Participant {
        Participant((self.0 & GIVER) as u16)
    }
}

/// A block that this process holds: it stays where it is, as it is, until the last participant lets go.
///
/// Clones share the hold of the process; dropping the last one releases it. In a process that was forked after
/// the block was made, the copy belongs to the parent: its memory can be read and dropping it does nothing.
pub struct Block {
    arena: Arc<Inner>,
    /// Where its header is in the segment.
    header: usize,
    len: usize,
    generation: u32,
}

impl Block {
    /// The block with its header at `header`, whose hold is counted already.
    pub(super) fn new(arena: &Arc<Inner>, header: usize, len: usize, generation: u32) -> Self {
        Self { arena: Arc::clone(arena), header, len, generation }
    }

    /// Where its bytes start in the segment: a multiple of 64.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.header + BLOCK_HEADER
    }

    /// How many bytes were asked for.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name of the block for other participants. It holds nothing: somebody has to hold the block until they have
    /// opened it.
    #[inline]
    #[must_use]
    pub fn reference(&self) -> BlockRef {
        BlockRef::new(self.header, self.generation, Participant::PARENT)
    }

    /// As whom this process holds it.
    #[must_use]
    pub fn participant(&self) -> Participant {
        self.arena.me
    }

    /// The segment it lies in.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        self.arena.segment()
    }

    /// Copies `bytes` into it, from byte `at` on.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline]
    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.check(at, bytes.len());
        self.arena.segment().copy_in(self.offset() + at, bytes);
    }

    /// Copies its bytes from `at` on into `bytes`.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        self.check(at, bytes.len());
        self.arena.segment().copy_out(self.offset() + at, bytes);
    }

    /// The address of its bytes, valid as long as this block or a clone of it lives. Other processes may write there
    /// too.
    #[inline]
    #[must_use]
    pub fn pointer(&self) -> NonNull<u8> {
        self.arena.segment().pointer(self.offset(), self.len)
    }

    /// Gives this process's hold (or its share in it, when there are clones) to `to`, which takes it by
    /// [`accept`](super::Arena::accept). Until then the block is on its way: should either die, recovery frees it.
    #[must_use = "only the reference lets the receiver find the block"]
    pub fn hand_over(self, to: Participant) -> BlockRef {
        self.arena.send(self.header, to);
        BlockRef::new(self.header, self.generation, self.arena.me)
    }

    pub(super) fn header(&self) -> BlockHeader<'_> {
        BlockHeader::at(self.segment(), self.header)
    }

    fn check(&self, at: usize, len: usize) {
        let inside = at <= self.len && len <= self.len - at;
        assert!(inside, "{len} bytes at {at} are outside a block of {} bytes", self.len);
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        self.arena.share(self.header);
        Self::new(&self.arena, self.header, self.len, self.generation)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.arena.release(self.header);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Block({} bytes at {:#x})", self.len, self.offset())
    }
}
