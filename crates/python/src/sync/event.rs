//! The event.

use std::sync::Arc;

use manyhands_sync::EventCount;
use manyhands_sync::event::{Event, Turn};
use manyhands_sync::names::Kind;
use manyhands_sync::site::WaitKind;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::wake_socket::{Awaited, Enlisted};
use super::{owned, timeout, waiting};
use crate::interpreter::argument::Name;
use crate::interpreter::switching::switched_method;
use crate::memory::objects::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("EventBase", module.py().get_type::<EventBase>())
}

/// The native half of `manyhands.Event`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Event")]
pub(crate) struct EventBase {
    event: Event,
    record: Record,
}

impl Awaited for EventBase {
    const KIND: WaitKind = WaitKind::Event;

    fn record(&self) -> &Record {
        &self.record
    }

    fn events(&self) -> EventCount<'_> {
        self.event.events()
    }
}

#[pymethods]
impl EventBase {
    #[new]
    #[pyo3(signature = (*_rest, name = None, _address = None, **_more))]
    fn new(
        _rest: &Bound<'_, PyTuple>,
        name: Option<Name<'_>>,
        _address: Option<&Bound<'_, PyTuple>>,
        _more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (name, words) = (name.as_deref(), Event::WORDS);
        let record = objects::record(_address, Kind::Event, name, &[], words, |_, _| Ok(()))?;
        let event = Event::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { event, record })
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    /// Return whether the flag is set.
    fn is_set(&self) -> bool {
        self.event.is_set()
    }

    /// Set the flag, and wake all who wait for it.
    fn set(&self) {
        self.event.set();
    }

    /// Clear the flag: callers of `wait` from now on wait for the next `set`.
    fn clear(&self) {
        self.event.clear();
    }

    /// Wait until the flag is set.
    ///
    /// Args:
    ///     timeout: seconds, or None for no limit.
    ///
    /// Returns:
    ///     True, or False if the time was up first.
    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let event = &slf.get().event;
        if event.is_set() {
            return Ok(true);
        }
        let patience = timeout::of_wait(timeout)?;
        let name = intern!(slf.py(), "async_wait");
        if let Some(is_set) = switched_method(slf, name, || (timeout::left(patience),))? {
            return is_set.is_truthy();
        }
        Ok(waiting::wait(slf.py(), |waiting| event.wait(patience, waiting))?.is_some())
    }

    /// How often it has been set, as `_is_set_since` wants to know.
    fn _sequence(&self) -> u64 {
        self.event.turn().to_bits()
    }

    fn _is_set_since(&self, sequence: u64) -> bool {
        self.event.was_set_since(Turn::from_bits(sequence))
    }

    /// Return what is known of the event.
    ///
    /// Returns:
    ///     a dict of ``name``, ``set`` and ``waiting``: how many coroutines wait, and threads that have done so for
    ///     longer than 20 ms.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        statistics.set_item("set", self.event.is_set())?;
        statistics.set_item("waiting", owned::waiting(&self.record))?;
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

    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> Enlisted {
        Enlisted::at(slf, socket)
    }
}
