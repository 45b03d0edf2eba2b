//! An event: a flag that many wait for.
//!
//! [`Flag`] is what stands in shared memory and what it means; [`Event`] adds waiting.

mod flag;
#[cfg(not(loom))]
pub(crate) mod waiting;

pub use flag::{Flag, Turn};
#[cfg(not(loom))]
pub use waiting::Event;
