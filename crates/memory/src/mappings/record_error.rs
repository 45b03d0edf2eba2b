//! Why a record cannot be had.

use std::io;

use manyhands_channel::arena::{ArenaFull, BadBlock};
use manyhands_sync::names::{Kind, NameError};

/// Why a record cannot be had.
#[derive(Debug)]
pub enum RecordError {
    /// There is no room.
    Full(ArenaFull),
    /// Its segment cannot be had.
    Segment(NameError),
    /// It has been freed: nobody held it when it should have been opened.
    Freed(BadBlock),
    /// It is something else: what it is, if that is known, and what was wanted.
    OtherKind(Option<Kind>, Kind),
    /// It is of another size: bytes it has, bytes wanted.
    OtherSize(usize, usize),
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(error) => write!(formatter, "{error}"),
            Self::Segment(error) => write!(formatter, "{error}"),
            Self::Freed(_) => formatter.write_str(
                "a shared object no longer exists: every process had released it before its address was \
                 opened; keep it until the receiver has opened it",
            ),
            Self::OtherKind(Some(is), wanted) => {
                write!(formatter, "a shared object is of kind {is}, not {wanted}")
            }
            Self::OtherKind(None, wanted) => {
                write!(
                    formatter,
                    "a shared object is of a kind that this version does not know, not {wanted}"
                )
            }
            Self::OtherSize(is, wanted) => {
                write!(
                    formatter,
                    "a shared object has {is} bytes, not {wanted}: it was made by another version of manyhands"
                )
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl From<NameError> for RecordError {
    fn from(error: NameError) -> Self {
        Self::Segment(error)
    }
}

impl From<io::Error> for RecordError {
    fn from(error: io::Error) -> Self {
        Self::Segment(error.into())
    }
}
