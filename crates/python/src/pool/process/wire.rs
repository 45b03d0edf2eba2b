//! What the Python half of a pool says to the Rust half, in the same words: packets of the zygote, frames of its workers'
//! reports, and the numbers of the descriptors it begins with.

use manyhands_pool::output_pipes::{self, kind};
use manyhands_pool::zygote::{self, News, Request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// Adds it to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("VERSION", zygote::VERSION)?;
    module.add("CONTROL_FD", zygote::CONTROL_FD)?;
    module.add("SEGMENT_FD", zygote::SEGMENT_FD)?;
    module.add("INHERITED_FD", zygote::INHERITED_FD)?;
    module.add("WORKER_PIPES", zygote::PIPES)?;
    module.add("LONGEST_PACKET", zygote::LONGEST)?;
    for (name, kind) in [
        ("REPORT_BROKEN", kind::BROKEN),
        ("REPORT_LOG", kind::LOG),
        ("REPORT_SHORTAGE", kind::SHORTAGE),
        ("REPORT_WARNING", kind::WARNING),
    ] {
        module.add(name, PyBytes::new(py, &[kind]))?;
    }
    module.add_function(wrap_pyfunction!(report_frame, module)?)?;
    module.add_function(wrap_pyfunction!(read_request, module)?)?;
    module.add_function(wrap_pyfunction!(say_ready, module)?)?;
    module.add_function(wrap_pyfunction!(say_failed, module)?)?;
    module.add_function(wrap_pyfunction!(say_started, module)?)?;
    module.add_function(wrap_pyfunction!(say_not_forked, module)?)?;
    module.add_function(wrap_pyfunction!(say_ended, module)?)
}

/// One report as it goes through a worker's pipe, or None when it is too long for it.
#[pyfunction]
fn report_frame<'py>(py: Python<'py>, kind: [u8; 1], payload: &[u8]) -> Option<Bound<'py, PyBytes>> {
    Some(PyBytes::new(py, &output_pipes::frame(kind[0], payload)?))
}

/// What a zygote is asked for, and what goes with it, in the order of [`Request`]'s fields.
#[pyfunction]
fn read_request<'py>(py: Python<'py>, packet: &[u8]) -> PyResult<(&'static str, Bound<'py, PyTuple>)> {
    let (asked, details) = match Request::parse(packet) {
        Some(Request::SetUp { block, version }) => ("set_up", (block, version).into_pyobject(py)?),
        Some(Request::Fork { participant, generation, control, status, index }) => {
            ("fork", (participant, generation, control, status, index).into_pyobject(py)?)
        }
        Some(Request::Signal { participant, generation, signal }) => {
            ("signal", (participant, generation, signal).into_pyobject(py)?)
        }
        Some(Request::Quit) => ("quit", PyTuple::empty(py)),
        None => {
            return Err(PyValueError::new_err(format!("the packet is no request to a zygote: {packet:?}")));
        }
    };
    Ok((asked, details))
}

/// The packet of a zygote that is ready.
#[pyfunction]
fn say_ready(py: Python<'_>) -> Bound<'_, PyBytes> {
    said(py, &News::Ready)
}

/// The packet of a zygote that could not be set up.
#[pyfunction]
fn say_failed<'py>(py: Python<'py>, text: &[u8]) -> Bound<'py, PyBytes> {
    said(py, &News::Failed(String::from_utf8_lossy(text).into_owned()))
}

/// The packet about a worker that has started.
#[pyfunction]
fn say_started(py: Python<'_>, participant: u16, generation: u32, pid: i32) -> Bound<'_, PyBytes> {
    said(py, &News::Started { participant, generation, pid })
}

/// The packet about a worker that could not be forked.
#[pyfunction]
fn say_not_forked(py: Python<'_>, participant: u16, generation: u32, errno: i32) -> Bound<'_, PyBytes> {
    said(py, &News::NotForked { participant, generation, errno })
}

/// The packet about a worker that has ended.
#[pyfunction]
fn say_ended(
    py: Python<'_>,
    participant: u16,
    generation: u32,
    pid: i32,
    wait_status: i32,
    rss_bytes: u64,
) -> Bound<'_, PyBytes> {
    said(py, &News::Ended { participant, generation, pid, wait_status, rss_bytes })
}

fn said<'py>(py: Python<'py>, news: &News) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &news.packet())
}
