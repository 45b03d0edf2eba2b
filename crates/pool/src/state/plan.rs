//! What the driver must do next, and when it must look again.

use std::sync::atomic::Ordering;

use manyhands_channel::submission_ring::Entry;

use super::worker_slot::{Life, MOST_WORKER_SLOTS};
use super::{Openness, State};
use crate::slots::Phase;
use crate::task::{Outcome, Token};

/// The process that forks workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zygote {
    /// Not there.
    None,
    /// Started; packets may be sent.
    Running,
    /// Told to quit once its workers are gone.
    Quitting,
}

/// Something for the driver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take back what this participant held, which is dead: before its number is given to another.
    Reclaim(u16),
    /// Start a zygote.
    StartZygote,
    /// The same for a task that is still to come; if it fails, nobody is told before that task is there.
    PrepareZygote,
    /// Add a worker slot; then plan again.
    AddWorkerSlot,
    /// Have a worker forked for this worker slot, in this generation.
    Fork(usize, u32),
    /// Send SIGINT to the worker of this worker slot.
    Interrupt(usize),
    /// End the system call that the worker of this worker slot may be in, so that it notices a signal from before.
    Nudge(usize),
    /// Send SIGKILL to the worker of this worker slot.
    Kill(usize),
    /// Wake all workers: some must end.
    WakeWorkers,
    /// Tell the zygote to quit.
    QuitZygote,
    /// Kill the zygote and with it all workers.
    KillZygote,
    /// The pool has ended; so does the driver.
    End,
}

/// A running task that has been asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingCancel {
    entry: Entry,
    participant: u16,
    kill_at: u64,
    /// `None`: it has not been asked yet.
    nudge: Option<Nudge>,
}

/// When a worker is nudged next, and how long after the time before that was.
///
/// A signal that comes after Python has looked for signals, and before the system call that it is about to make, ends no
/// system call: it is noticed only when that returns by itself.
#[derive(Clone, Copy, Debug)]
struct Nudge {
    at: u64,
    pause: u64,
}

impl Nudge {
    fn after(pause: u64, now: u64) -> Self {
        Self { at: now.saturating_add(pause), pause }
    }
}

/// The first pause before a nudge, in nanoseconds; each next one is twice as long.
const FIRST_NUDGE: u64 = 10_000_000;

/// A worker that should have been killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    worker_slot: usize,
    generation: u32,
    /// When it must be dead, if the system lets us kill it.
    dead_by: u64,
}

/// How long a worker takes at most to die of SIGKILL, in nanoseconds: on a busy machine, with much memory.
const DYING: u64 = 5_000_000_000;

impl<T> State<T> {
    /// Decides what to do now; the second value is when to look again at the latest.
    pub fn plan(&mut self, now: u64) -> (Vec<Action>, Option<u64>) {
        let mut actions = self.reclaims.drain(..).map(Action::Reclaim).collect();
        let next = self.decide(now, &mut actions);
        (actions, next)
    }

    fn decide(&mut self, now: u64, actions: &mut Vec<Action>) -> Option<u64> {
        if self.openness == Openness::Terminating {
            return self.plan_termination(actions);
        }
        let mut next = self.check_timeouts(now);
        next = earliest(next, self.bring_back(now, actions));
        next = earliest(next, self.carry_out_cancels(now, actions));
        if let Some(reason) = self.failed_starts.give_up(self.settings.workers, now) {
            self.break_down(reason);
        }
        if self.openness == Openness::Stopping && self.pending_cancels.is_empty() {
            let end_by = *self.end_by.get_or_insert(now.saturating_add(self.settings.grace));
            if now >= end_by {
                return self.plan_termination(actions);
            }
            next = earliest(next, Some(end_by));
        }
        let ends = matches!(self.openness, Openness::Closing | Openness::Stopping);
        if ends && self.tasks.is_empty() && (self.reserved == 0 || self.openness == Openness::Stopping) {
            if self.awaits_immortals(now) {
                // The kernel kills them with their zygote, whatever else is refused.
                return self.plan_termination(actions);
            }
            self.plan_end(actions);
            return earliest(next, self.kills.iter().map(|kill| kill.dead_by).min());
        }
        next = earliest(next, self.plan_staff(now, actions));
        earliest(next, self.plan_idleness(now, actions))
    }

    /// Whether all workers that are left have been killed, and live.
    fn awaits_immortals(&mut self, now: u64) -> bool {
        let worker_slots = &self.worker_slots;
        let lives = |kill: &Kill| {
            worker_slots[kill.worker_slot].life != Life::Empty
                && worker_slots[kill.worker_slot].generation == kill.generation
        };
        self.kills.retain(lives);
        let immortals = self.kills.iter().filter(|kill| now >= kill.dead_by).count();
        immortals > 0
            && immortals == worker_slots.iter().filter(|worker_slot| worker_slot.life != Life::Empty).count()
    }

    /// Ends at once: there is nothing to look at later.
    fn plan_termination(&mut self, actions: &mut Vec<Action>) -> Option<u64> {
        self.openness = Openness::Terminating;
        if self.zygote == Zygote::None {
            self.openness = Openness::Ended;
            actions.push(Action::End);
        } else {
            actions.push(Action::KillZygote);
        }
        None
    }

    /// All tasks are done and no more will come.
    fn plan_end(&mut self, actions: &mut Vec<Action>) {
        self.control.flags().store(crate::control::STOP, Ordering::Relaxed);
        match (self.zygote, self.is_deserted()) {
            (Zygote::None, _) => {
                self.openness = Openness::Ended;
                actions.push(Action::End);
            }
            (Zygote::Running, true) => {
                self.zygote = Zygote::Quitting;
                actions.push(Action::QuitZygote);
            }
            (Zygote::Running, false) => actions.push(Action::WakeWorkers),
            (Zygote::Quitting, _) => {}
        }
    }

    /// Forks workers while there are more tasks than hands; gives the time of the next try, if one has failed.
    fn plan_staff(&mut self, now: u64, actions: &mut Vec<Action>) -> Option<u64> {
        if self.broken.is_some() {
            return None;
        }
        if std::mem::take(&mut self.expects_first) && self.tasks.is_empty() && self.zygote == Zygote::None {
            actions.push(Action::PrepareZygote);
            self.zygote = Zygote::Running;
        }
        let wanted = self.tasks.len().min(self.settings.workers);
        let mut staff = self.staff();
        while staff < wanted {
            if let Some(retry_at) = self.pausing_until(now) {
                return Some(retry_at);
            }
            if self.zygote == Zygote::None {
                actions.push(Action::StartZygote);
                self.zygote = Zygote::Running;
            }
            let Some(index) =
                self.worker_slots.iter().position(|worker_slot| worker_slot.life == Life::Empty)
            else {
                if self.worker_slots.len() < MOST_WORKER_SLOTS {
                    actions.push(Action::AddWorkerSlot);
                }
                return None;
            };
            let told = self.free_index();
            let worker_slot = &mut self.worker_slots[index];
            worker_slot.index = told;
            worker_slot.status.reset();
            worker_slot.restarts += u64::from(worker_slot.generation > 0);
            worker_slot.generation += 1;
            worker_slot.life = Life::Starting;
            actions.push(Action::Fork(index, worker_slot.generation));
            staff += 1;
        }
        if staff > self.settings.workers {
            let surplus = staff - self.settings.workers;
            let worker_slots = self.worker_slots.iter().enumerate().rev();
            let leaving: Vec<usize> = worker_slots
                .filter(|(_, worker_slot)| worker_slot.life != Life::Empty && !worker_slot.retiring)
                .map(|(index, _)| index)
                .take(surplus)
                .collect();
            leaving.into_iter().for_each(|index| self.retire(index));
            actions.push(Action::WakeWorkers);
        }
        None
    }

    /// Lets all workers go after a time without tasks. Nobody tells the driver that the last task has
    /// ended, which would cost each lone task a wake-up: it looks from time to time whether any came.
    fn plan_idleness(&mut self, now: u64, actions: &mut Vec<Action>) -> Option<u64> {
        let timeout = self.settings.idle_timeout?;
        if self.staff() == 0 {
            return None;
        }
        let busy = !self.tasks.is_empty();
        if busy || self.quiet.is_none_or(|(sequence, _)| sequence != self.sequence) {
            self.quiet = (!busy).then_some((self.sequence, now));
            return Some(now.saturating_add(timeout));
        }
        let since = self.quiet.map_or(now, |(_, since)| since);
        let end = since.saturating_add(timeout);
        if now < end {
            return Some(end);
        }
        self.quiet = None;
        (0..self.worker_slots.len()).for_each(|index| self.retire(index));
        actions.push(Action::WakeWorkers);
        None
    }

    /// Fails running tasks that are past their timeout; gives the time of the next check.
    fn check_timeouts(&mut self, now: u64) -> Option<u64> {
        let (shortest, _) = self.timeouts.first_key_value()?;
        // A task that is queued now cannot be overdue before the shortest timeout has passed.
        let mut next = Some(now.saturating_add(*shortest));
        for index in 0..self.worker_slots.len() {
            let Some((token, slot, started)) = self.timed_task(index) else { continue };
            let options = self.tasks[token].options.as_ref();
            let Some(timeout) = options.and_then(|options| options.timeout) else { continue };
            let end = started.saturating_add(timeout);
            if now < end {
                next = earliest(next, Some(end));
            } else if self.begin_cancel(slot, now) {
                self.time_out(token, slot, timeout);
                self.retire(index);
            }
        }
        next
    }

    /// The timed task that the worker of a worker slot is running, with its start.
    fn timed_task(&self, index: usize) -> Option<(Token, u32, u64)> {
        let status = &self.worker_slots[index].status;
        // pairs with: WorkerSide::begin (Release)
        let current = status.current().load(Ordering::Acquire);
        let started = status.started().load(Ordering::Relaxed);
        let Entry { slot, generation } = Entry::from_note(current)?;
        let token = (*self.occupants.get(slot as usize)?)?;
        let same = self.generations[slot as usize] == generation
            && status.current().load(Ordering::Acquire) == current
            && started != 0;
        same.then_some((token, slot, started))
    }

    fn time_out(&mut self, token: Token, slot: u32, timeout: u64) {
        let task = &self.tasks[token];
        let retry = task.may_retry()
            && task.options.as_ref().is_some_and(|options| options.retry_timeouts)
            && self.tries_again();
        self.occupants[slot as usize] = None;
        if !retry {
            let outcome = Outcome::TimedOut(task.name().to_owned(), timeout);
            self.settle(token, outcome, true);
            return;
        }
        // The slot belongs to a worker that is about to end: the task goes on without it.
        self.keep_outside_slot(token, slot);
        self.counts.retried += 1;
        self.tasks[token].attempt += 1;
        self.put_off(token);
        self.refill();
    }

    /// Condemns the task in a slot, if it runs; the driver does the rest.
    pub(super) fn begin_cancel(&mut self, slot: u32, now: u64) -> bool {
        let entry = self.entry(slot);
        let Some(participant) = self.slots.begin_cancel(entry) else { return false };
        let kill_at = now.saturating_add(self.settings.grace);
        self.pending_cancels.push(PendingCancel { entry, participant, kill_at, nudge: None });
        true
    }

    fn carry_out_cancels(&mut self, now: u64, actions: &mut Vec<Action>) -> Option<u64> {
        let mut next = None;
        for mut pending in std::mem::take(&mut self.pending_cancels) {
            let state = self.slots.state(pending.entry.slot);
            let runs = state.generation == pending.entry.generation && state.phase == Phase::Cancelling;
            let Some(worker_slot) = self.worker_slot_of(pending.participant).filter(|_| runs) else {
                continue;
            };
            if now >= pending.kill_at && pending.nudge.is_some() {
                if self.slots.kill(pending.entry) {
                    actions.push(Action::Kill(worker_slot));
                    let generation = self.worker_slots[worker_slot].generation;
                    self.kills.push(Kill { worker_slot, generation, dead_by: now.saturating_add(DYING) });
                }
                continue;
            }
            let nudge = match pending.nudge {
                None => {
                    actions.push(Action::Interrupt(worker_slot));
                    Nudge::after(FIRST_NUDGE, now)
                }
                Some(Nudge { at, pause }) if now >= at => {
                    actions.push(Action::Nudge(worker_slot));
                    Nudge::after(2 * pause, now)
                }
                Some(later) => later,
            };
            pending.nudge = Some(nudge);
            next = earliest(next, Some(pending.kill_at.min(nudge.at)));
            self.pending_cancels.push(pending);
        }
        next
    }

    /// The zygote has gone, and its workers with it.
    pub fn zygote_gone(&mut self) {
        self.zygote = Zygote::None;
        for index in 0..self.worker_slots.len() {
            let generation = self.worker_slots[index].generation;
            self.worker_gone(index, generation, None, None);
        }
    }
}

/// The earlier of two times, where `None` is never.
fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
