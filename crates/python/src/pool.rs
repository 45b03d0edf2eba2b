//! Pools of processes, and pools of threads.

pub(crate) mod process;
mod statistics;
pub(crate) mod thread;
