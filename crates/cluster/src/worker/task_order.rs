//! A message with a task, as it was delivered, and all that is published on its behalf.

use std::collections::HashMap;
use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, LongString};

use super::order::{Attempt, Cause, Ending, Order, Parcel, Role};
use crate::link::Delivery;
use crate::message::{
    Content, Embed, FollowUp, Json, Limits, Moment, Outcome, Raised, Reply, Route, Sender, TaskMessage,
    TimeLimits, Unreadable, follow_ups,
};
use crate::outbox::Publication;

/// The header of a dead letter that says why it is one.
pub const DEAD_BECAUSE: &str = "mh-dead-because";
/// The header of a dead letter that says which queue it is from.
pub const DEAD_FROM: &str = "mh-dead-from";

/// The queue of the dead letters of a queue.
///
/// ```
/// assert_eq!(manyhands_cluster::worker::dead_letters("celery"), "celery.dead");
/// ```
#[must_use]
pub fn dead_letters(queue: &str) -> String {
    format!("{queue}.dead")
}

/// What a worker knows of a task before any message asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// Whether nobody is told how it ends, unless its message says something else.
    pub ignores_result: bool,
    /// How long it may run, unless its message says something else.
    pub time_limits: TimeLimits,
}

/// What is the same for all messages of a worker.
pub struct Workplace {
    /// The worker's name, as `gen<pid>@<host>`.
    pub origin: String,
    /// The tasks that it runs, by their names.
    pub tasks: HashMap<String, Known>,
    /// The serializers beside JSON that it lets Python decode.
    pub accepts: Vec<String>,
    /// Where tasks go that nobody has named a queue for.
    pub default_queue: String,
    /// What is too large to be read.
    pub limits: Limits,
    /// Returns the time, in milliseconds since 1970.
    pub time: fn() -> i64,
    /// Returns an id that nobody else has.
    pub new_id: fn() -> String,
}

/// How a task has ended by itself.
#[derive(Clone, Debug)]
pub enum Finish {
    /// It has returned this.
    Success(Json),
    /// It has raised this.
    Failure(Raised, Option<String>),
    /// It has asked to be run again, at once or at this moment in milliseconds since 1970.
    Retry(Option<i64>, Raised, Option<String>),
}

/// A message that has a task, or should have.
pub struct TaskOrder {
    workplace: Arc<Workplace>,
    attempt: Arc<Attempt>,
    queue: String,
    task: Result<TaskMessage, Unreadable>,
    unfit: Option<Cause>,
    properties: BasicProperties,
    // What could not be read, as it came; empty otherwise.
    body: Vec<u8>,
}

impl TaskOrder {
    /// Reads what has come from a queue.
    #[must_use]
    pub fn read(workplace: &Arc<Workplace>, queue: &str, delivery: Delivery) -> Self {
        let Delivery { properties, mut body, .. } = delivery;
        let task = TaskMessage::parse(&properties, &body, &workplace.limits);
        let unfit = match &task {
            Err(error) => Some(Cause::Unreadable(error.word())),
            Ok(task) if !workplace.takes(&task.content) => Some(Cause::Unreadable("serializer")),
            Ok(task) if !workplace.tasks.contains_key(&task.task) => Some(Cause::NotRegistered),
            Ok(_) => None,
        };
        let attempt = match &task {
            Ok(task) => {
                body = Vec::new();
                Attempt { id: task.id.clone(), retries: task.retries, deaths: task.deliveries }
            }
            Err(_) => {
                let id = properties.correlation_id().as_ref().map_or_else(String::new, ToString::to_string);
                Attempt { id, retries: 0, deaths: 0 }
            }
        };
        let workplace = Arc::clone(workplace);
        Self { workplace, attempt: Arc::new(attempt), queue: queue.to_owned(), task, unfit, properties, body }
    }

    /// The task, unless it could not be read.
    #[must_use]
    pub fn task(&self) -> Option<&TaskMessage> {
        self.task.as_ref().ok()
    }

    /// Its arguments and keyword arguments, and the name of the serializer that reads them.
    #[must_use]
    pub fn arguments(&self) -> Option<(Vec<u8>, &'static str)> {
        let content = &self.task()?.content;
        let bytes = match content {
            // Without what follows it, which is nothing to the task.
            Content::Json { args, kwargs, .. } => {
                format!("[{},{}]", args.as_str(), kwargs.as_str()).into_bytes()
            }
            Content::Opaque { bytes, .. } => bytes.clone(),
        };
        Some((bytes, content.serializer()))
    }

    /// The time limits that hold for it.
    #[must_use]
    pub fn time_limits(&self) -> TimeLimits {
        let Ok(task) = &self.task else { return TimeLimits::default() };
        let known = self.known().time_limits;
        let own = task.time_limits;
        TimeLimits { hard: own.hard.or(known.hard), soft: own.soft.or(known.soft) }
    }

    /// What to publish when it has ended by itself. `embed` is what follows it, where only Python could read that.
    #[must_use]
    pub fn outcome(&self, finish: &Finish, embed: Option<&Embed>) -> Vec<Parcel> {
        let Ok(task) = &self.task else { return Vec::new() };
        let now = self.now();
        match finish {
            Finish::Success(result) => {
                let (mut parcels, children) = self.follow_ups(task, embed, &Outcome::Success(result));
                let reply = Reply { children, ..Reply::success(&task.id, result.clone(), now) };
                parcels.extend(self.answer(reply));
                parcels
            }
            Finish::Failure(raised, traceback) => self.failure(task, embed, raised, traceback.as_deref()),
            Finish::Retry(at, raised, traceback) => {
                let again = task.retried(at.map(Moment));
                let mut parcels = vec![self.parcel_of_task(&again, &self.queue)];
                parcels.extend(self.answer(Reply::retry(&task.id, raised, traceback.clone())));
                parcels
            }
        }
    }

    fn failure(
        &self,
        task: &TaskMessage,
        embed: Option<&Embed>,
        raised: &Raised,
        traceback: Option<&str>,
    ) -> Vec<Parcel> {
        let reply = Reply::failure(&task.id, raised, traceback.map(str::to_owned), self.now());
        let mut parcels: Vec<_> = self.answer(reply).into_iter().collect();
        parcels.extend(self.follow_ups(task, embed, &Outcome::Failure(raised, traceback)).0);
        parcels
    }

    /// What follows, and the ids of its tasks for the answer.
    fn follow_ups(
        &self,
        task: &TaskMessage,
        embed: Option<&Embed>,
        outcome: &Outcome<'_>,
    ) -> (Vec<Parcel>, Json) {
        let nothing = Json::EMPTY_ARRAY;
        let Some(embed) = embed.or(task.embed()) else { return (Vec::new(), nothing) };
        let mut new_id = || (self.workplace.new_id)();
        let mut sender = Sender {
            origin: &self.workplace.origin,
            reply_to: task.reply_to.as_deref(),
            priority: None,
            now: self.now(),
            new_id: &mut new_id,
        };
        match follow_ups(task, embed, outcome, &mut sender) {
            Ok(follow_ups) => {
                let parcels = follow_ups.sent.into_iter().map(|each| self.follow_up(each)).collect();
                (parcels, follow_ups.children)
            }
            // It says what follows in a form that nobody can read: whoever looks for it finds it there.
            Err(error) => (vec![self.dead_letter(error.word())], nothing),
        }
    }

    fn follow_up(&self, follow_up: FollowUp) -> Parcel {
        match follow_up {
            FollowUp::Task(task, route) => match route {
                Route::Default => self.parcel_of_task(&task, &self.workplace.default_queue),
                Route::Queue(queue) => self.parcel_of_task(&task, &queue),
                Route::Exchange { exchange, routing_key } => {
                    let (properties, body) = task.to_amqp(self.now());
                    parcel(Role::Task, exchange, routing_key, properties, body)
                }
            },
            FollowUp::Reply { reply_to, reply } => {
                let (properties, body) = reply.to_amqp(&reply.task_id);
                parcel(Role::Answer, String::new(), reply_to, properties, body)
            }
            FollowUp::Canvas { .. } => self.dead_letter("canvas"),
        }
    }

    /// The answer to whoever waits for it, if anybody does.
    fn answer(&self, reply: Reply) -> Option<Parcel> {
        let (reply_to, correlation_id) = match &self.task {
            Ok(task) if task.ignore_result.unwrap_or(self.known().ignores_result) => return None,
            Ok(task) => {
                (task.reply_to.clone()?, task.correlation_id.clone().unwrap_or_else(|| task.id.clone()))
            }
            Err(_) => {
                let text =
                    |text: &Option<_>| text.as_ref().map(ToString::to_string).filter(|text| !text.is_empty());
                (text(self.properties.reply_to())?, text(self.properties.correlation_id())?)
            }
        };
        let ids = self.task.as_ref().ok().map(|task| (task.group.clone(), task.parent_id.clone()));
        let (group_id, parent_id) = ids.unwrap_or_default();
        let (properties, body) = Reply { group_id, parent_id, ..reply }.to_amqp(&correlation_id);
        // Stored, as far as the queue is: the message that asked is acknowledged for it.
        let properties = properties.with_delivery_mode(2);
        Some(parcel(Role::Answer, String::new(), reply_to, properties, body))
    }

    /// The message itself as a dead letter.
    fn dead_letter(&self, because: &str) -> Parcel {
        let (properties, body) = match &self.task {
            Ok(task) => task.to_amqp(self.now()),
            Err(_) => (self.properties.clone(), self.body.clone()),
        };
        self.letter(&properties, body, because)
    }

    fn letter(&self, properties: &BasicProperties, body: Vec<u8>, because: &str) -> Parcel {
        let mut headers = properties.headers().clone().unwrap_or_default();
        for (name, text) in [(DEAD_BECAUSE, because), (DEAD_FROM, &self.queue)] {
            headers.insert(name.into(), AMQPValue::LongString(LongString::from(text)));
        }
        let mut kept = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
        // Without the time after which it would vanish.
        for (value, set) in [
            (properties.content_type(), BasicProperties::with_content_type as fn(_, _) -> _),
            (properties.content_encoding(), BasicProperties::with_content_encoding),
            (properties.correlation_id(), BasicProperties::with_correlation_id),
            (properties.reply_to(), BasicProperties::with_reply_to),
        ] {
            if let Some(value) = value {
                kept = set(kept, value.clone());
            }
        }
        parcel(Role::DeadLetter, String::new(), dead_letters(&self.queue), kept, body)
    }

    fn parcel_of_task(&self, task: &TaskMessage, queue: &str) -> Parcel {
        let (properties, body) = task.to_amqp(self.now());
        parcel(Role::Task, String::new(), queue.to_owned(), properties, body)
    }

    fn known(&self) -> Known {
        let task = self.task.as_ref().ok();
        task.and_then(|task| self.workplace.tasks.get(&task.task)).copied().unwrap_or_default()
    }

    fn now(&self) -> Moment {
        Moment((self.workplace.time)())
    }

    /// The exception that tells why it is a dead letter, in words that stock clients know.
    fn raised(&self, cause: &Cause) -> Raised {
        let text = |module, name, text: &str| Raised::new(module, name, Json::array([Json::from(text)]));
        match (cause, &self.task) {
            (Cause::Deaths(times), _) => text(
                "billiard.exceptions",
                "WorkerLostError",
                &format!("{times} processes have died over the task; it is in {}", dead_letters(&self.queue)),
            ),
            (Cause::NotRegistered, Ok(task)) => text("celery.exceptions", "NotRegistered", &task.task),
            (_, Err(error)) => text("kombu.exceptions", "DecodeError", &error.to_string()),
            (_, Ok(task)) => text(
                "kombu.exceptions",
                "ContentDisallowed",
                &format!("this worker does not take {}", task.content.serializer()),
            ),
        }
    }
}

impl Workplace {
    fn takes(&self, content: &Content) -> bool {
        !content.is_opaque() || self.accepts.iter().any(|accepted| accepted == content.serializer())
    }
}

impl Order for TaskOrder {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn eta(&self) -> Option<u64> {
        self.task().and_then(|task| task.eta).and_then(nanoseconds)
    }

    fn expires(&self) -> Option<u64> {
        self.task().and_then(|task| task.expires).and_then(nanoseconds)
    }

    fn unfit(&self) -> Option<Cause> {
        self.unfit.clone()
    }

    fn ending(&self, ending: &Ending) -> Vec<Parcel> {
        match (ending, &self.task) {
            (Ending::Again { .. }, Ok(task)) => vec![self.parcel_of_task(&task.redelivered(), &self.queue)],
            (Ending::Dead(cause), task) => {
                let because = match cause {
                    Cause::Unreadable(word) => word,
                    Cause::NotRegistered => "not-registered",
                    Cause::Deaths(_) => "deaths",
                };
                let raised = self.raised(cause);
                let mut parcels = vec![self.dead_letter(because)];
                match task {
                    Ok(task) => parcels.extend(self.failure(task, None, &raised, None)),
                    Err(_) => parcels.extend(self.answer(Reply::failure(
                        &self.attempt.id,
                        &raised,
                        None,
                        self.now(),
                    ))),
                }
                parcels
            }
            (Ending::Revoked { is_expired }, Ok(task)) => {
                let reason = if *is_expired { "expired" } else { "revoked" };
                let reply = Reply::revoked(&task.id, reason, self.now());
                let raised = Raised::parse(&reply.result);
                let mut parcels: Vec<_> = self.answer(reply).into_iter().collect();
                if let Some(raised) = raised {
                    parcels.extend(self.follow_ups(task, None, &Outcome::Revoked(&raised)).0);
                }
                parcels
            }
            (Ending::Unanswerable(reason), Ok(task)) => {
                let text = format!("the broker does not take the result: {reason}");
                let raised =
                    Raised::new("kombu.exceptions", "OperationalError", Json::array([text.as_str().into()]));
                self.answer(Reply::failure(&task.id, &raised, None, self.now())).into_iter().collect()
            }
            (Ending::Again { .. } | Ending::Revoked { .. } | Ending::Unanswerable(_), Err(_)) => Vec::new(),
        }
    }

    fn undeliverable(&self, publication: &Publication, reason: &str) -> Parcel {
        self.letter(&publication.properties, publication.body.clone(), reason)
    }
}

impl std::fmt::Debug for TaskOrder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without arguments: they may be secret.
        formatter.debug_struct("TaskOrder").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

fn parcel(
    role: Role,
    exchange: String,
    routing_key: String,
    properties: BasicProperties,
    body: Vec<u8>,
) -> Parcel {
    // Stored, answers too, which Celery's worker leaves in memory: what the broker has confirmed is there when it starts again.
    let properties = properties.with_delivery_mode(2);
    let publication = Publication { exchange, routing_key, properties, body, mandatory: true };
    Parcel { publication: Arc::new(publication), role }
}

/// A moment in nanoseconds since 1970; none before.
fn nanoseconds(moment: Moment) -> Option<u64> {
    u64::try_from(moment.0).ok()?.checked_mul(1_000_000)
}
