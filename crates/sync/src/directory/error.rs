//! Why a name cannot be used.

use std::{fmt, io};

use crate::kind::Kind;
use crate::site_error::SiteError;

/// The most bytes that a name may have.
pub const LONGEST_NAME: usize = 200;

/// Why a segment can be neither made nor opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no characters.
    Empty,
    /// The name has more than [`LONGEST_NAME`] bytes.
    TooLong {
        /// The name.
        name: String,
    },
    /// There is a NUL in the name.
    Nul {
        /// The name.
        name: String,
    },
    /// Somebody else has been making or opening it for seconds.
    Busy {
        /// The name.
        name: String,
    },
    /// What has this name is something else.
    OtherKind {
        /// The name.
        name: String,
        /// What it is; `None` for what this version does not know.
        is: Option<Kind>,
        /// What was asked for.
        wanted: Kind,
    },
    /// What has this name was made with other parameters.
    OtherParameters {
        /// The name.
        name: String,
        /// What it is, and was asked for.
        kind: Kind,
        /// Those it was made with that differ, in order.
        is: Vec<u64>,
        /// Those that were asked for instead.
        wanted: Vec<u64>,
    },
    /// Nothing has this name, and it was not said what to make.
    NotMade {
        /// The name.
        name: String,
        /// What was asked for.
        kind: Kind,
    },
    /// What has this name was made by another version, or is damaged.
    Unusable {
        /// The name; empty when it has none.
        name: String,
        /// What is wrong.
        error: SiteError,
    },
    /// Its holder may not be inspected by this process.
    Hidden {
        /// The name; empty when it has none.
        name: String,
        /// The process that has it.
        pid: i32,
        /// What the system said.
        error: io::Error,
    },
    /// Nobody has the segment any more.
    Gone {
        /// The process that gave its address.
        pid: i32,
        /// This process.
        here: i32,
    },
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("a name must not be empty"),
            Self::TooLong { name } => {
                let bytes = name.len();
                write!(
                    formatter,
                    "a name may have at most {LONGEST_NAME} bytes, this one has {bytes}: {name:?}"
                )
            }
            Self::Nul { name } => write!(formatter, "a name must not contain a null character: {name:?}"),
            Self::Busy { name } => write!(
                formatter,
                "another process has been busy opening {name:?} for 10 seconds; it may be stopped"
            ),
            Self::OtherKind { name, is: Some(is), wanted } => {
                write!(formatter, "the object named {name:?} is of kind {is}, not {wanted}")
            }
            Self::OtherKind { name, is: None, wanted } => {
                write!(
                    formatter,
                    "the object named {name:?} is of a kind that this version does not know, not {wanted}"
                )
            }
            Self::OtherParameters { name, kind, is, wanted } => {
                let (is, wanted) = (joined(is), joined(wanted));
                write!(formatter, "the {kind} named {name:?} was made with {is}, not {wanted}")
            }
            Self::NotMade { name, kind } => {
                write!(
                    formatter,
                    "nothing is named {name:?}, and a {kind} cannot be created without its arguments"
                )
            }
            Self::Unusable { name, error } if name.is_empty() => {
                write!(formatter, "a shared object cannot be used: {error}")
            }
            Self::Unusable { name, error } => {
                write!(formatter, "the object named {name:?} cannot be used: {error}")
            }
            Self::Hidden { name, pid, error } => {
                let what = if name.is_empty() { "a shared object".to_owned() } else { format!("{name:?}") };
                write!(
                    formatter,
                    "{what} is in use by process {pid}, which this process may not inspect ({error}): the \
                     system hides processes that have changed their user or are otherwise not dumpable, and \
                     all processes where /proc is missing; open it here before that, inherit it by fork, or \
                     have process {pid} call \
                     prctl(PR_SET_DUMPABLE, 1)"
                )
            }
            Self::Gone { pid, here } => write!(
                formatter,
                "this shared object no longer exists: process {pid} had it when it sent its address to \
                 process {here}; keep it until the receiver has opened it"
            ),
            Self::System(error) => write!(formatter, "cannot allocate shared memory: {error}"),
        }
    }
}

fn joined(numbers: &[u64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl std::error::Error for NameError {}

impl From<io::Error> for NameError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
