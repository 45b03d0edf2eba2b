//! Pools of processes, of threads, and of coroutines.

pub(crate) mod coroutine;
pub(crate) mod process;
mod statistics;
pub(crate) mod thread;
