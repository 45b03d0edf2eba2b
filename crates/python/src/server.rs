//! Socket servers: the engine between a listener and Python's handlers, and sockets whose calls wait without ceremony.

mod calls;
mod engine;
mod ffi;
mod load;
mod seat;

use pyo3::prelude::*;

/// Adds the classes.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<calls::StreamCalls>()?;
    module.add_class::<engine::ServerEngine>()?;
    module.add_class::<engine::ServerWorker>()?;
    module.add_function(wrap_pyfunction!(load::run_load, module)?)
}
