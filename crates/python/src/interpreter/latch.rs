//! What threads of this process wait for that happens once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::clock;
use pyo3::prelude::*;

use crate::interpreter::parker::{Expect, Parker, WakeReason};

/// Closed at first; once it is open, nobody waits at it any more.
///
/// Not an event of `threading`: on a build without a GIL, whoever waits for a lock of Python's yields its CPU forty
/// times before it sleeps, and if others compute, gives them a turn each time.
#[pyclass(frozen, module = "manyhands._native")]
#[derive(Debug, Default)]
pub(crate) struct Latch {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_open: bool,
    waiting: Vec<Arc<Parker>>,
}

impl Latch {
    /// Never held across Python code, nor where the interpreter is released.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, parker: &Arc<Parker>) -> bool {
        let mut inner = self.lock();
        inner.waiting.retain(|other| !Arc::ptr_eq(other, parker));
        inner.is_open
    }
}

#[pymethods]
impl Latch {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Whether it is open.
    #[getter]
    fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Opens it, and wakes all who wait; whether it was closed before.
    pub(crate) fn open(&self) -> bool {
        let mut inner = self.lock();
        let was_open = std::mem::replace(&mut inner.is_open, true);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for parker in waiting {
            parker.unpark();
        }
        !was_open
    }

    /// Waits until it is open, at most `seconds`; whether it is.
    ///
    /// # Errors
    /// What a signal handler raised in the meantime.
    #[pyo3(signature = (seconds = None))]
    pub(crate) fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        let deadline = seconds.and_then(clock::after);
        let parker = Parker::own();
        loop {
            parker.reset();
            let mut inner = self.lock();
            if inner.is_open {
                return Ok(true);
            }
            if !inner.waiting.iter().any(|other| Arc::ptr_eq(other, &parker)) {
                inner.waiting.push(Arc::clone(&parker));
            }
            drop(inner);
            match parker.wait(py, deadline, Expect::Nothing) {
                Ok(WakeReason::Unparked) => {}
                Ok(WakeReason::TimedOut) => return Ok(self.leave(&parker)),
                Err(error) => {
                    self.leave(&parker);
                    return Err(error);
                }
            }
        }
    }
}
