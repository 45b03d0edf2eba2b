//! Reading what the kernel says without letting other threads in.

use manyhands_os::procfs;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Reads a file of `/proc` or `/sys`, which takes microseconds.
///
/// Python's `open` lets others in three times. Beside a thread that computes it takes five milliseconds each time to get
/// the interpreter back.
#[pyfunction]
pub(crate) fn read_at_once<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &procfs::content(path)?))
}
