//! Tasks on RabbitMQ, in the messages of Celery's protocol 2.
//!
//! | module | what it is |
//! |---|---|
//! | [`outbox`] | publications, until the broker has confirmed them. Pure |
//! | [`link`] | one connection to a broker that comes back |
//! | [`client`] | a producer of tasks, and the queue that their answers come to |
//! | [`address`] | where a broker is, and as whom to log in |
//! | [`declaration`] | what must be there before anything is published or consumed |
//! | [`topology`] | which queues and exchanges there are, and what a broker would refuse. Pure |
//! | [`worker`] | the duties of a worker: what it does with each message, and in which order. Pure |
//! | [`greeting`], [`visit`] | what a broker says of itself; a short visit to it, by a person |
//! | [`control`] | remote control of a worker, and the events it sends. Pure |
//! | [`message`] | what travels: tasks, their answers, and what a message tells about itself. Pure |
//!
//! What decides is pure: it gets events and returns actions, and neither waits nor reads a clock. One thread does the rest.

pub mod address;
pub mod client;
pub mod control;
pub mod declaration;
pub mod greeting;
pub mod link;
pub mod message;
pub mod outbox;
pub mod topology;
pub mod visit;
pub mod worker;
