//! Shared memory between processes, divided up.
//!
//! * [`arena`]: blocks of any size that several processes hold, and that a death does not lose;
//! * [`submission_ring`]: what is next, from one producer to many consumers;
//! * [`completion_ring`]: what is finished, from one producer to one consumer;
//! * [`queue`]: items between any number of producers and consumers, in any of three orders;
//! * [`pipe`]: messages between two ends, each of which knows whether anybody holds the other;
//! * [`words`]: the runs of words that rings are made of.
//!
//! Everything here is built from atomic words, so that a process can be killed between any two instructions and the
//! others go on.

#[cfg(not(loom))]
pub mod arena;
pub mod completion_ring;
/// What of a queue is modelled.
#[cfg(loom)]
#[allow(dead_code, unreachable_pub, reason = "the rest of it is for queues")]
#[path = "queue/latch.rs"]
mod latch;
#[cfg(not(loom))]
pub mod pipe;
#[cfg(not(loom))]
pub mod queue;
pub mod submission_ring;
pub mod words;
