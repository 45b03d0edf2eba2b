//! A barrier: parties that wait for each other, and break it when one of them dies.
//!
//! [`Rounds`] is what stands in shared memory and what it means; [`Barrier`] adds waiting.

mod rounds;
#[cfg(not(loom))]
pub(crate) mod waiting;

pub use rounds::{Arrival, ArrivalToken, BrokenBarrier, Party, Rounds};
#[cfg(not(loom))]
pub use waiting::{Acting, Barrier, NotPassed, Passage};
