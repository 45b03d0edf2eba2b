//! The duties of a worker: what it does with each message, and in which order. Events come in, actions go out; nothing here waits or reads a
//! clock. Moments are nanoseconds of one clock of the caller's, unless it says that they count from 1970.
//!
//! ```text
//! delivered ─▶ put off ─▶ ready ─▶ running ─▶ settling ─▶ acknowledged
//!                 ▲          ▲                    ▲
//!             its ETA    no slot free     publications not confirmed
//! ```
//! - A message is acknowledged when all that follows from it is confirmed: its answer and its follow-ups, or it itself, once more or as a dead letter.
//! - When a connection is lost, its deliveries come again, here or elsewhere. What had not begun here is forgotten. What runs goes on, and what
//!   settles is published; if its message comes here again, it takes the place of the former one, and does not run twice.
//!
//! This file: messages that come, and tasks that begin. Beside it:
//! - `settling`: how tasks end, and what is published then;
//! - `ending`: how the worker ends;
//! - `intake`: the consumers, and how many messages they may have; `pace`: how many are worth having;
//! - `ledger`, `done`, `revoked`: what is remembered;
//! - `view`: what is here, for those who ask; `desk`: how they are answered.

mod desk;
mod done;
mod driver;
mod ending;
mod intake;
mod ledger;
mod order;
mod pace;
mod revoked;
mod settling;
mod task_order;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

pub use driver::{Driver, News, Plan, Report};
pub use ending::Shutdown;
pub use order::{Attempt, Cause, Ending, Order, Parcel, Role};
pub use pace::Pace;
pub use task_order::{DEAD_BECAUSE, DEAD_FROM, Finish, Known, TaskOrder, Workplace, dead_letters};

use crate::link::{ConsumerKey, Tag};
use crate::outbox::{Publication, Token};
use done::Done;
use ending::Closing;
use intake::Intake;
use ledger::Ledger;
use revoked::Revoked;
use view::Ended;

/// The name of a message here, for as long as it has to do with this worker.
pub type JobId = u64;

/// What the duties depend on.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many tasks run at a time.
    pub slots: u16,
    /// A task over which so many processes have died is a dead letter.
    pub most_deaths: u32,
    /// How many queues it serves.
    pub queues: usize,
}

/// The present moment, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// On the clock of all other moments here.
    pub now: u64,
    /// In nanoseconds since 1970.
    pub since_1970: u64,
}

impl Moment {
    /// A moment since 1970 on the clock of all others. It is converted once: what others do to the wall clock later moves nothing.
    fn convert(self, since_1970: u64) -> u64 {
        match since_1970.checked_sub(self.since_1970) {
            Some(ahead) => self.now.saturating_add(ahead),
            None => self.now.saturating_sub(self.since_1970 - since_1970),
        }
    }
}

/// What the caller has to do.
#[derive(Debug, PartialEq)]
pub enum Action<O> {
    /// Run this task; [`Duties::finished`] or [`Duties::crashed`] follows.
    Run(JobId, Arc<O>),
    /// Stop what runs there, as soon as that can be; how it ends is told as ever, and need not be if the worker is ending.
    Stop(JobId),
    /// Publish this; [`Duties::confirmed`] or [`Duties::refused`] follows, however often the connection is lost until then.
    Publish(Token, Arc<Publication>),
    /// Acknowledge this delivery.
    Ack(Tag),
    /// Give this delivery back to its queue.
    Return(Tag),
    /// Consume from the queue of this number, again after each lost connection.
    Consume {
        /// The consumer's name.
        consumer: ConsumerKey,
        /// The queue's number.
        queue: usize,
        /// How many deliveries it may have that are neither acknowledged nor returned.
        prefetch: u16,
    },
    /// Get no more deliveries for this consumer.
    Cancel(ConsumerKey),
    /// Declare once more where dead letters go: such a queue was gone.
    DeclareDeadLetters,
    /// All is done: the connection can be closed. The last action.
    End,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came.
    pub received: u64,
    /// Tasks that ended by themselves, however.
    pub finished: u64,
    /// Processes that died over a task.
    pub deaths: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Tasks that were not run, or stopped, since they were revoked or too late.
    pub revoked: u64,
    /// Messages given back to their queues.
    pub returned: u64,
    /// Answers that nobody waited for any more.
    pub unheard: u64,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for its ETA.
    PutOff,
    /// Waits for a free slot.
    Ready,
    /// Has had a slot since this moment.
    Running { since: u64 },
    /// Waits for so many publications.
    Settling { unconfirmed: usize },
}

/// A message.
#[derive(Debug)]
struct Job<O> {
    order: Arc<O>,
    queue: usize,
    /// How to acknowledge it; none once its connection is lost.
    tag: Option<Tag>,
    phase: Phase,
    /// When it is too late to begin.
    expires: Option<u64>,
    /// Whether it was stopped since it was revoked.
    is_revoked: bool,
}

/// What a worker knows.
#[derive(Debug)]
pub struct Duties<O> {
    settings: Settings,
    jobs: HashMap<JobId, Job<O>>,
    next_job: JobId,
    running: usize,
    ready: VecDeque<JobId>,
    put_off: BTreeSet<(u64, JobId)>,
    // How many of them came from each queue.
    held: Vec<usize>,
    // Attempts under way here whose deliveries are lost: they may come again.
    strays: HashMap<Arc<Attempt>, JobId>,
    done: Done,
    ledger: Ledger,
    revoked: Revoked,
    pace: Pace,
    intakes: Vec<Intake>,
    // The queue of each consumer that has ever been.
    queues: HashMap<ConsumerKey, usize>,
    next_consumer: ConsumerKey,
    is_connected: bool,
    closing: Closing,
    counts: Counts,
    actions: Vec<Action<O>>,
    ended: Vec<Ended<O>>,
}

impl<O: Order> Duties<O> {
    /// A worker that consumes from queues number 0 to `settings.queues`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut duties = Self {
            settings,
            jobs: HashMap::new(),
            next_job: 0,
            running: 0,
            ready: VecDeque::new(),
            put_off: BTreeSet::new(),
            held: vec![0; settings.queues],
            strays: HashMap::new(),
            done: Done::default(),
            ledger: Ledger::default(),
            revoked: Revoked::default(),
            pace: Pace::default(),
            intakes: Vec::new(),
            queues: HashMap::new(),
            next_consumer: 0,
            is_connected: false,
            closing: Closing::default(),
            counts: Counts::default(),
            actions: Vec::new(),
            ended: Vec::new(),
        };
        for queue in 0..settings.queues {
            let intake = Intake::open(queue, duties.next_consumer, settings.slots, &mut duties.actions);
            duties.intakes.push(intake);
            duties.next_consumer += 1;
        }
        duties
    }

    /// What the caller must do now, in this order.
    pub fn take_actions(&mut self) -> Vec<Action<O>> {
        for action in &self.actions {
            if let Action::Consume { consumer, queue, .. } = action {
                self.queues.insert(*consumer, *queue);
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many messages are here that do not run: put off, ready, or to be acknowledged.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.len() - self.running
    }

    /// Whether the broker has confirmed a consumer of each queue.
    #[must_use]
    pub fn is_consuming(&self) -> bool {
        self.is_connected && self.intakes.iter().all(Intake::is_confirmed)
    }

    /// The number of the queue that a consumer is of.
    #[must_use]
    pub fn queue_of(&self, consumer: ConsumerKey) -> usize {
        self.queues.get(&consumer).copied().unwrap_or(0)
    }

    /// A message has come.
    pub fn delivered(&mut self, tag: Tag, is_redelivered: bool, order: O, moment: Moment) {
        self.counts.received += 1;
        if is_redelivered && self.comes_again(tag, order.attempt()) {
            return;
        }
        if self.closing.has_begun() {
            self.give_back(tag);
            return;
        }
        let queue = self.queue_of(tag.consumer);
        let eta = order.eta().map(|eta| moment.convert(eta)).filter(|eta| *eta > moment.now);
        let expires = order.expires().map(|expires| moment.convert(expires));
        let unfit = order.unfit();
        let job = self.next_job;
        self.next_job += 1;
        let phase = if eta.is_some() { Phase::PutOff } else { Phase::Ready };
        let order = Arc::new(order);
        self.jobs.insert(job, Job { order, queue, tag: Some(tag), phase, expires, is_revoked: false });
        match (unfit, eta) {
            (Some(cause), _) => self.settle_as(job, &Ending::Dead(cause)),
            (None, Some(eta)) => {
                self.put_off.insert((eta, job));
                self.held[queue] += 1;
            }
            (None, None) => self.ready.push_back(job),
        }
        self.go_on(moment.now);
    }

    /// Whether a delivery is one that was lost and is under way here, or has just been done here.
    fn comes_again(&mut self, tag: Tag, attempt: &Arc<Attempt>) -> bool {
        if let Some(job) = self.strays.remove(attempt)
            && let Some(job) = self.jobs.get_mut(&job)
        {
            job.tag = Some(tag);
            return true;
        }
        let was_done = self.done.comes_again(attempt, tag);
        if was_done {
            self.actions.push(Action::Ack(tag));
        }
        was_done
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        while let Some((token, publication)) = self.ledger.due(now) {
            self.actions.push(Action::Publish(token, publication));
        }
        while let Some((eta, job)) = self.put_off.first().copied()
            && eta <= now
        {
            self.put_off.pop_first();
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.phase = Phase::Ready;
                self.held[entry.queue] -= 1;
                self.ready.push_back(job);
            }
        }
        self.look_at_the_time(now);
        self.go_on(now);
    }

    /// When [`Duties::tick`] must come next, if ever.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        let eta = self.put_off.first().map(|(eta, _)| *eta);
        [eta, self.ledger.next_due(), self.closing.deadline()].into_iter().flatten().min()
    }

    /// Begins what can begin, and asks for as many messages as are wanted.
    fn go_on(&mut self, now: u64) {
        while self.running < self.pace.depth(usize::from(self.settings.slots))
            && let Some(job) = self.ready.pop_front()
        {
            let Some(entry) = self.jobs.get_mut(&job) else { continue };
            let is_expired = entry.expires.is_some_and(|expires| expires <= now);
            if is_expired || self.revoked.has(&entry.order.attempt().id) {
                self.settle_as(job, &Ending::Revoked { is_expired });
                continue;
            }
            entry.phase = Phase::Running { since: now };
            let order = Arc::clone(&entry.order);
            self.running += 1;
            self.actions.push(Action::Run(job, order));
        }
        if self.closing.has_begun() {
            return self.end_if_done();
        }
        let lookahead = usize::from(self.pace.lookahead(usize::from(self.settings.slots)));
        for (intake, held) in self.intakes.iter_mut().zip(&self.held) {
            let wanted = lookahead + held;
            intake.adjust(wanted, now, &mut self.next_consumer, &mut self.actions);
        }
    }

    /// These tasks must not run any more; with `stops`, those that run are stopped.
    pub fn revoke<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>, stops: bool, now: u64) {
        let mut ids_now = Vec::new();
        for id in ids {
            self.revoked.add(id, now);
            ids_now.push(id);
        }
        let mut found: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, entry)| ids_now.contains(&entry.order.attempt().id.as_str()))
            .map(|(job, entry)| (*job, entry.phase))
            .collect();
        found.sort_unstable_by_key(|(job, _)| *job);
        for (job, phase) in found {
            match phase {
                Phase::Running { .. } if stops => {
                    if let Some(entry) = self.jobs.get_mut(&job) {
                        entry.is_revoked = true;
                        self.actions.push(Action::Stop(job));
                    }
                }
                Phase::PutOff | Phase::Ready => {
                    self.ready.retain(|ready| *ready != job);
                    self.put_off.retain(|(_, put_off)| *put_off != job);
                    self.count_held();
                    self.settle_as(job, &Ending::Revoked { is_expired: false });
                }
                Phase::Running { .. } | Phase::Settling { .. } => {}
            }
        }
        self.go_on(now);
    }

    /// The ids that were revoked lately.
    pub fn revoked(&self) -> impl Iterator<Item = &str> {
        self.revoked.ids()
    }

    /// There is a connection: consumers follow.
    pub fn connected(&mut self) {
        self.is_connected = true;
    }

    /// The connection is lost.
    pub fn lost(&mut self, now: u64) {
        self.is_connected = false;
        self.intakes.iter_mut().for_each(Intake::lost);
        self.forget_deliveries(|_| true);
        self.go_on(now);
    }

    /// The broker has confirmed a consumer.
    pub fn consuming(&mut self, consumer: ConsumerKey) {
        self.intakes.iter_mut().for_each(|intake| intake.confirm(consumer, true));
    }

    /// The broker has ended a consumer, and with it what it had delivered.
    pub fn consumer_lost(&mut self, consumer: ConsumerKey, now: u64) {
        self.intakes.iter_mut().for_each(|intake| intake.confirm(consumer, false));
        self.forget_deliveries(|tag| tag.consumer == consumer);
        self.go_on(now);
    }

    /// Such deliveries come again: nothing can be said about them any more by their tags.
    fn forget_deliveries(&mut self, is_lost: impl Fn(Tag) -> bool) {
        self.done.lost(&is_lost);
        let strays = &mut self.strays;
        self.jobs.retain(|job, entry| {
            if !entry.tag.is_some_and(&is_lost) {
                return true;
            }
            entry.tag = None;
            let has_begun = matches!(entry.phase, Phase::Running { .. } | Phase::Settling { .. });
            if has_begun {
                strays.insert(Arc::clone(entry.order.attempt()), *job);
            }
            has_begun
        });
        self.ready.retain(|job| self.jobs.contains_key(job));
        self.put_off.retain(|(_, job)| self.jobs.contains_key(job));
        self.count_held();
    }

    fn count_held(&mut self) {
        self.held.fill(0);
        for (_, job) in &self.put_off {
            self.held[self.jobs[job].queue] += 1;
        }
    }
}
