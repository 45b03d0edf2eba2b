//! Does what the duties say, over a link: the only part of a worker that has a thread, that of its link.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::desk::{CONSUMER, Desk};
use super::order::Parcel;
use super::task_order::{Finish, TaskOrder, Workplace, dead_letters};
use super::{Action, Counts, Duties, JobId, Moment, Settings, Shutdown};
use crate::address::Address;
use crate::control::{Act, Control, Profile};
use crate::declaration::Declaration;
use crate::link::{Event, Link, Options, Subscription};
use crate::message::Embed;

/// A connection must be there within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// What is left to be said when a worker ends has this time.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a worker is made with.
pub struct Plan {
    /// The broker.
    pub address: Address,
    /// What the broker's operators see as the name of the connection.
    pub name: String,
    /// The queues it consumes from; the first is where tasks go that nobody has named a queue for.
    pub queues: Vec<String>,
    /// How many tasks run at a time.
    pub slots: u16,
    /// A task over which so many processes have died is a dead letter.
    pub most_deaths: u32,
    /// What is the same for all messages.
    pub workplace: Workplace,
    /// The clock of all moments.
    pub now: fn() -> u64,
    /// The calendar, in nanoseconds since 1970.
    pub since_1970: fn() -> u64,
    /// How busy the machine is, if that is known; see [`crate::control::Scene::load`].
    pub load: fn() -> Option<[f64; 3]>,
    /// What it tells of itself.
    pub profile: Profile,
    /// Whether it tells what becomes of its tasks before anybody has asked for that.
    pub tells_tasks: bool,
}

/// What the owner of a worker must know.
#[derive(Debug)]
pub enum News {
    /// Run this task.
    Run(JobId, Arc<TaskOrder>),
    /// Stop what runs there.
    Stop(JobId),
    /// The broker has confirmed a consumer of each queue.
    Consuming,
    /// Something is wrong, in these words; it is tried again.
    Trouble(String),
    /// Something is wrong that trying again does not change.
    Refused(String),
    /// Somebody has asked the worker to end.
    ShutDown,
    /// The link is closed. The last news.
    Ended,
}

/// What a worker does at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What has happened so far.
    pub counts: Counts,
    /// Tasks that run.
    pub running: usize,
    /// Messages that are here and do not run.
    pub waiting: usize,
    /// Whether the broker has confirmed a consumer of each queue.
    pub is_consuming: bool,
    /// Whether the broker takes no publications at the moment.
    pub is_blocked: bool,
}

struct Inner {
    duties: Duties<TaskOrder>,
    desk: Desk,
    news: Vec<News>,
    is_blocked: bool,
    was_consuming: bool,
    // When the owner will look at the time.
    next_look: Option<u64>,
}

struct Shared {
    inner: Mutex<Inner>,
    link: OnceLock<Link>,
    workplace: Arc<Workplace>,
    queues: Vec<String>,
    now: fn() -> u64,
    since_1970: fn() -> u64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// A worker at work.
pub struct Driver {
    shared: Arc<Shared>,
}

impl Driver {
    /// Begins to work; `wake` is called whenever there is something to [take](Driver::take).
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(plan: Plan, wake: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let options = Options { address: plan.address, name: plan.name, connect_within: CONNECT_WITHIN };
        let settings =
            Settings { slots: plan.slots, most_deaths: plan.most_deaths, queues: plan.queues.len() };
        let duties = Duties::new(settings);
        let control = Control::new(plan.profile, plan.tells_tasks);
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                duties,
                desk: Desk::new(control, plan.queues.clone(), plan.load),
                news: Vec::new(),
                is_blocked: false,
                was_consuming: false,
                next_look: None,
            }),
            link: OnceLock::new(),
            workplace: Arc::new(plan.workplace),
            queues: plan.queues,
            now: plan.now,
            since_1970: plan.since_1970,
            wake: Box::new(wake),
        });
        // The first event must find the link.
        let mut inner = shared.lock();
        let hears = Arc::downgrade(&shared);
        let link = Link::open(options, move |events| {
            if let Some(shared) = hears.upgrade() {
                shared.hear(events);
            }
        })?;
        inner.desk.open(&link);
        _ = shared.link.set(link);
        shared.act(&mut inner);
        drop(inner);
        Ok(Self { shared })
    }

    /// What has happened since the last look.
    #[must_use]
    pub fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.shared.lock().news)
    }

    /// Looks at the time; when to do so again, if ever.
    pub fn tick(&self) -> Option<u64> {
        let moment = self.shared.moment();
        let mut inner = self.shared.lock();
        let Inner { duties, desk, .. } = &mut *inner;
        if duties.next_tick().is_some_and(|at| at <= moment.now) {
            duties.tick(moment.now);
        }
        desk.tick(duties, moment);
        self.shared.act(&mut inner);
        inner.next_look = inner.next_tick();
        inner.next_look
    }

    /// A task has ended by itself. `embed` is what follows it, where only Python could read that.
    ///
    /// Returns tasks to run: the caller is awake, and begins them sooner than one who must be woken.
    #[must_use]
    pub fn finished(
        &self,
        job: JobId,
        order: &TaskOrder,
        finish: &Finish,
        embed: Option<&Embed>,
    ) -> Vec<(JobId, Arc<TaskOrder>)> {
        let parcels: Vec<Parcel> = order.outcome(finish, embed);
        let moment = self.shared.moment();
        let mut inner = self.shared.lock();
        if let Some(since) = inner.duties.counts_since(job) {
            inner.desk.finished(order, finish, since, moment);
        }
        inner.duties.finished(job, parcels, moment.now);
        self.shared.act(&mut inner);
        let mut runs = Vec::new();
        for news in std::mem::take(&mut inner.news) {
            match news {
                News::Run(job, order) => runs.push((job, order)),
                other => inner.news.push(other),
            }
        }
        if !inner.news.is_empty() {
            (self.shared.wake)();
        }
        runs
    }

    /// The process that ran a task has died.
    pub fn crashed(&self, job: JobId) {
        let now = (self.shared.now)();
        self.shared.change(|duties| duties.crashed(job, now));
    }

    /// A task was not begun, or stopped as asked for.
    pub fn returned(&self, job: JobId) {
        let now = (self.shared.now)();
        self.shared.change(|duties| duties.returned(job, now));
    }

    /// These tasks must not run any more; with `stops`, those that run are stopped.
    pub fn revoke<'a>(&self, ids: impl IntoIterator<Item = &'a str>, stops: bool) {
        let now = (self.shared.now)();
        self.shared.change(|duties| duties.revoke(ids, stops, now));
    }

    /// Ends, now or when what runs has ended; [`News::Ended`] follows.
    pub fn shut_down(&self, how: Shutdown) {
        let now = (self.shared.now)();
        self.shared.change(|duties| duties.shut_down(how, now));
    }

    /// What it does at the moment.
    #[must_use]
    pub fn report(&self) -> Report {
        let inner = self.shared.lock();
        let duties = &inner.duties;
        Report {
            counts: duties.counts(),
            running: duties.running(),
            waiting: duties.waiting(),
            is_consuming: duties.is_consuming(),
            is_blocked: inner.is_blocked,
        }
    }
}

impl Inner {
    fn next_tick(&self) -> Option<u64> {
        [self.duties.next_tick(), self.desk.next_tick()].into_iter().flatten().min()
    }
}

impl Shared {
    fn moment(&self) -> Moment {
        Moment { now: (self.now)(), since_1970: (self.since_1970)() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Duties<TaskOrder>) -> T) -> T {
        let mut inner = self.lock();
        let changed = change(&mut inner.duties);
        self.act(&mut inner);
        if !inner.news.is_empty() {
            (self.wake)();
        }
        changed
    }

    fn hear(&self, events: Vec<Event>) {
        let mut inner = self.lock();
        for event in events {
            self.hear_one(&mut inner, event);
        }
        self.act(&mut inner);
        let is_consuming = inner.duties.is_consuming();
        if is_consuming && !inner.was_consuming {
            inner.news.push(News::Consuming);
        }
        inner.was_consuming = is_consuming;
        if !inner.news.is_empty() {
            (self.wake)();
        }
    }

    fn hear_one(&self, inner: &mut Inner, event: Event) {
        let moment = self.moment();
        let now = moment.now;
        let Inner { duties, desk, .. } = inner;
        match event {
            Event::Delivered(delivery) if delivery.tag.consumer == CONSUMER => {
                let Some(link) = self.link.get() else { return };
                match desk.hear(&delivery, duties, moment, link) {
                    Some(Act::Revoke { ids, stops }) => {
                        duties.revoke(ids.iter().map(String::as_str), stops, now);
                    }
                    Some(Act::ShutDown) => inner.news.push(News::ShutDown),
                    None => {}
                }
            }
            Event::Delivered(delivery) => {
                let (tag, is_redelivered) = (delivery.tag, delivery.is_redelivered);
                let queue = &self.queues[duties.queue_of(tag.consumer)];
                let order = TaskOrder::read(&self.workplace, queue, *delivery);
                desk.received(&order, moment);
                duties.delivered(tag, is_redelivered, order, moment);
            }
            Event::Confirmed { token, .. } => duties.confirmed(token, now),
            Event::Refused { token, why } => duties.refused(token, &why, now),
            Event::Connected => {
                duties.connected();
                desk.may_tell(true, duties, moment);
            }
            Event::Consuming(consumer) => duties.consuming(consumer),
            Event::ConsumerCancelled(_) => {}
            Event::ConsumerLost { consumer, reason } => {
                duties.consumer_lost(consumer, now);
                // Whoever cannot be asked works all the same.
                let what = if consumer == CONSUMER { "hears no remote control" } else { "does not consume" };
                inner.news.push(News::Trouble(format!("{what}: {reason}")));
            }
            Event::Lost { reason, is_permanent } => {
                duties.lost(now);
                desk.may_tell(false, duties, moment);
                inner.is_blocked = false;
                let text = format!("no connection to the broker: {reason}");
                inner.news.push(if is_permanent { News::Refused(text) } else { News::Trouble(text) });
            }
            Event::Blocked(reason) => {
                desk.may_tell(false, duties, moment);
                inner.is_blocked = true;
                inner.news.push(News::Trouble(format!("the broker takes no messages: {reason}")));
            }
            Event::Unblocked => {
                desk.may_tell(true, duties, moment);
                inner.is_blocked = false;
            }
            Event::NotDeclared { name, reason } => {
                inner.news.push(News::Trouble(format!("{name} cannot be declared: {reason}")));
            }
            Event::Closed { .. } => inner.news.push(News::Ended),
        }
    }

    fn act(&self, inner: &mut Inner) {
        let Some(link) = self.link.get() else { return };
        let moment = self.moment();
        for ended in inner.duties.take_ended() {
            inner.desk.ended(&ended, moment);
        }
        for action in inner.duties.take_actions() {
            match action {
                Action::Run(job, order) => {
                    inner.desk.began(&order, moment);
                    inner.news.push(News::Run(job, order));
                }
                Action::Stop(job) => inner.news.push(News::Stop(job)),
                Action::Publish(token, publication) => link.publish(token, publication),
                Action::Ack(tag) => link.ack(tag, false),
                Action::Return(tag) => link.reject(tag, true),
                Action::Consume { consumer, queue, prefetch } => {
                    let queue = self.queues[queue].clone();
                    let declarations = vec![declaration(queue.clone()), declaration(dead_letters(&queue))];
                    let wanted = Subscription { queue, declarations, prefetch, is_exclusive: false };
                    link.consume(consumer, wanted);
                }
                Action::Cancel(consumer) => link.cancel(consumer),
                Action::DeclareDeadLetters => {
                    link.declare(self.queues.iter().map(|queue| declaration(dead_letters(queue))).collect());
                }
                Action::End => {
                    inner.desk.leave(&inner.duties, moment);
                    inner.desk.publish(link);
                    link.close(CLOSE_WITHIN);
                }
            }
        }
        inner.desk.publish(link);
        let next = inner.next_tick();
        if next.is_some_and(|next| inner.next_look.is_none_or(|look| next < look)) {
            inner.next_look = next;
            (self.wake)();
        }
    }
}

/// A durable queue; one that is there already is taken as it is.
fn declaration(name: String) -> Declaration {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    Declaration::Queue { name, options, arguments: FieldTable::default(), any: true }
}
