//! Locks for threads of any processes, which survive the death of their owner.
//!
//! [`Lock`] may be released by any thread, [`RLock`] only by the thread that has it, which may also acquire it again. Both
//! are the same word underneath ([`LockWord`]).

mod word;

pub use word::{Acquired, Attempt, LockWord, NotLocked};

#[cfg(not(loom))]
mod plain;
#[cfg(not(loom))]
mod reentrant;

#[cfg(not(loom))]
pub(crate) use plain::owner_in;
#[cfg(not(loom))]
pub use plain::{LOCK_BYTES, Lock};
#[cfg(not(loom))]
pub use reentrant::{NotOwner, RLock};
