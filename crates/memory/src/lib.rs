//! The shared memory of a process: the segment that everything unnamed lies in, which segments of others it has mapped,
//! and what becomes of all that when it forks or dies.
//!
//! This crate knows no pools and no Python; a lock between two programs needs nothing more.
//!
//! - [`shared_heap`]: the one shared segment of a process, its arena, and its participants;
//! - [`mappings`]: all that a process has mapped, and its records;
//! - [`layout`]: where what is in a shared heap's segment;
//! - `heir`: as whom a child takes part; `latecomers`: those without a participant slot; `sweep`: what the dead have
//!   left.
#![forbid(unsafe_code)]

mod heir;
mod latecomers;
pub mod layout;
pub mod mappings;
pub mod shared_heap;
mod sweep;
