//! Where the futures of pools come from whose tasks Python hands out: to event loops, or to a cluster.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::clock::Deadline;
use manyhands_pool::statistics::Statistics;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::future::{CancelAnswer, FutureBase, Source};
use crate::interpreter::parker::Expect;
use crate::pool::statistics;

/// Adds what such pools need to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PythonTasks>()
}

/// What their workers may be.
const KINDS: [&str; 3] = ["coroutine", "greenlet", "cluster"];

thread_local! {
    /// The pool that this thread works for: the address of its `Tasks`, or 0.
    static THREAD_OF: Cell<usize> = const { Cell::new(0) };
}

/// Where the futures of one pool come from.
struct Tasks {
    /// Called with a token and whether that task runs, to have it cancelled; whether it will be.
    ask: Py<PyAny>,
    /// Of what kind its workers are.
    kind: &'static str,
    cancelled: AtomicU64,
}

impl Tasks {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn is_asked(&self, future: &Bound<'_, FutureBase>, token: u64, running: bool) -> bool {
        let py = future.py();
        let asked = self.ask.bind(py).call1((token, running)).and_then(|answer| answer.is_truthy());
        asked.unwrap_or_else(|error| {
            error.write_unraisable(py, Some(future));
            false
        })
    }
}

impl Source for Tasks {
    fn wait(&self, future: &Bound<'_, FutureBase>, _token: u64, deadline: Option<Deadline>) -> PyResult<()> {
        if deadline.is_none() && THREAD_OF.get() == self.address() {
            return Err(PyRuntimeError::new_err(match self.kind {
                "cluster" => {
                    "the thread that answers come to would wait here for one: what a done-callback begins must not \
                     wait for its result"
                }
                _ => {
                    "an event loop would wait here for a task of its executor, which may be its own to run: \
                     in a coroutine, await asyncio.wrap_future(future) instead of calling future.result()"
                }
            }));
        }
        FutureBase::park(future, deadline, Expect::Perhaps).map(drop)
    }

    fn is_running(&self, _token: u64) -> bool {
        // The loop itself says so to the future.
        false
    }

    fn cancel(&self, future: &Bound<'_, FutureBase>, token: u64, running: bool) -> CancelAnswer {
        if running {
            return match self.is_asked(future, token, true) {
                true => CancelAnswer::Ending,
                false => CancelAnswer::Refused,
            };
        }
        if !FutureBase::withdraw(future) {
            return CancelAnswer::Refused;
        }
        self.note_cancelled();
        self.is_asked(future, token, false);
        CancelAnswer::Withdrawn
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn note_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes the futures of a pool whose tasks Python hands out.
#[pyclass(frozen, module = "manyhands._native")]
struct PythonTasks {
    tasks: Arc<Tasks>,
}

#[pymethods]
impl PythonTasks {
    #[new]
    fn new(ask: Py<PyAny>, kind: &str) -> PyResult<Self> {
        let kind = KINDS.into_iter().find(|known| *known == kind);
        let kind = kind.ok_or_else(|| PyValueError::new_err("no such kind of worker"))?;
        Ok(Self { tasks: Arc::new(Tasks { ask, kind, cancelled: AtomicU64::new(0) }) })
    }

    /// Return the future of the task that the pool calls `token`.
    fn future<'py>(&self, py: Python<'py>, token: u64) -> PyResult<Bound<'py, FutureBase>> {
        FutureBase::of_source(py, Arc::clone(&self.tasks) as Arc<dyn Source>, token)
    }

    /// Have a future that was announced be that of `token`; false if it was cancelled before.
    fn adopt(&self, future: &Bound<'_, FutureBase>, token: u64) -> bool {
        future.get().attach(Arc::clone(&self.tasks) as Arc<dyn Source>, token);
        future.get().follow_no_more()
    }

    /// Cancel a future, whether its task runs or not; false if it was done.
    fn cancel(&self, future: &Bound<'_, FutureBase>) -> bool {
        // Counted before anybody can know of it.
        self.tasks.note_cancelled();
        let is_cancelled = FutureBase::force_cancelled(future);
        if !is_cancelled {
            self.tasks.cancelled.fetch_sub(1, Ordering::Relaxed);
        }
        is_cancelled
    }

    /// How many tasks have been cancelled.
    #[getter]
    fn cancelled(&self) -> u64 {
        self.tasks.cancelled.load(Ordering::Relaxed)
    }

    /// Say that the calling thread is one of this pool's, or no more: it waits for none of its futures.
    fn mark_thread(&self, runs: bool) {
        THREAD_OF.set(if runs { self.tasks.address() } else { 0 });
    }

    /// What the pool has done and is doing, as `Executor.statistics` describes it.
    fn statistics<'py>(
        &self,
        workers: Bound<'py, PyList>,
        queued: usize,
        running: usize,
        done: u64,
        failed: u64,
        retried: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let cancelled = self.tasks.cancelled.load(Ordering::Relaxed);
        let counts = Statistics { queued, running, done, failed, retried, cancelled, workers: Vec::new() };
        statistics::of_pool(workers.py(), &counts, workers)
    }

    /// What one loop has done and is doing, in the thread with that number and name.
    #[staticmethod]
    #[pyo3(signature = (thread, task, task_s, tasks_done))]
    fn worker_statistics<'py>(
        thread: &Bound<'py, PyAny>,
        task: Option<String>,
        task_s: Option<f64>,
        tasks_done: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        statistics::of_thread(thread, task, task_s, tasks_done, statistics::shared_rss_bytes())
    }

    /// In the child of a fork: fail a future whose task is in the parent.
    #[staticmethod]
    #[pyo3(signature = (future, what = "the coroutine"))]
    fn orphan(future: &Bound<'_, FutureBase>, what: &str) {
        let text = format!(
            "{what} runs in the process that this one was forked from; its result is available only there"
        );
        FutureBase::orphan(future, &text);
    }
}
