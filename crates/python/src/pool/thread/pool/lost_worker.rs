//! Workers that a thread pool has to do without, and what becomes of their work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;

use super::worker::Worker;
use super::{Inner, Pool, WakeDecision};
use crate::future::FutureBase;
use crate::interpreter::imports;
use crate::pool::thread::task::Task;

impl Pool {
    /// A worker that never arrives, or whose thread ends early, is not counted on any more.
    pub(crate) fn dismiss(&self, worker: &Arc<Worker>) {
        self.strike_lost(worker, |_| ());
    }

    /// The thread of a worker was started, and could not begin for want of memory: others do its work. If there is
    /// nobody who could, what is queued fails.
    pub(crate) fn fail_to_begin(&self, py: Python<'_>, worker: &Arc<Worker>, cause: Py<PyBaseException>) {
        let tasks = self.strike_lost(worker, |inner| {
            // Those that are blocked wait for what is queued.
            let nobody = inner.workers.len() <= inner.blocked;
            let queued = std::iter::from_fn(|| if nobody { inner.backlog.pop() } else { None });
            queued.collect::<Vec<_>>()
        });
        let cause = PyErr::from_value(cause.into_bound(py).into_any());
        self.fail(py, tasks.unwrap_or_default(), |py| {
            let error = PyRuntimeError::new_err("can't start new thread");
            error.set_cause(py, Some(cause.clone_ref(py)));
            error
        });
    }

    /// A worker could not be set up: nothing queued will ever run. False when that was known already.
    pub(crate) fn break_with(&self, py: Python<'_>, message: &str) -> bool {
        let mut inner = self.lock();
        let first = inner.broken.is_none();
        inner.broken.get_or_insert_with(|| message.to_owned());
        drop(inner);
        let tasks = self.clear();
        self.fail(py, tasks, |py| imports::error(py, imports::broken_thread_pool, Some(message.to_owned())));
        first
    }

    /// Takes a worker off the books, looks at them, and calls somebody idle if its work is still to be done; `None` for
    /// a worker of another process.
    fn strike_lost<T>(&self, worker: &Arc<Worker>, look: impl FnOnce(&mut Inner) -> T) -> Option<T> {
        let mut inner = self.lock();
        if inner.epoch != worker.epoch {
            return None;
        }
        if worker.arrive() {
            inner.count_arrival();
        }
        inner.strike(worker);
        let seen = look(&mut inner);
        let decision = inner.call_idle();
        drop(inner);
        if let WakeDecision::Unpark(idle) = decision {
            idle.unpark();
        }
        Some(seen)
    }

    fn fail(&self, py: Python<'_>, tasks: Vec<Task>, error: impl Fn(Python<'_>) -> PyErr) {
        self.lock().departed.failed.fetch_add(tasks.len() as u64, Ordering::Relaxed);
        for task in tasks {
            FutureBase::complete(task.future.bind(py), Err(error(py).into_value(py)));
        }
    }
}
