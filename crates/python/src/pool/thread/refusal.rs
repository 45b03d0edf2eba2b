//! Why a pool of threads takes no more tasks.

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;

use crate::interpreter::imports;

/// Why a pool takes no more tasks.
pub(crate) enum Refusal {
    Broken(String),
    Closed,
}

impl Refusal {
    pub(crate) fn error(self, py: Python<'_>) -> PyErr {
        let text = match self {
            Self::Broken(message) => return imports::error(py, imports::broken_thread_pool, Some(message)),
            Self::Closed if super::is_exiting() => "cannot schedule new futures after interpreter shutdown",
            Self::Closed => "cannot schedule new futures after shutdown",
        };
        PyRuntimeError::new_err(text)
    }
}

/// Whether an error is that of a thread which could not be started. Ctrl-C, and what else a signal handler raises, is not about
/// threads: the caller must hear of it.
pub(crate) fn is_of_a_start(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyRuntimeError>(py) || error.is_instance_of::<PyMemoryError>(py)
}
