//! The end of the interpreter, and the threads that are in our code by then.
//!
//! Up to Python 3.13, a daemon thread that comes back to the interpreter after its end is ended from within, which must not
//! happen while functions of Rust are on its stack. So it sleeps instead, as in Python 3.14.

use std::sync::atomic::{AtomicBool, Ordering};

use manyhands_os::ending;
use pyo3::prelude::*;

/// Set when the interpreter is about to end. Set once, read by all threads.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Has Python say when it is about to end.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let ends = wrap_pyfunction!(interpreter_ends, module)?;
    module.py().import("atexit")?.call_method1("register", (ends,)).map(|_| ())
}

#[pyfunction]
fn interpreter_ends() {
    ENDING.store(true, Ordering::SeqCst);
}

pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Called before the calling thread runs Python code, or releases the interpreter: it may be on its way back
/// when that ends.
pub(crate) fn outlast() {
    ending::sleep_rather_than_end(is_ending);
}
