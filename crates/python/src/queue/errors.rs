//! What goes wrong with queues and pipes, as Python says it.

use manyhands_channel::queue::{AttachError, GetError, PutError};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::interpreter::imports;

/// The queue could not be made or opened.
pub(super) fn attach_error(error: &AttachError) -> PyErr {
    match error {
        AttachError::Memory(_) => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// An item could not be put.
pub(super) fn put_error(py: Python<'_>, error: &PutError) -> PyErr {
    match error {
        PutError::Full => imports::error(py, imports::full, None),
        PutError::Closed => imports::error(py, imports::shut_down, None),
        PutError::TooLarge { .. } => PyValueError::new_err(error.to_string()),
        PutError::OutOfMemory(_) => PyMemoryError::new_err(error.to_string()),
        PutError::Busy(_) | PutError::Interrupted => PyRuntimeError::new_err(error.to_string()),
        PutError::Corrupt(_) => PyOSError::new_err(error.to_string()),
    }
}

/// An item could not be taken.
pub(super) fn get_error(py: Python<'_>, error: &GetError) -> PyErr {
    match error {
        GetError::Empty => imports::error(py, imports::empty, None),
        GetError::Closed => imports::error(py, imports::shut_down, None),
        GetError::Busy(_) | GetError::Interrupted => PyRuntimeError::new_err(error.to_string()),
        GetError::Corrupt(_) => PyOSError::new_err(error.to_string()),
    }
}
