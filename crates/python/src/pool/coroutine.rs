//! Pools of coroutines: how event loops are woken, and what their futures come from.
//!
//! The pool itself, and the loops, are Python's (`python/manyhands/_coroutine`). What is here makes a call from another thread
//! cheap: a loop that has nothing to do looks for a moment whether something comes before it sleeps in its selector, where it can
//! be woken only by a system call; and whoever waits for a result learns of it when the loop has released the interpreter.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::clock::Deadline;
use manyhands_pool::statistics::Statistics;
use manyhands_sync::{Spent, SpinPolicy};
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::future::{CancelAnswer, FutureBase, Outcome, Source};
use crate::interpreter::kick::Kick;
use crate::interpreter::lock::lock;
use crate::interpreter::parker::{self, Expect, Parker};
use crate::pool::statistics;

/// Adds what pools of coroutines need to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoopBell>()?;
    module.add_class::<CoroutineTasks>()
}

/// The loop sleeps in its selector, or runs callbacks: only its descriptor gets its attention.
const AWAY: u32 = 0;
/// The loop looks at this word.
const LOOKING: u32 = 1;
/// Somebody has rung since the loop last answered.
const RUNG: u32 = 2;

/// What all loops have learned of such waits.
static SPIN: SpinPolicy = SpinPolicy::new();

/// What wakes an event loop: many rings before it answers are one.
///
/// | word | set by | cleared by |
/// |------|--------|------------|
/// | AWAY | the loop, in `answer`, and when it has looked without success | |
/// | LOOKING | the loop, only from AWAY | whoever rings, the loop |
/// | RUNG | anyone, from any state | the loop, in `answer` |
#[pyclass(frozen, module = "manyhands._native")]
struct LoopBell {
    word: AtomicU32,
    /// When it was last rung.
    kick: Kick,
    /// A look without success, whose wait goes on in the selector.
    spent: Mutex<Option<Spent<'static>>>,
    /// Those that wait for results which this loop has produced, and have not heard of it yet.
    waiters: Mutex<Vec<Arc<Parker>>>,
}

impl LoopBell {
    fn unpark_waiters(&self) {
        let waiters = std::mem::take(&mut *lock(&self.waiters));
        for waiter in waiters {
            waiter.unpark();
        }
    }

    fn has_waiter_in_our_way(&self) -> bool {
        lock(&self.waiters).iter().any(|waiter| waiter.is_in_our_way())
    }

    fn end(&self, future: &Bound<'_, FutureBase>, outcome: Outcome, lingers: bool) -> bool {
        let Some(mut aftermath) = FutureBase::finish(future, outcome) else { return false };
        if lingers && !aftermath.has_callbacks() {
            lock(&self.waiters).append(&mut aftermath.take_waiters());
        } else {
            aftermath.unpark_waiters();
        }
        FutureBase::conclude(future, aftermath);
        true
    }
}

#[pymethods]
impl LoopBell {
    #[new]
    fn new() -> Self {
        Self {
            word: AtomicU32::new(AWAY),
            kick: Kick::default(),
            spent: Mutex::default(),
            waiters: Mutex::default(),
        }
    }

    /// Have the loop look at what is there for it; whether its descriptor has to be written to for that.
    fn ring(&self) -> bool {
        self.kick.note();
        // pairs with: answer, linger
        self.word.swap(RUNG, Ordering::AcqRel) == AWAY
    }

    /// Whether it has been rung and the loop has not answered yet.
    #[getter]
    fn is_rung(&self) -> bool {
        self.word.load(Ordering::Acquire) == RUNG
    }

    /// The loop is here, and looks at what is there for it *after* this.
    fn answer(&self) {
        // pairs with: ring: what was there before it rang is seen now
        self.word.swap(AWAY, Ordering::AcqRel);
        if let Some(spent) = lock(&self.spent).take() {
            spent.end();
        }
    }

    /// The loop has nothing to do: tell those that wait for its results, and look for a moment whether somebody rings. False when
    /// nobody has, and it should sleep.
    fn linger(&self, py: Python<'_>) -> bool {
        // Not learned from: that wait has ended otherwise than by a ring.
        lock(&self.spent).take();
        // pairs with: ring (AcqRel)
        if self.word.compare_exchange(AWAY, LOOKING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.unpark_waiters();
            return true;
        }
        py.detach(|| {
            parker::count_detachment();
            let looks = !self.has_waiter_in_our_way();
            self.unpark_waiters();
            if looks {
                let is_rung = || (self.word.load(Ordering::Acquire) == RUNG).then_some(());
                match SPIN.look(is_rung) {
                    Ok(()) => {
                        self.kick.await_release();
                        return true;
                    }
                    Err(spent) => *lock(&self.spent) = Some(spent),
                }
            }
            // pairs with: ring (AcqRel)
            self.word.compare_exchange(LOOKING, AWAY, Ordering::AcqRel, Ordering::Acquire).is_err()
        })
    }

    /// Tell those that wait for results of this loop, which ends.
    fn tell(&self) {
        self.unpark_waiters();
    }

    /// Complete the future; false if it was done. With `lingers`, `linger` is called next, and waiters hear of it there.
    fn succeed(&self, future: &Bound<'_, FutureBase>, result: Py<PyAny>, lingers: bool) -> bool {
        self.end(future, Ok(result), lingers)
    }

    /// As `succeed`, with an exception.
    fn fail(&self, future: &Bound<'_, FutureBase>, error: Py<PyBaseException>, lingers: bool) -> bool {
        self.end(future, Err(error), lingers)
    }
}

thread_local! {
    /// The pool whose loop this thread runs: the address of its `Tasks`, or 0.
    static LOOP_OF: Cell<usize> = const { Cell::new(0) };
}

/// Where the futures of one pool come from.
struct Tasks {
    /// Called with a token and whether that task runs, to have it cancelled; whether it will be.
    ask: Py<PyAny>,
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
        if deadline.is_none() && LOOP_OF.get() == self.address() {
            return Err(PyRuntimeError::new_err(
                "an event loop of CoroutinePoolExecutor would wait here for a task of the same executor, which may be its own to run: \
                 in a coroutine, await asyncio.wrap_future(future) instead of calling future.result()",
            ));
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
        "coroutine"
    }

    fn note_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes the futures of a pool of coroutines.
#[pyclass(frozen, module = "manyhands._native")]
struct CoroutineTasks {
    tasks: Arc<Tasks>,
}

#[pymethods]
impl CoroutineTasks {
    #[new]
    fn new(ask: Py<PyAny>) -> Self {
        Self { tasks: Arc::new(Tasks { ask, cancelled: AtomicU64::new(0) }) }
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

    /// Say that the calling thread runs a loop of this pool, or no more.
    fn mark_thread(&self, runs: bool) {
        LOOP_OF.set(if runs { self.tasks.address() } else { 0 });
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
    fn orphan(future: &Bound<'_, FutureBase>) {
        FutureBase::orphan(
            future,
            "the coroutine runs in the process that this one was forked from; its result is available only there",
        );
    }
}
