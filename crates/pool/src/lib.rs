//! A pool of worker processes: its dispatch, supervision and statistics.
//!
//! This crate knows no Python. A task is a function (bytes that a worker can decode once), arguments
//! (bytes, or a block of shared memory) and options; with each task the caller hands in *user data*
//! of its own type, which comes back with the outcome.
//!
//! - [`slots`]: one task's record in shared memory, and which side may move it from which phase to which.
//! - [`control`]: where slots, submission ring, flags and events of a pool lie in its block of shared memory.
//! - [`worker`]: what a worker does: claim, read, run, publish.
//! - [`state`]: what the parent knows; pure decisions (events in, actions out), no clock, no I/O.
//! - [`driver`]: the thread that does the I/O for [`state`]: it forks through the zygote, hears of
//!   deaths, keeps deadlines, reads what workers print. It never needs the interpreter, so a parent
//!   busy elsewhere still keeps its promises.
//! - [`output_pipes`]: what workers print and report;
//! - [`zygote`]: the packets to and from the process that forks workers.
//! - [`launch`]: how a zygote is started; `shared`: what handle and driver have in common;
//! - [`pool`]: the handle that ties them together.
#![forbid(unsafe_code)]

pub mod control;
pub mod driver;
pub mod launch;
pub mod output_pipes;
pub mod pool;
mod shared;
pub mod slots;
pub mod state;
pub mod statistics;
pub mod task;
pub mod worker;
pub mod zygote;
