//! What the parent of a pool knows: tasks, slots, worker slots. Events come in, actions go out; nothing here waits, reads a
//! clock or makes a system call. It does read and write the slots and blocks of the pool in shared memory: an event is
//! mostly that a word there has changed. `make miri` runs its tests where there is no system.
//!
//! - this file: tasks - submit, refill, cancel;
//! - `attempt`: whether what has failed is tried again;
//! - `results`: what workers have finished, until it is taken;
//! - `ending`: of the pool, and of the tasks that it still has then;
//! - [`worker_slot`]: workers - who is alive, what a death means;
//! - `shortage`: what if nobody can be started;
//! - `failed_starts`: what if workers die before they have done anything;
//! - `put_off`: tasks that come later;
//! - [`plan`]: what the driver must do next, and when to look again.

mod attempt;
pub mod backlog;
mod ending;
mod failed_starts;
pub mod plan;
mod put_off;
mod results;
mod shortage;
#[cfg(test)]
mod tests;
pub mod worker_slot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use manyhands_channel::arena::Arena;
use manyhands_channel::submission_ring::{Entry, SubmissionRing};
use manyhands_channel::words::SegmentWords;
use slotmap::SlotMap;

use crate::control::{Control, SLOTS};
use crate::slots::{Phase, Slots, flag};
use crate::task::{Arguments, Completions, Function, Kept, Location, Options, Task, Token};
use backlog::Backlog;
use failed_starts::FailedStarts;
use plan::{Kill, PendingCancel};
use put_off::PutOff;
use shortage::Shortage;
use worker_slot::{CompletionRings, WorkerSlot};

/// Why a task was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool has been shut down.
    Closed,
    /// The pool cannot run anything; the text says why.
    Broken(Arc<str>),
}

/// What a cancellation came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled<T> {
    /// It never ran and never will; its user data.
    Withdrawn(T),
    /// It was running; its worker is being stopped; its user data.
    Ending(T),
    /// It has finished, or was never there.
    TooLate,
}

/// Whether the pool takes tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Openness {
    /// It does.
    Open,
    /// It finishes what it has, then ends.
    Closing,
    /// It asks what runs to stop, then ends.
    Stopping,
    /// It ends at once; workers are killed.
    Terminating,
    /// It has ended: no worker, no zygote, no driver.
    Ended,
}

/// Counters since the pool began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that returned.
    pub done: u64,
    /// Tasks that raised, timed out or lost their worker, for good.
    pub failed: u64,
    /// Runs after the first one.
    pub retried: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
}

/// The settings that decisions depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most workers at one time.
    pub workers: usize,
    /// Nanoseconds without any task after which all workers end; `None`: never.
    pub idle_timeout: Option<u64>,
    /// Nanoseconds between asking a task to stop and killing its worker.
    pub grace: u64,
}

/// The state of one pool.
pub struct State<T> {
    pub(crate) control: Control,
    slots: Slots,
    submission_ring: SubmissionRing<SegmentWords>,
    pub(crate) arena: Arc<Arena>,
    pub(crate) tasks: SlotMap<Token, Task<T>>,
    backlog: Backlog,
    put_off: PutOff,
    reserved: usize,
    // Whether all that had not begun has been withdrawn: what fails afterwards is not begun again.
    withdrawn: bool,
    free_slots: Vec<u32>,
    generations: Vec<u32>,
    occupants: Vec<Option<Token>>,
    pub(crate) worker_slots: Vec<WorkerSlot>,
    pub(crate) completion_rings: Arc<CompletionRings>,
    // Participants that are dead, and whose memory the driver must take back.
    reclaims: Vec<u16>,
    completions: Completions<T>,
    has_completions: Arc<AtomicBool>,
    pub(crate) counts: Counts,
    sequence: u64,
    prioritized: usize,
    timeouts: BTreeMap<u64, usize>,
    pub(crate) settings: Settings,
    pub(crate) openness: Openness,
    pub(crate) broken: Option<Arc<str>>,
    pending_cancels: Vec<PendingCancel>,
    kills: Vec<Kill>,
    // When a stopping pool, of whose tasks none runs any more, kills the workers that are left.
    end_by: Option<u64>,
    pub(crate) zygote: plan::Zygote,
    // Whether the pool's first task is on its way.
    pub(crate) expects_first: bool,
    failed_starts: FailedStarts,
    shortage: Option<Shortage>,
    // The newest task when the driver last found none unfinished, and when that was.
    quiet: Option<(u64, u64)>,
}

impl<T> State<T> {
    /// A pool with no task and no worker. `control` is zeroed.
    #[must_use]
    pub fn new(
        control: Control,
        arena: Arc<Arena>,
        completion_rings: Arc<CompletionRings>,
        has_completions: Arc<AtomicBool>,
        settings: Settings,
    ) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "SLOTS is small")]
        let free_slots = (0..SLOTS as u32).rev().collect();
        Self {
            slots: control.slots(),
            submission_ring: control.submission_ring(),
            control,
            arena,
            tasks: SlotMap::with_key(),
            backlog: Backlog::default(),
            put_off: PutOff::default(),
            reserved: 0,
            withdrawn: false,
            free_slots,
            generations: vec![0; SLOTS],
            occupants: vec![None; SLOTS],
            worker_slots: Vec::new(),
            completion_rings,
            reclaims: Vec::new(),
            completions: Completions::default(),
            has_completions,
            counts: Counts::default(),
            sequence: 0,
            prioritized: 0,
            timeouts: BTreeMap::new(),
            settings,
            openness: Openness::Open,
            broken: None,
            pending_cancels: Vec::new(),
            kills: Vec::new(),
            end_by: None,
            zygote: plan::Zygote::None,
            expects_first: false,
            failed_starts: FailedStarts::default(),
            shortage: None,
            quiet: None,
        }
    }

    /// Whether a task can be taken now.
    ///
    /// # Errors
    /// [`Refused`] when the pool is closed or broken.
    pub fn check_open(&self) -> Result<(), Refused> {
        if let Some(reason) = &self.broken {
            return Err(Refused::Broken(Arc::clone(reason)));
        }
        if self.openness == Openness::Open { Ok(()) } else { Err(Refused::Closed) }
    }

    /// Takes a task. It is queued in a slot if there is one, else it waits in the backlog.
    ///
    /// # Errors
    /// [`Refused`] with the user data when the pool is broken, or closed and the task was not `expected`.
    pub fn submit(
        &mut self,
        user_data: T,
        function: Arc<Function>,
        arguments: Arguments<'_>,
        flags: u8,
        options: Option<Box<Options>>,
        expected: bool,
    ) -> Result<Token, (Refused, T)> {
        if let Err(refused) = if expected { self.check_expected() } else { self.check_open() } {
            return Err((refused, user_data));
        }
        self.sequence += 1;
        let mut flags = flags;
        if let Some(options) = &options {
            if options.retries > 0 {
                flags |= flag::RETRIED;
            }
            if let Some(timeout) = options.timeout {
                flags |= flag::TIMED;
                *self.timeouts.entry(timeout).or_default() += 1;
            }
            if options.priority != 0 {
                self.prioritized += 1;
                self.make_way(options.priority);
            }
        }
        let direct = self.backlog.is_empty() && self.has_room();
        let kept = match arguments {
            Arguments::Block(block) => Kept::Block(block),
            Arguments::Inline(encoding, bytes) if direct => {
                // `direct` says that `location` below takes this very slot.
                let slot = *self.free_slots.last().expect("has_room found a free slot");
                self.slots.write_arguments(slot, encoding, flags, bytes);
                Kept::InSlot
            }
            Arguments::Inline(encoding, bytes) => Kept::Bytes(encoding, bytes.into()),
        };
        let task = Task {
            user_data,
            function,
            kept,
            flags,
            options,
            location: Location::Backlog,
            attempt: 0,
            sequence: self.sequence,
        };
        let priority = task.priority();
        let token = self.tasks.insert(task);
        self.control.note_tasks(self.sequence, self.tasks.len() as u64);
        if direct {
            self.location(token);
        } else {
            self.backlog.push(priority, self.sequence, token);
            self.refill();
        }
        Ok(token)
    }

    /// How many slots may be in use now: few while priorities matter, since a task in a slot cannot
    /// be overtaken by one that comes later.
    fn window(&self) -> usize {
        if self.prioritized == 0 { SLOTS } else { 2 * self.settings.workers }
    }

    fn has_room(&self) -> bool {
        !self.free_slots.is_empty() && SLOTS - self.free_slots.len() < self.window()
    }

    /// Puts a task into a free slot and lets workers claim it.
    fn location(&mut self, token: Token) {
        let slot = self.free_slots.pop().expect("the caller looked for room");
        let task = &mut self.tasks[token];
        match &task.kept {
            Kept::InSlot => {}
            Kept::Bytes(encoding, bytes) => {
                self.slots.write_arguments(slot, *encoding, task.flags, bytes);
                task.kept = Kept::InSlot;
            }
            Kept::Block(block) => {
                self.slots.write_arguments_block(slot, task.flags, block.reference().to_bits());
            }
        }
        let function = &task.function;
        self.slots.write_call(slot, function.id, function.block.reference().to_bits(), function.length);
        self.occupants[slot as usize] = Some(token);
        self.queue(slot, token);
    }

    /// Queues a filled slot in a new generation.
    fn queue(&mut self, slot: u32, token: Token) {
        let task = &mut self.tasks[token];
        task.location = Location::Slot(slot);
        self.slots.write_name(slot, task.name());
        let entry = self.next_life(slot);
        self.slots.publish(entry);
        if !self.submission_ring.push(entry) {
            self.compact_ring();
        }
    }

    fn next_life(&mut self, slot: u32) -> Entry {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        Entry { slot, generation: *generation }
    }

    fn entry(&self, slot: u32) -> Entry {
        Entry { slot, generation: self.generations[slot as usize] }
    }

    /// Rids the submission ring of stale entries: takes back every queued slot and queues it again.
    ///
    /// There are twice as many entries as slots, so afterwards all fit.
    fn compact_ring(&mut self) {
        while self.submission_ring.pop(|_| false).is_some() {}
        let mut queued: Vec<u32> = self.withdraw_where(|_| true);
        queued.sort_by_key(|&slot| self.occupant(slot).map_or(0, |task| task.sequence));
        for slot in queued {
            let entry = self.next_life(slot);
            self.slots.publish(entry);
            let pushed = self.submission_ring.push(entry);
            debug_assert!(pushed, "the submission ring was just emptied");
        }
    }

    fn occupant(&self, slot: u32) -> Option<&Task<T>> {
        self.occupants[slot as usize].and_then(|token| self.tasks.get(token))
    }

    /// Name of the task in a slot.
    pub(crate) fn occupant_name(&self, slot: u32) -> Option<String> {
        let token = (*self.occupants.get(slot as usize)?)?;
        self.tasks.get(token).map(|task| task.name().to_owned())
    }

    /// Withdraws all queued slots whose task `wanted` picks.
    fn withdraw_where(&mut self, wanted: impl Fn(&Task<T>) -> bool) -> Vec<u32> {
        #[allow(clippy::cast_possible_truncation, reason = "SLOTS is small")]
        let slots = 0..SLOTS as u32;
        slots
            .filter(|&slot| self.occupant(slot).is_some_and(&wanted))
            .filter(|&slot| self.slots.withdraw(self.entry(slot)))
            .collect()
    }

    /// Takes queued tasks of lower priority out of their slots, so that a new one comes first.
    fn make_way(&mut self, priority: i32) {
        for slot in self.withdraw_where(|task| task.priority() < priority) {
            let token = self.occupants[slot as usize].take().expect("withdrawn slots are occupied");
            self.keep_outside_slot(token, slot);
            self.free_slot(slot);
            let task = &mut self.tasks[token];
            task.location = Location::Backlog;
            let (priority, sequence) = (task.priority(), task.sequence);
            self.backlog.put_back(priority, sequence, token);
        }
    }

    /// Copies inline arguments out of the slot, so that it can serve another task.
    fn keep_outside_slot(&mut self, token: Token, slot: u32) {
        let task = &mut self.tasks[token];
        if matches!(task.kept, Kept::InSlot) {
            let mut bytes = Vec::new();
            let (head, _) = self.slots.read_arguments(slot, &mut bytes);
            task.kept = Kept::Bytes(head.encoding, bytes.into());
        }
    }

    fn free_slot(&mut self, slot: u32) {
        self.slots.release(slot);
        self.occupants[slot as usize] = None;
        self.free_slots.push(slot);
    }

    /// Moves tasks from the backlog into slots while there is room; true when any moved.
    pub fn refill(&mut self) -> bool {
        let mut moved = false;
        while self.has_room() {
            let Some(token) = self.backlog.pop(|token| self.tasks.contains_key(token)) else { break };
            self.location(token);
            moved = true;
        }
        let starving = u32::from(!self.backlog.is_empty());
        self.control.starving().store(starving, manyhands_sync::atomic::Ordering::Relaxed);
        moved
    }

    /// Whether one more worker is wanted: there are more tasks than hands.
    #[must_use]
    pub fn is_short_of_hands(&self) -> bool {
        let workers = self.settings.workers;
        let staff = self.staff();
        staff < workers && staff < self.tasks.len()
    }

    /// Whether a closing pool has no task left, so that the driver must end it.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.openness != Openness::Open
            && self.tasks.is_empty()
            && self.reserved == 0
            && self.zygote != plan::Zygote::None
    }

    /// Whether tasks wait that found no slot.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether a worker has begun the task.
    #[must_use]
    pub fn is_running(&self, token: Token) -> bool {
        match self.tasks.get(token).map(|task| task.location) {
            Some(Location::Slot(slot)) => self.slots.state(slot).phase != Phase::Queued,
            // A task that is not known any more has ended.
            Some(Location::AwaitingDecision(_)) | None => true,
            Some(Location::Backlog) => false,
        }
    }

    /// Withdraws a task, or, if `running` may be ended, has its worker stopped.
    ///
    /// `now` is the clock's time in nanoseconds.
    pub fn cancel(&mut self, token: Token, running: bool, now: u64) -> Cancelled<T> {
        let Some(location) = self.tasks.get(token).map(|task| task.location) else {
            return Cancelled::TooLate;
        };
        match location {
            Location::Backlog => self.forget(token).map_or(Cancelled::TooLate, Cancelled::Withdrawn),
            Location::Slot(slot) if self.slots.withdraw(self.entry(slot)) => {
                self.free_slot(slot);
                self.refill();
                self.forget(token).map_or(Cancelled::TooLate, Cancelled::Withdrawn)
            }
            Location::Slot(slot) if running && self.begin_cancel(slot, now) => {
                self.occupants[slot as usize] = None;
                self.forget(token).map_or(Cancelled::TooLate, Cancelled::Ending)
            }
            Location::Slot(_) | Location::AwaitingDecision(_) => Cancelled::TooLate,
        }
    }

    fn forget(&mut self, token: Token) -> Option<T> {
        self.counts.cancelled += 1;
        self.remove(token).map(|task| task.user_data)
    }

    fn remove(&mut self, token: Token) -> Option<Task<T>> {
        let task = self.tasks.remove(token)?;
        self.control.note_tasks(self.sequence, self.tasks.len() as u64);
        if let Some(options) = &task.options {
            if options.priority != 0 {
                self.prioritized -= 1;
            }
            if let Some(timeout) = options.timeout {
                let count = self.timeouts.get_mut(&timeout).expect("counted at submit");
                *count -= 1;
                if *count == 0 {
                    self.timeouts.remove(&timeout);
                }
            }
        }
        Some(task)
    }
}
