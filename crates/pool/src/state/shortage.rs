//! What becomes of a pool that cannot start a worker, or its zygote.
//!
//! A process that should have been started is given up at once, so that nobody waits for it. A shortage that may pass
//! (of descriptors, processes, memory) is waited out, with pauses that double; the existing workers go on. Only a pool
//! without any gives up in the end: its tasks would wait forever.

use manyhands_os::clock::{MILLISECOND, SECOND};

use super::State;
use super::worker_slot::{Life, MOST_WORKER_SLOTS};
use crate::output_pipes::kind;
use crate::task::{Output, Stream};

const FIRST_PAUSE: u64 = 10 * MILLISECOND;
const LONGEST_PAUSE: u64 = SECOND;
/// How long a pool without workers goes on trying.
const PATIENCE: u64 = 10 * SECOND;

/// A shortage that has not passed yet. Times are nanoseconds of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    since: u64,
    pause: u64,
    pub(crate) retry_at: u64,
}

impl<T> State<T> {
    /// The worker that was asked for has not come into being: its worker slot is free again.
    pub fn not_started(&mut self, index: usize, generation: u32) {
        let Some(worker_slot) = self.worker_slots.get_mut(index) else { return };
        if worker_slot.generation == generation && worker_slot.life == Life::Starting {
            worker_slot.life = Life::Empty;
            worker_slot.retiring = false;
        }
    }

    /// The zygote that was asked for does not exist, and so none of the workers that it should have forked do.
    pub fn zygote_not_started(&mut self) {
        for index in 0..self.worker_slots.len() {
            let generation = self.worker_slots[index].generation;
            self.not_started(index, generation);
        }
        self.zygote_gone();
    }

    /// Nothing could be started, for this reason; `passes` says whether another try may find it otherwise.
    pub fn run_short(&mut self, reason: &str, passes: bool, now: u64) {
        let first = self.shortage.is_none();
        let shortage =
            self.shortage.get_or_insert(Shortage { since: now, pause: FIRST_PAUSE / 2, retry_at: now });
        shortage.pause = (shortage.pause * 2).min(LONGEST_PAUSE);
        shortage.retry_at = now.saturating_add(shortage.pause);
        let lasted = now.saturating_sub(shortage.since);
        let alone = self.worker_slots.iter().all(|worker_slot| worker_slot.pid().is_none());
        if !passes {
            self.break_down(&format!("cannot start a worker: {reason}"));
        } else if alone && lasted >= PATIENCE {
            let seconds = PATIENCE / SECOND;
            self.break_down(&format!("could not start a worker for {seconds} s: {reason}"));
        } else if first {
            let text = format!("cannot start a worker at present: {reason}; still trying");
            let bytes = [&[kind::SHORTAGE][..], text.as_bytes()].concat();
            self.add_output(Output {
                worker_slot: MOST_WORKER_SLOTS,
                pid: 0,
                stream: Stream::Reports,
                bytes,
            });
        }
    }

    /// Until when nothing may be started.
    pub(crate) fn pausing_until(&self, now: u64) -> Option<u64> {
        self.shortage.map(|shortage| shortage.retry_at).filter(|retry_at| now < *retry_at)
    }
}
