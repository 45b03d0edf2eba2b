//! Locks, semaphores, events, conditions and barriers as Python sees them.
//!
//! - [`waiting`]: what a thread of Python does while it waits; [`wake_socket`]: how an event loop waits;
//! - [`timeout`]: what `acquire` and `wait` are called with; [`quick`]: when nobody has to wait;
//! - the others: one class each, over the primitive of the same name in `manyhands-sync`.

mod barrier;
mod condition;
mod event;
mod lock;
mod owned;
mod quick;
mod rlock;
mod semaphore;
pub(crate) mod timeout;
pub(crate) mod waiting;
pub(crate) mod wake_socket;

use manyhands_sync::SpinPolicy;
use pyo3::prelude::*;

/// Pauses between two looks at a lock that others use: long enough for an owner to get through a few dozen short turns.
const WIDEST: u32 = 32;

/// Before a fork: makes everything now that is made when it is first used, so that no child finds it half made.
#[pyfunction]
fn settle() {
    manyhands_memory::mappings::settle();
}

/// How long to look for a lock before sleeping, on this machine.
pub(crate) fn spin_policy() -> SpinPolicy {
    SpinPolicy::new().with_pauses(WIDEST)
}

/// Adds the primitives to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(settle, module)?)?;
    module.add("FIRST_TASK_NUMBER", owned::FIRST_TASK_NUMBER)?;
    wake_socket::register(module)?;
    lock::register(module)?;
    rlock::register(module)?;
    semaphore::register(module)?;
    event::register(module)?;
    condition::register(module)?;
    barrier::register(module)
}
