//! What a worker does: wait for a task, claim it, read it, publish its result.
//!
//! A worker may be killed at any instruction here. What it has not published is found by the parent
//! through the slot's state word, which names the worker from the moment of the claim.

use std::sync::Arc;

use manyhands_channel::completion_ring::CompletionRing;
use manyhands_channel::submission_ring::{Entry, SubmissionRing};
use manyhands_channel::words::SegmentWords;
use manyhands_os::clock;
use manyhands_os::memory::Segment;
use manyhands_sync::atomic::{AtomicU64, Ordering};
use manyhands_sync::{Spent, SpinPolicy, Wait};

use crate::control::{Control, SLOTS, STOP, WorkerStatus};
use crate::slots::{Finish, Phase, SlotState, Slots};

/// How long loading a timed task, which may import much, does not count as its run, in nanoseconds. Longer than any
/// import takes that comes to an end.
pub const LOADING: u64 = 60 * clock::SECOND;

/// How long a result may lie there before the collector is told of it, if a leader is expected: so many looks at the
/// submission ring, some 20 microseconds.
const DEFERRAL: u32 = 512;

/// What there is for a worker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It has claimed this task.
    Task(Entry),
    /// It must end.
    End,
    /// A signal came while it waited: look at it, then ask again.
    Interrupted,
    /// Nothing came before the deadline.
    Nothing,
}

/// One worker's side of a pool.
pub struct WorkerSide {
    control: Control,
    slots: Slots,
    submission_ring: SubmissionRing<SegmentWords>,
    status: WorkerStatus,
    completion_ring: CompletionRing<SegmentWords>,
    participant: u16,
    spin: SpinPolicy,
    /// The task whose end the parent has not been told of, as [`Entry::to_note`] has it, or 0. Only the worker's own
    /// thread uses it.
    deferred: AtomicU64,
}

impl WorkerSide {
    /// The side of `participant`, whose pool and worker slot lie at these offsets of the segment.
    #[must_use]
    pub fn new(segment: &Arc<Segment>, participant: u16, control: usize, status: usize) -> Self {
        let control = Control::new(Arc::clone(segment), control);
        let status = WorkerStatus::new(Arc::clone(segment), status);
        Self {
            slots: control.slots(),
            submission_ring: control.submission_ring(),
            completion_ring: status.completion_ring(),
            control,
            status,
            participant,
            spin: SpinPolicy::new(),
            deferred: AtomicU64::new(0),
        }
    }

    /// The slots, for reading arguments and writing results.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    fn is_over(&self) -> bool {
        self.status.retire().load(Ordering::Relaxed) != 0
            || self.control.flags().load(Ordering::Relaxed) & STOP != 0
    }

    fn claim(&self) -> Option<Entry> {
        self.submission_ring.pop(|entry| {
            // What stands in shared memory is believed only as far as it can be true.
            (entry.slot as usize) < SLOTS && self.slots.claim(entry, self.participant)
        })
    }

    /// Claims a task if one is queued, without waiting.
    #[must_use]
    pub fn try_next(&self) -> Option<Next> {
        if self.is_over() {
            self.announce_deferred();
            return Some(Next::End);
        }
        self.claim().map(Next::Task)
    }

    /// Claims a task that is queued within the next microseconds, if waiting so long has paid lately.
    ///
    /// # Errors
    /// When it is time to sleep; see [`wait_next`](Self::wait_next).
    pub fn spin_next(&self) -> Result<Next, Spent<'_>> {
        let mut looks = 0;
        self.spin.look(|| {
            looks += 1;
            if looks == DEFERRAL {
                self.announce_deferred();
            }
            self.try_next()
        })
    }

    /// Sleeps until there is a task, and claims it; or for `nanoseconds`, if given.
    #[must_use]
    pub fn wait_next(&self, spent: Spent<'_>, nanoseconds: Option<u64>) -> Next {
        self.announce_deferred();
        let deadline = nanoseconds.map(|length| clock::now() + length);
        let found = self.control.work().wait_for(&SpinPolicy::none(), deadline, || self.try_next());
        found
            .inspect(|_| spent.end())
            .unwrap_or_else(|why| if why == Wait::TimedOut { Next::Nothing } else { Next::Interrupted })
    }

    /// Notes that the worker has this task from now on, and loads it: what to call, and with what. `timed`: the
    /// parent wants to know since when it runs.
    pub fn begin(&self, entry: Entry, timed: bool) {
        self.announce_deferred();
        let now = clock::now();
        self.slots.write_begun(entry.slot, now);
        let started = if timed { now.saturating_add(LOADING) } else { 0 };
        self.status.started().store(started, Ordering::Relaxed);
        // Release: the start time. pairs with: State::timed_task (Acquire)
        self.status.current().store(entry.to_note(), Ordering::Release);
    }

    /// Notes that a timed task has been loaded, and runs from now on.
    pub fn start(&self) {
        let started = self.status.started();
        started.store(started.load(Ordering::Relaxed).min(clock::now()), Ordering::Relaxed);
    }

    /// Publishes the result that has been written to the slot.
    #[must_use]
    pub fn finish(&self, entry: Entry) -> Finish {
        self.status.current().store(0, Ordering::Relaxed);
        let finish = self.slots.finish(entry, self.participant);
        if finish == Finish::Published {
            let done = self.status.tasks_done();
            done.store(done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            self.completion_ring.push(entry.slot);
            if !self.control.announce_unless_expected() {
                self.deferred.store(entry.to_note(), Ordering::Relaxed);
            }
        }
        finish
    }

    /// Tells the parent of the last result if it has not been told, and has not looked by itself either. Call it before
    /// anything that takes time.
    pub fn announce_deferred(&self) {
        let Some(entry) = Entry::from_note(self.deferred.load(Ordering::Relaxed)) else { return };
        self.deferred.store(0, Ordering::Relaxed);
        if self.is_in(entry, Phase::Done) {
            self.control.announce();
        }
    }

    /// Whether the parent has asked this task to stop.
    #[must_use]
    pub fn is_cancelling(&self, entry: Entry) -> bool {
        self.is_in(entry, Phase::Cancelling)
    }

    /// Whether a task of this worker is in that phase now.
    fn is_in(&self, entry: Entry, phase: Phase) -> bool {
        let state = SlotState { generation: entry.generation, participant: self.participant, phase };
        self.slots.state(entry.slot) == state
    }

    /// Whether the parent should be told that tasks run low: at most one worker gets a yes.
    #[must_use]
    pub fn clears_starving(&self) -> bool {
        self.control.starving().load(Ordering::Relaxed) != 0
            && self.submission_ring.len() < SLOTS / 4
            && self.control.starving().swap(0, Ordering::Relaxed) != 0
    }

    /// Tasks this worker has finished.
    #[must_use]
    pub fn tasks_done(&self) -> u64 {
        self.status.tasks_done().load(Ordering::Relaxed)
    }
}
