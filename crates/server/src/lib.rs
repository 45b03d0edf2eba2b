//! What a socket server is without its handlers.
//!
//! | module | what it is |
//! |---|---|
//! | [`admission`] | the limits: how many connections may be open, served and queued, and what happens to the others. Pure |
//! | [`crew`] | the workers: who is idle, who waits for a client, and when another one is needed. Pure |
//! | [`front`] | one queue of connections between a listener and workers: the two above behind a lock |
//! | [`lobby`] | one queue of connections between a listener and event loops, each of which serves many |
//! | [`host`] | what the two need done by others |
//! | [`acceptor`] | the thread that takes connections off a listener |
//! | [`input`] | what a client has said, and what a reader gets of it. Pure |
//! | [`output`] | what a handler has said, and its client has not taken yet. Pure |
//! | [`framing`] | where messages begin and end. Pure |
//! | [`trusted_peers`] | whose PROXY headers are read. Pure |
//! | [`proxy_header`] | for whom a proxy has connected, out of the bytes that it sends first. Pure |
//! | [`proxy_socket`] | the same, off a socket |
//! | [`ledger`] | what has been counted, in memory that others can look at |
//! | [`pulse`] | whether it answers. Pure |
//! | [`load`] | a client that is many: what a server does per second, and how long each request waits |
//!
//! A *worker* is a thread of the caller's that asks for a connection, serves it, says that it has ended, and asks again. A
//! connection is served by one worker. How a worker sleeps is the caller's: it is woken through [`crew::Wake`].

pub mod acceptor;
pub mod admission;
pub mod crew;
pub mod framing;
pub mod front;
mod gate;
pub mod host;
pub mod input;
pub mod ledger;
pub mod load;
pub mod lobby;
pub mod output;
pub mod proxy_header;
pub mod proxy_socket;
pub mod pulse;
pub mod trusted_peers;
