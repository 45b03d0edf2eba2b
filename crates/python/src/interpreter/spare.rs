//! A descriptor for bad days.
//!
//! Where a process has used up its descriptors, nothing can be imported any more, and what is needed to hand over a
//! task's error may not have been imported yet: the task's own error would give way to "Too many open files". So one
//! descriptor is kept, which does nothing but make room for such an import.

use std::sync::{Mutex, PoisonError};

use manyhands_os::clock;
use manyhands_os::park;
use manyhands_os::poll::EventFd;
use manyhands_os::process;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// How long to wait for something that there is too little of, before what failed for it is tried again, in nanoseconds.
///
/// Our own threads, which look into `/proc`, take a descriptor for less than the first.
pub(crate) const PAUSES: &[u64] = &[clock::MILLISECOND, 10 * clock::MILLISECOND, 50 * clock::MILLISECOND];

struct Spare {
    descriptor: Option<EventFd>,
    /// Whether this process keeps one, as far as it can.
    is_wanted: bool,
}

/// Locked for the exchange only, by threads attached to the interpreter: `fork()` cannot catch it locked.
static SPARE: Mutex<Spare> = Mutex::new(Spare { descriptor: None, is_wanted: false });

/// Takes a descriptor to have one on bad days, unless there is one.
pub(crate) fn keep() {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner).is_wanted = true;
    restore();
}

/// Takes a descriptor in the place of one that was lent, also of one that could not be had when it should have come
/// back.
fn restore() {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.is_wanted && spare.descriptor.is_none() {
        spare.descriptor = EventFd::new().ok();
    }
}

/// Which errors are worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Those for want of a descriptor: others are told at once, as code of the user's may have raised them.
    Descriptors,
    /// All, where no such code runs: whatever it is, there is too little of something.
    Anything,
}

impl Worth {
    /// Whether `error`, which has just come up, is one of them. Before the spare descriptor is taken back: then there is
    /// no room for another one.
    fn includes(self, py: Python<'_>, error: &PyErr) -> bool {
        self == Self::Anything || lacks_descriptors(py, error) || EventFd::new().is_err()
    }
}

/// Calls `function` with room for one descriptor more than there would be.
///
/// Where somebody else takes that room before `function` does, it is called again.
#[pyfunction]
#[pyo3(signature = (function, *arguments))]
pub(crate) fn lend_descriptor<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    lend(function.py(), PAUSES, Worth::Descriptors, || function.call1(arguments))
}

fn lend<R>(py: Python<'_>, pauses: &[u64], worth: Worth, work: impl Fn() -> PyResult<R>) -> PyResult<R> {
    let mut pauses = pauses.iter();
    loop {
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).descriptor.take();
        drop(spare);
        let result = work();
        let is_worth_it = result.as_ref().is_err_and(|error| worth.includes(py, error));
        restore();
        match pauses.next() {
            Some(pause) if is_worth_it => {
                py.detach(|| park::sleep_until(clock::now() + pause));
            }
            _ => return result,
        }
    }
}

/// Runs `work`; again, with the spare descriptor, if its error is worth it; and, as long as it fails so, which it may if
/// somebody else takes that one first, after each of `pauses`.
pub(crate) fn retry<R>(
    py: Python<'_>,
    pauses: &[u64],
    worth: Worth,
    work: impl Fn() -> PyResult<R>,
) -> PyResult<R> {
    work()
        .or_else(|error| if worth.includes(py, &error) { lend(py, pauses, worth, &work) } else { Err(error) })
}

/// Whether Python says so.
fn lacks_descriptors(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py)
        && error
            .value(py)
            .getattr(intern!(py, "errno"))
            .and_then(|errno| errno.extract())
            .is_ok_and(process::lacks_descriptors)
}
