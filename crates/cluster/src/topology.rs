//! What there is on a broker: the queues of tasks, of answers and of dead letters, and the ladder of delays. Pure: it says what to declare, and
//! what the broker would refuse.
//!
//! Flags are those of stock Celery wherever it declares the same: a queue that two declare must be the same to both.

mod ladder;
mod refusal;
mod server;

use lapin::ExchangeKind;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

pub use ladder::Ladder;
pub use refusal::{Difference, Refusal, refusals};
pub use server::{ServerProperties, Version};

use crate::declaration::Declaration;

/// How long a queue of answers stays when nobody listens to it, in milliseconds: answers wait there while a connection is down.
const REPLY_QUEUE_EXPIRES_MS: i32 = 86_400_000;

/// How a broker keeps a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// On one node.
    #[default]
    Classic,
    /// On several, by a majority.
    Quorum,
}

/// A queue of tasks.
///
/// ```
/// use manyhands_cluster::declaration::Declaration;
/// use manyhands_cluster::topology::{QueueKind, WorkQueue};
///
/// let queue = WorkQueue { kind: QueueKind::Quorum, ..WorkQueue::new("celery") };
/// let names: Vec<_> = queue.declarations().iter().map(|each| each.name().to_owned()).collect();
/// assert_eq!(names, ["celery", "celery", "celery"]);
/// assert!(matches!(queue.declarations()[0], Declaration::Exchange { .. }));
/// assert_eq!(queue.dead_letters().name(), "celery.dead");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkQueue {
    /// Its name.
    pub name: String,
    /// How it is kept.
    pub kind: QueueKind,
    /// The highest priority that it tells apart; a classic queue tells none apart without, and a quorum queue needs none said.
    pub most_priority: Option<u8>,
    /// How often a message of a quorum queue may come back before the broker gives it up.
    pub delivery_limit: Option<u32>,
    /// Whether the broker puts what it gives up into the queue of dead letters; otherwise that is lost.
    ///
    /// Stock Celery does not say so when it declares the queue, and would be refused: only for queues that nobody else declares.
    pub keeps_dead_letters: bool,
    /// How long a worker may hold a message, in milliseconds, where the broker's own limit does not do.
    pub consumer_timeout: Option<u32>,
}

impl WorkQueue {
    /// Returns a queue as stock Celery declares it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: QueueKind::Classic,
            most_priority: None,
            delivery_limit: None,
            keeps_dead_letters: false,
            consumer_timeout: None,
        }
    }

    /// Returns what to declare, in this order: the exchange of the same name, the queue, and the binding. A queue that is there stays as it is.
    #[must_use]
    pub fn declarations(&self) -> Vec<Declaration> {
        let name = &self.name;
        vec![
            Declaration::Exchange { name: name.clone(), kind: ExchangeKind::Direct, durable: true },
            Declaration::Queue {
                name: name.clone(),
                options: durable(),
                arguments: self.arguments(),
                any: true,
            },
            Declaration::Binding { queue: name.clone(), exchange: name.clone(), key: name.clone() },
        ]
    }

    /// Returns what to declare for its dead letters: a queue beside it.
    #[must_use]
    pub fn dead_letters(&self) -> Declaration {
        let arguments = table(self.kind_argument());
        Declaration::Queue { name: self.dead_letters_name(), options: durable(), arguments, any: true }
    }

    /// Returns the name of the queue of its dead letters.
    #[must_use]
    pub fn dead_letters_name(&self) -> String {
        format!("{}.dead", self.name)
    }

    fn kind_argument(&self) -> Option<(&'static str, AMQPValue)> {
        let quorum = AMQPValue::LongString("quorum".into());
        (self.kind == QueueKind::Quorum).then_some(("x-queue-type", quorum))
    }

    fn arguments(&self) -> FieldTable {
        let count = |count: u32| AMQPValue::LongInt(i32::try_from(count).unwrap_or(i32::MAX));
        let dead_letters = self.keeps_dead_letters.then(|| {
            let name = AMQPValue::LongString(self.dead_letters_name().into());
            [
                ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
                ("x-dead-letter-routing-key", name),
            ]
        });
        table(
            self.kind_argument()
                .into_iter()
                .chain(self.most_priority.map(|most| ("x-max-priority", count(most.into()))))
                .chain(self.delivery_limit.map(|limit| ("x-delivery-limit", count(limit))))
                .chain(self.consumer_timeout.map(|timeout| ("x-consumer-timeout", count(timeout))))
                .chain(dead_letters.into_iter().flatten()),
        )
    }
}

/// Returns what to declare for the answers to one client: a queue that outlives its connection, and not its absence for a day.
///
/// ```
/// use manyhands_cluster::declaration::Declaration;
/// use manyhands_cluster::topology::reply_queue;
///
/// let Declaration::Queue { options, .. } = reply_queue("answers-7") else { panic!("it is a queue") };
/// assert!(options.durable && !options.exclusive && !options.auto_delete);
/// ```
#[must_use]
pub fn reply_queue(name: &str) -> Declaration {
    let arguments = table([("x-expires", AMQPValue::LongInt(REPLY_QUEUE_EXPIRES_MS))]);
    Declaration::Queue { name: name.to_owned(), options: durable(), arguments, any: false }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

fn table(arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}
