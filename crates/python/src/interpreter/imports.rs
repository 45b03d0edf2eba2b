//! Python objects that Rust code uses by name, each looked up once.

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::interpreter::ending;
use crate::interpreter::spare::{self, PAUSES, Worth};

macro_rules! imports {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static OBJECT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            look_up(py, &OBJECT, $module, $attribute)
        }
    )*};
}

imports! {
    /// Raised by `result()` of a cancelled future.
    cancelled_error = "concurrent.futures"."CancelledError";
    /// Raised when a future is completed twice.
    invalid_state_error = "concurrent.futures"."InvalidStateError";
    /// Where everything about futures is logged, as in the standard library.
    logger = "concurrent.futures._base"."LOGGER";
    /// Raised by `submit` of a thread pool whose initializer failed.
    broken_thread_pool = "concurrent.futures.thread"."BrokenThreadPool";
    /// The base class of our own errors.
    manyhands_error = "manyhands._errors.base"."ManyhandsError";
    /// Raised inside a task that should stop.
    task_cancelled = "manyhands._errors.task_cancelled"."TaskCancelled";
    /// What a task fails with that takes too long.
    task_timeout = "manyhands._errors.base"."TaskTimeout";
    /// Copies the context of the calling thread.
    copy_context = "contextvars"."copy_context";
    /// What `_condition` of a future is made of, once somebody asks.
    condition = "threading"."Condition";
    /// Gives a copied context its own copies of what changes in place.
    make_own = "manyhands._pickle.own_settings"."make_own";
    /// Gives a task's context what the initializer of its thread has set.
    lay_under = "manyhands._pickle.own_settings"."lay_under";
    /// The picklable part of the context.
    dump_context = "manyhands._pickle.context"."dump_context";
    dumps = "manyhands._pickle.pickling"."dumps";
    /// As `dumps`, with the buffers in the pickle.
    dumps_in_band = "manyhands._pickle.pickling"."dumps_in_band";
    loads = "manyhands._pickle.pickling"."loads";
    empty = "queue"."Empty";
    full = "queue"."Full";
    /// Raised by a queue that has been shut down.
    shut_down = "manyhands._errors.shut_down"."ShutDown";
    load_exception = "manyhands._pickle.remote_error"."load_exception";
    /// As `load_exception`, for a pickle in a block.
    load_raised = "manyhands._pickle.remote_error"."load_raised";
    /// Calls the function that is its first argument.
    carry = "manyhands._worker.carry"."carry";
    /// Takes in the function of a map.
    arrive = "manyhands._task.chunk"."arrive";
    /// Makes an array over a block of shared memory.
    array_over = "manyhands._memory.shared_array"."array_over";
    function_key = "manyhands._pickle.function_key"."function_key";
    /// Stands in a guard for a name that must stay undefined.
    absent = "manyhands._pickle.function_key"."ABSENT";
    broken_process_pool = "concurrent.futures.process"."BrokenProcessPool";
    worker_died = "manyhands._errors.worker_died"."WorkerDied";
    /// The text of the calling thread's stack.
    own_stack = "manyhands._sync.deadlock"."own_stack";
    make_deadlock_error = "manyhands._sync.deadlock"."deadlock_error";
    get_ident = "threading"."get_ident";
    /// How tasks that are greenlets wait: for a moment, for a future, for whatever a thread has to wait for.
    async_sleep = "asyncio"."sleep";
    until_done = "manyhands._future.awaiting"."until_done";
    in_thread = "manyhands._coroutine.greenlets"."in_thread";
    main_thread = "threading"."main_thread";
    /// Raised by `wait` of a barrier that is broken.
    broken_barrier_error = "threading"."BrokenBarrierError";
    /// Raised by an acquire of a lock whose owner died.
    owner_died = "manyhands._errors.base"."OwnerDied";
    /// Raised by a release of what is not held.
    release_error = "manyhands._errors.base"."ReleaseError";
    /// Has the handler of SIGINT run at the next step of Python code in the main thread.
    interrupt_main = "_thread"."interrupt_main";
    make_worker_died = "manyhands._errors.failures"."worker_died";
    make_task_timeout = "manyhands._errors.failures"."task_timeout";
    memoryview = "builtins"."memoryview";
    bytes = "builtins"."bytes";
    bytearray = "builtins"."bytearray";
    issubclass = "builtins"."issubclass";
    /// What a class with something in brackets is, as `Queue[int]`.
    generic_alias = "types"."GenericAlias";
}

/// What stands in `cell`, or else the attribute of the module.
///
/// Not `PyOnceLock::import`: whoever comes second waits there for the thread that imports. In a forked child that thread
/// does not exist, and a signal handler would wait for the code that it has interrupted.
fn look_up<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    module: &str,
    attribute: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    // What is looked up is about to be called.
    ending::outlast();
    if let Some(found) = cell.get(py) {
        return Ok(found.bind(py));
    }
    let found = spare::retry(py, &PAUSES[..1], Worth::Descriptors, || py.import(module)?.getattr(attribute))?
        .unbind();
    // Another thread may have been faster: it has found the same.
    _ = cell.set(py, found);
    cell.get(py).map(|found| found.bind(py)).ok_or_else(|| PySystemError::new_err("a cell lost its value"))
}

/// An exception of the class that `class` looks up, made from one message.
pub(crate) fn error(
    py: Python<'_>,
    class: fn(Python<'_>) -> PyResult<&Bound<'_, PyAny>>,
    message: Option<String>,
) -> PyErr {
    let made = class(py).and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
