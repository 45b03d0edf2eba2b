//! The condition variable: those who wait. Its lock is the business of the Python half.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_sync::Patience;
use manyhands_sync::condition::{AsyncEnlisted, Condition};
use manyhands_sync::names::Kind;
use manyhands_sync::site::MOST_WAITERS;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::lock::LockBase;
use super::rlock::RLockBase;
use super::{timeout, waiting};
use crate::interpreter::argument::Name;
use crate::memory::objects::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ConditionBase", module.py().get_type::<ConditionBase>())?;
    module.add_class::<ConditionWaiter>()
}

/// The native half of `manyhands.Condition`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Condition")]
pub(crate) struct ConditionBase {
    condition: Condition,
    record: Record,
}

#[pymethods]
impl ConditionBase {
    #[new]
    #[pyo3(signature = (*_rest, name = None, _address = None, **_more))]
    fn new(
        _rest: &Bound<'_, PyTuple>,
        name: Option<Name<'_>>,
        _address: Option<&Bound<'_, PyTuple>>,
        _more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let words = Condition::WORDS;
        let record = objects::record(_address, Kind::Condition, name.as_deref(), &[], words, |_, _| Ok(()))?;
        let condition = Condition::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { condition, record })
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    /// Enlists, calls `release` (which releases the lock), and waits to be notified: whether that was in time.
    #[pyo3(signature = (release, timeout))]
    fn _wait(
        &self,
        py: Python<'_>,
        release: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        crate::interpreter::ending::outlast();
        self.wait_between(py, timeout, || release.call0(), |_| Ok(()))
    }

    /// As `_wait`, with a lock of ours, which is released and acquired again here: between two lines of Python a signal
    /// handler may run, and one that raised there would leave the caller without its lock.
    #[pyo3(signature = (lock, timeout))]
    fn _wait_holding(&self, lock: &Bound<'_, PyAny>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = lock.py();
        if let Ok(lock) = lock.cast::<RLockBase>() {
            let release = || lock.get()._release_save(py);
            return self.wait_between(py, timeout, release, |count| RLockBase::_acquire_restore(lock, count));
        }
        let lock = lock.cast::<LockBase>()?;
        let release = || lock.get()._release(py);
        self.wait_between(py, timeout, release, |()| LockBase::_acquire_restore(lock, py.None().bind(py)))
    }

    /// Wakes `n`, or all.
    fn _notify(&self, n: Option<i64>) {
        match n {
            None => self.condition.notify_all(),
            Some(n) => self.condition.notify(u32::try_from(n.max(0)).unwrap_or(u32::MAX)),
        };
    }

    /// How many wait.
    fn _waiting(&self) -> usize {
        self.condition.waiting()
    }

    /// Return what is known of the condition.
    ///
    /// Returns:
    ///     a dict of ``name`` and ``waiting``: how many wait to be notified.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        statistics.set_item("waiting", self.condition.waiting())?;
        Ok(statistics)
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    /// A place for a coroutine.
    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> PyResult<ConditionWaiter> {
        let Some(enlisted) = slf.get().condition.enlist_async(socket) else {
            return Err(PyRuntimeError::new_err(format!(
                "too many threads and coroutines are waiting in one shared segment: the limit is {MOST_WAITERS}"
            )));
        };
        let number = enlisted.call_number();
        Ok(ConditionWaiter { of: slf.clone().unbind(), number, enlisted: Mutex::new(Some(enlisted)) })
    }
}

impl ConditionBase {
    /// Enlists, releases the lock, waits, and takes the lock again.
    fn wait_between<S>(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        release: impl FnOnce() -> PyResult<S>,
        restore: impl FnOnce(S) -> PyResult<()>,
    ) -> PyResult<bool> {
        let patience = timeout::of_wait(timeout)?;
        let enlisted = self.condition.enlist(patience != Patience::Forever);
        let saved = release()?;
        let waited = waiting::wait(py, |waiting| enlisted.wait(patience, waiting));
        match (restore(saved), waited) {
            (Ok(()), waited) => Ok(waited?.is_some()),
            (Err(error), Ok(_)) => Err(error),
            // What came first shows as the context of what came last, as in Python.
            (Err(last), Err(first)) => {
                _ = last.value(py).setattr(intern!(py, "__context__"), first.value(py));
                Err(last)
            }
        }
    }
}

/// A coroutine's place among those who wait for a condition.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct ConditionWaiter {
    of: Py<ConditionBase>,
    number: u64,
    enlisted: Mutex<Option<AsyncEnlisted>>,
}

impl ConditionWaiter {
    fn enlisted(&self) -> MutexGuard<'_, Option<AsyncEnlisted>> {
        // Nothing that runs under it panics half-way.
        self.enlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ConditionWaiter {
    /// What a call for it says.
    #[getter]
    fn call_number(&self) -> u64 {
        self.number
    }

    fn is_notified(&self) -> bool {
        self.enlisted().as_ref().is_some_and(AsyncEnlisted::is_notified)
    }

    /// A notification comes once: there is nothing to renew.
    #[expect(clippy::unused_self, reason = "what all places have")]
    fn renew(&self) {}

    /// Waits no more; if not `satisfied`, a notification goes to another.
    fn leave(&self, satisfied: bool) {
        let enlisted = self.enlisted().take();
        if let Some(enlisted) = enlisted {
            self.of.get().condition.leave_async(enlisted, satisfied);
        }
    }
}

impl Drop for ConditionWaiter {
    fn drop(&mut self) {
        self.leave(false);
    }
}
