//! How a thread that Python starts begins, before there is a frame of Python in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use manyhands_os::{clock, park};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::interpreter::parker::{Expect, Parker};

/// How long a thread waits before it tries again to tell that it has failed.
const PAUSE: u64 = clock::MILLISECOND;

/// Calls `run` in a new thread; if that raises, keeps the exception, and calls `tell` with it until that succeeds.
///
/// Not a function of Python, because there may be no memory for its frame.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct Beginning {
    run: Py<PyAny>,
    tell: Option<Py<PyAny>>,
    failure: OnceLock<Py<PyBaseException>>,
    /// Whether the thread runs, or has failed. Set once, by the thread.
    is_over: AtomicBool,
    /// That of whoever starts the thread.
    starter: Arc<Parker>,
}

#[pymethods]
impl Beginning {
    #[new]
    #[pyo3(signature = (run, tell = None))]
    fn new(run: Py<PyAny>, tell: Option<Py<PyAny>>) -> Self {
        let starter = Parker::own();
        Self { run, tell, failure: OnceLock::new(), is_over: AtomicBool::new(false), starter }
    }

    fn __call__(&self, py: Python<'_>) {
        let Err(error) = self.run.call0(py) else { return };
        let failure = self.failure.get_or_init(|| error.into_value(py));
        self.end();
        while self.tell.as_ref().is_some_and(|tell| tell.call1(py, (failure,)).is_err()) {
            py.detach(|| park::sleep_until(clock::now() + PAUSE));
        }
    }

    /// Says, in the thread, that it runs.
    fn end(&self) {
        // pairs with: wait
        self.is_over.store(true, Ordering::Release);
        self.starter.unpark();
    }

    /// Waits, in the thread that has made this, until the other runs or has failed.
    ///
    /// Not by a lock of Python's: without a GIL, one that waits for it yields its CPU forty times before it sleeps, to
    /// others for a whole turn each time if they compute.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            self.starter.reset();
            // pairs with: end
            if self.is_over.load(Ordering::Acquire) {
                return Ok(());
            }
            self.starter.wait(py, None, Expect::Nothing)?;
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
