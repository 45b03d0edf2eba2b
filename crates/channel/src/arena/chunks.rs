//! The chunk table: which participant uses which megabyte for what.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_os::memory::Segment;

use super::Participant;
use super::layout::{CHUNK, HIGH_WATER, Layout};

/// What a word of the chunk table says. Every change is one compare-and-swap from what it was, so at every moment each
/// chunk has one user, which is named: a death leaves no chunk whose owner is unknown.
///
/// ```text
///            claim                       slab is ready
/// Cold ───────────────▶ Claimed{by} ──────────────────▶ Slab{owner} ──┐
///  ▲ ▲                   ▲  │   ▲                         all free    │
///  │ └───────────────────┘  │   └────────── discard ◀──────────┬──────┘
///  │   commit failed,       │ run is ready                     │ all committed
///  │   trim                 ▼                                  ▼
///  │              Tail{owner}, then Head{owner} ─────────▶ Warm{last} ──▶ Claimed{by}
///  │                                   │          free      ▲
///  │                                   └──▶ Husk{owner} ────┘
///  │                            free, but pinned         unpin
///  └─ zero: the state of a new segment
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Free, its pages not committed.
    Cold,
    /// Free, all its pages committed; `last` is who has them mapped most likely.
    Warm { last: Participant },
    /// `by` is about to make it a slab or a part of a run, or to discard its pages.
    Claimed { by: Participant },
    /// A slab of small blocks in which `owner` allocates. `pinned`: recovery reads it, and it must stay a slab.
    Slab { owner: Participant, class: usize, pinned: bool },
    /// The first chunk of a run of `len` chunks that is one large block. `pinned`: recovery reads and writes the header of
    /// the block, and it must stay one.
    Head { owner: Participant, len: usize, pinned: bool },
    /// What was the head of a run when it was freed, and recovery had it pinned: recovery frees it.
    Husk { owner: Participant },
    /// Another chunk of a run, `back` chunks behind its head.
    Tail { owner: Participant, back: usize },
}

/// Bits of a word: kind 0-3, pinned 4, class 8-15, participant 16-31, number of chunks 32-63.
const PINNED: u64 = 1 << 4;

impl Chunk {
    fn encode(self) -> u64 {
        let word = |kind: u64, who: Participant, number: usize| {
            kind | u64::from(who.0) << 16 | (number as u64) << 32
        };
        match self {
            Self::Cold => 0,
            Self::Warm { last } => word(1, last, 0),
            Self::Claimed { by } => word(2, by, 0),
            Self::Slab { owner, class, pinned } => {
                word(3, owner, 0) | (class as u64) << 8 | if pinned { PINNED } else { 0 }
            }
            Self::Head { owner, len, pinned } => word(4, owner, len) | if pinned { PINNED } else { 0 },
            Self::Tail { owner, back } => word(5, owner, back),
            Self::Husk { owner } => word(6, owner, 0),
        }
    }

    fn decode(word: u64) -> Self {
        let who = Participant((word >> 16) as u16);
        let number = (word >> 32) as usize;
        match word & 0xf {
            0 => Self::Cold,
            1 => Self::Warm { last: who },
            3 => Self::Slab { owner: who, class: (word >> 8 & 0xff) as usize, pinned: word & PINNED != 0 },
            4 => Self::Head { owner: who, len: number, pinned: word & PINNED != 0 },
            5 => Self::Tail { owner: who, back: number },
            6 => Self::Husk { owner: who },
            // 2; anything else is nobody's work, and a chunk that stays claimed harms nobody.
            _ => Self::Claimed { by: who },
        }
    }

    fn is_free(self) -> bool {
        matches!(self, Self::Cold | Self::Warm { .. })
    }
}

/// Chunks that were claimed, and what they were before.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) start: usize,
    before: Vec<Chunk>,
}

impl Claim {
    /// How many chunks.
    pub(super) fn len(&self) -> usize {
        self.before.len()
    }
}

/// What a claim is for: it decides which free chunks are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// One chunk for small blocks.
    Slab,
    /// A run for one large block, which the caller is going to fill.
    Run,
}

/// Free runs up to this many chunks are what is left over anyway: slabs take these before they break up longer ones,
/// which are worth a hundred times as much to a large block.
const SCRAP: usize = 8;

/// The chunk table of a region, and the chunks.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    pub(super) segment: Arc<Segment>,
    pub(super) layout: Layout,
}

impl Chunks {
    fn word(&self, chunk: usize) -> &AtomicU64 {
        self.segment.word64(self.layout.table + 8 * chunk)
    }

    /// What `chunk` is now.
    #[inline]
    pub(super) fn load(&self, chunk: usize) -> Chunk {
        // pairs with: `swap`. A thread that sees a slab also sees its header.
        Chunk::decode(self.word(chunk).load(Ordering::Acquire))
    }

    /// Gives `chunk` its new state if it has the expected one; returns whether it had.
    pub(super) fn swap(&self, chunk: usize, from: Chunk, to: Chunk) -> bool {
        // pairs with: `load`.
        self.word(chunk)
            .compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn high_water(&self) -> &AtomicU32 {
        self.segment.word32(self.layout.header + HIGH_WATER)
    }

    /// The chunks that were ever in use: all others are cold.
    pub(super) fn touched(&self) -> Range<usize> {
        0..(self.high_water().load(Ordering::Acquire) as usize).min(self.layout.chunks)
    }

    /// The bytes of `len` chunks from `start`.
    pub(super) fn bytes(&self, start: usize, len: usize) -> Range<usize> {
        self.layout.chunk(start)..self.layout.chunk(start + len)
    }

    /// Claims `len` chunks in a row for `by`, warm ones before cold ones, its own before others'. `None` when there is
    /// no such row. The chunks are as they were: see [`commit`](Self::commit).
    pub(super) fn claim(&self, len: usize, by: Participant, usage: Use) -> Option<Claim> {
        loop {
            let start = self.find(len, by, usage)?;
            let end = u32::try_from(start + len).unwrap_or(u32::MAX);
            // Before the claim: a chunk above the mark would not be found by recovery. pairs with: `touched`.
            self.high_water().fetch_max(end, Ordering::AcqRel);
            let mut claim = Claim { start, before: Vec::with_capacity(len) };
            while claim.len() < len {
                let chunk = start + claim.len();
                let before = self.load(chunk);
                if !before.is_free() || !self.swap(chunk, before, Chunk::Claimed { by }) {
                    break;
                }
                claim.before.push(before);
            }
            if claim.len() == len {
                return Some(claim);
            }
            // Somebody else was faster; what he left may still do.
            self.unclaim(&claim, by);
        }
    }

    /// Gives claimed chunks back untouched.
    fn unclaim(&self, claim: &Claim, by: Participant) {
        for (chunk, before) in (claim.start..).zip(&claim.before) {
            self.swap(chunk, Chunk::Claimed { by }, *before);
        }
    }

    /// Where `len` free chunks are that suit best.
    fn find(&self, len: usize, by: Participant, usage: Use) -> Option<usize> {
        let mine = |chunk| matches!(chunk, Chunk::Warm { last } if last == by);
        let warm = |chunk| matches!(chunk, Chunk::Warm { .. });
        let cold = |chunk| chunk == Chunk::Cold;
        let first = match usage {
            Use::Slab => self.shortest(len, SCRAP, warm),
            Use::Run => self.shortest(len, usize::MAX, mine),
        };
        first
            .or_else(|| match usage {
                Use::Slab => None,
                Use::Run => self.shortest(len, usize::MAX, warm),
            })
            .or_else(|| self.shortest(len, usize::MAX, cold))
            .or_else(|| self.shortest(len, usize::MAX, Chunk::is_free))
    }

    /// The start of the shortest row of at least `len` and at most `longest` chunks that all are `wanted`.
    fn shortest(&self, len: usize, longest: usize, wanted: impl Fn(Chunk) -> bool) -> Option<usize> {
        let touched = self.touched();
        let mut best: Option<Range<usize>> = None;
        let mut start = 0;
        let mut row_ended = |row: Range<usize>| {
            let fits = (len..=longest).contains(&row.len());
            if fits && best.as_ref().is_none_or(|best| row.len() < best.len()) {
                best = Some(row);
            }
        };
        for chunk in touched.clone() {
            if !wanted(self.load(chunk)) {
                row_ended(start..chunk);
                start = chunk + 1;
            }
        }
        // Above the mark all is cold, without looking.
        let end = if wanted(Chunk::Cold) { self.layout.chunks } else { touched.end };
        row_ended(start..end);
        best.map(|row| row.start)
    }

    /// Commits the pages of those claimed chunks that were cold.
    ///
    /// # Errors
    /// When memory is short; the claim is then given back.
    pub(super) fn commit(&self, claim: Claim, by: Participant) -> Result<Claim, std::io::Error> {
        let mut index = 0;
        while index < claim.len() {
            let alike = claim.before[index] == Chunk::Cold;
            let row =
                claim.before[index..].iter().take_while(|before| (**before == Chunk::Cold) == alike).count();
            if alike && let Err(error) = self.segment.commit(self.bytes(claim.start + index, row)) {
                self.discard_cold(&claim, by);
                return Err(error);
            }
            index += row;
        }
        Ok(claim)
    }

    /// Maps a claimed run that another participant used last. What was cold is mapped since it was committed.
    pub(super) fn premap(&self, claim: &Claim, by: Participant) {
        if claim.before.iter().any(|before| matches!(before, Chunk::Warm { last } if *last != by)) {
            self.segment.premap(self.bytes(claim.start, claim.len()));
        }
    }

    /// Whether all claimed chunks were warm.
    pub(super) fn was_warm(claim: &Claim) -> bool {
        claim.before.iter().all(|before| *before != Chunk::Cold)
    }

    /// Gives a claim back; those of its chunks that were cold may have been committed in part.
    pub(super) fn discard_cold(&self, claim: &Claim, by: Participant) {
        for (chunk, before) in (claim.start..).zip(&claim.before) {
            if *before == Chunk::Cold {
                self.chill(chunk, by);
            } else {
                self.swap(chunk, Chunk::Claimed { by }, *before);
            }
        }
    }

    /// Discards the pages of a chunk that `by` has claimed; returns whether they are gone.
    pub(super) fn chill(&self, chunk: usize, by: Participant) -> bool {
        let discarded = self.segment.discard(self.bytes(chunk, 1)).is_ok();
        // Pages that could not be discarded stay where they are: cold says that nobody may rely on them.
        self.swap(chunk, Chunk::Claimed { by }, Chunk::Cold);
        discarded
    }

    /// Makes a claim whose block is ready a run. Head last: until then recovery takes it for unfinished.
    pub(super) fn publish_run(&self, claim: &Claim, owner: Participant) {
        for back in 1..claim.len() {
            self.swap(claim.start + back, Chunk::Claimed { by: owner }, Chunk::Tail { owner, back });
        }
        let head = Chunk::Head { owner, len: claim.len(), pinned: false };
        self.swap(claim.start, Chunk::Claimed { by: owner }, head);
    }

    /// Frees the chunks of a run whose block is being freed. Head last: until then recovery can finish it.
    pub(super) fn release_run(&self, head: usize, owner: Participant, len: usize) {
        let free = Chunk::Warm { last: owner };
        for back in (1..len).rev() {
            // Not ours any more where somebody who died in the middle of this has been here before.
            self.swap(head + back, Chunk::Tail { owner, back }, free);
        }
        let is = |pinned| Chunk::Head { owner, len, pinned };
        // Between the two looks it can have been pinned or unpinned, which does not happen twice while recovery sleeps.
        while !self.swap(head, is(false), free) && !self.swap(head, is(true), Chunk::Husk { owner }) {
            let found = self.load(head);
            if found != is(false) && found != is(true) {
                break;
            }
        }
    }

    /// Keeps a run what it is while recovery reads it; returns whether it still was one.
    pub(super) fn pin_run(&self, head: usize, owner: Participant, len: usize) -> bool {
        let is = |pinned| Chunk::Head { owner, len, pinned };
        self.swap(head, is(false), is(true))
    }

    /// Ends that.
    pub(super) fn unpin_run(&self, head: usize, owner: Participant, len: usize) {
        let is = |pinned| Chunk::Head { owner, len, pinned };
        if !self.swap(head, is(true), is(false)) {
            self.swap(head, Chunk::Husk { owner }, Chunk::Warm { last: owner });
        }
    }

    /// Bytes of all chunks that are not free.
    pub(super) fn in_use(&self) -> usize {
        self.touched().filter(|chunk| !self.load(*chunk).is_free()).count() * CHUNK
    }

    /// Discards free chunks until at most `keep` bytes of them are committed, the rearmost first; returns how many
    /// bytes went.
    pub(super) fn trim(&self, keep: usize, by: Participant) -> usize {
        let warm = |chunk: &usize| matches!(self.load(*chunk), Chunk::Warm { .. });
        let too_many = (self.touched().filter(warm).count() * CHUNK).saturating_sub(keep);
        let mut gone = 0;
        for chunk in self.touched().rev() {
            if gone >= too_many {
                break;
            }
            let before = self.load(chunk);
            if matches!(before, Chunk::Warm { .. })
                && self.swap(chunk, before, Chunk::Claimed { by })
                && self.chill(chunk, by)
            {
                gone += CHUNK;
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(count: usize) -> Chunks {
        let len = (count + 1) * CHUNK;
        let segment = Arc::new(Segment::create(c"chunks", len).expect("a segment"));
        let layout = Layout::of(&(0..len)).expect("room");
        assert_eq!(layout.chunks, count);
        Chunks { segment, layout }
    }

    #[test]
    fn words_come_back() {
        for chunk in [
            Chunk::Cold,
            Chunk::Warm { last: Participant(511) },
            Chunk::Claimed { by: Participant(3) },
            Chunk::Slab { owner: Participant(7), class: 22, pinned: true },
            Chunk::Slab { owner: Participant(0), class: 0, pinned: false },
            Chunk::Head { owner: Participant(1), len: 1 << 20, pinned: true },
            Chunk::Head { owner: Participant(1), len: 1 << 20, pinned: false },
            Chunk::Husk { owner: Participant(9) },
            Chunk::Tail { owner: Participant(2), back: 65_535 },
        ] {
            assert_eq!(Chunk::decode(chunk.encode()), chunk);
        }
        assert!(!Chunk::decode(u64::MAX).is_free());
    }

    /// Claims and publishes a run of `len`, then frees it.
    fn warm_up(chunks: &Chunks, len: usize, by: Participant) -> usize {
        let claim = chunks.claim(len, by, Use::Run).expect("room");
        let claim = chunks.commit(claim, by).expect("memory");
        chunks.publish_run(&claim, by);
        chunks.release_run(claim.start, by, len);
        claim.start
    }

    #[test]
    fn a_run_is_reused_by_who_had_it() {
        let chunks = chunks(20);
        let hold = chunks.claim(6, Participant(1), Use::Run).expect("room");
        let first = warm_up(&chunks, 4, Participant(2));
        chunks.discard_cold(&hold, Participant(1));
        assert_eq!(first, 6);
        let second = warm_up(&chunks, 3, Participant(1));
        assert_eq!(second, 6, "warm, even if another's");
        assert_eq!(warm_up(&chunks, 5, Participant(2)), 0, "the first cold row that is long enough");
        assert_eq!(warm_up(&chunks, 1, Participant(1)), 6, "its own: chunk 6 was its last");
        assert_eq!(chunks.in_use(), 0);
    }

    #[test]
    fn a_run_that_is_freed_while_it_is_pinned_stays_until_it_is_not() {
        let (chunks, owner) = (chunks(6), Participant(1));
        let claim = chunks.claim(3, owner, Use::Run).expect("room");
        let claim = chunks.commit(claim, owner).expect("memory");
        chunks.publish_run(&claim, owner);
        assert!(chunks.pin_run(0, owner, 3));
        assert!(!chunks.pin_run(0, owner, 3));
        chunks.unpin_run(0, owner, 3);
        assert_eq!(chunks.load(0), Chunk::Head { owner, len: 3, pinned: false });
        assert!(chunks.pin_run(0, owner, 3));
        chunks.release_run(0, owner, 3);
        assert_eq!(chunks.load(0), Chunk::Husk { owner });
        assert_eq!(chunks.in_use(), CHUNK, "its header is still there");
        chunks.unpin_run(0, owner, 3);
        assert_eq!((chunks.load(0), chunks.in_use()), (Chunk::Warm { last: owner }, 0));
        assert!(!chunks.pin_run(0, owner, 3));
    }

    #[test]
    fn slabs_do_not_break_long_runs() {
        let chunks = chunks(20);
        warm_up(&chunks, 12, Participant(1));
        let slab = chunks.claim(1, Participant(1), Use::Slab).expect("room");
        assert_eq!(slab.start, 12);
        let rest = chunks.claim(7, Participant(1), Use::Run).expect("room");
        assert_eq!(rest.start, 0);
        let slab = chunks.claim(1, Participant(1), Use::Slab).expect("room");
        assert_eq!(slab.start, 7, "scrap is taken before cold memory");
    }

    #[test]
    fn the_last_free_chunks_are_found() {
        let chunks = chunks(6);
        warm_up(&chunks, 2, Participant(1));
        let all = chunks.claim(6, Participant(3), Use::Run).expect("warm and cold together");
        assert!(chunks.claim(1, Participant(3), Use::Slab).is_none());
        let all = chunks.commit(all, Participant(3)).expect("memory");
        assert!(!Chunks::was_warm(&all));
        chunks.publish_run(&all, Participant(3));
        assert_eq!(chunks.in_use(), 6 * CHUNK);
        assert_eq!(chunks.load(5), Chunk::Tail { owner: Participant(3), back: 5 });
        chunks.release_run(0, Participant(3), 6);
        assert_eq!(chunks.trim(2 * CHUNK, Participant(0)), 4 * CHUNK);
        assert_eq!(chunks.trim(2 * CHUNK, Participant(0)), 0);
        assert_eq!(chunks.load(2), Chunk::Cold);
        assert_eq!(chunks.load(1), Chunk::Warm { last: Participant(3) });
    }
}
