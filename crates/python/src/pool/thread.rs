//! Pools of threads: the native half of `manyhands.ThreadPoolExecutor`.
//!
//! Threads are Python's own (`threading.Thread`), each running [`ThreadWorker::run`]; which thread is woken for what
//! is decided in Rust. Where an executor's time goes is in waking threads and in handing the interpreter from one to
//! the other:
//!
//! - A worker takes the next task without releasing the interpreter, so a thousand tiny tasks cost one handover.
//! - A submit wakes one worker at most, and none when one is on its way; that one wakes the next if there is more.
//! - An idle worker spins for a moment before it sleeps, and asks for the interpreter only when the submitter has released
//!   it; in the same way, a waiter learns of its result when the worker has released it. See `parker`.

mod backlog;
mod deadlines;
mod pool;
mod refusal;
mod running_frames;
mod task;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_os::clock;
use manyhands_pool::statistics::Statistics;
use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use self::pool::Pool;
use self::pool::blocked::Blocked;
use self::pool::worker::{Counts, Worker};
use self::task::{Options, Task};
use crate::future::{FutureBase, Source};
use crate::interpreter::asked::{self, Waiting};
use crate::interpreter::imports;
use crate::interpreter::parker::{Expect, Parker, WakeReason};
use crate::interpreter::switching::{self, switched};
use crate::pool::statistics;

/// Adds what thread pools need to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ThreadPoolBase", module.py().get_type::<ThreadPoolBase>())?;
    module.add_class::<ThreadWorker>()?;
    module.add_function(wrap_pyfunction!(check_cancelled, module)?)?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(close_thread_pools, module)?)?;
    module.add_function(wrap_pyfunction!(stop_deadlines, module)?)?;
    module.add_function(wrap_pyfunction!(restart_thread_pools, module)?)
}

/// Every pool there is. Locked only by attached threads, so that `fork()` cannot catch it locked.
static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());
/// Whether the interpreter is going down.
static EXITING: AtomicBool = AtomicBool::new(false);

fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// The list of pools, without those that are gone.
fn living() -> MutexGuard<'static, Vec<Weak<Pool>>> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    pools
}

fn pools() -> Vec<Arc<Pool>> {
    living().iter().filter_map(Weak::upgrade).collect()
}

/// Closes every pool: the interpreter is going down, and what is queued is still done.
#[pyfunction]
fn close_thread_pools(py: Python<'_>) -> PyResult<()> {
    EXITING.store(true, Ordering::Relaxed);
    let mut raised = Ok(());
    for pool in pools() {
        pool.close();
        raised = raised.and(pool.stay(py));
    }
    raised
}

/// Stops the thread that watches deadlines, once all workers have ended.
#[pyfunction]
fn stop_deadlines(py: Python<'_>) {
    deadlines::stop(py);
}

/// Gives every pool a fresh start in the child of a fork, where their threads are not.
#[pyfunction]
fn restart_thread_pools(py: Python<'_>) {
    deadlines::restart();
    for pool in pools() {
        pool.restart(py);
    }
}

/// Raise TaskCancelled if the running task has been asked to stop.
#[pyfunction]
fn check_cancelled(py: Python<'_>) -> PyResult<()> {
    asked::stop_if_asked(py)
}

/// Sleep for `seconds`; raise TaskCancelled as soon as the running task is asked to stop.
#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err("sleep length must be non-negative"));
    }
    if switching::is_on() && switched(imports::async_sleep(py)?, (seconds,))?.is_some() {
        return Ok(());
    }
    let deadline = clock::after(seconds);
    let parker = Parker::own();
    loop {
        parker.reset();
        let waiting = Waiting::begin(py)?;
        let reason = parker.wait(py, deadline, Expect::Nothing);
        waiting.end(py)?;
        if reason? == WakeReason::TimedOut {
            return Ok(());
        }
    }
}

/// The native half of `manyhands.ThreadPoolExecutor`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "ThreadPoolExecutor")]
struct ThreadPoolBase {
    pool: Arc<Pool>,
}

impl Drop for ThreadPoolBase {
    fn drop(&mut self) {
        // Nobody can submit any more: workers leave when the backlog is done.
        self.pool.close();
    }
}

impl ThreadPoolBase {
    fn enqueue(
        &self,
        call: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
        options: Option<Box<Options>>,
        future: Option<Bound<'_, FutureBase>>,
    ) -> PyResult<Py<FutureBase>> {
        let py = call.py();
        let make = |token, future| {
            let context = imports::copy_context(py)?.call0()?;
            if context.len()? > 0 {
                imports::make_own(py)?.call1((&context,))?;
            }
            let context = context.unbind();
            let keywords = keywords.map(|keywords| keywords.clone().unbind());
            Ok(Task::new(token, future, context, call.clone().unbind(), keywords, options))
        };
        let Some(future) = future else { return self.pool.submit(py, make) };
        self.pool.submit_announced(py, &future, make)?;
        Ok(future.unbind())
    }
}

#[pymethods]
impl ThreadPoolBase {
    /// `max_workers` threads at most, each of which leaves when it was idle for `idle_timeout` seconds.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let pool = Arc::<Pool>::default();
        living().push(Arc::downgrade(&pool));
        Self { pool }
    }

    /// Sets the pool up. `crew` is a weak reference to an object that starts a thread in its method
    /// `start(worker)`.
    fn _open(&self, max_workers: usize, idle_timeout: f64, crew: Py<PyAny>) {
        self.pool.open(max_workers, idle_timeout, crew);
    }

    /// Schedule ``fn(*args, **kwargs)`` to run in a worker thread and return its `Future`.
    ///
    /// The task runs in a copy of the caller's context (see `contextvars`).
    ///
    /// Raises RuntimeError after `shutdown`, BrokenThreadPool if an initializer has failed.
    #[pyo3(signature = (*call, **keywords), text_signature = "($self, fn, /, *args, **kwargs)")]
    fn submit(
        &self,
        call: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<FutureBase>> {
        if call.is_empty() {
            return Err(PyTypeError::new_err("submit() missing 1 required positional argument: 'fn'"));
        }
        self.enqueue(call, keywords, None, None)
    }

    /// As `submit`, with options. `future` is that of a task that was announced by `_reserve`, or None.
    #[pyo3(signature = (options, function, arguments, keywords, future=None))]
    fn _submit(
        &self,
        options: &Bound<'_, PyAny>,
        function: Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
        keywords: &Bound<'_, PyDict>,
        future: Option<Bound<'_, FutureBase>>,
    ) -> PyResult<Py<FutureBase>> {
        let call = PyTuple::new(
            options.py(),
            std::iter::once(function).chain(arguments.iter()).collect::<Vec<_>>(),
        )?;
        let keywords = (!keywords.is_empty()).then_some(keywords);
        self.enqueue(&call, keywords, Options::read(options)?, future)
    }

    /// Announce a task: until `_give_back` workers stay, and the pool takes it even if it is closed.
    fn _reserve(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().pool.reserve(py)?;
        Ok(slf)
    }

    /// The task that was announced has been submitted, or will never be.
    fn _give_back(&self) {
        self.pool.give_back();
    }

    /// Have `max_workers` threads at most from now on.
    fn _resize(&self, py: Python<'_>, max_workers: usize) -> PyResult<()> {
        self.pool.resize(py, max_workers)
    }

    /// Take no more tasks; cancel what is queued if `cancel_futures`.
    fn _close(&self, py: Python<'_>, cancel_futures: bool) -> PyResult<()> {
        self.pool.close();
        if cancel_futures {
            for task in self.pool.withdraw_all() {
                if FutureBase::force_cancelled(task.future.bind(py)) {
                    self.pool.note_cancelled();
                }
            }
        }
        self.pool.stay(py)
    }

    /// Ask what runs to stop.
    fn _ask_all(&self) {
        for worker in &self.pool.lock().workers {
            worker.frames.ask_all();
        }
    }

    #[getter]
    fn _max_workers(&self) -> usize {
        self.pool.lock().limit
    }

    #[getter]
    fn _shutdown(&self) -> bool {
        self.pool.lock().closing
    }

    /// Why the pool is broken, or False.
    #[getter]
    fn _broken<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let broken = self.pool.lock().broken.clone();
        match broken {
            Some(message) => Ok(message.into_pyobject(py)?.into_any()),
            None => Ok(false.into_pyobject(py)?.to_owned().into_any()),
        }
    }

    /// How many workers there are, and how many tasks that have not ended.
    fn _size(&self, py: Python<'_>) -> (usize, usize) {
        let (queued, workers) = {
            let inner = self.pool.lock();
            (inner.backlog.len() + inner.expected.waiting(), inner.workers.clone())
        };
        let running = workers.iter().map(|worker| worker.frames.depth()).sum::<usize>();
        let started = workers.iter().filter(|worker| worker.thread.get(py).is_some());
        (started.count(), queued + running)
    }

    /// What the pool has done and is doing, as `Executor.statistics` describes it.
    fn _statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let total = Counts::default();
        let (queued, workers) = {
            let inner = self.pool.lock();
            total.add(&inner.departed);
            (inner.backlog.len() + inner.expected.waiting(), inner.workers.clone())
        };
        let rss_bytes = statistics::shared_rss_bytes();
        let listed = PyList::empty(py);
        let mut running = 0;
        for worker in &workers {
            total.add(&worker.counts);
            running += worker.frames.depth();
            // One that is still being started has nothing to tell yet.
            if let Some(thread) = worker.thread.get(py) {
                let (task, task_s) = worker.frames.innermost(py)?.unzip();
                listed.append(statistics::of_thread(
                    thread.bind(py),
                    task,
                    task_s,
                    worker.counts.ended(),
                    rss_bytes,
                )?)?;
            }
        }
        let counts = Statistics {
            queued,
            running,
            done: total.done.load(Ordering::Relaxed),
            failed: total.failed.load(Ordering::Relaxed),
            retried: total.retried.load(Ordering::Relaxed),
            cancelled: total.cancelled.load(Ordering::Relaxed),
            workers: Vec::new(),
        };
        statistics::of_pool(py, &counts, listed)
    }

    /// A context manager for a worker that waits for `futures`, or None when there is no need of one. If some of them
    /// wait in the backlog of the worker's own pool, one more thread may run at that time.
    #[staticmethod]
    fn _blocked(py: Python<'_>, futures: &Bound<'_, PyAny>) -> PyResult<Option<BlockedWorker>> {
        let Some(worker) = Worker::current() else { return Ok(None) };
        let mut is_own = false;
        for future in futures.try_iter()? {
            is_own |=
                future?.cast::<FutureBase>().is_ok_and(|future| future.get().is_pending_in(&worker.pool));
        }
        if !is_own {
            return Ok(None);
        }
        let blocked = Blocked::enter(py, &worker.pool)?;
        Ok(Some(BlockedWorker { blocked: Mutex::new(Some(blocked)) }))
    }
}

/// Ends, when it is left or dropped, what `ThreadPoolBase._blocked` began.
#[pyclass(frozen, module = "manyhands._native")]
struct BlockedWorker {
    blocked: Mutex<Option<Blocked>>,
}

#[pymethods]
impl BlockedWorker {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(blocked);
    }
}

/// A worker of a thread pool, for the thread that will be it.
#[pyclass(frozen, module = "manyhands._native")]
struct ThreadWorker {
    worker: Arc<Worker>,
}

impl ThreadWorker {
    fn of(worker: &Arc<Worker>) -> Self {
        Self { worker: Arc::clone(worker) }
    }
}

#[pymethods]
impl ThreadWorker {
    /// The worker's place in the pool: the smallest number that was free.
    #[getter]
    fn number(&self) -> usize {
        self.worker.number
    }

    /// Whether the pool has been closed.
    #[getter]
    fn closing(&self) -> bool {
        self.worker.pool.lock().closing
    }

    /// Has each task start from the variables of `base`, with its submitter's on top.
    fn use_base(&self, py: Python<'_>, base: Py<PyAny>) {
        _ = self.worker.base.set(py, base);
    }

    /// Runs tasks in the calling `thread` until there is no more to do.
    fn run(&self, py: Python<'_>, thread: Py<PyAny>) {
        _ = self.worker.thread.set(py, thread);
        self.worker.run(py);
    }

    /// Breaks the pool: the worker could not be set up. False when it was broken already.
    fn break_pool(&self, py: Python<'_>, message: &str) -> bool {
        self.worker.pool.break_with(py, message)
    }

    /// Waits until the thread, which runs, has looked for work.
    fn await_arrival(&self, py: Python<'_>) -> PyResult<()> {
        self.worker.await_arrival(py)
    }

    /// The thread was started, and could not begin because of `cause`.
    fn fail_to_begin(&self, py: Python<'_>, cause: Py<PyBaseException>) {
        self.worker.pool.fail_to_begin(py, &self.worker, cause);
    }

    /// The thread ends, for whatever reason.
    fn dismiss(&self) {
        self.worker.pool.dismiss(&self.worker);
    }
}
