//! A semaphore whose permits come back when their holder dies.
//!
//! [`Permits`] is what stands in shared memory and what it means; [`Semaphore`] adds waiting.

mod permits;
#[cfg(not(loom))]
pub(crate) mod waiting;

pub use permits::{Permits, ReleasedTooOften};
#[cfg(not(loom))]
pub use waiting::Semaphore;
