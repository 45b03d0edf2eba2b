//! What is left to do once a future is done: waking those who wait, running callbacks.

use std::sync::Arc;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::FutureBase;
use crate::interpreter::imports;
use crate::interpreter::parker::Parker;

/// What is left to do, outside of all locks, once a future is done.
#[must_use]
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(super) parked: Vec<Arc<Parker>>,
    pub(super) callbacks: Option<Py<PyList>>,
}

impl Aftermath {
    /// Wakes the threads that wait in `result()`.
    pub(crate) fn unpark_waiters(&mut self) {
        for parker in self.parked.drain(..) {
            parker.unpark();
        }
    }

    pub(crate) fn has_callbacks(&self) -> bool {
        self.callbacks.is_some()
    }

    /// The threads that wait in `result()`, to be called by the caller.
    pub(crate) fn take_waiters(&mut self) -> Vec<Arc<Parker>> {
        std::mem::take(&mut self.parked)
    }

    /// Runs the callbacks in the order they were added. An Exception is logged; the first other exception is returned
    /// once all have run.
    pub(crate) fn run_callbacks(self, future: &Bound<'_, FutureBase>) -> PyResult<()> {
        let Some(callbacks) = self.callbacks else { return Ok(()) };
        let mut outcome = Ok(());
        for callback in callbacks.bind(future.py()).iter() {
            let called = run_callback(future, &callback);
            outcome = outcome.and(called);
        }
        outcome
    }
}

/// Calls one callback. An Exception is logged, any other exception returned.
pub(super) fn run_callback(future: &Bound<'_, FutureBase>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    let Err(error) = callback.call1((future,)) else { return Ok(()) };
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    log_callback_error(future, &error)
}

/// Logs what a callback raised, in the standard library's words.
pub(super) fn log_callback_error(future: &Bound<'_, FutureBase>, error: &PyErr) -> PyResult<()> {
    let py = future.py();
    let details = PyDict::new(py);
    details.set_item("exc_info", error.value(py))?;
    let text = "exception calling callback for %r";
    imports::logger(py)?.call_method("error", (text, future), Some(&details))?;
    Ok(())
}
