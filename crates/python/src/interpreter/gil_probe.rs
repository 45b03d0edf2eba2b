//! Finding out from outside whether a thread holds the GIL while it computes.

use manyhands_os::clock;
use manyhands_os::park::sleep_until;
use pyo3::prelude::*;

/// Sleeps for some seconds without the interpreter, and returns how long it then took to get the interpreter back.
///
/// Next to nothing, if nobody has it; at least a part of the interpreter's switch interval (5 ms), if somebody computes
/// with it, or has lost the CPU while holding it. So other work on the machine does not blur the answer. Without a GIL,
/// it is always next to nothing.
#[pyfunction]
pub(crate) fn probe_gil(py: Python<'_>, pause: f64) -> f64 {
    let asked = py.detach(|| {
        if let Some(deadline) = clock::after(pause) {
            sleep_until(deadline);
        }
        clock::now()
    });
    clock::seconds(clock::now().saturating_sub(asked))
}
