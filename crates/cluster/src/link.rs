//! One connection to a broker that comes back: what it was asked to publish, declare and consume, it does again on the next.
//!
//! A [`Link`] has a thread that tells its owner what happens ([`Event`]), in batches and in order. That owner may take its time, or wait
//! for an interpreter: another thread keeps the connection alive.

mod consumers;
mod session;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use lapin::BasicProperties;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub(crate) use session::{connect, words_of};

use crate::address::Address;
use crate::declaration::Declaration;
use crate::outbox::{Publication, Token};

/// Where a broker is, and how to greet it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub address: Address,
    /// What the broker's operators see as the name of the connection.
    pub name: String,
    /// How long a connection may take to be made.
    pub connect_within: Duration,
}

/// The name of a consumer, given by whoever wants it: no two of a link have the same.
pub type ConsumerKey = u32;

/// What a consumer wants.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The queue.
    pub queue: String,
    /// What must be there first, in this order.
    pub declarations: Vec<Declaration>,
    /// How many deliveries it may have at a time that are neither acknowledged nor rejected; 0 for any number.
    pub prefetch: u16,
    /// Whether no other may consume from the queue.
    pub is_exclusive: bool,
}

/// One delivery, by the words in which it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// The consumer it came to.
    pub consumer: ConsumerKey,
    /// Which time the consumer was opened: a tag of an earlier one names nothing any more.
    pub generation: u64,
    /// The broker's number for it.
    pub number: u64,
}

/// A message for a consumer.
#[derive(Debug)]
pub struct Delivery {
    /// The name to acknowledge it by.
    pub tag: Tag,
    /// Whether it was delivered before, to whomever.
    pub is_redelivered: bool,
    /// Where it was published.
    pub exchange: String,
    /// With which routing key.
    pub routing_key: String,
    /// Headers and the like.
    pub properties: BasicProperties,
    /// The message itself.
    pub body: Vec<u8>,
}

/// Why the broker does not take a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No queue is there for it.
    Unroutable,
    /// The broker has refused it without a word: its queue is full, or it could not be stored.
    Nacked,
    /// The broker has closed the channel over it, in these words.
    Error(String),
}

/// What happens to a link.
#[derive(Debug)]
pub enum Event {
    /// There is a connection. All that was declared is there again, consumers follow.
    Connected,
    /// There is none any more, or none yet; it is tried again after a while.
    Lost {
        /// In whose words.
        reason: String,
        /// Whether trying again is of no use: a wrong password, no such virtual host.
        is_permanent: bool,
    },
    /// The broker takes no publications now (memory or disk are short), in these words.
    Blocked(String),
    /// It takes them again.
    Unblocked,
    /// The broker has it, and all queues that it is for.
    Confirmed {
        /// Which publication.
        token: Token,
        /// How often it was sent: more than once if connections were lost in between, and then it may be there as often.
        times_sent: u32,
    },
    /// The broker has not taken it, and will not.
    Refused {
        /// Which publication.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// The broker has confirmed the consumer: deliveries come.
    Consuming(ConsumerKey),
    /// The consumer has ended: the queue is gone, or the broker will not have it so. It is tried again after a while.
    ConsumerLost {
        /// Which consumer.
        consumer: ConsumerKey,
        /// In whose words.
        reason: String,
    },
    /// The consumer was cancelled as asked for: nothing comes to it any more. What it has is still acknowledged by its tags.
    ConsumerCancelled(ConsumerKey),
    /// A message.
    Delivered(Box<Delivery>),
    /// A declaration that the broker refuses; it is tried again with the next connection.
    NotDeclared {
        /// The queue or exchange.
        name: String,
        /// In whose words.
        reason: String,
    },
    /// The link was closed as asked for. Nothing follows.
    Closed {
        /// How many publications were left that the broker had not confirmed.
        unconfirmed: usize,
    },
}

/// What a link is asked for.
#[derive(Debug)]
enum Command {
    Publish(Token, Arc<Publication>),
    Declare(Vec<Declaration>),
    Consume(ConsumerKey, Subscription),
    Cancel(ConsumerKey),
    Ack { tag: Tag, multiple: bool },
    Reject { tag: Tag, requeue: bool },
    DeleteQueue(String),
    Close { within: Duration },
}

/// One connection to a broker that comes back. Dropping it closes it at once.
#[derive(Debug)]
pub struct Link {
    commands: UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts to connect. `listener` is called with what happens, on the link's thread.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn open(options: Options, listener: impl FnMut(Vec<Event>) + Send + 'static) -> io::Result<Self> {
        let (commands, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("manyhands-amqp")
            .enable_io()
            .enable_time()
            .build()?;
        let thread = std::thread::Builder::new().name("manyhands-link".into()).spawn(move || {
            runtime.block_on(session::run(options, inbox, Box::new(listener)));
            runtime.shutdown_background();
        })?;
        Ok(Self { commands, thread: Mutex::new(Some(thread)) })
    }

    /// Publishes, now or once there is a connection: `Confirmed` or `Refused` follows.
    pub fn publish(&self, token: Token, publication: impl Into<Arc<Publication>>) {
        self.ask(Command::Publish(token, publication.into()));
    }

    /// Declares these in this order, now and on each later connection, before what is published from here on.
    pub fn declare(&self, declarations: Vec<Declaration>) {
        self.ask(Command::Declare(declarations));
    }

    /// Consumes, now and on each later connection.
    pub fn consume(&self, consumer: ConsumerKey, subscription: Subscription) {
        self.ask(Command::Consume(consumer, subscription));
    }

    /// Gets no more deliveries for a consumer.
    pub fn cancel(&self, consumer: ConsumerKey) {
        self.ask(Command::Cancel(consumer));
    }

    /// Acknowledges a delivery, with `multiple` also all before it of the same consumer. Nothing happens if its connection is lost.
    pub fn ack(&self, tag: Tag, multiple: bool) {
        self.ask(Command::Ack { tag, multiple });
    }

    /// Gives a delivery back to its queue, or to where dead letters of the queue go.
    pub fn reject(&self, tag: Tag, requeue: bool) {
        self.ask(Command::Reject { tag, requeue });
    }

    /// Deletes a queue, if there is a connection; it is neither declared nor consumed again.
    pub fn delete_queue(&self, name: &str) {
        self.ask(Command::DeleteQueue(name.to_owned()));
    }

    /// Closes the connection once all publications are settled, at the latest after this time. `Closed` is the last event.
    pub fn close(&self, within: Duration) {
        self.ask(Command::Close { within });
    }

    /// Waits until the link's thread has ended, after [`Link::close`]. Not from the listener.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn ask(&self, command: Command) {
        // A link that has ended needs nothing any more.
        let _ = self.commands.send(command);
    }
}
