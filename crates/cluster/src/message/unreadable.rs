//! Why a message is not understood.

use std::fmt;

use super::json::BadJson;

/// Why a message is no task that can be run, ever: it belongs to the dead letters, with [`Unreadable::word`].
///
/// ```
/// use manyhands_cluster::message::{Limits, TaskMessage, Unreadable};
///
/// let error = TaskMessage::parse(&Default::default(), b"[[], {}, {}]", &Limits::default()).expect_err("it has no headers");
/// assert_eq!(error, Unreadable::NoTask);
/// assert_eq!(error.word(), "no-task");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// Neither a header nor the body names a task.
    NoTask,
    /// It has no id. Celery's own worker dies of this.
    NoId,
    /// A header is not of its type.
    Header {
        /// Its name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A part is longer than is taken.
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its bytes, as far as they are known.
        bytes: usize,
        /// The most that are taken.
        most: usize,
    },
    /// Its content type is none of those known: JSON, pickle, msgpack, YAML.
    ContentType(String),
    /// Its body is in a character set that is not UTF-8.
    ContentEncoding(String),
    /// Its body is compressed in a way that is not known here.
    Compression(String),
    /// Its body is damaged: it cannot be decompressed.
    Damaged,
    /// Its body is not UTF-8, though it says so.
    NotUtf8,
    /// A part of its body is not JSON, or not of the right kind.
    Json {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        error: BadJson,
    },
    /// Its body is a list, but not of arguments, keyword arguments and what follows. Celery's own worker dies of this.
    BodyLength(usize),
    /// One of the signatures that it carries has no task.
    Signature(&'static str),
}

impl Unreadable {
    /// Returns a word for its kind: for headers, metrics and `grep`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoTask => "no-task",
            Self::NoId => "no-id",
            Self::Header { .. } => "bad-header",
            Self::TooLarge { .. } => "too-large",
            Self::ContentType(_) => "content-type",
            Self::ContentEncoding(_) => "content-encoding",
            Self::Compression(_) => "compression",
            Self::Damaged => "damaged",
            Self::NotUtf8 => "not-utf-8",
            Self::Json { .. } => "bad-json",
            Self::BodyLength(_) => "body-length",
            Self::Signature(_) => "bad-signature",
        }
    }

    /// A part of the body that is not what it must be.
    pub(crate) fn json(part: &'static str) -> impl Fn(BadJson) -> Self {
        move |error| Self::Json { part, error }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTask => {
                formatter.write_str("the message names no task, neither in its headers nor in its body")
            }
            Self::NoId => formatter.write_str("the message has no id"),
            Self::Header { name, expected } => {
                write!(formatter, "the message's header {name} is not {expected}")
            }
            Self::TooLarge { what, bytes, most } => {
                write!(
                    formatter,
                    "the message's {what} has {bytes} bytes or more, and at most {most} are taken"
                )
            }
            Self::ContentType(kind) => write!(formatter, "the message's content type {kind:?} is not known"),
            Self::ContentEncoding(encoding) => {
                write!(formatter, "the message's content encoding {encoding:?} is not UTF-8")
            }
            Self::Compression(compression) => {
                write!(formatter, "the message is compressed as {compression:?}, which is not known here")
            }
            Self::Damaged => formatter.write_str("the message's body cannot be decompressed"),
            Self::NotUtf8 => formatter.write_str("the message's body is not UTF-8"),
            Self::Json { part, error } => write!(formatter, "the message's {part} cannot be read: {error}"),
            Self::BodyLength(length) => write!(
                formatter,
                "the message's body is a list of {length}, and not of arguments, keyword arguments and what follows"
            ),
            Self::Signature(part) => {
                write!(formatter, "the message's {part} have a signature without a task")
            }
        }
    }
}

impl std::error::Error for Unreadable {}
