//! The event.

use std::sync::Arc;

use manyhands_sync::EventCount;
use manyhands_sync::event::{Event, Turn};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::door::{Awaited, Enlisted};
use super::{owned, timeout, waiting};
use crate::home::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EventBase>()
}

/// The native half of `manyhands.Event`.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct EventBase {
    event: Event,
    record: Record,
}

impl Awaited for EventBase {
    fn site(&self) -> &Arc<Site> {
        self.record.site()
    }

    fn events(&self) -> EventCount<'_> {
        self.event.events()
    }

    fn key(&self) -> u64 {
        self.event.key()
    }

    fn kind(&self) -> WaitKind {
        WaitKind::Event
    }
}

#[pymethods]
impl EventBase {
    #[new]
    #[pyo3(signature = (*, name = None, _address = None))]
    fn new(name: Option<&str>, _address: Option<&Bound<'_, PyTuple>>) -> PyResult<Self> {
        let words = Event::WORDS;
        let record = match _address {
            Some(address) => home::open_record(address, Kind::Event, words)?,
            None => home::record(Kind::Event, name, &[], words, |_, _| Ok(()))?,
        };
        let event = Event::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { event, record })
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    fn set(&self) {
        self.event.set();
    }

    fn clear(&self) {
        self.event.clear();
    }

    /// True; False if the time was up first.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if self.event.is_set() {
            return Ok(true);
        }
        let deadline = timeout::of_wait(timeout)?.deadline();
        Ok(waiting::wait(py, |waiting| self.event.wait(deadline, waiting))?.is_some())
    }

    /// How often it has been set, as `_is_set_since` wants to know.
    fn _sequence(&self) -> u64 {
        self.event.turn().to_bits()
    }

    fn _is_set_since(&self, sequence: u64) -> bool {
        self.event.was_set_since(Turn::from_bits(sequence))
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        statistics.set_item("set", self.event.is_set())?;
        statistics.set_item("waiting", owned::waiting(self.record.site(), self.event.key()))?;
        Ok(statistics)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let class = slf.get_type().name()?;
        let name = this.record.label();
        let state = if this.event.is_set() { "set" } else { "unset" };
        Ok(format!("<manyhands.{class}{name} at {:#x}: {state}>", slf.as_ptr() as usize))
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    fn _enlist(slf: &Bound<'_, Self>, door: u32) -> Enlisted {
        Enlisted::at(slf, door)
    }
}
