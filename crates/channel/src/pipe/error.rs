//! What can go wrong with pipes.

use std::error::Error;
use std::fmt;

use crate::queue::blocking::{Obstacle, Refusal};
use crate::queue::{Corrupt, GetError, PutError};

/// Why nothing was sent.
#[derive(Debug)]
pub enum SendError {
    /// Nobody holds the other end.
    Broken,
    /// This end only receives.
    WrongWay,
    /// As in a queue; `Full` when the deadline has passed.
    Put(PutError),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// Everything was received, and nobody holds the other end.
    EndOfFile,
    /// This end only sends.
    WrongWay,
    /// As in a queue; `Empty` when the deadline has passed.
    Get(GetError),
}

impl Refusal for SendError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Put(error) => error.obstacle(),
            Self::Broken | Self::WrongWay => None,
        }
    }

    fn timed_out() -> Self {
        Self::Put(PutError::timed_out())
    }

    fn interrupted() -> Self {
        Self::Put(PutError::interrupted())
    }
}

impl Refusal for RecvError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Get(error) => error.obstacle(),
            Self::EndOfFile | Self::WrongWay => None,
        }
    }

    fn timed_out() -> Self {
        Self::Get(GetError::timed_out())
    }

    fn interrupted() -> Self {
        Self::Get(GetError::interrupted())
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => write!(formatter, "no process holds the other end of the pipe"),
            Self::WrongWay => write!(formatter, "this end of the pipe only receives"),
            Self::Put(error) => error.fmt(formatter),
        }
    }
}

impl Error for SendError {}

impl fmt::Display for RecvError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfFile => {
                write!(
                    formatter,
                    "no process holds the other end of the pipe, and every message has been received"
                )
            }
            Self::WrongWay => write!(formatter, "this end of the pipe only sends"),
            Self::Get(error) => error.fmt(formatter),
        }
    }
}

impl Error for RecvError {}

impl From<GetError> for RecvError {
    fn from(error: GetError) -> Self {
        Self::Get(error)
    }
}

impl From<Corrupt> for RecvError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Get(GetError::Corrupt(corrupt))
    }
}
