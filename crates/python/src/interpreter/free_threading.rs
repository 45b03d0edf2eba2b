//! What a free-threaded Python asks of a thread that runs for long without running Python code.
//!
//! An object that one thread has made and another releases is freed by the one that made it: the other puts it on its
//! list, and it looks there between two instructions of Python code. A thread whose loop is Rust, and which runs
//! functions that are written in C, comes to no such place by itself: all that it ever made would stay.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A function of Python that does nothing; `None` where there is no need of it.
static PAUSE: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();

/// Frees what the calling thread has made and others have released, where that is left to it.
pub(crate) fn free_what_others_dropped(py: Python<'_>) {
    let called = match pause(py) {
        Ok(Some(pause)) => pause.call0(py).map(drop),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = called {
        // What another thread has raised in this one, between two tasks: there is nobody to catch it.
        error.write_unraisable(py, None);
    }
}

/// What is called between two tasks.
fn pause(py: Python<'_>) -> PyResult<Option<&Py<PyAny>>> {
    if let Some(known) = PAUSE.get(py) {
        return Ok(known.as_ref());
    }
    // Not `get_or_try_init`: whoever comes second waits there for the first, which does not exist in a forked child.
    // Not at compile time: one binary may serve both builds of an interpreter.
    let flags: String = py.import("sys")?.getattr("abiflags")?.extract()?;
    let found =
        flags.contains('t').then(|| py.eval(c"lambda: None", None, None).map(Bound::unbind)).transpose()?;
    _ = PAUSE.set(py, found);
    Ok(PAUSE.get(py).and_then(Option::as_ref))
}
