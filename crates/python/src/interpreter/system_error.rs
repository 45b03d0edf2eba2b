//! What the system has refused, as Python says it: an OSError with its number, by which a program can tell.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// The exception for `error`, which stood in the way of `purpose`: "make a Queue".
pub(crate) fn system_error(purpose: &str, error: io::Error) -> PyErr {
    match error.raw_os_error() {
        // Python makes it the subclass that goes with the number.
        Some(number) if error.kind() != io::ErrorKind::OutOfMemory => {
            let text = error.to_string();
            // The number stands in front already.
            let text = text.rsplit_once(" (os error").map_or(&*text, |(text, _)| text);
            PyOSError::new_err((number, format!("cannot {purpose}: {text}")))
        }
        // A lack of memory, what was told in words of our own, or an exception of Python's.
        _ => error.into(),
    }
}
