//! The headers in shared memory: of a block, and of a slab.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_os::memory::Segment;

use super::layout::{ALIGNMENT, BLOCK_HEADER, FREED_WORDS, FURTHEST};
use super::{MAX_PARTICIPANTS, Participant};

/// Words of holders: a bit for each participant.
const HOLDER_WORDS: usize = MAX_PARTICIPANTS as usize / 64;

/// How many pairs of participants can have hand-overs of one block on their way at the same time.
const TRANSITS: usize = 6;

/// Offsets in a block's header. Line 0: state, length and tag, transits. Line 1: holders.
const STATE: usize = 0;
const LEN: usize = 8;
const TRANSIT: usize = 16;
const HOLDERS: usize = 64;

/// In the word of the length, what stands above it: the tag. No block is half as long ([`FURTHEST`]).
const TAG_SHIFT: u32 = 48;
const LENGTH: u64 = (1 << TAG_SHIFT) - 1;

const _: () = assert!((FURTHEST as u64) < LENGTH);

/// What a block's state word says.
///
/// | phase | who may change it | to |
/// |---|---|---|
/// | `Pooled` | the slab's owner, which has it in its private list of free blocks | `Used`, after its hold is set |
/// | `Used` | whoever finds that nobody holds it | `Pooled` (in its own slab), `Freeing` |
/// | `Freeing` | who is named there, or recovery once that one is dead | in a slab: `Free`, once the owner is told; a run: nothing, its chunks are freed |
/// | `Free` | the slab's owner, when it collects what others freed | `Pooled` |
///
/// Only one can win the change away from `Used`, because the word holds a generation that grows with it. See
/// [`freeing`](super::freeing) for what a loser can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Pooled,
    Used,
    Freeing { who: Participant },
}

/// A state word: a phase, and a number that tells this use of the place from all others (20 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) generation: u32,
}

pub(super) const GENERATION: u32 = (1 << 20) - 1;

/// What every state word has in bits 5 to 15 and 52 to 63, and hardly anything else has: a place that was a header once
/// can have become the middle of somebody's array.
const SIGN: u64 = 0x9d30_0000_0000_a6e0;
const SIGNED: u64 = 0xfff0_0000_0000_ffe0;

const _: () = assert!(SIGN & !SIGNED == 0);

impl State {
    fn encode(self) -> u64 {
        let (phase, who) = match self.phase {
            Phase::Free => (0, 0),
            Phase::Pooled => (1, 0),
            Phase::Used => (2, 0),
            Phase::Freeing { who } => (3, who.0),
        };
        SIGN | phase | u64::from(who) << 16 | u64::from(self.generation) << 32
    }

    /// `None` for what never was a state word.
    fn decode(word: u64) -> Option<Self> {
        if word & SIGNED != SIGN {
            return None;
        }
        let phase = match word & !SIGNED & 0xffff {
            0 => Phase::Free,
            1 => Phase::Pooled,
            2 => Phase::Used,
            3 => Phase::Freeing { who: Participant((word >> 16) as u16) },
            _ => return None,
        };
        Some(Self { phase, generation: (word >> 32) as u32 & GENERATION })
    }

    /// The state after this one, in `phase`, in the next generation.
    pub(super) fn next(self, phase: Phase) -> Self {
        Self { phase, generation: self.generation.wrapping_add(1) & GENERATION }
    }
}

/// The header of a block: a view.
#[derive(Clone, Copy)]
pub(super) struct BlockHeader<'a> {
    segment: &'a Segment,
    offset: usize,
}

impl<'a> BlockHeader<'a> {
    pub(super) fn at(segment: &'a Segment, offset: usize) -> Self {
        Self { segment, offset }
    }

    fn word(self, at: usize) -> &'a AtomicU64 {
        self.segment.word64(self.offset + at)
    }

    /// Writes a header where there was none: pooled, held by nobody. Nobody else may know the place.
    pub(super) fn initialise(self, generation: u32) {
        // By atomic stores, like everything here: a thread that opens a stale reference may be reading.
        (0..BLOCK_HEADER).step_by(8).for_each(|at| self.word(at).store(0, Ordering::Relaxed));
        self.store(State { phase: Phase::Pooled, generation: generation & GENERATION });
    }

    /// The state; of what is no header, none.
    pub(super) fn load(self) -> Option<State> {
        // pairs with: `store` and `swap`. A reader of `Used` sees length and hold.
        State::decode(self.word(STATE).load(Ordering::Acquire))
    }

    /// Sets the state of a block that nobody else can change.
    pub(super) fn store(self, state: State) {
        // pairs with: `load`.
        self.word(STATE).store(state.encode(), Ordering::Release);
    }

    /// Changes the state if it is `from`; returns whether it was.
    pub(super) fn swap(self, from: State, to: State) -> bool {
        // pairs with: `load`.
        self.word(STATE)
            .compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(super) fn len(self) -> usize {
        (self.word(LEN).load(Ordering::Relaxed) & LENGTH) as usize
    }

    /// Sets the length of a block that nobody else knows yet, and no tag.
    pub(super) fn set_len(self, len: usize) {
        self.word(LEN).store(len as u64, Ordering::Relaxed);
    }

    pub(super) fn tag(self) -> u16 {
        // pairs with: `set_tag`. A reader of the tag sees what was written before it.
        (self.word(LEN).load(Ordering::Acquire) >> TAG_SHIFT) as u16
    }

    /// Sets the tag of a block of `len` bytes, whose only holder calls this.
    pub(super) fn set_tag(self, len: usize, tag: u16) {
        // pairs with: `tag`.
        self.word(LEN).store(len as u64 | u64::from(tag) << TAG_SHIFT, Ordering::Release);
    }

    // Holds and transits use SeqCst throughout: two who let go at the same time must not each see the other's hold and
    // both leave, and that takes one order of all of them (pairs with: `is_unheld`).

    fn holders(self, who: Participant) -> (&'a AtomicU64, u64) {
        let word = self.word(HOLDERS + usize::from(who.0) / 64 * 8);
        (word, 1 << (who.0 % 64))
    }

    /// Sets `who`'s hold; returns whether it was set before.
    pub(super) fn hold(self, who: Participant) -> bool {
        let (word, bit) = self.holders(who);
        word.fetch_or(bit, Ordering::SeqCst) & bit != 0
    }

    /// Clears `who`'s hold; returns whether it was set.
    pub(super) fn release(self, who: Participant) -> bool {
        let (word, bit) = self.holders(who);
        word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    pub(super) fn is_held_by(self, who: Participant) -> bool {
        let (word, bit) = self.holders(who);
        word.load(Ordering::SeqCst) & bit != 0
    }

    /// Whether nobody holds it and it is on its way to nobody.
    pub(super) fn is_unheld(self) -> bool {
        let zero = |at: usize| self.word(at).load(Ordering::SeqCst) == 0;
        (0..HOLDER_WORDS).all(|index| zero(HOLDERS + 8 * index))
            && (0..TRANSITS).all(|index| zero(TRANSIT + 8 * index))
    }

    fn transits(self) -> impl Iterator<Item = &'a AtomicU64> {
        (0..TRANSITS).map(move |index| self.word(TRANSIT + 8 * index))
    }

    /// Notes that `from` has handed it over to `to`; false when too many others do so at this moment.
    pub(super) fn send(self, from: Participant, to: Participant) -> bool {
        let more = |note: u64| {
            let transit = Transit::decode(note);
            match transit.count {
                0 => Some(Transit { from, to, count: 1 }.encode()),
                u16::MAX => None,
                _ if transit.from != from || transit.to != to => None,
                count => Some(Transit { count: count + 1, ..transit }.encode()),
            }
        };
        self.transits().any(|word| change(word, more))
    }

    /// Clears one hand-over from `from` to `to`; returns whether there was one.
    pub(super) fn receive(self, from: Participant, to: Participant) -> bool {
        let less = |note: u64| {
            let transit = Transit::decode(note);
            let meant = transit.count > 0 && transit.from == from && transit.to == to;
            meant.then(|| transit.one_less().encode())
        };
        self.transits().any(|word| change(word, less))
    }

    /// Clears all hand-overs from or to one of these.
    pub(super) fn forget_transits(self, who: &[Participant]) {
        for word in self.transits() {
            change(word, |note| {
                let transit = Transit::decode(note);
                let concerned = || who.contains(&transit.from) || who.contains(&transit.to);
                (transit.count > 0 && concerned()).then_some(0)
            });
        }
    }
}

/// Changes a word to what `change` makes of it; returns whether it made something.
fn change(word: &AtomicU64, change: impl Fn(u64) -> Option<u64>) -> bool {
    let mut note = word.load(Ordering::SeqCst);
    while let Some(next) = change(note) {
        match word.compare_exchange_weak(note, next, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return true,
            Err(changed) => note = changed,
        }
    }
    false
}

/// A word of hand-overs on their way: how many (bits 0-15), from whom (16-31), to whom (32-47); zero when none.
#[derive(Clone, Copy)]
struct Transit {
    count: u16,
    from: Participant,
    to: Participant,
}

impl Transit {
    fn encode(self) -> u64 {
        u64::from(self.count) | u64::from(self.from.0) << 16 | u64::from(self.to.0) << 32
    }

    fn decode(note: u64) -> Self {
        let part = |shift: u32| (note >> shift) as u16;
        Self { count: part(0), from: Participant(part(16)), to: Participant(part(32)) }
    }

    /// One hand-over fewer; the last leaves nothing.
    fn one_less(self) -> Self {
        let nobody = Participant(0);
        match self.count {
            0 | 1 => Self { count: 0, from: nobody, to: nobody },
            count => Self { count: count - 1, ..self },
        }
    }
}

/// Reads a number that its writer changes by [`release`].
pub(super) fn acquire(word: &AtomicU32) -> usize {
    // pairs with: `release`.
    word.load(Ordering::Acquire) as usize
}

/// Writes a number; a reader by [`acquire`] sees all that was written before it.
pub(super) fn release(word: &AtomicU32, number: usize) {
    // pairs with: `acquire`.
    word.store(number as u32, Ordering::Release);
}

/// Offsets in a slab's header.
const CARVED: usize = 0;
const DIRTY: usize = ALIGNMENT;
const FREED: usize = 2 * ALIGNMENT;

/// The header of a slab: a view. Only a participant that keeps the chunk from becoming anything else writes here: its
/// owner, whoever is freeing one of its blocks, and recovery, which pins it.
///
/// | word | meaning | changed by |
/// |---|---|---|
/// | `carved` | blocks with headers | the owner: more of them |
/// | `freed` | a bit for each block: look at it | set by the participant that frees it, while it is `Freeing`; cleared by the owner |
/// | `dirty` | some bit is set | set after the bit; cleared by the owner before it looks at the bits |
#[derive(Clone, Copy)]
pub(super) struct SlabHeader<'a> {
    segment: &'a Segment,
    offset: usize,
}

impl<'a> SlabHeader<'a> {
    pub(super) fn at(segment: &'a Segment, chunk: usize) -> Self {
        Self { segment, offset: chunk }
    }

    /// How many blocks have headers.
    pub(super) fn carved(self) -> &'a AtomicU32 {
        self.segment.word32(self.offset + CARVED)
    }

    fn dirty(self) -> &'a AtomicU32 {
        self.segment.word32(self.offset + DIRTY)
    }

    fn freed(self, index: usize) -> &'a AtomicU64 {
        self.segment.word64(self.offset + FREED + 8 * index)
    }

    /// Starts with no blocks.
    pub(super) fn initialise(self) {
        self.carved().store(0, Ordering::Relaxed);
        self.dirty().store(0, Ordering::Relaxed);
        (0..FREED_WORDS).for_each(|index| self.freed(index).store(0, Ordering::Relaxed));
    }

    /// Tells the owner to look at block `index`, which is being freed.
    pub(super) fn note_freed(self, index: usize) {
        // pairs with: `take_freed`, here and below.
        self.freed(index / 64).fetch_or(1 << (index % 64), Ordering::AcqRel);
        self.dirty().store(1, Ordering::Release);
    }

    /// Whether something was freed since the last [`take_freed`](Self::take_freed).
    pub(super) fn is_dirty(self) -> bool {
        self.dirty().load(Ordering::Relaxed) != 0
    }

    /// The blocks that were noted since the last call, among the first `carved`. All is taken before the first of them is
    /// returned: with the last of them the slab may be none any more.
    pub(super) fn take_freed(self, carved: usize) -> impl Iterator<Item = usize> + use<> {
        // pairs with: `note_freed`. First the flag, then the bits: what is noted in between is seen next time.
        self.dirty().swap(0, Ordering::AcqRel);
        let mut taken = [0_u64; FREED_WORDS];
        for (word, bits) in taken.iter_mut().enumerate().take(carved.div_ceil(64)) {
            if self.freed(word).load(Ordering::Relaxed) != 0 {
                // pairs with: `note_freed`.
                *bits = self.freed(word).swap(0, Ordering::AcqRel);
            }
        }
        let words = taken.into_iter().take(carved.div_ceil(64)).enumerate();
        let indexes = words.flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        });
        indexes.filter(move |index| *index < carved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back() {
        for phase in [Phase::Free, Phase::Pooled, Phase::Used, Phase::Freeing { who: Participant(511) }] {
            let state = State { phase, generation: GENERATION };
            assert_eq!(State::decode(state.encode()), Some(state));
            assert_eq!(state.next(Phase::Free), State { phase: Phase::Free, generation: 0 });
        }
        for foreign in [u64::MAX, 0, 2, 2 | 7 << 32, 0.1_f64.to_bits(), SIGN | 4] {
            assert_eq!(State::decode(foreign), None);
        }
    }

    #[test]
    fn holds_and_transits_are_told_apart() {
        let segment = Segment::create(c"header", 4096).expect("a segment");
        let header = BlockHeader::at(&segment, 128);
        let (parent, last) = (Participant(0), Participant(511));
        header.initialise(5);
        assert!(header.is_unheld());
        assert!(!header.hold(last));
        assert!(header.hold(last) && header.is_held_by(last) && !header.is_held_by(parent));
        assert!(header.send(last, parent) && header.send(last, parent));
        assert!(header.release(last) && !header.release(last));
        assert!(!header.is_unheld(), "on its way");
        assert!(!header.receive(last, Participant(1)));
        assert!(!header.receive(parent, parent));
        assert!(header.receive(last, parent) && !header.is_unheld());
        assert!(header.receive(last, parent) && header.is_unheld());
        assert!(!header.receive(last, parent));
    }

    #[test]
    fn transits_of_the_dead_are_forgotten() {
        let segment = Segment::create(c"header", 4096).expect("a segment");
        let header = BlockHeader::at(&segment, 0);
        let parent = Participant(0);
        for who in 1..=6 {
            assert!(header.send(Participant(who), parent));
        }
        assert!(!header.send(Participant(7), parent), "full");
        header.forget_transits(&[Participant(3)]);
        assert!(header.send(Participant(7), parent), "a place is free");
        assert!(!header.is_unheld());
        header.forget_transits(&[parent]);
        assert!(header.is_unheld());
    }

    #[test]
    fn freed_blocks_are_told_once() {
        let segment = Segment::create(c"slab", 4096).expect("a segment");
        let slab = SlabHeader::at(&segment, 0);
        slab.initialise();
        for index in [0, 63, 64, 2000] {
            slab.note_freed(index);
        }
        assert!(slab.is_dirty());
        let told: Vec<usize> = slab.take_freed(100).collect();
        assert_eq!(told, [0, 63, 64]);
        assert!(!slab.is_dirty());
        assert_eq!(slab.take_freed(100).next(), None);
    }
}
