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
pub mod barrier;
#[cfg(not(loom))]
pub mod condition;
#[cfg(not(loom))]
pub mod deadlock;
pub mod event;
mod event_count;
pub mod lock;
#[cfg(not(loom))]
pub mod names;
mod parking;
pub mod semaphore;
#[cfg(not(loom))]
pub mod site;
mod spin_budget;
#[cfg(not(loom))]
pub mod waiting;
#[cfg(not(loom))]
mod watchlist;
pub mod words;

pub use event_count::{EventCount, Key};
pub use parking::Wait;
pub use spin_budget::SpinBudget;
