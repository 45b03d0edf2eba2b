//! What can go wrong with blocks.

use std::error::Error;
use std::fmt;

use super::BlockRef;

/// No shared memory is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaFull {
    /// The size of the block that was asked for, in bytes.
    pub wanted: usize,
    /// The memory in use at that time, in bytes. Less than `limit` minus `wanted` where the free memory is in pieces,
    /// or where the system has none left.
    pub in_use: usize,
    /// The most that can be in use, in bytes.
    pub limit: usize,
}

impl fmt::Display for ArenaFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, in_use, limit } = self;
        let mebibytes = |bytes: &usize| *bytes as f64 / (1 << 20) as f64;
        write!(
            formatter,
            "shared memory is full: no room for {wanted} bytes ({:.1} MiB) with {:.0} of {:.0} MiB in use",
            mebibytes(wanted),
            mebibytes(in_use),
            mebibytes(limit)
        )
    }
}

impl Error for ArenaFull {}

/// A reference names no block that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// The reference.
    pub reference: BlockRef,
}

impl fmt::Display for BadBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.reference.to_bits();
        write!(
            formatter,
            "no block of shared memory has the reference {bits:#x}: it has been freed, or never existed"
        )
    }
}

impl Error for BadBlock {}
