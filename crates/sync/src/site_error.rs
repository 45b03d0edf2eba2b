//! Why a segment is no site that can be used.

use std::{fmt, io};

/// The version of this library, for people.
pub(crate) const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Why a segment cannot be attached to as a site.
#[derive(Debug)]
pub enum SiteError {
    /// It does not begin with a site.
    NotASite,
    /// Its creator has not published it yet, or died before it did.
    NotReady,
    /// It was made by another version of this library, with which this one cannot share it.
    Version {
        /// The version of that library; `None` for one that did not say so.
        library: Option<String>,
        /// The format of the segment.
        found: u32,
        /// The format of this library.
        ours: u32,
    },
    /// Its length is not the one it was made with.
    Length {
        /// The segment's length in bytes.
        found: usize,
        /// The length in its heading, in bytes.
        written: u64,
    },
    /// What it says about itself is impossible.
    Corrupt(&'static str),
}

impl fmt::Display for SiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASite => write!(f, "the segment was not made by manyhands"),
            Self::NotReady => {
                write!(f, "the segment is still being created, or its creator died before it was ready")
            }
            Self::Version { library, found, ours } => {
                let theirs = library.as_deref().unwrap_or("of an earlier version");
                write!(
                    f,
                    "it was made by manyhands {theirs} (format {found}), and this is manyhands {LIBRARY} (format \
                     {ours}): programs that share objects need versions of the same format"
                )
            }
            Self::Length { found, written } => {
                write!(f, "the segment has {found} bytes, but its heading says {written}")
            }
            Self::Corrupt(what) => write!(f, "the segment is damaged: {what}"),
        }
    }
}

impl std::error::Error for SiteError {}

impl From<SiteError> for io::Error {
    fn from(error: SiteError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
