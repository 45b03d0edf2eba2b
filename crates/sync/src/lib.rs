//! Waiting and waking over words in shared memory.
//!
//! * [`EventCount`] lets a thread sleep until "something may have changed", without a lock, between threads or
//!   processes, and without a system call where nobody sleeps;
//! * [`SpinBudget`] says how long to look before sleeping is worth its price;
//! * [`atomic`] is the one switch between the real atomics and those of the model checker loom.
//!
//! The protocols are checked by loom (`RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`): every
//! interleaving and every reordering that the memory model allows, for small numbers of threads.
//!
//! Deadlines are moments of [`manyhands_os::clock`].

pub mod atomic;
mod event_count;
mod parking;
mod spin_budget;

pub use event_count::{EventCount, Key};
pub use parking::Wait;
pub use spin_budget::SpinBudget;
