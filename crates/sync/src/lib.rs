//! Locks, semaphores, events, conditions and barriers over words in shared memory: between threads of any processes, and
//! for event loops; and what such things are made of.
//!
//! Nothing here knows Python, and nothing needs a helper process or thread. Whoever is killed, at whatever instruction,
//! keeps nobody from going on.
//!
//! | module | what it gives |
//! |---|---|
//! | [`lock`] | a lock, and one that its owner may acquire again; the next owner is told that the last one died |
//! | [`semaphore`] | permits that come back when their holder dies |
//! | [`event`] | a flag that many wait for |
//! | `condition` | waiting until somebody says that something has changed, in order of arrival |
//! | [`barrier`] | parties that wait for each other; a dead one breaks it |
//! | [`call`] | calling one certain waiter, by whom conditions and event loops are woken |
//! | `names` | the same segment for all who give the same name |
//! | `site` | what a segment begins with: its participants, and its waiters with what they wait for |
//! | `waiting` | the one way in which all of the above wait: signals, deadlines, deaths, deadlocks |
//! | `deadlock` | cycles of threads that wait for each other |
//! | [`EventCount`] | sleeping until something may have changed, without a lock, and without a system call where nobody sleeps |
//! | [`SpinPolicy`] | how long to look before sleeping is worth its price |
//! | [`words`] | runs of atomic words in a segment, or on the heap for models and tests |
//! | [`atomic`] | the one switch between the real atomics and those of the model checker loom |
//!
//! # Two layers
//!
//! What stands in shared memory, and every step that changes it, is in types over [`Words`](words::Words) that never
//! wait ([`lock::LockWord`], [`semaphore::Permits`], [`event::Flag`], [`barrier::Rounds`], [`call::Call`]). Those are
//! checked by loom (`RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`): every interleaving and
//! every reordering that the memory model allows, for small numbers of threads. The types that users use add waiting,
//! by `Site::block`, and are tested with real processes that are killed after each single store to shared memory.
//!
//! # Identities, and deaths
//!
//! A word that somebody owns names the process ([`Identity`](manyhands_os::process::Identity): its number and when it
//! was started). Only when that process is certainly dead, so that no thread of it will run another instruction, may
//! others take over; a stopped one is alive. A *participant slot* in the site makes a death known at once: a word that
//! the kernel marks when a thread ends, and that a waiter sleeps on beside the word it waits for (`futex_waitv`).
//! Without a participant slot, or without that system call, waiters look from time to time; then it takes up to a
//! quarter of a second.
//!
//! The example `killed_owner` shows it between two programs.
//!
//! Deadlines are moments of [`manyhands_os::clock`].

pub mod atomic;
pub mod barrier;
pub mod call;
#[cfg(not(loom))]
pub mod condition;
#[cfg(not(loom))]
pub mod deadlock;
#[cfg(not(loom))]
mod directory;
pub mod event;
mod event_count;
#[cfg(not(loom))]
mod kind;
pub mod lock;
#[cfg(not(loom))]
mod lock_record;
mod lock_word;
#[cfg(not(loom))]
pub mod names;
mod parking;
#[cfg(not(loom))]
mod patience;
pub mod semaphore;
#[cfg(not(loom))]
pub mod site;
#[cfg(not(loom))]
mod site_error;
mod spin_policy;
#[cfg(not(loom))]
pub mod waiting;
#[cfg(not(loom))]
mod watchlist;
pub mod words;

pub use event_count::{EventCount, Key};
pub use parking::Wait;
#[cfg(not(loom))]
pub use parking::wake;
#[cfg(not(loom))]
pub use patience::Patience;
pub use spin_policy::{Spent, SpinPolicy};
