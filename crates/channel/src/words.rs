//! The runs of words that rings are made of: those of the crate `manyhands-sync`.

pub use manyhands_sync::words::*;
