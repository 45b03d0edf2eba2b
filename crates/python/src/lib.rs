//! The only crate that knows Python: everything that crosses between the two languages crosses here.
//!
//! Classes that are extended in Python bear the public name of what they are a half of: PyO3 puts it into the messages of
//! errors. `manyhands._native` has them under their own.

mod beginning;
mod codec;
mod command;
mod ending;
mod ffi;
mod free_threading;
mod future;
mod hasty;
mod home;
mod imports;
mod parker;
mod process;
mod queue;
mod shared_block;
mod spare;
mod sync;
mod thread_pool;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// The native half of `manyhands`; its Python half lives in `python/manyhands`.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !ffi::is_main_interpreter(module.py()) {
        // Python's half says what to do.
        return Err(PyImportError::new_err("manyhands._native does not support sub-interpreters"));
    }
    module.add_class::<beginning::Beginning>()?;
    command::register(module)?;
    ending::register(module)?;
    future::register(module)?;
    process::register(module)?;
    queue::register(module)?;
    shared_block::register(module)?;
    sync::register(module)?;
    thread_pool::register(module)?;
    Ok(())
}
