//! The load generator, as Python calls it.

use std::path::PathBuf;

use manyhands_os::clock;
use manyhands_os::stream::{Address, SocketAddr};
use manyhands_server::load::{self, Plan};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::parker::count_detachment;

/// Puts a server under load for some seconds; see `manyhands._server.load`.
#[pyfunction]
#[pyo3(signature = (address, *, connections, request, answer, reconnect, seconds))]
pub(super) fn run_load<'py>(
    py: Python<'py>,
    address: &str,
    connections: usize,
    request: Vec<u8>,
    answer: Option<usize>,
    reconnect: bool,
    seconds: f64,
) -> PyResult<Bound<'py, PyDict>> {
    let address = match address.strip_prefix("unix:") {
        Some(path) => Address::Unix(PathBuf::from(path)),
        None => Address::Inet(address.parse::<SocketAddr>().map_err(|error| {
            PyValueError::new_err(format!("{address:?} is no address such as 127.0.0.1:9000: {error}"))
        })?),
    };
    let length = clock::after(seconds).map_or(0, |deadline| deadline.saturating_sub(clock::now()));
    let plan = Plan { address, connections, request, answer, reconnect, length };
    let report = py.detach(|| {
        count_detachment();
        load::run(&plan)
    })?;
    let result = PyDict::new(py);
    result.set_item("seconds", clock::seconds(report.took))?;
    result.set_item("waits", report.waits.iter().map(|wait| clock::seconds(*wait)).collect::<Vec<_>>())?;
    result.set_item("shares", report.shares)?;
    result.set_item("failures", report.failures)?;
    Ok(result)
}
