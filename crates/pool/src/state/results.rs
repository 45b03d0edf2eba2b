//! What workers have finished and printed: collected from their completion rings, and taken from there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manyhands_channel::arena::BlockRef;

use super::State;
use super::failed_starts::FailedStarts;
use crate::control::SLOTS;
use crate::slots::{Encoding, Phase, flag};
use crate::task::{Completions, Finished, Location, Outcome, Output, Token};

impl<T> State<T> {
    /// Collects what workers have finished and refills the slots.
    /// True when workers must be woken for newly queued tasks.
    pub fn collect(&mut self) -> bool {
        for index in 0..self.worker_slots.len() {
            self.collect_ring(index);
        }
        self.refill()
    }

    pub(super) fn collect_ring(&mut self, index: usize) {
        let completion_rings = Arc::clone(&self.completion_rings);
        let Some(completion_ring) = completion_rings.get(index) else { return };
        let mut position = completion_ring.position.load(Ordering::Relaxed);
        while let Some(slot) = completion_ring.completion_ring.pop(&mut position) {
            completion_ring.position.store(position, Ordering::Relaxed);
            if (slot as usize) < SLOTS && self.slots.state(slot).phase == Phase::Done {
                self.collect_slot(slot, index);
            }
        }
    }

    /// Takes the result out of a slot that is Done.
    pub(super) fn collect_slot(&mut self, slot: u32, worker_slot: usize) {
        self.failed_starts = FailedStarts::default();
        let start = self.completions.bytes.len();
        let (head, block) = self.slots.read_result(slot, &mut self.completions.bytes);
        if head.flags & flag::PRINTED != 0 {
            self.worker_slots[worker_slot].has_output = true;
        }
        let outcome = if head.encoding == Encoding::Block {
            match self.arena.accept(BlockRef::from_bits(block)) {
                Ok(block) => Outcome::Block(head, block),
                Err(_) => Outcome::Corrupted,
            }
        } else {
            Outcome::Inline(head, start..self.completions.bytes.len())
        };
        // A task cancelled while it ran has no occupant: its result is nobody's.
        let Some(token) = self.occupants[slot as usize] else {
            self.free_slot(slot);
            return;
        };
        let raised = head.flags & flag::RAISED != 0;
        if raised && self.tasks[token].may_retry() {
            self.tasks[token].location = Location::AwaitingDecision(slot);
            self.deliver(Finished { token, user_data: None, outcome });
            return;
        }
        self.free_slot(slot);
        self.settle(token, outcome, raised);
    }

    /// Ends a task with its outcome.
    pub(super) fn settle(&mut self, token: Token, outcome: Outcome, failed: bool) {
        let Some(task) = self.remove(token) else { return };
        if failed {
            self.counts.failed += 1;
        } else {
            self.counts.done += 1;
        }
        self.deliver(Finished { token, user_data: Some(task.user_data), outcome });
    }

    fn deliver(&mut self, finished: Finished<T>) {
        self.completions.finished.push(finished);
        // pairs with: Pool::has_news (Acquire)
        self.has_completions.store(true, Ordering::Release);
    }

    /// Adds output of a worker to the completions.
    pub fn add_output(&mut self, output: Output) {
        self.completions.output.push(output);
        // pairs with: Pool::has_news (Acquire)
        self.has_completions.store(true, Ordering::Release);
    }

    /// Worker slots whose tasks printed something since the last call: their pipes must be read before
    /// the results are shown.
    pub fn take_with_output(&mut self) -> Vec<usize> {
        let with_output = self.worker_slots.iter_mut().enumerate();
        with_output
            .filter_map(|(index, worker_slot)| std::mem::take(&mut worker_slot.has_output).then_some(index))
            .collect()
    }

    /// Gives the completions away in exchange for empty ones.
    pub fn take(&mut self, completions: &mut Completions<T>) {
        debug_assert!(completions.is_empty(), "completions are delivered before the next ones");
        completions.clear();
        std::mem::swap(&mut self.completions, completions);
        self.has_completions.store(false, Ordering::Relaxed);
    }
}
