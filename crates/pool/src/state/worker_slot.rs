//! Worker slots: the places of workers in a pool, and what becomes of what they held when they die.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use manyhands_channel::arena::Block;
use manyhands_channel::completion_ring::CompletionRing;
use manyhands_channel::words::SegmentWords;

use super::{Openness, State};
use crate::control::{SLOTS, WorkerStatus};
use crate::slots::Phase;
use crate::task::{Death, Location, Token};

/// Most workers of one pool.
pub const MOST_WORKER_SLOTS: usize = 511;

/// How many workers' ends a worker slot remembers.
const MOST_ENDS: usize = 16;
/// What is said of a worker whose zygote ended before it could tell: that takes its workers along by
/// SIGKILL.
const KILLED: i32 = 9;

/// The occupant of a worker slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nobody.
    Empty,
    /// The zygote has been asked to fork a worker for it.
    Starting,
    /// A worker with this process id.
    Alive(i32),
}

/// A worker's place.
pub struct WorkerSlot {
    pub(crate) status: WorkerStatus,
    // Keeps the status's memory.
    _block: Block,
    pub(crate) participant: u16,
    pub(crate) generation: u32,
    pub(crate) life: Life,
    pub(crate) retiring: bool,
    pub(crate) restarts: u64,
    // Among those that stay; so it is less than the number of workers, as a worker slot's own may not be.
    pub(crate) index: u32,
    pub(crate) has_output: bool,
    // Process id and wait status of the latest workers that have ended here.
    ends: VecDeque<(i32, i32)>,
}

impl WorkerSlot {
    fn note_end(&mut self, pid: i32, wait_status: i32) {
        if self.ends.len() == MOST_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back((pid, wait_status));
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Alive(pid) => Some(pid),
            Life::Empty | Life::Starting => None,
        }
    }
}

/// A completion ring with the parent's position in it.
pub struct CompletionRingView {
    pub(crate) completion_ring: CompletionRing<SegmentWords>,
    pub(crate) position: AtomicU64,
}

/// The completion rings of all worker slots, readable without the pool's lock: how a waiting thread sees news.
pub struct CompletionRings {
    views: Vec<OnceLock<CompletionRingView>>,
    count: AtomicUsize,
}

impl Default for CompletionRings {
    fn default() -> Self {
        let views = (0..MOST_WORKER_SLOTS).map(|_| OnceLock::new()).collect();
        Self { views, count: AtomicUsize::new(0) }
    }
}

impl CompletionRings {
    pub(crate) fn get(&self, worker_slot: usize) -> Option<&CompletionRingView> {
        self.views.get(worker_slot)?.get()
    }

    fn add(&self, worker_slot: usize, completion_ring: CompletionRing<SegmentWords>) {
        let position = AtomicU64::new(completion_ring.tail());
        let _ = self.views[worker_slot].set(CompletionRingView { completion_ring, position });
        // pairs with: has_news (Acquire)
        self.count.store(worker_slot + 1, Ordering::Release);
    }

    /// Whether some worker has finished something that has not been collected.
    #[must_use]
    pub fn has_news(&self) -> bool {
        // pairs with: add (Release)
        let count = self.count.load(Ordering::Acquire);
        self.views[..count]
            .iter()
            .filter_map(OnceLock::get)
            .any(|view| view.completion_ring.has_more(view.position.load(Ordering::Relaxed)))
    }
}

impl<T> State<T> {
    /// Adds a worker slot whose status lies in `block`, for a new participant.
    pub fn add_worker_slot(&mut self, block: Block, participant: u16) -> usize {
        let segment = std::sync::Arc::clone(self.control.segment());
        let status = WorkerStatus::new(segment, block.offset());
        status.clear();
        let worker_slot = self.worker_slots.len();
        self.completion_rings.add(worker_slot, status.completion_ring());
        self.worker_slots.push(WorkerSlot {
            status,
            _block: block,
            participant,
            generation: 0,
            life: Life::Empty,
            retiring: false,
            index: 0,
            restarts: 0,
            has_output: false,
            ends: VecDeque::new(),
        });
        worker_slot
    }

    /// The worker slot of a participant.
    #[must_use]
    pub fn worker_slot_of(&self, participant: u16) -> Option<usize> {
        self.worker_slots.iter().position(|worker_slot| worker_slot.participant == participant)
    }

    /// The zygote has forked a worker.
    pub fn worker_started(&mut self, index: usize, generation: u32, pid: i32) {
        let worker_slot = &mut self.worker_slots[index];
        if worker_slot.generation == generation && worker_slot.life == Life::Starting {
            worker_slot.life = Life::Alive(pid);
            self.shortage = None;
            self.note_workers();
        }
    }

    /// Publishes which workers exist, for observers such as `manyhands top`.
    fn note_workers(&self) {
        let workers = self.worker_slots.iter().filter(|worker_slot| worker_slot.pid().is_some());
        self.control.note_workers(workers.map(|worker_slot| worker_slot.participant));
    }

    /// A worker has ended, with the status that `waitpid` gave and its largest resident size.
    ///
    /// What it had finished is kept; the task it was running fails or runs again; its memory is
    /// taken back before its number is given to another.
    pub fn worker_gone(
        &mut self,
        index: usize,
        generation: u32,
        wait_status: Option<i32>,
        rss_bytes: Option<u64>,
    ) {
        let worker_slot = &self.worker_slots[index];
        if worker_slot.generation != generation || worker_slot.life == Life::Empty {
            return;
        }
        let (participant, pid) = (worker_slot.participant, worker_slot.pid());
        let worked = worker_slot.status.tasks_done().load(Ordering::Relaxed) > 0;
        self.collect_ring(index);
        let mut lost = false;
        #[allow(clippy::cast_possible_truncation, reason = "SLOTS is small")]
        for slot in 0..SLOTS as u32 {
            let state = self.slots.state(slot);
            if state.participant != participant {
                continue;
            }
            match state.phase {
                Phase::Done => self.collect_slot(slot, index),
                Phase::Running | Phase::Cancelling | Phase::Killed => {
                    lost = true;
                    self.lose(slot, |task| Death { task, pid, wait_status, rss_bytes });
                }
                Phase::Free | Phase::Queued => {}
            }
        }
        self.reclaims.push(participant);
        let worker_slot = &mut self.worker_slots[index];
        let retired = std::mem::take(&mut worker_slot.retiring);
        worker_slot.life = Life::Empty;
        if let Some(pid) = pid {
            worker_slot.note_end(pid, wait_status.unwrap_or(KILLED));
        }
        if !worked && !lost && !retired {
            self.failed_starts.count(wait_status.unwrap_or(KILLED) == KILLED);
        }
        self.note_workers();
    }

    /// Process id of the worker that runs a task, if one does.
    #[must_use]
    pub fn worker_of(&self, token: Token) -> Option<i32> {
        let Location::Slot(slot) = self.tasks.get(token)?.location else { return None };
        let participant = self.slots.state(slot).participant;
        self.worker_slots.iter().find(|worker_slot| worker_slot.participant == participant)?.pid()
    }

    /// Workers that are there or on their way, without those that must end.
    pub(crate) fn staff(&self) -> usize {
        self.worker_slots
            .iter()
            .filter(|worker_slot| worker_slot.life != Life::Empty && !worker_slot.retiring)
            .count()
    }

    /// The smallest index that no worker has that stays.
    pub(super) fn free_index(&self) -> u32 {
        let stays = |worker_slot: &&WorkerSlot| worker_slot.life != Life::Empty && !worker_slot.retiring;
        let taken = |index: &u32| {
            self.worker_slots.iter().filter(stays).any(|worker_slot| worker_slot.index == *index)
        };
        (0..).find(|index| !taken(index)).unwrap_or_default()
    }

    /// Whether workers are on their way, or are still to be asked for.
    #[must_use]
    pub fn is_staffing(&self) -> bool {
        let is_able = self.broken.is_none() && self.openness < Openness::Stopping;
        is_able && (self.is_starting() || self.is_short_of_hands())
    }

    /// Whether there may be workers that nobody knows yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.worker_slots.iter().any(|worker_slot| worker_slot.life == Life::Starting)
    }

    /// As `waitpid` gave it, how the worker with this process id has ended; `None` when it has not, or
    /// when that was too long ago.
    #[must_use]
    pub fn wait_status(&self, pid: i32) -> Option<i32> {
        let ends = self.worker_slots.iter().flat_map(|worker_slot| worker_slot.ends.iter().rev());
        ends.filter(|(of, _)| *of == pid).map(|&(_, status)| status).next()
    }

    /// Whether no worker slot is taken.
    pub(crate) fn is_deserted(&self) -> bool {
        self.worker_slots.iter().all(|worker_slot| worker_slot.life == Life::Empty)
    }

    /// Lets the worker in a worker slot end after its task. The caller wakes the workers.
    pub(crate) fn retire(&mut self, index: usize) {
        let worker_slot = &mut self.worker_slots[index];
        if worker_slot.life != Life::Empty {
            worker_slot.retiring = true;
            worker_slot.status.retire().store(1, Ordering::Relaxed);
        }
    }
}
