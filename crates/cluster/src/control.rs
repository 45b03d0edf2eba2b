//! Remote control of a worker, and the events it sends: what it answers, does and tells. Pure: it gets messages and what the worker has, and
//! returns messages.
//!
//! `celery inspect`, `celery control`, Flower and starting workers publish a request on the fanout exchange [`EXCHANGE`]; each worker has a queue
//! there, and answers on [`REPLY_EXCHANGE`]. What a request can have done is an [`Act`], or a switch of the events: nothing else.
//!
//! Beside it: `answers`, what the worker tells when it is asked; `bulletin`, what it tells unasked; `glob`, which names a pattern means.

mod answers;
mod bulletin;
mod glob;

use lapin::ExchangeKind;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use crate::declaration::Declaration;
use crate::link::Subscription;
use crate::message::{ControlReply, ControlRequest, EVENT_EXCHANGE, Json, TaskMessage};
use crate::outbox::Publication;
use bulletin::Bulletin;

/// Where requests are published: each worker gets all.
pub const EXCHANGE: &str = "celery.pidbox";
/// Where answers go; no request can send them anywhere else.
pub const REPLY_EXCHANGE: &str = "reply.celery.pidbox";
/// A queue that nobody consumes from is gone after this, in milliseconds.
const QUEUE_LASTS: i32 = 10_000;
/// A request that nobody takes is gone after this, in milliseconds.
const REQUEST_LASTS: i32 = 300_000;

/// What a worker tells of itself.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Its name in the fleet, as `mh-7@host`.
    pub hostname: String,
    /// Its process.
    pub pid: u32,
    /// The kind of its pool: `process`, `thread` or `coroutine`.
    pub kind: String,
    /// The hours by which its local time is behind UTC.
    pub utc_offset: f64,
    /// When it began, in seconds since 1970.
    pub began: f64,
    /// The broker, without name and password.
    pub broker: String,
    /// The queues it consumes from.
    pub queues: Vec<String>,
    /// How many tasks run at a time.
    pub slots: u16,
    /// The names of its tasks, sorted.
    pub tasks: Vec<String>,
    /// The serializers that it takes beside JSON.
    pub accepts: Vec<String>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// It waits for its ETA.
    PutOff,
    /// It waits for a free slot.
    Ready,
    /// It has run since then, in seconds since 1970.
    Running(f64),
    /// It has ended, and its message is not acknowledged yet.
    Settling,
}

/// A task that is here.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The task.
    pub task: &'a TaskMessage,
    /// The queue it came from.
    pub queue: &'a str,
    /// How far it is.
    pub stage: Stage,
}

/// The present moment, on both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct When {
    /// Nanoseconds on the clock that nobody sets.
    pub now: u64,
    /// Seconds since 1970.
    pub time: f64,
}

/// What the worker has at the moment.
#[derive(Clone, Debug, Default)]
pub struct Scene<'a> {
    /// Which moment that is.
    pub when: When,
    /// How busy the machine is: the average number of processes that run or want to, over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// All tasks that are here.
    pub tasks: Vec<Seen<'a>>,
    /// The ids that were revoked.
    pub revoked: Vec<&'a str>,
}

/// What the worker has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// These tasks must not run any more.
    Revoke {
        /// Their ids.
        ids: Vec<String>,
        /// Whether those that run are stopped.
        stops: bool,
    },
    /// End once what runs has ended.
    ShutDown,
}

/// What a worker answers to those who ask, and tells unasked.
///
/// ```
/// use manyhands_cluster::control::{Act, Control, Profile, Scene};
/// use manyhands_cluster::message::{ControlRequest, Json};
///
/// let mut control = Control::new(Profile { hostname: "w@host".into(), ..Profile::default() }, false);
/// let request = ControlRequest::new("revoke", Json::object([("task_id", Json::from("7d0c"))]));
/// let (_, act) = control.hear(&request, &Scene::default());
/// assert_eq!(act, Some(Act::Revoke { ids: vec!["7d0c".into()], stops: false }));
/// ```
#[derive(Debug)]
pub struct Control {
    profile: Profile,
    bulletin: Bulletin,
}

impl Control {
    /// A worker that tells what becomes of its tasks from the beginning, or once it is asked to.
    #[must_use]
    pub fn new(profile: Profile, tells_tasks: bool) -> Self {
        let bulletin = Bulletin::new(&profile, tells_tasks);
        Self { profile, bulletin }
    }

    /// What must be there before anything is answered or told.
    #[must_use]
    pub fn declarations() -> Vec<Declaration> {
        let exchange =
            |name: &str, kind, durable| Declaration::Exchange { name: name.to_owned(), kind, durable };
        vec![
            exchange(EXCHANGE, ExchangeKind::Fanout, false),
            exchange(REPLY_EXCHANGE, ExchangeKind::Direct, false),
            exchange(EVENT_EXCHANGE, ExchangeKind::Topic, true),
        ]
    }

    /// Where its requests come: a queue of its own, which goes with it.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        let queue = format!("{}.{EXCHANGE}", self.profile.hostname);
        let options =
            QueueDeclareOptions { auto_delete: true, exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(QUEUE_LASTS));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(REQUEST_LASTS));
        let binding =
            Declaration::Binding { queue: queue.clone(), exchange: EXCHANGE.to_owned(), key: String::new() };
        let own = Declaration::Queue { name: queue.clone(), options, arguments, any: false };
        Subscription { queue, declarations: vec![own, binding], prefetch: 0, is_exclusive: false }
    }

    /// Its name in the fleet.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.profile.hostname
    }

    /// Somebody has asked: the answer, and what the worker must do.
    pub fn hear(
        &mut self,
        request: &ControlRequest,
        scene: &Scene<'_>,
    ) -> (Option<Publication>, Option<Act>) {
        self.bulletin.clock.adjust(request.clock);
        let fits =
            |pattern: &str, matcher: &str| matcher == "glob" && glob::fits(pattern, &self.profile.hostname);
        if !request.is_for(&self.profile.hostname, fits) {
            return (None, None);
        }
        let (value, act) = match self.obey(request, scene) {
            Ok(obeyed) => obeyed,
            Err(error) => (Json::object([("error", error.as_str().into())]), None),
        };
        (self.reply(request, value), act)
    }

    fn reply(&mut self, request: &ControlRequest, value: Json) -> Option<Publication> {
        let to = request.reply_to.as_ref().filter(|to| to.exchange == REPLY_EXCHANGE)?;
        let reply = ControlReply { hostname: self.profile.hostname.clone(), value };
        let ticket = request.ticket.as_deref().unwrap_or_default();
        let (properties, body) = reply.to_amqp(ticket, self.bulletin.clock.forward());
        let (exchange, routing_key) = (to.exchange.clone(), to.routing_key.clone());
        Some(Publication { exchange, routing_key, properties, body, mandatory: false })
    }

    fn obey(&mut self, request: &ControlRequest, scene: &Scene<'_>) -> Result<(Json, Option<Act>), String> {
        let argument = |name: &str| argument(request, name);
        let switched = |was: bool, to: &str| {
            if was { format!("task events already {to}") } else { format!("task events {to}") }
        };
        let value = match request.method.as_str() {
            "revoke" | "terminate" => {
                let ids = ids(argument("task_id").or_else(|| argument("task_ids")), "task_id")?;
                let stops = request.method == "terminate"
                    || argument("terminate").is_some_and(|json| json.boolean() == Some(true));
                return Ok((answers::revoked(&ids, stops, scene), Some(Act::Revoke { ids, stops })));
            }
            "shutdown" => return Ok((answers::ok("ends when its tasks have ended"), Some(Act::ShutDown))),
            "hello" => return self.greet(request, scene),
            "enable_events" => answers::ok(&switched(self.bulletin.tell_tasks(true), "enabled")),
            "disable_events" => answers::ok(&switched(!self.bulletin.tell_tasks(false), "disabled")),
            "heartbeat" => {
                self.bulletin.beat(scene);
                Json::NULL
            }
            "ping" => answers::ok("pong"),
            "clock" => self.clock(),
            "stats" => {
                answers::stats(&self.profile, self.bulletin.totals(), self.bulletin.clock.now(), scene)
            }
            "conf" | "dump_conf" => answers::conf(&self.profile),
            "report" => answers::report(&self.profile),
            "registered" | "registered_tasks" | "dump_tasks" => answers::texts(&self.profile.tasks),
            "active_queues" => answers::queues(&self.profile),
            "revoked" | "dump_revoked" => answers::texts(&scene.revoked),
            "active" | "dump_active" => {
                let safe = argument("safe").is_some_and(|json| json.boolean() == Some(true));
                answers::tasks(&self.profile, scene, |stage| matches!(stage, Stage::Running(_)), safe)
            }
            "reserved" | "dump_reserved" => {
                answers::tasks(&self.profile, scene, |stage| stage == Stage::Ready, false)
            }
            "scheduled" | "dump_schedule" => answers::schedule(&self.profile, scene),
            "query_task" => answers::query(&self.profile, scene, &ids(argument("ids"), "ids")?),
            // In the words of stock workers.
            unknown => return Err(format!("KeyError('{unknown}')")),
        };
        Ok((value, None))
    }

    /// A worker that starts tells what it knows of revoked tasks, and learns what this one knows.
    fn greet(&mut self, request: &ControlRequest, scene: &Scene<'_>) -> Result<(Json, Option<Act>), String> {
        let from = argument(request, "from_node").and_then(|json| json.text());
        if from.as_deref() == Some(self.profile.hostname.as_str()) {
            return Ok((Json::NULL, None));
        }
        let theirs = argument(request, "revoked").map(|json| match json.members() {
            // Older ones send what they keep: ids, and when they were revoked.
            Ok(members) => Ok(members.into_iter().map(|(id, _)| id).collect()),
            Err(_) => ids(Some(json), "revoked"),
        });
        let ids = theirs.transpose()?.unwrap_or_default();
        let clock = i64::try_from(self.bulletin.clock.forward()).unwrap_or(i64::MAX);
        let value = Json::object([("revoked", answers::texts(&scene.revoked)), ("clock", clock.into())]);
        let act = (!ids.is_empty()).then_some(Act::Revoke { ids, stops: false });
        Ok((value, act))
    }

    fn clock(&self) -> Json {
        Json::object([("clock", i64::try_from(self.bulletin.clock.now()).unwrap_or(i64::MAX).into())])
    }

    /// There is a connection; what is told on it is published from here on.
    pub fn connected(&mut self, scene: &Scene<'_>) {
        self.bulletin.connected(scene);
    }

    /// Nothing can be told for now: the connection is lost, or the broker takes no messages.
    pub fn muted(&mut self) {
        self.bulletin.muted();
    }

    /// A task has begun.
    pub fn began(&mut self, task: &TaskMessage, when: When) {
        self.bulletin.began(task, when);
    }

    /// Something has happened to a task: what, as `task-succeeded`, and the fields of that event beside the id.
    pub fn tell(&mut self, kind: &str, id: &str, fields: Vec<(&'static str, Json)>, when: When) {
        self.bulletin.tell(kind, id, fields, when);
    }

    /// Whether anybody wants to know what becomes of tasks.
    #[must_use]
    pub fn tells_tasks(&self) -> bool {
        self.bulletin.tells_tasks()
    }

    /// The worker ends.
    pub fn leave(&mut self, scene: &Scene<'_>) {
        self.bulletin.leave(scene);
    }

    /// When [`Control::tick`] must come next; never while nothing can be told.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        self.bulletin.next_tick()
    }

    /// Time has passed.
    pub fn tick(&mut self, scene: &Scene<'_>) {
        self.bulletin.tick(scene);
    }

    /// What must be published now.
    pub fn take(&mut self) -> Vec<Publication> {
        self.bulletin.take()
    }
}

fn argument(request: &ControlRequest, name: &str) -> Option<Json> {
    let members = request.arguments.members().unwrap_or_default();
    members
        .into_iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
        .filter(|value| !value.is_null())
}

/// One id, or a list of them.
fn ids(json: Option<Json>, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{name} must be a text or a list of texts");
    let json = json.ok_or_else(|| format!("{name} is missing"))?;
    match json.text() {
        Some(id) => Ok(vec![id]),
        None => json.elements().map_err(|_| wrong())?.iter().map(|id| id.text().ok_or_else(wrong)).collect(),
    }
}
