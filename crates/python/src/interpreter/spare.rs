//! A descriptor for bad days.
//!
//! Where a process has used up its descriptors, nothing can be imported any more, and what is needed to hand over a
//! task's error may not have been imported yet: the task's own error would give way to "Too many open files". So one
//! descriptor is kept, which does nothing but make room for such an import.

use std::sync::{Mutex, PoisonError};

use manyhands_os::poll::EventFd;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Locked for the exchange only, by threads attached to the interpreter: `fork()` cannot catch it locked.
static SPARE: Mutex<Option<EventFd>> = Mutex::new(None);

/// Takes a descriptor to have one on bad days, unless there is one.
pub(crate) fn keep() {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.is_none() {
        *spare = EventFd::new().ok();
    }
}

/// Calls `function` with room for one descriptor more than there would be.
#[pyfunction]
#[pyo3(signature = (function, *arguments))]
pub(crate) fn lend_descriptor<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    lend(|| function.call1(arguments))
}

fn lend<R>(work: impl FnOnce() -> R) -> R {
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let was_kept = spare.is_some();
    drop(spare);
    let result = work();
    if was_kept {
        keep();
    }
    result
}

/// Runs `work`; once more, with the spare descriptor, if it fails while there is no other.
pub(crate) fn retry<R, E>(work: impl Fn() -> Result<R, E>) -> Result<R, E> {
    work().or_else(|error| if EventFd::new().is_err() { lend(&work) } else { Err(error) })
}
