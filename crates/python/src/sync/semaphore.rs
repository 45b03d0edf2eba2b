//! The semaphore, bounded or not.

use std::sync::Arc;

use manyhands_sync::EventCount;
use manyhands_sync::names::Kind;
use manyhands_sync::semaphore::Semaphore;
use manyhands_sync::site::{Site, WaitKind};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::door::{Awaited, Enlisted};
use super::quick::{Quick, add_quick_methods};
use super::{owned, timeout, waiting};
use crate::home::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SemaphoreBase>()?;
    add_quick_methods::<SemaphoreBase>(module.py())
}

/// The native half of `manyhands.Semaphore` and `manyhands.BoundedSemaphore`.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct SemaphoreBase {
    semaphore: Semaphore,
    record: Record,
}

impl Quick for SemaphoreBase {
    #[inline]
    fn enter(&self) -> bool {
        self.semaphore.acquire_quickly()
    }

    #[inline]
    fn leave(&self) -> bool {
        self.semaphore.release(1).is_ok()
    }
}

impl Awaited for SemaphoreBase {
    fn site(&self) -> &Arc<Site> {
        self.record.site()
    }

    fn events(&self) -> EventCount<'_> {
        self.semaphore.events()
    }

    fn key(&self) -> u64 {
        self.semaphore.key()
    }

    fn kind(&self) -> WaitKind {
        WaitKind::Semaphore
    }
}

/// What `value` says.
fn initial_value(value: i64) -> PyResult<u64> {
    let initial =
        u64::try_from(value).map_err(|_| PyValueError::new_err("semaphore initial value must be >= 0"))?;
    if initial > Semaphore::MOST {
        return Err(PyOverflowError::new_err(format!(
            "semaphore initial value must be at most {}",
            Semaphore::MOST
        )));
    }
    Ok(initial)
}

#[pymethods]
impl SemaphoreBase {
    #[new]
    #[classmethod]
    #[pyo3(signature = (value = 1, *, name = None, _address = None))]
    fn new(
        class: &Bound<'_, PyType>,
        value: i64,
        name: Option<&str>,
        _address: Option<&Bound<'_, PyTuple>>,
    ) -> PyResult<Self> {
        let bounded: bool = class.getattr(intern!(class.py(), "_bounded"))?.extract()?;
        let kind = if bounded { Kind::BoundedSemaphore } else { Kind::Semaphore };
        let initial = initial_value(value)?;
        let words = Semaphore::words_for(initial);
        let record = match _address {
            Some(address) => home::open_record(address, kind, words)?,
            None => home::record(kind, name, &[initial], words, |site, words| {
                drop(Semaphore::create(Arc::clone(site), words.clone(), initial, bounded));
                Ok(())
            })?,
        };
        let semaphore = Semaphore::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { semaphore, record })
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    #[pyo3(signature = (blocking = None, timeout = None, *, block = None))]
    fn _acquire(
        &self,
        py: Python<'_>,
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        block: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        match timeout::of_semaphore(blocking.or(block), timeout)?.deadline() {
            Some(0) => Ok(self.semaphore.try_acquire()),
            deadline => {
                let acquired = waiting::wait(py, |waiting| self.semaphore.acquire(deadline, waiting))?;
                Ok(acquired.is_some())
            }
        }
    }

    fn _enter(&self, py: Python<'_>) -> PyResult<bool> {
        self._acquire(py, None, None, None)
    }

    /// An attempt of a coroutine, which will be called at its door if it is in vain.
    fn _poll(&self) -> bool {
        self.semaphore.try_acquire()
    }

    #[pyo3(signature = (n = 1))]
    fn _release(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        let count = u64::try_from(n)
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| PyValueError::new_err("n must be one or more"))?;
        self.semaphore
            .release(count)
            .map_err(|_| owned::release_error(py, "Semaphore released too many times"))
    }

    #[pyo3(signature = (*_error))]
    fn _exit(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self._release(py, 1)
    }

    /// How many permits are free.
    fn get_value(&self) -> u64 {
        if self.semaphore.value() < self.semaphore.initial() {
            // Permits of the dead are free.
            self.semaphore.recover();
        }
        self.semaphore.value()
    }

    fn locked(&self) -> bool {
        self.semaphore.value() == 0
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        statistics.set_item("value", self.get_value())?;
        statistics.set_item("initial", self.semaphore.initial())?;
        let holders = PyDict::new(py);
        for (holder, count) in self.semaphore.holders() {
            holders.set_item(holder.pid(), count)?;
        }
        statistics.set_item("holders", holders)?;
        statistics.set_item("waiting", owned::waiting(self.record.site(), self.semaphore.key()))?;
        Ok(statistics)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let class = slf.get_type().name()?;
        let name = this.record.label();
        let (value, at) = (this.semaphore.value(), slf.as_ptr() as usize);
        let bound = match this.semaphore.is_bounded() {
            true => format!("/{}", this.semaphore.initial()),
            false => String::new(),
        };
        Ok(format!("<manyhands.{class}{name} at {at:#x}: value={value}{bound}>"))
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    /// The value it began with, which an opener has to say, too.
    fn _initial(&self) -> u64 {
        self.semaphore.initial()
    }

    fn _enlist(slf: &Bound<'_, Self>, door: u32) -> Enlisted {
        Enlisted::at(slf, door)
    }
}
