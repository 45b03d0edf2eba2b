//! A world for duties: a broker that is a list, whoever does what the duties say, and a ledger of what has become of each message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lapin::BasicProperties;

use super::super::{Action, Attempt, Cause, Duties, Ending, JobId, Moment, Order, Parcel, Role, Settings};
use crate::link::{ConsumerKey, Refusal, Tag};
use crate::outbox::{Publication, Token};

pub(super) const SECOND: u64 = 1_000_000_000;
const SINCE_1970: u64 = 1_700_000_000 * SECOND;

/// A message: its attempt is all that it has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) attempt: Arc<Attempt>,
    pub(super) eta: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) unfit: Option<Cause>,
    pub(super) is_redelivered: bool,
}

impl Message {
    pub(super) fn new(id: &str) -> Self {
        let attempt = Arc::new(Attempt { id: id.into(), retries: 0, deaths: 0 });
        Self { attempt, eta: None, expires: None, unfit: None, is_redelivered: false }
    }

    pub(super) fn parcel(&self, role: Role, routing_key: &str, body: &str) -> Parcel {
        let (exchange, properties) = (String::new(), BasicProperties::default());
        let (routing_key, body) = (routing_key.into(), format!("{} {body}", self.attempt.id).into());
        let publication = Publication { exchange, routing_key, properties, body, mandatory: true };
        Parcel { publication: Arc::new(publication), role }
    }

    /// What follows when it has run.
    pub(super) fn outcome(&self) -> Vec<Parcel> {
        vec![self.parcel(Role::Task, "next", ""), self.parcel(Role::Answer, "answers", "SUCCESS")]
    }
}

impl Order for Message {
    fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    fn eta(&self) -> Option<u64> {
        self.eta.map(|eta| SINCE_1970 + eta)
    }

    fn expires(&self) -> Option<u64> {
        self.expires.map(|expires| SINCE_1970 + expires)
    }

    fn unfit(&self) -> Option<Cause> {
        self.unfit.clone()
    }

    fn ending(&self, ending: &Ending) -> Vec<Parcel> {
        match ending {
            Ending::Again { deaths } => vec![self.parcel(Role::Task, "tasks", &deaths.to_string())],
            Ending::Dead(cause) => vec![
                self.parcel(Role::DeadLetter, "dead", &format!("{cause:?}")),
                self.parcel(Role::Answer, "answers", "FAILURE"),
            ],
            Ending::Revoked { .. } => vec![self.parcel(Role::Answer, "answers", "REVOKED")],
            Ending::Unanswerable(_) => vec![self.parcel(Role::Answer, "answers", "FAILURE")],
        }
    }

    fn undeliverable(&self, _: &Publication, reason: &str) -> Parcel {
        self.parcel(Role::DeadLetter, "dead", reason)
    }
}

/// A broker with one queue of tasks, and whoever does what the duties say.
pub(super) struct World {
    pub(super) duties: Duties<Message>,
    pub(super) now: u64,
    pub(super) tasks: VecDeque<Message>,
    pub(super) unacknowledged: BTreeMap<Tag, Message>,
    /// Each consumer's prefetch; those cancelled keep what they have.
    pub(super) consumers: BTreeMap<ConsumerKey, u16>,
    generation: u64,
    deliveries: u64,
    pub(super) is_connected: bool,
    pub(super) published: BTreeMap<Token, Arc<Publication>>,
    pub(super) running: BTreeMap<JobId, Arc<Message>>,
    pub(super) begun: Vec<String>,
    /// What has arrived where: routing key, text.
    pub(super) arrived: Vec<(String, String)>,
    pub(super) has_ended: bool,
    /// How many ran at the last look: those go on.
    most: usize,
}

impl World {
    pub(super) fn new(slots: u16) -> Self {
        let duties = Duties::new(Settings { slots, most_deaths: 3, queues: 1 });
        let mut world = Self {
            duties,
            now: SECOND,
            tasks: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            consumers: BTreeMap::new(),
            generation: 1,
            deliveries: 0,
            is_connected: true,
            published: BTreeMap::new(),
            running: BTreeMap::new(),
            begun: Vec::new(),
            arrived: Vec::new(),
            has_ended: false,
            most: 0,
        };
        world.duties.connected();
        world.act();
        world
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now, since_1970: SINCE_1970 + self.now }
    }

    pub(super) fn act(&mut self) {
        for action in self.duties.take_actions() {
            assert!(!self.has_ended, "{action:?} after the end");
            match action {
                Action::Run(job, order) => {
                    let twice = self.running.values().any(|other| other.attempt == order.attempt);
                    assert!(!twice, "{order:?} runs here already");
                    self.begun.push(order.attempt.id.clone());
                    self.running.insert(job, order);
                }
                Action::Stop(job) => assert!(self.running.contains_key(&job)),
                Action::Publish(token, publication) => _ = self.published.insert(token, publication),
                Action::Ack(tag) => self.acknowledge(tag),
                Action::Return(tag) => {
                    if let Some(message) = self.unacknowledged.remove(&tag) {
                        self.tasks.push_front(Message { is_redelivered: true, ..message });
                    }
                }
                Action::Consume { consumer, prefetch, .. } => _ = self.consumers.insert(consumer, prefetch),
                Action::Cancel(consumer) => _ = self.consumers.remove(&consumer),
                Action::DeclareDeadLetters => {}
                Action::End => self.has_ended = true,
            }
        }
        let most = self.duties.pace.depth(usize::from(self.duties.settings.slots)).max(self.most);
        assert!(self.duties.running() <= most, "{} run", self.duties.running());
        self.most = self.duties.running();
    }

    /// What is acknowledged is gone: all that follows from it must be there.
    pub(super) fn acknowledge(&mut self, tag: Tag) {
        let Some(message) = self.unacknowledged.remove(&tag) else { return };
        let id = &message.attempt.id;
        let under_way =
            self.published.values().any(|publication| text(publication).starts_with(&format!("{id} ")));
        assert!(!under_way, "{id} is acknowledged too early");
        assert!(self.fate(id) > 0, "{id} is lost");
    }

    /// How often it was answered, or went back to its queue.
    pub(super) fn fate(&self, id: &str) -> usize {
        let mine = |(to, text): &&(String, String)| to != "next" && text.starts_with(&format!("{id} "));
        self.arrived.iter().filter(mine).count()
    }

    /// Delivers the next task, if a consumer may have it.
    pub(super) fn deliver(&mut self) -> bool {
        let has_room = |(key, prefetch): &(&ConsumerKey, &u16)| {
            let had = self.unacknowledged.keys().filter(|tag| tag.consumer == **key).count();
            had < usize::from(**prefetch)
        };
        let Some((consumer, _)) = self.consumers.iter().find(has_room) else { return false };
        if !self.is_connected {
            return false;
        }
        let Some(message) = self.tasks.pop_front() else { return false };
        self.deliveries += 1;
        let tag = Tag { consumer: *consumer, generation: self.generation, number: self.deliveries };
        self.now += 1;
        self.unacknowledged.insert(tag, message.clone());
        self.duties.delivered(tag, message.is_redelivered, message, self.moment());
        self.act();
        true
    }

    pub(super) fn confirm(&mut self, token: Token) {
        let Some(publication) = self.published.remove(&token) else { return };
        let text = text(&publication);
        if publication.routing_key == "tasks" {
            let (id, deaths) = text.split_once(' ').expect("two words");
            let attempt = Attempt { id: id.into(), retries: 0, deaths: deaths.parse().expect("a number") };
            self.tasks.push_back(Message { attempt: Arc::new(attempt), ..Message::new("") });
        }
        self.arrived.push((publication.routing_key.clone(), text));
        self.duties.confirmed(token, self.now);
        self.act();
    }

    pub(super) fn refuse(&mut self, token: Token, why: &Refusal) {
        let Some(publication) = self.published.remove(&token) else { return };
        let unheard = self.duties.counts().unheard;
        self.duties.refused(token, why, self.now);
        // Nobody can hear the answer: that is a fate, too.
        if self.duties.counts().unheard > unheard {
            self.arrived.push(("nowhere".into(), text(&publication)));
        }
        self.act();
    }

    pub(super) fn finish(&mut self, job: JobId) {
        let Some(order) = self.running.remove(&job) else { return };
        self.duties.finished(job, order.outcome(), self.now);
        self.act();
    }

    pub(super) fn crash(&mut self, job: JobId) {
        self.running.remove(&job);
        self.duties.crashed(job, self.now);
        self.act();
    }

    pub(super) fn cut(&mut self) {
        self.is_connected = false;
        self.generation += 1;
        while let Some((_, message)) = self.unacknowledged.pop_last() {
            self.tasks.push_front(Message { is_redelivered: true, ..message });
        }
        self.duties.lost(self.now);
        self.act();
    }

    pub(super) fn connect(&mut self) {
        self.is_connected = true;
        self.duties.connected();
        let consumers: Vec<_> = self.consumers.keys().copied().collect();
        consumers.into_iter().for_each(|consumer| self.duties.consuming(consumer));
        self.act();
    }

    pub(super) fn pass(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
        self.duties.tick(self.now);
        self.act();
    }

    /// Lets all come to an end.
    pub(super) fn drain(&mut self) {
        self.connect();
        for _ in 0..10_000 {
            while self.deliver() {}
            let jobs: Vec<_> = self.running.keys().copied().collect();
            jobs.into_iter().for_each(|job| self.finish(job));
            let tokens: Vec<_> = self.published.keys().copied().collect();
            tokens.into_iter().for_each(|token| self.confirm(token));
            if self.tasks.is_empty() && self.unacknowledged.is_empty() || self.has_ended {
                return;
            }
            self.pass(SECOND);
        }
        panic!("it does not end: {:?}", self.duties);
    }

    pub(super) fn words(&self, to: &str) -> Vec<&str> {
        self.arrived.iter().filter(|(at, _)| at == to).map(|(_, text)| text.as_str()).collect()
    }

    pub(super) fn first_job(&self) -> JobId {
        *self.running.keys().next().expect("one runs")
    }

    pub(super) fn first_token(&self) -> Token {
        *self.published.keys().next().expect("one is published")
    }
}

fn text(publication: &Publication) -> String {
    String::from_utf8(publication.body.clone()).expect("text")
}
