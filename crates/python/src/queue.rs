//! Queues and pipes: what their Python classes stand on.
//!
//! - [`message`]: Python values as messages, and back;
//! - [`open`]: one item in, one item out; [`batch`]: many at once; [`waiters`]: how coroutines wait;
//! - [`queue_base`]: the class of Python, for all kinds of queue;
//! - [`quick`]: `put` and `get` of numbers where nobody waits;
//! - [`connection_base`]: the ends of pipes; [`end`]: which of them this process holds; [`readiness_fd`]: `fileno`;
//! - [`errors`]: what goes wrong, as Python says it.
//!
//! Whatever is likely to succeed is tried with the interpreter held, since it takes less time than releasing it;
//! everything that waits, or copies much, lets go first.

mod batch;
mod connection_base;
mod end;
mod errors;
mod message;
mod open;
mod queue_base;
mod quick;
mod readiness_fd;

use pyo3::prelude::*;

/// Adds everything about queues and pipes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("QueueBase", module.py().get_type::<queue_base::QueueBase>())?;
    quick::register(module.py())?;
    module.add_class::<message::PackedItem>()?;
    module.add("ConnectionBase", module.py().get_type::<connection_base::ConnectionBase>())?;
    module.add_class::<connection_base::PipeSegment>()?;
    module.add_function(wrap_pyfunction!(connection_base::make_pipe, module)?)?;
    module.add_function(wrap_pyfunction!(end::reserve_ends_for_child, module)?)?;
    module.add_function(wrap_pyfunction!(end::forget_heirs_in_parent, module)?)?;
    module.add_function(wrap_pyfunction!(end::adopt_ends_in_child, module)?)
}
