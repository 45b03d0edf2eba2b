//! The semaphore, bounded or not.

use std::sync::Arc;

use manyhands_sync::names::Kind;
use manyhands_sync::semaphore::Semaphore;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::{EventCount, Patience};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::quick::{Quick, add_quick_methods};
use super::timeout::{self, Flag};
use super::wake_socket::{Awaited, Enlisted};
use super::{owned, waiting};
use crate::interpreter::argument::{Name, integer};
use crate::interpreter::switching::switched_method;
use crate::memory::objects::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SemaphoreBase", module.py().get_type::<SemaphoreBase>())?;
    add_quick_methods::<SemaphoreBase>(module.py())
}

/// The native half of `manyhands.Semaphore` and `manyhands.BoundedSemaphore`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Semaphore")]
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
    const KIND: WaitKind = WaitKind::Semaphore;

    fn record(&self) -> &Record {
        &self.record
    }

    fn events(&self) -> EventCount<'_> {
        self.semaphore.events()
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
    #[pyo3(signature = (value = None, *_rest, name = None, _address = None, **_more))]
    fn new(
        class: &Bound<'_, PyType>,
        value: Option<&Bound<'_, PyAny>>,
        _rest: &Bound<'_, PyTuple>,
        name: Option<Name<'_>>,
        _address: Option<&Bound<'_, PyTuple>>,
        _more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let bounded: bool = class.getattr(intern!(class.py(), "_bounded"))?.extract()?;
        let kind = if bounded { Kind::BoundedSemaphore } else { Kind::Semaphore };
        let value = value.map(|value| integer("value", value)).transpose()?;
        let (name, initial) = (name.as_deref(), initial_value(value.unwrap_or(1))?);
        let make = || {
            let words = Semaphore::words_for(initial);
            objects::record(_address, kind, name, &[initial], words, |site, words| {
                drop(Semaphore::create(Arc::clone(site), words.clone(), initial, bounded));
                Ok(())
            })
        };
        let words = |site: &Site| {
            let [initial, ..] = site.parameters();
            (initial <= Semaphore::MOST).then(|| Semaphore::words_for(initial))
        };
        let record = match (name, value, _address) {
            // As it is, if somebody has made it.
            (Some(name), None, None) => {
                objects::open_or_make(|| objects::named_record(kind, name, &[objects::ANY], words), make)?
            }
            _ => make()?,
        };
        let semaphore = Semaphore::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { semaphore, record })
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    /// Acquire a permit.
    ///
    /// Args:
    ///     blocking: whether to wait for it.
    ///     timeout: seconds to wait; None for no limit.
    ///     block: the same as `blocking`, under the name that `multiprocessing` has for it.
    ///
    /// Returns:
    ///     whether it was acquired.
    ///
    /// Raises:
    ///     ValueError: a timeout together with ``blocking=False``.
    #[pyo3(
        name = "acquire",
        signature = (blocking = Flag::ABSENT, timeout = None, *, block = Flag::ABSENT),
        text_signature = "($self, blocking=True, timeout=None, *, block=True)"
    )]
    fn _acquire(
        slf: &Bound<'_, Self>,
        blocking: Flag<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        block: Flag<'_>,
    ) -> PyResult<bool> {
        match timeout::of_semaphore(&blocking.or(block)?, timeout)? {
            Patience::Now => Ok(slf.get().semaphore.try_acquire()),
            patience => {
                let name = intern!(slf.py(), "async_acquire");
                if let Some(acquired) = switched_method(slf, name, || (timeout::left(patience),))? {
                    return acquired.is_truthy();
                }
                let semaphore = &slf.get().semaphore;
                let acquired = waiting::wait(slf.py(), |waiting| semaphore.acquire(patience, waiting))?;
                Ok(acquired.is_some())
            }
        }
    }

    /// Acquire a permit, for a ``with`` statement.
    #[pyo3(name = "__enter__")]
    fn _enter(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::_acquire(slf, Flag::ABSENT, None, Flag::ABSENT)
    }

    /// An attempt of a coroutine, which will be called through its wake socket if it fails.
    fn _poll(&self) -> bool {
        self.semaphore.try_acquire()
    }

    /// Give permits back.
    ///
    /// Args:
    ///     n: how many, 1 or more.
    ///
    /// Raises:
    ///     ReleaseError: more than were acquired, of a BoundedSemaphore; it is as before.
    ///     ValueError: ``n`` is less than 1.
    #[pyo3(name = "release", signature = (n = 1))]
    fn _release(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        let count = u64::try_from(n)
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| PyValueError::new_err("n must be one or more"))?;
        self.semaphore
            .release(count)
            .map_err(|_| owned::release_error(py, "Semaphore released too many times"))
    }

    #[pyo3(name = "__exit__", signature = (*_error))]
    fn _exit(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self._release(py, 1)
    }

    /// Return how many permits are free at this moment.
    fn get_value(&self) -> u64 {
        if self.semaphore.value() < self.semaphore.initial() {
            // Permits of the dead are free.
            self.semaphore.recover();
        }
        self.semaphore.value()
    }

    /// Return whether no permit is free at this moment.
    fn locked(&self) -> bool {
        self.semaphore.value() == 0
    }

    /// Return what is known of the semaphore.
    ///
    /// Returns:
    ///     a dict of ``name``, ``value`` (free permits), ``initial`` (permits at first), ``holders`` (permits by
    ///     process id) and ``waiting``: how many coroutines wait, and threads that have done so for longer than
    ///     20 ms.
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
        statistics.set_item("waiting", owned::waiting(&self.record))?;
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

    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> Enlisted {
        Enlisted::at(slf, socket)
    }
}
