//! The CPU time that has been used, read where losing the CPU does no harm.

use manyhands_os::clock;
use pyo3::prelude::*;

/// The seconds of a CPU that the calling thread has used, and all of the process.
///
/// To answer, the kernel adds up what the thread has had; if that is its share, the next one gets the CPU, as soon as
/// this call returns. Were that to happen to a thread with the GIL, all that want it would wait until the thread has its
/// turn again: tens of milliseconds on a busy machine. So the interpreter is let go, which Python's own `thread_time`
/// does not do.
#[pyfunction]
pub(crate) fn cpu_times(py: Python<'_>) -> (f64, f64) {
    py.detach(|| (clock::seconds(clock::thread_time()), clock::seconds(clock::process_time())))
}
