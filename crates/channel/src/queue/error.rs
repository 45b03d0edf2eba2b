//! What can go wrong with queues.

use std::error::Error;
use std::fmt;
use std::io;

use super::latch::Busy;
use manyhands_os::process::Identity;

/// Something in the segment cannot be: it was written to by somebody who does not keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the queue's shared memory is damaged: {}; make a new queue", self.what)
    }
}

impl Error for Corrupt {}

/// There is no usable queue in these bytes of the segment.
#[derive(Debug)]
pub enum AttachError {
    /// The region is too small, too large or not inside the segment. In bytes.
    BadRegion {
        /// Where it begins.
        start: usize,
        /// How long it is.
        len: usize,
    },
    /// There is something else, or nothing.
    NotOurs {
        /// What was looked for.
        wanted: &'static str,
    },
    /// It was made by another version of this library.
    WrongVersion {
        /// The number found.
        found: u32,
        /// The number of this library.
        ours: u32,
    },
    /// It was made for another number of bytes.
    WrongSize {
        /// The number found.
        found: u64,
        /// The length of the region.
        ours: u64,
    },
    /// No process can take a hold any more: too many have one.
    TooManyHolders,
    /// A word of the heading has an impossible value.
    Corrupt(Corrupt),
    /// Memory is short.
    Memory(io::Error),
}

impl fmt::Display for AttachError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRegion { start, len } => write!(
                formatter,
                "{len} bytes from byte {start} cannot hold a queue: it needs between 128 KiB and 32 GiB \
                 inside the segment, starting at a multiple of 4096"
            ),
            Self::NotOurs { wanted } => write!(formatter, "this shared memory does not contain a {wanted}"),
            Self::WrongVersion { found, ours } => write!(
                formatter,
                "made by another version of manyhands (layout {found}, here {ours}): use the same version everywhere"
            ),
            Self::WrongSize { found, ours } => {
                write!(formatter, "made for {found} bytes of shared memory, not for {ours}")
            }
            Self::TooManyHolders => write!(formatter, "too many processes hold this end"),
            Self::Corrupt(corrupt) => corrupt.fmt(formatter),
            Self::Memory(error) => write!(formatter, "cannot allocate memory for a queue: {error}"),
        }
    }
}

impl Error for AttachError {}

impl From<Corrupt> for AttachError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Memory(error)
    }
}

/// Why nothing was put in.
#[derive(Debug)]
pub enum PutError {
    /// There are as many items as there may be, or no memory is left of the queue's.
    Full,
    /// The queue was closed.
    Closed,
    /// Another thread or process is at it right now.
    Busy(Busy),
    /// The item would not fit even into an empty queue. In bytes.
    TooLarge {
        /// The item's.
        size: usize,
        /// What fits.
        limit: usize,
    },
    /// The system has no memory left.
    OutOfMemory(io::Error),
    /// The wait was broken off.
    Interrupted,
    /// The queue's memory is damaged.
    Corrupt(Corrupt),
}

impl fmt::Display for PutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(formatter, "the queue is full"),
            Self::Closed => write!(formatter, "the queue has been shut down"),
            Self::Busy(busy) => busy.fmt(formatter),
            Self::TooLarge { size, limit } => {
                write!(
                    formatter,
                    "an item of {size} bytes is too large: this queue takes at most {limit} bytes"
                )
            }
            Self::OutOfMemory(error) => write!(formatter, "cannot allocate memory for the item: {error}"),
            Self::Interrupted => write!(formatter, "interrupted while waiting for room in the queue"),
            Self::Corrupt(corrupt) => corrupt.fmt(formatter),
        }
    }
}

impl Error for PutError {}

impl From<Busy> for PutError {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl From<Corrupt> for PutError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Why nothing was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError {
    /// There is nothing.
    Empty,
    /// There is nothing, and never will be: the queue was closed.
    Closed,
    /// Another thread or process is at it right now.
    Busy(Busy),
    /// The wait was broken off.
    Interrupted,
    /// The queue's memory is damaged.
    Corrupt(Corrupt),
}

impl fmt::Display for GetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(formatter, "the queue is empty"),
            Self::Closed => write!(formatter, "the queue has been shut down"),
            Self::Busy(busy) => busy.fmt(formatter),
            Self::Interrupted => write!(formatter, "interrupted while waiting for an item"),
            Self::Corrupt(corrupt) => corrupt.fmt(formatter),
        }
    }
}

impl Error for GetError {}

impl From<Busy> for GetError {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl From<Corrupt> for GetError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Why a task could not be counted as done, or the end of all not be waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// More items were reported done than were ever put in.
    TooOften,
    /// The queue was made without counting tasks.
    NotJoinable,
    /// These processes died having taken so many items that they never finished.
    Lost(Vec<(Identity, u32)>),
    /// Another thread or process is at it right now.
    Busy(Busy),
    /// The deadline has passed.
    TimedOut,
    /// The wait was broken off.
    Interrupted,
    /// The queue's memory is damaged.
    Corrupt(Corrupt),
}

impl fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOften => write!(formatter, "task_done() called too many times"),
            Self::NotJoinable => write!(formatter, "this queue does not count tasks"),
            Self::Lost(dead) => {
                write!(formatter, "items were taken and not finished:")?;
                dead.iter().try_for_each(|(who, count)| {
                    write!(formatter, " process {} died with {count};", who.pid())
                })?;
                write!(formatter, " put them into the queue again, or write them off")
            }
            Self::Busy(busy) => busy.fmt(formatter),
            Self::TimedOut => write!(formatter, "not all tasks were done in time"),
            Self::Interrupted => write!(formatter, "interrupted while waiting for tasks to be done"),
            Self::Corrupt(corrupt) => corrupt.fmt(formatter),
        }
    }
}

impl Error for TaskError {}

impl From<Busy> for TaskError {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl From<Corrupt> for TaskError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => write!(formatter, "the queue is locked by process {}", holder.pid()),
            None => write!(formatter, "the queue is locked by another process"),
        }
    }
}

impl Error for Busy {}
