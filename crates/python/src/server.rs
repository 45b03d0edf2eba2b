//! Socket servers: the engine between a listener and Python's handlers, and sockets whose calls wait without ceremony.

mod calls;
mod connection;
mod engine;
mod event_loop;
mod exchange;
mod ffi;
mod greeting;
mod hall;
mod ledger;
mod load;
mod messages;
mod proxies;
mod reading;
mod room;
mod seat;
mod streams;
mod tls;
mod wait;

use pyo3::prelude::*;

/// Adds the classes.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<proxies::Trusted>()?;
    module.add_class::<calls::StreamCalls>()?;
    module.add_class::<engine::ServerEngine>()?;
    module.add_class::<engine::ServerWorker>()?;
    module.add_class::<event_loop::LoopEngine>()?;
    module.add_class::<event_loop::EventLoop>()?;
    module.add_class::<streams::StreamReader>()?;
    module.add_class::<streams::StreamWriter>()?;
    module.add_class::<wait::Wait>()?;
    module.add_class::<messages::MessageFramer>()?;
    module.add_class::<ledger::ServerLedger>()?;
    module.add_function(wrap_pyfunction!(ledger::server_numbers, module)?)?;
    module.add_function(wrap_pyfunction!(ledger::tell_service_manager, module)?)?;
    module.add_function(wrap_pyfunction!(load::run_load, module)?)
}
