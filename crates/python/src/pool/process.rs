//! Pools of worker processes: the parent's engine, the worker's loop, and how values travel between.
//!
//! - [`payload`]: values that are not [small and plain](crate::codec::compact), their big buffers apart;
//! - [`functions`]: which function a worker knows already;
//! - [`engine`]: submit, wait, deliver, cancel - the parent;
//! - [`runner`]: claim, call, answer - the worker;
//! - [`pending_output`]: what workers print, in order;
//! - [`shared_heap`](crate::memory::shared_heap): the shared memory both stand on.
//! - [`wire`]: what the Python half says to the Rust half of a zygote's parent.

mod engine;
mod functions;
mod pending_output;
mod runner;
mod wire;

use pyo3::prelude::*;

/// Adds everything about processes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::ProcessEngine>()?;
    module.add_class::<runner::WorkerLoop>()?;
    wire::register(module)?;
    module.add_class::<crate::memory::ffi::BlockBuffer>()?;
    module.add_function(wrap_pyfunction!(functions::holds, module)?)?;
    module.add_function(wrap_pyfunction!(functions::forget_functions, module)?)?;
    module.add_function(wrap_pyfunction!(crate::codec::compact::array::register_shared_array, module)?)?;
    module.add_function(wrap_pyfunction!(crate::codec::compact::list::holds_little, module)?)?;
    module
        .add_function(wrap_pyfunction!(crate::codec::compact::shipped::register_shipped_function, module)?)?;
    module.add_function(wrap_pyfunction!(crate::interpreter::at_once::read_at_once, module)?)?;
    module.add_function(wrap_pyfunction!(crate::interpreter::cpu_times::cpu_times, module)?)?;
    module.add_function(wrap_pyfunction!(crate::interpreter::gil_probe::probe_gil, module)?)?;
    module.add_function(wrap_pyfunction!(crate::interpreter::spare::lend_descriptor, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::attach, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::read_block, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::set_parent_death_signal, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::kill_with_descendants, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::set_shared_memory_limit, module)?)?;
    module.add_function(wrap_pyfunction!(crate::memory::shared_heap::shared_memory, module)?)?;
    module.add_function(wrap_pyfunction!(runner::ask_again_if_ignored, module)?)?;
    module.add_function(wrap_pyfunction!(runner::cancel_requested, module)?)
}
