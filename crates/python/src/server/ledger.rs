//! What a server counts, as Python sees it.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use manyhands_os::{clock, service_manager};
use manyhands_server::ledger::{Count, Ledger, Phase, TABLE, named};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter::ffi::duplicate_descriptor;

/// The numbers of one process that serves, in memory that others can look at.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct ServerLedger(pub(super) Arc<Ledger>);

fn count_of(name: &str) -> PyResult<Count> {
    named(name).ok_or_else(|| PyValueError::new_err(format!("a server has no number {name:?}")))
}

#[pymethods]
impl ServerLedger {
    #[new]
    fn new(address: &str, workers: &str, server: u64) -> PyResult<Self> {
        Ok(Self(Arc::new(Ledger::create(address, workers, server)?)))
    }

    /// The ledger that the parent has made for this process.
    #[staticmethod]
    fn inherited(fd: i32) -> PyResult<Self> {
        let ledger = Ledger::attach(duplicate_descriptor(fd)?)?;
        ledger.take_over();
        Ok(Self(Arc::new(ledger)))
    }

    /// The number of its descriptor, for another process.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.0.fd_to_pass()?.as_raw_fd())
    }

    /// What tells it from all others.
    #[getter]
    fn number(&self) -> u64 {
        self.0.number()
    }

    /// `starting`, `serving` or `ending`.
    #[getter]
    fn phase(&self) -> &'static str {
        self.0.phase().word()
    }

    /// Shows it to nobody any more.
    fn hide(&self) {
        self.0.hide();
    }

    /// Says that it accepts nothing more.
    fn ends(&self) {
        self.0.enter(Phase::Ending);
    }

    /// Says that it serves from now on.
    fn serves(&self) {
        self.0.enter(Phase::Serving);
    }

    /// How many seconds ago it was last certain that it answers; None: never.
    fn answered(&self) -> Option<f64> {
        self.0.answered().map(clock::seconds)
    }

    /// Sets a number.
    fn set(&self, name: &str, value: u64) -> PyResult<()> {
        self.0.set(count_of(name)?, value);
        Ok(())
    }

    /// Adds to a number.
    fn add(&self, name: &str, more: u64) -> PyResult<()> {
        self.0.add(count_of(name)?, more);
        Ok(())
    }

    /// Notes that it answers.
    fn answers(&self) {
        self.0.answers();
    }

    /// Adds the numbers of a process that has ended.
    fn absorb(&self, ended: &Self) {
        self.0.absorb(&ended.0);
    }

    /// All numbers, by their names.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let numbers = PyDict::new(py);
        for (count, name, ..) in TABLE {
            numbers.set_item(name, self.0.get(count))?;
        }
        Ok(numbers)
    }
}

/// All numbers of a server: name, how it behaves (`total`, `now`, `most`), and what it means.
#[pyfunction]
pub(super) fn server_numbers() -> Vec<(&'static str, &'static str, &'static str)> {
    TABLE.iter().map(|(_, name, sort, meaning)| (*name, sort.word(), *meaning)).collect()
}

/// Tells the service manager a state; `wait`: even if it has not read for long.
#[pyfunction]
pub(super) fn tell_service_manager(
    py: Python<'_>,
    address: OsString,
    state: &str,
    wait: bool,
) -> PyResult<()> {
    Ok(py.detach(|| service_manager::tell(&address, state, wait))?)
}
