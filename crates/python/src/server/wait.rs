//! What a handler awaits of a connection.
//!
//! A task that awaits something asks it to call back, which futures of asyncio do by another turn of the loop. Here the loop is
//! told by its selector what has arrived, and calls the task back at once: nothing else runs in it then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_server::input::Input;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::interpreter::lock::lock;

/// What is awaited: it has a result once something has happened.
pub(super) trait Awaited: Send + Sync {
    /// The result, if it is there; `begins` with the first look.
    fn attempt<'py>(&self, py: Python<'py>, begins: bool) -> PyResult<Option<Bound<'py, PyAny>>>;
    /// Has a task be woken once there is one; false if another waits that must not lose it.
    fn enlist(&self, pause: Py<Pause>) -> bool;
    /// Has it be woken no more; whether it would have been.
    fn forget(&self, pause: &Bound<'_, Pause>) -> bool;
    /// Whether a reader would get something of this.
    fn is_satisfied(&self, input: &mut Input) -> bool;
    /// The event loop whose tasks may wait.
    fn event_loop(&self) -> &Py<PyAny>;
}

/// Called back by a task, with its context.
type Callback = (Py<PyAny>, Option<Py<PyAny>>);

/// What a task gets that has to wait: to it, a future.
#[pyclass(frozen, module = "manyhands._native", name = "StreamPause")]
pub(super) struct Pause {
    awaited: Arc<dyn Awaited>,
    /// Read and cleared by the task that has got this from a coroutine: it is a future, and not something yielded by mistake.
    is_yielded: AtomicBool,
    callback: Mutex<Option<Callback>>,
    /// Why the task was cancelled that waits.
    cancelled: Mutex<Option<Option<Py<PyAny>>>>,
}

impl Pause {
    fn new(awaited: &Arc<dyn Awaited>) -> Self {
        Self {
            awaited: Arc::clone(awaited),
            is_yielded: AtomicBool::new(true),
            callback: Mutex::default(),
            cancelled: Mutex::default(),
        }
    }

    /// Whether a reader need not wait any more.
    pub(super) fn is_satisfied(&self, input: &mut Input) -> bool {
        self.awaited.is_satisfied(input)
    }

    /// Has the task that waits go on, at once: no other may be running.
    pub(super) fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let callback = lock(&slf.get().callback).take();
        let Some((callback, context)) = callback else { return Ok(()) };
        let py = slf.py();
        match context {
            Some(context) => context.call_method1(py, intern!(py, "run"), (callback, slf))?,
            None => callback.call1(py, (slf,))?,
        };
        Ok(())
    }

    /// Has the task that waits go on when the loop has time.
    pub(super) fn wake_soon(slf: &Bound<'_, Self>) -> PyResult<()> {
        let callback = lock(&slf.get().callback).take();
        callback.map_or(Ok(()), |callback| Self::call_soon(slf, callback))
    }

    fn call_soon(slf: &Bound<'_, Self>, (callback, context): Callback) -> PyResult<()> {
        let py = slf.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let event_loop = slf.get().awaited.event_loop().bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (callback, slf), Some(&keywords))?;
        Ok(())
    }

    /// Waits no more, if it did.
    fn give_up(slf: &Bound<'_, Self>) {
        slf.get().awaited.forget(slf);
        let callback = lock(&slf.get().callback).take();
        drop(callback);
    }
}

#[pymethods]
impl Pause {
    #[getter(_asyncio_future_blocking)]
    fn is_yielded(&self) -> bool {
        self.is_yielded.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_yielded(&self, value: bool) {
        self.is_yielded.store(value, Ordering::Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.awaited.event_loop().clone_ref(py)
    }

    #[pyo3(signature = (callback, /, *, context = None))]
    fn add_done_callback(&self, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        *lock(&self.callback) = Some((callback, context));
    }

    /// Has the task that waits go on with a `CancelledError`.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let pause = slf.get();
        let would_wake = pause.awaited.forget(slf);
        let callback = lock(&pause.callback).take();
        let (true, Some(callback)) = (would_wake, callback) else { return Ok(false) };
        *lock(&pause.cancelled) = Some(msg);
        Self::call_soon(slf, callback).map(|()| true)
    }

    /// Raises `CancelledError` if the wait was cancelled.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let Some(reason) = lock(&self.cancelled).take() else { return Ok(()) };
        let class = CANCELLED.import(py, "asyncio", "CancelledError")?.clone();
        Err(match reason {
            Some(reason) => PyErr::from_type(class, (reason,)),
            None => PyErr::from_type(class, ()),
        })
    }
}

/// An awaitable, once; to asyncio, a coroutine.
#[pyclass(frozen, module = "manyhands._native", name = "StreamWait")]
pub(super) struct Wait {
    /// None where there is nothing to wait for: that one may be awaited by all, again and again.
    awaited: Option<Arc<dyn Awaited>>,
    /// Set by the first look.
    has_begun: AtomicBool,
    /// What the task that waits has got.
    pause: Mutex<Option<Py<Pause>>>,
}

impl Wait {
    pub(super) fn new(awaited: impl Awaited + 'static) -> Self {
        Self { awaited: Some(Arc::new(awaited)), ..Self::for_nothing() }
    }

    pub(super) fn for_nothing() -> Self {
        Self { awaited: None, has_begun: AtomicBool::new(false), pause: Mutex::default() }
    }
}

#[pymethods]
impl Wait {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Pause>>> {
        let Some(awaited) = &self.awaited else { return Ok(None) };
        let begins = !self.has_begun.swap(true, Ordering::Relaxed);
        if let Some(result) = awaited.attempt(py, begins)? {
            return Err(PyStopIteration::new_err((result.unbind(),)));
        }
        let pause = Py::new(py, Pause::new(awaited))?;
        if !awaited.enlist(pause.clone_ref(py)) {
            return Err(PyRuntimeError::new_err(
                "another coroutine is already waiting for what this client says: only one can read a connection at a time",
            ));
        }
        let before = lock(&self.pause).replace(pause.clone_ref(py));
        drop(before);
        Ok(Some(pause))
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<Pause>> {
        match value.is_none() {
            true => self.__next__(value.py())?.ok_or_else(|| PyStopIteration::new_err(())),
            false => Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine")),
        }
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        _ = traceback;
        self.close(kind.py());
        Err(thrown(kind, value)?)
    }

    fn close(&self, py: Python<'_>) {
        let pause = lock(&self.pause).take();
        if let Some(pause) = pause {
            Pause::give_up(pause.bind(py));
        }
    }
}

/// The exception that `throw` was called with.
fn thrown(kind: Bound<'_, PyAny>, value: Option<Bound<'_, PyAny>>) -> PyResult<PyErr> {
    Ok(PyErr::from_value(match (kind.cast::<PyType>(), value) {
        (Ok(_), Some(value)) if value.is_instance(&kind)? => value,
        (Ok(_), Some(value)) => kind.call1((value,))?,
        (Ok(_), None) => kind.call0()?,
        (Err(_), _) => kind,
    }))
}
