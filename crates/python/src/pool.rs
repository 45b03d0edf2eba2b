//! Pools of processes, of threads, and of coroutines.

pub(crate) mod coroutine;
pub(crate) mod process;
pub(crate) mod python_tasks;
mod statistics;
pub(crate) mod thread;
