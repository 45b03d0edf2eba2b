//! What a pool has done and is doing.

use manyhands_os::{clock, procfs};
use manyhands_sync::atomic::Ordering;

use crate::slots::Phase;
use crate::state::State;
use crate::state::worker_slot::Life;
use crate::task::Location;

/// What a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It has been asked for, and does not run yet.
    Starting,
    /// It waits for a task.
    Idle,
    /// It runs a task.
    Running,
    /// It ends, after its task if it has one.
    Ending,
}

impl WorkerState {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Ending => "ending",
        }
    }
}

/// One worker.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerStatistics {
    /// Process id, once it has started.
    pub pid: Option<i32>,
    /// What it is about.
    pub state: WorkerState,
    /// Name of the task it runs.
    pub task: Option<String>,
    /// How long it has had that task, in seconds.
    pub task_s: Option<f64>,
    /// Tasks it has finished.
    pub tasks_done: u64,
    /// CPU time it has used, in seconds.
    pub cpu_s: f64,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
    /// How many workers had its worker slot before it.
    pub restarts: u64,
}

/// A pool at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Tasks that no worker has begun.
    pub queued: usize,
    /// Tasks in a worker's hands.
    pub running: usize,
    /// Tasks that returned.
    pub done: u64,
    /// Tasks that failed for good.
    pub failed: u64,
    /// Runs of tasks after their first.
    pub retried: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// The workers.
    pub workers: Vec<WorkerStatistics>,
}

impl Statistics {
    /// Adds what the system says of the workers' processes.
    pub fn measure(&mut self) {
        for worker in &mut self.workers {
            worker.cpu_s = worker.pid.and_then(procfs::cpu_seconds).unwrap_or(0.0);
            worker.rss_bytes = worker.pid.and_then(procfs::rss_bytes).unwrap_or(0);
        }
    }
}

impl<T> State<T> {
    /// The pool now, which is `now` by the clock; without what only the system knows, see [`Statistics::measure`].
    pub fn statistics(&mut self, now: u64) -> Statistics {
        self.collect();
        let slots = self.control.slots();
        let running = self.tasks.values().filter(|task| match task.location {
            Location::Slot(slot) => slots.state(slot).phase == Phase::Running,
            Location::Backlog | Location::AwaitingDecision(_) => false,
        });
        let running = running.count();
        let taken = self.worker_slots.iter().filter(|worker_slot| worker_slot.life != Life::Empty);
        let workers = taken.map(|worker_slot| {
            let pid = worker_slot.pid();
            // The low half of the word is the slot + 1; see `WorkerStatus`.
            let current = worker_slot.status.current().load(Ordering::Acquire) & 0xffff_ffff;
            let slot = u32::try_from(current).ok().and_then(|slot| slot.checked_sub(1));
            let task = slot.and_then(|slot| self.occupant_name(slot));
            let begun = slot.filter(|_| task.is_some()).and_then(|slot| slots.begun(slot));
            let state = match (worker_slot.life, worker_slot.retiring, slot) {
                (Life::Starting, ..) => WorkerState::Starting,
                (_, true, _) => WorkerState::Ending,
                (_, _, Some(_)) => WorkerState::Running,
                _ => WorkerState::Idle,
            };
            WorkerStatistics {
                pid,
                state,
                task,
                task_s: begun.map(|begun| clock::seconds(now.saturating_sub(begun))),
                tasks_done: worker_slot.status.tasks_done().load(Ordering::Relaxed),
                cpu_s: 0.0,
                rss_bytes: 0,
                restarts: worker_slot.restarts,
            }
        });
        Statistics {
            workers: workers.collect(),
            queued: self.tasks.len() - running,
            running,
            done: self.counts.done,
            failed: self.counts.failed,
            retried: self.counts.retried,
            cancelled: self.counts.cancelled,
        }
    }
}
