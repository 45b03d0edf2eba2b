//! Pools of processes, and pools of threads.

pub(crate) mod process;
pub(crate) mod thread;
