//! What a worker tells unasked: that it is there, and, to whom it may concern, what becomes of its tasks.

use std::collections::BTreeMap;

use super::{Profile, Scene, Stage, When};
use crate::message::{EVENT_EXCHANGE, Event, Json, MOST_EVENTS_IN_ONE, TaskMessage, Teller};
use crate::outbox::Publication;

/// A worker says so often that it is there, in nanoseconds.
const BEAT: u64 = 2_000_000_000;
/// The same in seconds, for those who hear it.
const BEAT_S: f64 = 2.0;
/// Events of tasks wait so long for more of them, in nanoseconds.
const GATHER: u64 = 200_000_000;
/// The routing key of a list of events of tasks.
const TASKS_KEY: &str = "task.multi";

/// Lamport's clock: what was caused by a message is later than that.
#[derive(Debug, Default)]
pub(super) struct Clock(u64);

impl Clock {
    /// The next moment.
    pub(super) fn forward(&mut self) -> u64 {
        self.0 = self.0.saturating_add(1);
        self.0
    }

    /// A message has come with another clock's moment.
    pub(super) fn adjust(&mut self, other: u64) {
        // One that is far beyond all others would be the end of all clocks.
        self.0 = self.0.max(other.min(u64::MAX >> 2));
        self.forward();
    }

    pub(super) fn now(&self) -> u64 {
        self.0
    }
}

/// Events, until they are published.
#[derive(Debug)]
pub(super) struct Bulletin {
    pub(super) clock: Clock,
    hostname: String,
    pid: u32,
    utc_offset: f64,
    tells_tasks: bool,
    // How many tasks of each name have begun.
    totals: BTreeMap<String, u64>,
    // Events of tasks, and until when they wait for more.
    gathered: Vec<Event>,
    gathers_until: Option<u64>,
    // When it says next that it is there; never while nothing can be told.
    next_beat: Option<u64>,
    publications: Vec<Publication>,
}

impl Bulletin {
    pub(super) fn new(profile: &Profile, tells_tasks: bool) -> Self {
        Self {
            clock: Clock::default(),
            hostname: profile.hostname.clone(),
            pid: profile.pid,
            utc_offset: profile.utc_offset,
            tells_tasks,
            totals: BTreeMap::new(),
            gathered: Vec::new(),
            gathers_until: None,
            next_beat: None,
            publications: Vec::new(),
        }
    }

    /// Tells what becomes of tasks from here on, or not any more; whether it did.
    pub(super) fn tell_tasks(&mut self, tells: bool) -> bool {
        if !tells {
            self.publish_gathered();
        }
        std::mem::replace(&mut self.tells_tasks, tells)
    }

    pub(super) fn tells_tasks(&self) -> bool {
        self.tells_tasks && self.next_beat.is_some()
    }

    pub(super) fn totals(&self) -> &BTreeMap<String, u64> {
        &self.totals
    }

    pub(super) fn connected(&mut self, scene: &Scene<'_>) {
        if self.next_beat.is_none() {
            self.next_beat = Some(scene.when.now + BEAT);
            self.tell_of_worker("worker-online", scene);
        }
    }

    /// Forgets what nobody would hear now and everybody too late.
    pub(super) fn muted(&mut self) {
        self.next_beat = None;
        self.gathers_until = None;
        self.gathered.clear();
        self.publications.clear();
    }

    pub(super) fn leave(&mut self, scene: &Scene<'_>) {
        if self.next_beat.take().is_some() {
            self.publish_gathered();
            self.tell_of_worker("worker-offline", scene);
        }
    }

    pub(super) fn beat(&mut self, scene: &Scene<'_>) {
        if self.next_beat.is_some() {
            self.next_beat = Some(scene.when.now + BEAT);
            self.tell_of_worker("worker-heartbeat", scene);
        }
    }

    pub(super) fn next_tick(&self) -> Option<u64> {
        [self.next_beat, self.gathers_until].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, scene: &Scene<'_>) {
        if self.gathers_until.is_some_and(|until| until <= scene.when.now) {
            self.publish_gathered();
        }
        if self.next_beat.is_some_and(|at| at <= scene.when.now) {
            self.beat(scene);
        }
    }

    pub(super) fn began(&mut self, task: &TaskMessage, when: When) {
        match self.totals.get_mut(&task.task) {
            Some(total) => *total += 1,
            None => _ = self.totals.insert(task.task.clone(), 1),
        }
        self.tell("task-started", &task.id, Vec::new(), when);
    }

    pub(super) fn tell(&mut self, kind: &str, id: &str, mut fields: Vec<(&'static str, Json)>, when: When) {
        if !self.tells_tasks() {
            return;
        }
        fields.insert(0, ("uuid", id.into()));
        let event = self.event(kind, fields, when.time);
        self.gathered.push(event);
        self.gathers_until.get_or_insert(when.now + GATHER);
        if self.gathered.len() >= MOST_EVENTS_IN_ONE {
            self.publish_gathered();
        }
    }

    pub(super) fn take(&mut self) -> Vec<Publication> {
        std::mem::take(&mut self.publications)
    }

    fn publish_gathered(&mut self) {
        self.gathers_until = None;
        if !self.gathered.is_empty() {
            let (properties, body) = Event::tasks_to_amqp(&self.gathered, &self.hostname);
            self.gathered.clear();
            self.publish(TASKS_KEY.to_owned(), properties, body);
        }
    }

    fn tell_of_worker(&mut self, kind: &str, scene: &Scene<'_>) {
        let count = |count: u64| Json::from(i64::try_from(count).unwrap_or(i64::MAX));
        let active = scene.tasks.iter().filter(|seen| matches!(seen.stage, Stage::Running(_))).count();
        let mut fields = vec![
            ("freq", BEAT_S.into()),
            ("active", count(active as u64)),
            ("processed", count(self.totals.values().sum())),
        ];
        fields.extend(scene.load.map(|load| ("loadavg", Json::array(load.map(Json::from)))));
        fields.extend([
            ("sw_ident", "manyhands".into()),
            ("sw_ver", env!("CARGO_PKG_VERSION").into()),
            ("sw_sys", "Linux".into()),
        ]);
        let event = self.event(kind, fields, scene.when.time);
        let (properties, body) = event.to_amqp(&self.hostname);
        self.publish(event.routing_key(), properties, body);
    }

    fn event(&mut self, kind: &str, fields: Vec<(&str, Json)>, timestamp: f64) -> Event {
        let clock = self.clock.forward();
        let teller =
            Teller { hostname: &self.hostname, pid: self.pid, utc_offset: self.utc_offset, timestamp };
        Event::new(kind, &teller, clock, fields)
    }

    fn publish(&mut self, routing_key: String, properties: lapin::BasicProperties, body: Vec<u8>) {
        let exchange = EVENT_EXCHANGE.to_owned();
        self.publications.push(Publication { exchange, routing_key, properties, body, mandatory: false });
    }
}
