//! How a block becomes free, and why nobody writes where one used to be.
//!
//! When the last hold of a block is gone, its place can become anything at once: another block, or a part of a run whose
//! payload, an array of the user's, covers what were headers. A process can be stopped for any time between two
//! instructions. So whatever frees a block has to keep the place what it is until its own last store:
//!
//! | who writes | where | why the place is still the same |
//! |---|---|---|
//! | a holder, until it lets go | header | held blocks are not freed |
//! | who has let go | header: state, from `Used` in this generation to `Freeing` | see below |
//! | who has made it `Freeing` | header of the slab: the owner is told | until it is `Free` the block is not in the owner's list, so the slab is not empty and no chunk is given back |
//! | the same | header: state, to `Free` | the same; this is its last store |
//! | the same, of a run | chunk table: tails, then the head | the table is never anything else |
//! | the owner, for its own slab | header: state, to `Pooled` | only it gives the slab back |
//! | recovery | header, header of the slab | the slab or the run is pinned |
//!
//! Of those who have let go, several can see that nobody holds the block, and only one of them makes it `Freeing`. The
//! others' compare-exchange comes too late, perhaps where an array is by now, and stores nothing unless the very word is
//! there that they expect: 23 bits that no other word of ours has, and the generation. That is as far as it goes.

use super::chunks::Chunk;
use super::header::{BlockHeader, Phase, SlabHeader, State};
use super::layout::STRIDES;
use super::{Inner, Local};

impl Inner {
    /// Frees the block at `offset`, which was in `state`, if nobody holds it. `local` is for blocks of our own slabs.
    pub(super) fn free_if_unheld(
        &self,
        offset: usize,
        chunk: usize,
        kind: Chunk,
        state: State,
        local: Option<&mut Local>,
    ) {
        let header = BlockHeader::at(self.segment(), offset);
        if state.phase != Phase::Used || !header.is_unheld() {
            return;
        }
        let phase = match kind {
            Chunk::Slab { owner, .. } if owner == self.me && local.is_some() => Phase::Pooled,
            Chunk::Slab { .. } | Chunk::Head { .. } => Phase::Freeing { who: self.me },
            _ => return,
        };
        let next = state.next(phase);
        if !header.swap(state, next) {
            return;
        }
        match (kind, local) {
            (Chunk::Slab { class, .. }, Some(local)) if phase == Phase::Pooled => {
                local.slabs.give_back(chunk, self.index(chunk, class, offset));
            }
            (Chunk::Slab { class, .. }, _) => self.tell_owner(offset, chunk, class, next),
            (Chunk::Head { owner, len, .. }, _) => self.chunks.release_run(chunk, owner, len),
            _ => {}
        }
    }

    /// Completes what began with `Freeing`, the `state` of a block in a slab.
    pub(super) fn tell_owner(&self, offset: usize, chunk: usize, class: usize, state: State) {
        let slab = SlabHeader::at(self.segment(), self.chunks.layout.chunk(chunk));
        // First the note: from the store on the slab can be gone. A thread that finds the note too early leaves it.
        slab.note_freed(self.index(chunk, class, offset));
        BlockHeader::at(self.segment(), offset).store(State { phase: Phase::Free, ..state });
    }

    fn index(&self, chunk: usize, class: usize, offset: usize) -> usize {
        (offset - self.chunks.layout.block(chunk, class, 0)) / STRIDES[class]
    }
}
