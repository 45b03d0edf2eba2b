//! A producer of tasks, and the queue that their answers come to.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use crate::address::Address;
use crate::declaration::Declaration;
use crate::link::{ConsumerKey, Event, Link, Options, Refusal, Subscription, Tag};
use crate::message::{Answer, Limits, Moment, TaskMessage, Unreadable};
use crate::outbox::{Publication, Token};
use crate::topology;

/// The one consumer of a client.
const ANSWERS: ConsumerKey = 0;
/// So many answers are on their way at a time.
const PREFETCH: u16 = 2000;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The broker.
    pub address: Address,
    /// What the broker's operators see as the name of the connection.
    pub name: String,
    /// The queue for answers, which is the client's own; no other has its name.
    pub reply_queue: String,
    /// How long a connection may take to be made.
    pub connect_within: Duration,
}

/// What happens to a client and its tasks.
#[derive(Debug)]
pub enum News {
    /// The broker has a task, and its queue.
    Confirmed(Token),
    /// The broker does not take a task, and will not.
    Refused {
        /// Which task.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// An answer has come to the task with this id.
    Answered {
        /// The task.
        id: String,
        /// What it says.
        answer: Answer,
    },
    /// Something has come to the reply queue that is no answer.
    Unreadable {
        /// The task that it was for, if that can be told.
        id: Option<String>,
        /// What is wrong with it.
        why: Unreadable,
    },
    /// Answers come: there is a connection, and the broker has confirmed the consumer.
    Listening,
    /// There is no connection, see [`Event::Lost`]; or the reply queue is gone, which is made again.
    Lost {
        /// In whose words.
        reason: String,
        /// Whether trying again is of no use.
        is_permanent: bool,
    },
    /// The broker takes nothing now, in these words.
    Blocked(String),
    /// It does again.
    Unblocked,
    /// It refuses to have a queue declared, see [`Event::NotDeclared`].
    NotDeclared {
        /// The queue.
        name: String,
        /// In whose words.
        reason: String,
    },
    /// The last news, with how many tasks the broker has not confirmed.
    Closed {
        /// How many.
        unconfirmed: usize,
    },
}

/// A producer of tasks. Dropping it closes its connection.
#[derive(Debug)]
pub struct Client {
    link: Arc<Link>,
    reply_queue: String,
}

impl Client {
    /// Starts to connect. `listener` gets the news, in order and in batches, on a thread of the client's; an answer is acknowledged once it has returned.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn open(
        options: ClientOptions,
        mut listener: impl FnMut(Vec<News>) + Send + 'static,
    ) -> io::Result<Self> {
        let own: Arc<OnceLock<Weak<Link>>> = Arc::default();
        let link_options =
            Options { address: options.address, name: options.name, connect_within: options.connect_within };
        let to_acknowledge = Arc::clone(&own);
        let link = Link::open(link_options, move |events| {
            let mut last = None;
            listener(events.into_iter().filter_map(|event| news_of(event, &mut last)).collect());
            if let (Some(tag), Some(link)) = (last, to_acknowledge.get().and_then(Weak::upgrade)) {
                link.ack(tag, true);
            }
        })?;
        let link = Arc::new(link);
        own.set(Arc::downgrade(&link)).expect("set once");
        link.consume(ANSWERS, subscription(&options.reply_queue));
        Ok(Self { link, reply_queue: options.reply_queue })
    }

    /// Sees to it that a queue is there, as Celery's producers do: one that is there is taken as it is.
    pub fn declare(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let arguments = FieldTable::default();
        self.link.declare(vec![Declaration::Queue { name: queue.into(), options, arguments, any: true }]);
    }

    /// Publishes a task to a queue; `Confirmed` or `Refused` follows. Its answer comes here unless nobody wants it.
    pub fn submit(&self, token: Token, queue: &str, task: TaskMessage, now: Moment) {
        let task = TaskMessage { reply_to: Some(self.reply_queue.clone()), ..task };
        let (properties, body) = task.to_amqp(now);
        let (exchange, routing_key) = (String::new(), queue.to_owned());
        self.link.publish(token, Publication { exchange, routing_key, properties, body, mandatory: true });
    }

    /// Publishes anything else.
    pub fn publish(&self, token: Token, publication: Publication) {
        self.link.publish(token, publication);
    }

    /// Closes the connection once all tasks are confirmed, at the latest after this time. `Closed` is the last of the news.
    pub fn close(&self, within: Duration) {
        self.link.delete_queue(&self.reply_queue);
        self.link.close(within);
    }

    /// Waits until it is closed. Not from the listener.
    pub fn join(&self) {
        self.link.join();
    }
}

fn subscription(reply_queue: &str) -> Subscription {
    Subscription {
        queue: reply_queue.into(),
        declarations: vec![topology::reply_queue(reply_queue)],
        prefetch: PREFETCH,
        is_exclusive: false,
    }
}

/// What an event means to a client; `last` is the newest delivery.
fn news_of(event: Event, last: &mut Option<Tag>) -> Option<News> {
    Some(match event {
        Event::Confirmed { token, .. } => News::Confirmed(token),
        Event::Refused { token, why } => News::Refused { token, why },
        Event::Delivered(delivery) => {
            *last = Some(delivery.tag);
            match Answer::parse(&delivery.properties, &delivery.body, &Limits::default()) {
                Ok((id, answer)) => News::Answered { id, answer },
                Err(why) => {
                    let id = delivery.properties.correlation_id().as_ref().map(ToString::to_string);
                    News::Unreadable { id, why }
                }
            }
        }
        Event::Consuming(_) => News::Listening,
        Event::Lost { reason, is_permanent } => News::Lost { reason, is_permanent },
        Event::ConsumerLost { reason, .. } => News::Lost { reason, is_permanent: false },
        Event::Blocked(reason) => News::Blocked(reason),
        Event::Unblocked => News::Unblocked,
        Event::NotDeclared { name, reason } => News::NotDeclared { name, reason },
        Event::Closed { unconfirmed } => News::Closed { unconfirmed },
        Event::Connected | Event::ConsumerCancelled(_) => return None,
    })
}
