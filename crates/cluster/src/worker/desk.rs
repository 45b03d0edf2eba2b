//! The driver's part of remote control and events: it hands [`Control`] what comes and what the worker has, and publishes what that returns.

use super::order::{Cause, Ending};
use super::task_order::{Finish, TaskOrder};
use super::view::Ended;
use super::{Duties, Moment};
use crate::control::{Act, Control, Scene, Seen};
use crate::link::{ConsumerKey, Delivery, Link};
use crate::message::{ControlRequest, Json, Limits, Raised, TaskMessage};
use crate::outbox::Token;

/// The consumer of requests; those of tasks count from 0.
pub(super) const CONSUMER: ConsumerKey = ConsumerKey::MAX;
/// The most bytes of a request.
const LARGEST: Limits = Limits { body: 8 << 20 };
/// The most characters of a result in an event.
const LONGEST: usize = 1024;

/// Where those who ask are heard.
pub(super) struct Desk {
    control: Control,
    queues: Vec<String>,
    load: fn() -> Option<[f64; 3]>,
    // The names of publications: from the other end than those of tasks.
    next_token: Token,
}

impl Desk {
    pub(super) fn new(control: Control, queues: Vec<String>, load: fn() -> Option<[f64; 3]>) -> Self {
        Self { control, queues, load, next_token: Token::MAX }
    }

    /// Has requests come.
    pub(super) fn open(&self, link: &Link) {
        link.declare(Control::declarations());
        link.consume(CONSUMER, self.control.subscription());
    }

    /// Somebody asks: what the worker must do. What is no request is forgotten.
    pub(super) fn hear(
        &mut self,
        delivery: &Delivery,
        duties: &Duties<TaskOrder>,
        moment: Moment,
        link: &Link,
    ) -> Option<Act> {
        link.ack(delivery.tag, false);
        let request = ControlRequest::parse(&delivery.properties, &delivery.body, &LARGEST).ok()?;
        let scene = scene(&self.queues, self.load, duties, moment);
        let (reply, act) = self.control.hear(&request, &scene);
        if let Some(reply) = reply {
            link.publish(self.token(), reply);
        }
        act
    }

    /// Whether anything can be told to anybody has changed.
    pub(super) fn may_tell(&mut self, may: bool, duties: &Duties<TaskOrder>, moment: Moment) {
        match may {
            true => self.control.connected(&scene(&self.queues, self.load, duties, moment)),
            false => self.control.muted(),
        }
    }

    pub(super) fn next_tick(&self) -> Option<u64> {
        self.control.next_tick()
    }

    pub(super) fn tick(&mut self, duties: &Duties<TaskOrder>, moment: Moment) {
        if self.next_tick().is_some_and(|at| at <= moment.now) {
            self.control.tick(&scene(&self.queues, self.load, duties, moment));
        }
    }

    pub(super) fn leave(&mut self, duties: &Duties<TaskOrder>, moment: Moment) {
        self.control.leave(&scene(&self.queues, self.load, duties, moment));
    }

    pub(super) fn received(&mut self, order: &TaskOrder, moment: Moment) {
        let Some(task) = order.task().filter(|_| self.control.tells_tasks()) else { return };
        self.control.tell("task-received", &task.id, of_received(task), moment.when());
    }

    pub(super) fn began(&mut self, order: &TaskOrder, moment: Moment) {
        if let Some(task) = order.task() {
            self.control.began(task, moment.when());
        }
    }

    /// A task that has run since then has ended by itself.
    pub(super) fn finished(&mut self, order: &TaskOrder, finish: &Finish, since: u64, moment: Moment) {
        let Some(task) = order.task().filter(|_| self.control.tells_tasks()) else { return };
        let runtime = seconds(moment.now.saturating_sub(since));
        let (kind, fields) = match finish {
            Finish::Success(result) => {
                ("task-succeeded", vec![("result", cut(result.as_str())), ("runtime", runtime.into())])
            }
            Finish::Failure(raised, traceback) => ("task-failed", of_raised(raised, traceback.as_deref())),
            Finish::Retry(_, raised, traceback) => ("task-retried", of_raised(raised, traceback.as_deref())),
        };
        self.control.tell(kind, &task.id, fields, moment.when());
    }

    /// A task has ended otherwise.
    pub(super) fn ended(&mut self, ended: &Ended<TaskOrder>, moment: Moment) {
        let Some(task) = ended.order.task().filter(|_| self.control.tells_tasks()) else { return };
        let text = |text: &str| vec![("exception", Json::from(text)), ("traceback", Json::NULL)];
        let (kind, fields) = match &ended.ending {
            Ending::Revoked { is_expired } => {
                let signal = (ended.has_begun && !is_expired).then_some(15_i64);
                let fields = vec![
                    ("terminated", signal.is_some().into()),
                    ("signum", signal.into()),
                    ("expired", (*is_expired).into()),
                ];
                ("task-revoked", fields)
            }
            Ending::Dead(Cause::NotRegistered) => {
                ("task-failed", text(&format!("NotRegistered({:?})", task.task)))
            }
            Ending::Dead(Cause::Deaths(times)) => (
                "task-failed",
                text(&format!("WorkerLostError('{times} processes have died over the task')")),
            ),
            Ending::Dead(Cause::Unreadable(_)) => ("task-rejected", vec![("requeue", false.into())]),
            Ending::Again { .. } => ("task-rejected", vec![("requeue", true.into())]),
            Ending::Unanswerable(_) => return,
        };
        self.control.tell(kind, &task.id, fields, moment.when());
    }

    /// Publishes what was told.
    pub(super) fn publish(&mut self, link: &Link) {
        for publication in self.control.take() {
            link.publish(self.token(), publication);
        }
    }

    fn token(&mut self) -> Token {
        self.next_token -= 1;
        self.next_token
    }
}

fn scene<'a>(
    queues: &'a [String],
    load: fn() -> Option<[f64; 3]>,
    duties: &'a Duties<TaskOrder>,
    moment: Moment,
) -> Scene<'a> {
    let seen = |(order, queue, stage): (&'a TaskOrder, usize, _)| {
        order.task().map(|task| Seen { task, queue: &queues[queue], stage })
    };
    let tasks = duties.held(moment).filter_map(seen).collect();
    Scene { when: moment.when(), load: load(), tasks, revoked: duties.revoked().collect() }
}

fn of_received(task: &TaskMessage) -> Vec<(&'static str, Json)> {
    let text = |text: &Option<String>| Json::from(text.as_deref());
    vec![
        ("name", task.task.as_str().into()),
        ("args", text(&task.argsrepr)),
        ("kwargs", text(&task.kwargsrepr)),
        ("root_id", text(&task.root_id)),
        ("parent_id", text(&task.parent_id)),
        ("retries", i64::from(task.retries).into()),
        ("eta", task.eta.map(|eta| eta.to_string()).as_deref().into()),
        ("expires", task.expires.map(|expires| expires.to_string()).as_deref().into()),
    ]
}

/// An exception as Python shows it, nearly: its arguments are in JSON.
fn of_raised(raised: &Raised, traceback: Option<&str>) -> Vec<(&'static str, Json)> {
    let args = raised.args.as_str();
    let args = args.strip_prefix('[').and_then(|args| args.strip_suffix(']')).unwrap_or(args);
    let name = raised.name.as_str();
    vec![("exception", cut(&format!("{name}({args})"))), ("traceback", traceback.into())]
}

fn cut(text: &str) -> Json {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]).as_str().into(),
        None => text.into(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a microsecond")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
