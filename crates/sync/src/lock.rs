//! Locks for threads of any processes, which survive the death of their owner.
//!
//! [`Lock`] may be released by any thread, [`RLock`] only by the thread that has it, which may also acquire it again. Both
//! are the same word underneath ([`LockWord`]).

pub use crate::lock_word::{Acquired, Attempt, LockWord, NotLocked};

#[cfg(not(loom))]
mod plain;
#[cfg(not(loom))]
mod reentrant;

#[cfg(not(loom))]
pub use crate::lock_record::LOCK_BYTES;
#[cfg(not(loom))]
pub use plain::Lock;
#[cfg(not(loom))]
pub use reentrant::{NotOwner, RLock};
