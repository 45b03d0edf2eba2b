//! How a thread that Python starts begins, before there is a frame of Python in it.

use std::sync::OnceLock;

use manyhands_os::{clock, park};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// How long a thread waits before it tries again to tell that it has failed.
const PAUSE: u64 = clock::MILLISECOND;

/// Calls `run` in a new thread; if that raises, keeps the exception, and calls `tell` with it until that succeeds.
///
/// Not a function of Python, because there may be no memory for its frame.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct Beginning {
    run: Py<PyAny>,
    tell: Py<PyAny>,
    failure: OnceLock<Py<PyBaseException>>,
}

#[pymethods]
impl Beginning {
    #[new]
    fn new(run: Py<PyAny>, tell: Py<PyAny>) -> Self {
        Self { run, tell, failure: OnceLock::new() }
    }

    fn __call__(&self, py: Python<'_>) {
        let Err(error) = self.run.call0(py) else { return };
        let failure = self.failure.get_or_init(|| error.into_value(py));
        while self.tell.call1(py, (failure,)).is_err() {
            py.detach(|| park::sleep_until(clock::now() + PAUSE));
        }
    }

    // A start that is interrupted leaves a thread that has this, which has the thread. What is in the thread is cleared.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run)?;
        visit.call(&self.tell)?;
        visit.call(self.failure.get())
    }

    /// What `run` has raised, or None.
    #[getter]
    fn failure(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.failure.get().map(|error| error.clone_ref(py))
    }
}
