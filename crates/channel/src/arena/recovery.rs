//! What happens to the memory of a participant that died.
//!
//! A process can be killed between any two instructions. So every step above leaves behind, at each moment, either a
//! chunk or a block that names who is at work on it, or a state that anyone can complete:
//!
//! | it died … | what is left | what is done |
//! |---|---|---|
//! | holding blocks | its bits | cleared; the last holder frees the block |
//! | after a hand-over that nobody accepted | a note of the transit | cleared, the same |
//! | between letting go and freeing | a used block that nobody holds | freed |
//! | between freeing and telling the owner | a block that says who frees it | the owner is told |
//! | while it made a run or a slab | chunks claimed by it, tails without a head | pages discarded, chunks free |
//! | while it freed a run | a head whose block says who frees it | finished |
//! | owning slabs | its list of free blocks is gone with it | adopted by participant 0, which sees it in the headers |
//!
//! Others allocate and free at the same time. What must not change under the reader's eyes is pinned: it stays a slab,
//! or a run, until recovery has read and repaired it. What is freed in that time is given back afterwards.

use std::sync::PoisonError;

use super::chunks::Chunk;
use super::header::{BlockHeader, Phase, SlabHeader, acquire};
use super::layout::blocks;
use super::{Inner, Participant};

impl Inner {
    /// Frees all that the `dead` held, and takes over what they owned.
    pub(super) fn reclaim(&self, dead: &[Participant]) {
        let _one_at_a_time = self.recovery.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in self.chunks.touched() {
            match self.chunks.load(chunk) {
                Chunk::Claimed { by } if dead.contains(&by) => {
                    self.chunks.chill(chunk, by);
                }
                Chunk::Slab { owner, class, .. } if dead.contains(&owner) => {
                    self.reclaim_blocks(chunk, owner, class, dead);
                    self.local().slabs.adopt(chunk, owner, class);
                }
                slab @ Chunk::Slab { owner, class, .. } => {
                    let pinned = Chunk::Slab { owner, class, pinned: true };
                    // Where this fails, the slab was empty and is gone.
                    if self.chunks.swap(chunk, slab, pinned) {
                        self.reclaim_blocks(chunk, owner, class, dead);
                        self.chunks.swap(chunk, pinned, slab);
                    }
                }
                // Where this fails, it was freed.
                Chunk::Head { owner, len, .. } if self.chunks.pin_run(chunk, owner, len) => {
                    self.reclaim_run(chunk, owner, len, dead);
                    self.chunks.unpin_run(chunk, owner, len);
                }
                tail @ Chunk::Tail { owner, back } if dead.contains(&owner) => {
                    let head = self.chunks.load(chunk.saturating_sub(back));
                    let complete =
                        matches!(head, Chunk::Head { owner: same, len, .. } if same == owner && len > back);
                    if !complete && self.chunks.swap(chunk, tail, Chunk::Claimed { by: owner }) {
                        self.chunks.chill(chunk, owner);
                    }
                }
                _ => {}
            }
        }
    }

    fn reclaim_blocks(&self, chunk: usize, owner: Participant, class: usize, dead: &[Participant]) {
        let slab = SlabHeader::at(self.segment(), self.chunks.layout.chunk(chunk));
        for index in 0..acquire(slab.carved()).min(blocks(class)) {
            let offset = self.chunks.layout.block(chunk, class, index);
            let header = BlockHeader::at(self.segment(), offset);
            let Some(state) = header.load() else { continue };
            match state.phase {
                Phase::Used => self.reclaim_block(chunk, offset, dead),
                Phase::Freeing { who } if dead.contains(&who) => self.tell_owner(offset, chunk, class, state),
                // The owner may have died with the note in its hands.
                Phase::Free if dead.contains(&owner) => slab.note_freed(index),
                _ => {}
            }
        }
    }

    fn reclaim_run(&self, head: usize, owner: Participant, len: usize, dead: &[Participant]) {
        let offset = self.chunks.layout.block(head, 0, 0);
        match BlockHeader::at(self.segment(), offset).load().map(|state| state.phase) {
            Some(Phase::Used) => self.reclaim_block(head, offset, dead),
            Some(Phase::Freeing { who }) if dead.contains(&who) => self.chunks.release_run(head, owner, len),
            _ => {}
        }
    }

    fn reclaim_block(&self, chunk: usize, offset: usize, dead: &[Participant]) {
        let header = BlockHeader::at(self.segment(), offset);
        let (kind, state) = (self.chunks.load(chunk), header.load());
        for who in dead.iter().copied().filter(|who| header.is_held_by(*who)) {
            header.release(who);
        }
        header.forget_transits(dead);
        if let Some(state) = state {
            // As if by a stranger, also in our own slabs: no need for the lock, which allocations wait for.
            self.free_if_unheld(offset, chunk, kind, state, None);
        }
    }
}
