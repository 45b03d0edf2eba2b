//! Waits of tasks that are greenlets: they switch to the event loop of their thread, and await there what coroutines await, where
//! they would block that thread.
//!
//! Greenlets are Python's (`python/manyhands/_coroutine/greenlets.py`), which says here how to switch. Whoever is about to block asks
//! here first; in threads without such tasks that is a look at one number.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

use crate::interpreter::ending;

thread_local! {
    /// How many tasks of the calling thread are greenlets and have not ended.
    static GREENLETS: Cell<usize> = const { Cell::new(0) };
}

/// Called with a function and its arguments: awaits what it returns, and returns that in a tuple; None if the caller is no greenlet
/// of ours.
static SWITCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Adds what the Python half needs to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(register_switch, module)?)?;
    module.add_function(wrap_pyfunction!(count_greenlet, module)?)?;
    module.add_function(wrap_pyfunction!(wait_switched, module)?)
}

/// Says how to switch.
#[pyfunction]
fn register_switch(py: Python<'_>, switch: Py<PyAny>) {
    _ = SWITCH.set(py, switch);
}

/// Notes that a greenlet of the calling thread begins its task, or has ended.
#[pyfunction]
fn count_greenlet(begins: bool) {
    GREENLETS.set(if begins { GREENLETS.get() + 1 } else { GREENLETS.get().saturating_sub(1) });
}

/// As [`switched`], in a tuple.
#[pyfunction]
#[pyo3(signature = (function, *arguments))]
fn wait_switched<'py>(
    function: Bound<'py, PyAny>,
    arguments: Bound<'py, PyTuple>,
) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
    if !is_on() {
        return Ok(None);
    }
    Ok(switched(&function, arguments)?.map(|result| (result,)))
}

/// Whether the calling thread has tasks that are greenlets; the caller need not be one of them.
#[inline]
pub(crate) fn is_on() -> bool {
    GREENLETS.get() > 0
}

/// The result of `function(*arguments)`, awaited in the event loop; `None` if the caller is no greenlet of ours, and has to wait in its
/// own way.
///
/// # Errors
/// What comes of it, and CancelledError if the task is cancelled.
pub(crate) fn switched<'py>(
    function: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = function.py();
    let Some(switch) = SWITCH.get(py).filter(|_| is_on()) else { return Ok(None) };
    ending::outlast();
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
    let answer = switch.bind(py).call1((function, arguments))?;
    if answer.is_none() { Ok(None) } else { answer.get_item(0).map(Some) }
}

/// As [`switched`], for the method of that name; the arguments are made only where it is called.
///
/// # Errors
/// As there.
#[inline]
pub(crate) fn switched_method<'py, A>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: impl FnOnce() -> A,
) -> PyResult<Option<Bound<'py, PyAny>>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
{
    if is_on() { switched(&object.getattr(name)?, arguments()) } else { Ok(None) }
}
