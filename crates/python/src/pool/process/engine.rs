//! The parent's engine of a pool of worker processes, as Python sees it.

mod deliver;
mod source;

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use manyhands_channel::arena::Block;
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::process;
use manyhands_pool::launch::Launch;
use manyhands_pool::pool::Pool;
use manyhands_pool::slots::{ARGUMENTS_INLINE, Encoding, flag};
use manyhands_pool::state::{Refused, Settings};
use manyhands_pool::statistics::Statistics;
use manyhands_pool::task::{Arguments, Function, Options};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use slotmap::Key;

use self::source::Link;
use super::functions::{Functions, name_of};
use super::pending_output::PendingOutput;
use crate::codec::compact;
use crate::codec::payload::{Content, Pickled};
use crate::future::{Aftermath, FutureBase, Source, ffi::FutureClass};
use crate::interpreter::system_error::system_error;
use crate::interpreter::{imports, spare};
use crate::memory::shared_heap;
use crate::pool::statistics;

/// How often a submit that waits for shared memory looks again.
const MEMORY_SLICE: u64 = 5 * MILLISECOND;

/// What travels with a task through the pool and comes back with its outcome.
pub(crate) struct UserData {
    pub(crate) future: Py<FutureBase>,
    /// Exceptions worth another try; None when there is none.
    pub(crate) retry_on: Option<Py<PyAny>>,
    /// Shared arrays among the arguments: they must not go before the worker has opened them.
    _shared: Vec<shared_heap::Referenced>,
}

/// What the engine, its futures and its collector share.
pub(crate) struct Core {
    pub(crate) pool: Pool<UserData>,
    link: Arc<Link>,
    functions: Functions,
    /// `manyhands._pool.forward.Forwarder`.
    pub(crate) forwarder: Py<PyAny>,
    pub(crate) pending_output: PendingOutput,
    /// Futures whose callbacks are still to be run; the collector does that.
    pub(crate) callbacks: Mutex<Vec<(Py<FutureBase>, Aftermath)>>,
    pub(crate) has_callbacks: AtomicBool,
    /// Whether any outcome has been delivered yet. Set once, by whoever delivers it.
    pub(crate) has_served: AtomicBool,
    /// The fork that the pool was made in. In a later one everything here is the parent's, and shared
    /// with it: nothing may be touched.
    fork: u32,
}

/// How to run a task, and which failures make it run again.
type TaskOptions = (Box<Options>, Option<Py<PyAny>>);

impl Core {
    fn is_copy(&self) -> bool {
        self.fork != process::fork_count()
    }

    /// Encodes a call and gives it to the pool.
    fn submit<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        callable: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        options: Option<TaskOptions>,
        future: Option<Bound<'py, FutureBase>>,
    ) -> PyResult<Bound<'py, FutureBase>> {
        let arena = self.pool.heap().arena();
        let known = self.functions.get(callable, arena)?;
        let place = if known.is_some() { "the call" } else { "the carried call" };
        let (function, args, options) = match known {
            Some(function) => (function, args.clone(), options),
            None => self.carried(callable, args, options)?,
        };
        let args = &args;
        let sent = sent_context(py)?;
        let mut bytes = Vec::with_capacity(ARGUMENTS_INLINE);
        let mut shared = Vec::new();
        let pickled;
        let mut flags = 0;
        let compact = sent.is_none()
            && compact::encode_call(
                args,
                kwargs,
                &mut bytes,
                ARGUMENTS_INLINE,
                compact::LONGEST,
                &mut shared,
            );
        let arguments = if compact && bytes.len() <= ARGUMENTS_INLINE {
            Arguments::Inline(Encoding::Compact, &bytes)
        } else if compact {
            flags |= flag::COMPACT;
            Arguments::Block(self.write_waiting(py, Content::Compact(&bytes))?)
        } else {
            if sent.is_some() {
                flags |= flag::CONTEXT;
            }
            let dumps = imports::dumps(py)?;
            let (dumped, referenced) =
                shared_heap::with_references(|| dumps.call1(((args, kwargs, sent), place)));
            pickled = Pickled::from_dumps(&dumped?)?;
            shared = referenced;
            if pickled.fits(ARGUMENTS_INLINE) {
                Arguments::Inline(Encoding::Pickle, pickled.data.as_bytes())
            } else {
                Arguments::Block(self.write_waiting(py, Content::Pickled(&pickled))?)
            }
        };
        let expected = future.is_some();
        let future = future.map_or_else(|| FutureClass::instantiate(py), Ok)?;
        let (options, retry_on) = match options {
            Some((options, retry_on)) => (Some(options), retry_on),
            None => (None, None),
        };
        let user_data = UserData { future: future.clone().unbind(), retry_on, _shared: shared };
        match self.pool.submit(user_data, function, arguments, flags, options, expected) {
            Ok(token) => {
                let source: Arc<dyn Source> = Arc::clone(&self.link) as _;
                future.get().attach(source, token.data().as_ffi());
                if expected && !future.get().follow_no_more() {
                    _ = self.pool.cancel(token, true);
                }
                Ok(future)
            }
            Err((refused, _)) => Err(refusal(py, &refused)),
        }
    }

    /// How to run a function that has to be pickled for each task: it is the first argument of one that calls it. So its
    /// buffers travel as those of arguments do.
    fn carried<'py>(
        &self,
        callable: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        options: Option<TaskOptions>,
    ) -> PyResult<(Arc<Function>, Bound<'py, PyTuple>, Option<TaskOptions>)> {
        let py = callable.py();
        let function = self.functions.get(imports::carry(py)?, self.pool.heap().arena())?;
        let function =
            function.ok_or_else(|| PyRuntimeError::new_err("the calling function is not found"))?;
        let parts = std::iter::once(callable.clone()).chain(args.iter());
        let args = PyTuple::new(py, parts.collect::<Vec<_>>())?;
        let (mut options, retry_on) = options.unwrap_or_default();
        options.name.get_or_insert_with(|| name_of(callable));
        Ok((function, args, Some((options, retry_on))))
    }

    /// Writes a call into shared memory; waits while that is full and running tasks will make room.
    fn write_waiting(&self, py: Python<'_>, content: Content<'_, '_>) -> PyResult<Block> {
        let arena = self.pool.heap().arena();
        loop {
            let error = match content.write(py, arena) {
                Ok(block) => return Ok(block),
                Err(error) => error,
            };
            let hopeless = content.size() > arena.limit() || self.pool.unfinished() == 0;
            if hopeless || !error.is_instance_of::<PyMemoryError>(py) {
                return Err(error);
            }
            py.detach(|| {
                let until = Some(clock::now() + MEMORY_SLICE);
                self.pool.wait_as_leader(|| false, until)
            });
            self.deliver(py);
            py.check_signals()?;
        }
    }
}

/// What is sent of the caller's context variables; `None` when there is nothing to send.
fn sent_context(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let context = imports::copy_context(py)?.call0()?;
    if context.len()? == 0 {
        return Ok(None);
    }
    let sent = imports::dump_context(py)?.call0()?;
    Ok((sent.len()? > 0).then_some(sent))
}

/// The exception for a task that was not taken.
fn refusal(py: Python<'_>, refused: &Refused) -> PyErr {
    match refused {
        Refused::Closed => PyRuntimeError::new_err("cannot schedule new futures after shutdown"),
        Refused::Broken(reason) => imports::error(py, imports::broken_process_pool, Some(reason.to_string())),
    }
}

/// The native half of `manyhands.ProcessPoolExecutor`.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct ProcessEngine {
    core: Arc<Core>,
}

#[pymethods]
impl ProcessEngine {
    /// A pool that starts nothing before its first task.
    ///
    /// `program`, `arguments`, `environment` (None: unset) and `descriptors` start the zygote; `set_up`
    /// is what it reads first. Times in seconds.
    #[new]
    #[pyo3(signature = (*, program, arguments, environment, set_up, descriptors, workers, idle_timeout, grace, forwarder))]
    #[allow(clippy::too_many_arguments, reason = "keyword-only in Python, and called from one place")]
    fn new(
        program: OsString,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, Option<OsString>)>,
        set_up: &[u8],
        descriptors: Vec<i32>,
        workers: usize,
        idle_timeout: Option<f64>,
        grace: f64,
        forwarder: Py<PyAny>,
    ) -> PyResult<Self> {
        spare::keep();
        let heap = shared_heap::own()?;
        let block = heap.allocate(set_up.len()).map_err(|error| system_error("start a pool", error))?;
        block.write(0, set_up);
        let launch = Launch {
            program,
            arguments,
            environment,
            set_up: block,
            descriptors: Mutex::new(shared_heap::duplicate(&descriptors)?),
        };
        let settings =
            Settings { workers, idle_timeout: idle_timeout.map(nanoseconds), grace: nanoseconds(grace) };
        let pool = Pool::new(heap, settings, launch).map_err(|error| system_error("start a pool", error))?;
        let core = Arc::new_cyclic(|core| Core {
            pool,
            link: Arc::new(Link(Weak::clone(core))),
            functions: Functions::default(),
            forwarder,
            pending_output: PendingOutput::default(),
            callbacks: Mutex::new(Vec::new()),
            has_callbacks: AtomicBool::new(false),
            has_served: AtomicBool::new(false),
            fork: process::fork_count(),
        });
        Ok(Self { core })
    }

    /// To be called when the first task is on its way: what starts workers is started while that task is encoded, for
    /// which much may have to be imported.
    fn prepare(&self, py: Python<'_>) {
        py.detach(|| self.core.pool.prepare());
    }

    /// Schedules `function(*args, **kwargs)`; its future.
    fn submit<'py>(
        &self,
        py: Python<'py>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, FutureBase>> {
        let kwargs = (!kwargs.is_empty()).then_some(kwargs);
        self.core.submit(py, function, args, kwargs, None, None)
    }

    /// As `submit`, with options; `timeout` and `pauses` in seconds, `retry_on` what `except` takes. `future` is that of
    /// a task that was announced by `reserve`, or None.
    #[pyo3(signature = (function, args, kwargs, *, timeout, retries, retry_on, pauses, priority, name, future))]
    #[allow(clippy::too_many_arguments, reason = "keyword-only in Python, and called from one place")]
    fn submit_with<'py>(
        &self,
        py: Python<'py>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        timeout: Option<f64>,
        retries: u32,
        retry_on: &Bound<'py, PyTuple>,
        pauses: Vec<f64>,
        priority: i32,
        name: Option<String>,
        future: Option<Bound<'py, FutureBase>>,
    ) -> PyResult<Bound<'py, FutureBase>> {
        let retries_failure = |class: &Bound<'py, PyAny>| -> PyResult<bool> {
            imports::issubclass(py)?.call1((class, retry_on))?.is_truthy()
        };
        let options = Options {
            timeout: timeout.map(nanoseconds),
            retries,
            pauses: pauses.into_iter().map(nanoseconds).collect(),
            retry_deaths: retries > 0 && retries_failure(imports::worker_died(py)?)?,
            retry_timeouts: retries > 0 && retries_failure(imports::task_timeout(py)?)?,
            priority,
            name,
        };
        let retry_on = (retries > 0).then(|| retry_on.clone().into_any().unbind());
        let kwargs = (!kwargs.is_empty()).then_some(kwargs);
        self.core.submit(py, function, args, kwargs, Some((Box::new(options), retry_on)), future)
    }

    /// Announces a task: until `give_back` the pool does not end, and takes it even if it is closed.
    fn reserve(&self, py: Python<'_>) -> PyResult<()> {
        self.core.pool.reserve().map_err(|refused| refusal(py, &refused))
    }

    /// The task that was announced has been submitted, or will never be.
    fn give_back(&self, py: Python<'_>) {
        py.detach(|| self.core.pool.give_back());
    }

    /// The collector thread: completes futures until the pool has ended.
    fn collect(&self, py: Python<'_>) {
        self.core.collect(py);
    }

    /// Takes no more tasks; the pool ends when those it has are done.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.core.pool.close());
    }

    /// Cancels the futures of all tasks that no worker has begun.
    fn cancel_queued(&self, py: Python<'_>) {
        for user_data in py.detach(|| self.core.pool.withdraw_all()) {
            FutureBase::force_cancelled(user_data.future.bind(py));
        }
    }

    /// Ends the pool soon: running tasks are asked to stop, and killed after the grace; futures of unfinished tasks are
    /// cancelled.
    fn stop(&self, py: Python<'_>) {
        for user_data in py.detach(|| self.core.pool.stop()) {
            FutureBase::force_cancelled(user_data.future.bind(py));
        }
    }

    /// Ends the pool at once: workers are killed, futures of unfinished tasks are cancelled.
    fn terminate(&self, py: Python<'_>) {
        for user_data in py.detach(|| self.core.pool.terminate()) {
            FutureBase::force_cancelled(user_data.future.bind(py));
        }
    }

    /// Waits up to `timeout` seconds for the end of the pool; whether it has come. Signal handlers run
    /// after this, not during it: call it in slices.
    fn join(&self, py: Python<'_>, timeout: f64) -> bool {
        let deadline = clock::after(timeout).unwrap_or(u64::MAX);
        py.detach(|| self.core.pool.join(deadline))
    }

    /// Has at most `workers` workers from now on.
    fn resize(&self, py: Python<'_>, workers: usize) {
        py.detach(|| self.core.pool.resize(workers));
    }

    /// Process ids of the workers.
    fn pids(&self) -> Vec<i32> {
        self.core.pool.pids().into_iter().collect()
    }

    /// Whether workers are on their way, or are still to be asked for.
    fn is_staffing(&self) -> bool {
        self.core.pool.is_staffing()
    }

    /// As `os.waitpid` gives it, how the worker with this process id has ended; None while it has not.
    fn wait_status(&self, pid: i32) -> Option<i32> {
        self.core.pool.wait_status(pid)
    }

    /// Number of tasks that have not ended.
    fn unfinished(&self) -> usize {
        self.core.pool.unfinished()
    }

    /// Why the pool is broken, or None.
    fn broken(&self) -> Option<String> {
        self.core.pool.broken().map(|reason| reason.to_string())
    }

    /// Whether the pool has ended.
    fn has_ended(&self) -> bool {
        self.core.pool.has_ended()
    }

    /// What the pool has done and is doing, as `Executor.statistics` describes it.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = py.detach(|| self.core.pool.statistics());
        let workers = PyList::empty(py);
        for worker in &found.workers {
            workers.append(statistics::of_worker(py, worker)?)?;
        }
        statistics::of_pool(py, &found, workers)
    }

    /// The same of a pool that has not been started.
    #[staticmethod]
    fn statistics_before_start(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        statistics::of_pool(py, &Statistics::default(), PyList::empty(py))
    }

    /// After a fork, in the child: the pool is the parent's. What this process holds of it is left
    /// alone forever, since releasing it would release what the parent uses.
    fn abandon(&self) {
        std::mem::forget(Arc::clone(&self.core));
    }
}

impl Core {
    pub(crate) fn take_callbacks(&self) -> Vec<(Py<FutureBase>, Aftermath)> {
        self.has_callbacks.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.callbacks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is checked in Python"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
