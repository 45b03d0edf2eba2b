//! What a socket server is without its handlers.
//!
//! | module | what it is |
//! |---|---|
//! | [`admission`] | the limits: how many connections may be open, served and queued, and what happens to the others. Pure |
//! | [`crew`] | the workers: who is idle, who waits for a client, and when another one is needed. Pure |
//! | [`front`] | one queue of connections between a listener and workers: the two above behind a lock |
//! | [`acceptor`] | the thread that takes connections off a listener |
//! | [`load`] | a client that is many: what a server does per second, and how long each request waits |
//!
//! A *worker* is a thread of the caller's that asks for a connection, serves it, says that it has ended, and asks again. A
//! connection is served by one worker. How a worker sleeps is the caller's: it is woken through [`crew::Wake`].

pub mod acceptor;
pub mod admission;
pub mod crew;
pub mod front;
pub mod load;
