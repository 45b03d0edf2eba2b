//! The only crate that knows Python: everything that crosses between the two languages crosses here.
//!
//! Classes that are extended in Python bear the public name of what they are a half of: PyO3 puts it into the messages of
//! errors. `manyhands._native` has them under their own.

mod cluster;
mod codec;
mod command;
mod future;
mod interpreter;
mod memory;
mod pool;
mod queue;
mod server;
mod sync;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// The native half of `manyhands`; its Python half lives in `python/manyhands`.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if !interpreter::ffi::is_main_interpreter(module.py()) {
        // Python's half says what to do.
        return Err(PyImportError::new_err("manyhands._native does not support sub-interpreters"));
    }
    module.add_class::<interpreter::beginning::Beginning>()?;
    module.add_class::<interpreter::latch::Latch>()?;
    command::register(module)?;
    interpreter::ending::register(module)?;
    interpreter::switching::register(module)?;
    future::register(module)?;
    pool::process::register(module)?;
    queue::register(module)?;
    memory::shared_block::register(module)?;
    sync::register(module)?;
    pool::thread::register(module)?;
    pool::coroutine::register(module)?;
    pool::python_tasks::register(module)?;
    server::register(module)?;
    cluster::register(module)?;
    Ok(())
}
