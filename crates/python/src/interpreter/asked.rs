//! Whether the task that the calling thread runs has been asked to stop.
//!
//! Futures, locks and queues look at this while they wait. Tasks that can be asked are those of pools of threads, which
//! stand above all of these: so a worker says here that it is one, and everybody below asks here.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::interpreter::imports;

/// The worker of a pool, as far as its thread's waits know it.
pub(crate) trait Worker: Send + Sync {
    /// Whether the task that it runs has been asked to stop.
    fn is_asked(&self) -> bool;

    /// Notes that its task is in a wait of ours, or no longer is; returns whether it has been asked to stop.
    fn set_waiting(&self, waiting: bool) -> bool;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Worker>>> = const { RefCell::new(None) };
}

/// Says whose thread the calling one is from now on; returns whose it was.
pub(crate) fn run_as(worker: Option<Arc<dyn Worker>>) -> Option<Arc<dyn Worker>> {
    CURRENT.replace(worker)
}

/// Raises TaskCancelled if the task that the calling thread runs has been asked to stop.
pub(crate) fn stop_if_asked(py: Python<'_>) -> PyResult<()> {
    if is_asked() { Err(stop(py)) } else { Ok(()) }
}

/// Whether the calling thread is a worker of a thread pool.
pub(crate) fn is_worker() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Whether the task that the calling thread runs has been asked to stop.
pub(crate) fn is_asked() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|worker| worker.is_asked()))
}

fn stop(py: Python<'_>) -> PyErr {
    imports::error(py, imports::task_cancelled, Some("the task was asked to stop".to_owned()))
}

/// While this lives, the calling thread's task is in a wait of ours, and a request to stop ends that wait.
pub(crate) struct Waiting {
    worker: Option<Arc<dyn Worker>>,
}

impl Waiting {
    /// Begins a wait; the thread's parker has been reset already.
    ///
    /// # Errors
    /// TaskCancelled when the task was asked to stop.
    pub(crate) fn begin(py: Python<'_>) -> PyResult<Self> {
        let this = Self { worker: CURRENT.with_borrow(Option::clone) };
        match &this.worker {
            Some(worker) if worker.set_waiting(true) => Err(stop(py)),
            _ => Ok(this),
        }
    }

    /// Ends the wait.
    ///
    /// # Errors
    /// TaskCancelled when the task was asked to stop in the meantime.
    pub(crate) fn end(self, py: Python<'_>) -> PyResult<()> {
        match &self.worker {
            Some(worker) if worker.set_waiting(false) => Err(stop(py)),
            _ => Ok(()),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.set_waiting(false);
        }
    }
}
