//! Shared memory between processes, divided up.
//!
//! * [`arena`]: blocks of any size that several processes hold, and that a death does not lose;
//! * [`ring`]: what is next, from one producer to many consumers;
//! * [`lane`]: what is finished, from one producer to one consumer;
//! * [`words`]: the runs of words that the last two are made of.
//!
//! Everything here is built from atomic words, so that a process can be killed between any two instructions and the
//! others go on.

#[cfg(not(loom))]
pub mod arena;
pub mod lane;
pub mod ring;
pub mod words;
