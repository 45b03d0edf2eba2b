//! The lock that its owner can acquire again.

use std::sync::Arc;

use manyhands_os::process::{Identity, identity, thread_id};
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock, RLock};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{EventCount, SpinBudget};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::door::{Awaited, Enlisted};
use super::owned::Owned;
use super::quick::{Quick, add_quick_methods};
use super::{owned, waiting};
use crate::home::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RLockBase>()?;
    add_quick_methods::<RLockBase>(module.py())
}

/// The native half of `manyhands.RLock`.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct RLockBase {
    lock: RLock,
    record: Record,
    spin: SpinBudget,
}

impl Quick for RLockBase {
    #[inline]
    fn enter(&self) -> bool {
        self.lock.try_acquire(identity(), thread_id())
    }

    #[inline]
    fn leave(&self) -> bool {
        self.lock.release(identity(), thread_id()).is_ok()
    }
}

impl Awaited for RLockBase {
    fn site(&self) -> &Arc<Site> {
        self.record.site()
    }

    fn events(&self) -> EventCount<'_> {
        self.lock.lock().word().events()
    }

    fn key(&self) -> u64 {
        self.lock.lock().key()
    }

    fn kind(&self) -> WaitKind {
        WaitKind::RLock
    }
}

impl Owned for RLockBase {
    fn lock(&self) -> &Lock {
        self.lock.lock()
    }

    fn record(&self) -> &Record {
        &self.record
    }

    fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired> {
        self.lock.acquire_now(me, thread)
    }

    fn acquire_until(
        &self,
        me: Identity,
        thread: u32,
        deadline: Option<u64>,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped> {
        self.lock.acquire(me, thread, deadline, &self.spin, waiting)
    }

    fn give_back(&self, me: Identity, thread: u32) -> bool {
        self.lock.release(me, thread).is_ok()
    }
}

#[pymethods]
impl RLockBase {
    #[new]
    #[pyo3(signature = (*, name = None, on_owner_died = None, _address = None))]
    fn new(
        name: Option<&str>,
        on_owner_died: Option<&Bound<'_, PyAny>>,
        _address: Option<&Bound<'_, PyTuple>>,
    ) -> PyResult<Self> {
        // Kept by the Python half, where the garbage collector sees it.
        _ = on_owner_died;
        let words = LOCK_BYTES / 8;
        let record = match _address {
            Some(address) => home::open_record(address, Kind::RLock, words)?,
            None => home::record(Kind::RLock, name, &[], words, |_, _| Ok(()))?,
        };
        let lock = RLock::at(Arc::clone(record.site()), usize::try_from(record.key())?)?;
        Ok(Self { lock, record, spin: super::spin_budget() })
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    #[pyo3(signature = (blocking = None, timeout = None, *, block = None))]
    fn _acquire(
        slf: &Bound<'_, Self>,
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        block: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        owned::acquire(slf, blocking.or(block), timeout)
    }

    fn _enter(slf: &Bound<'_, Self>) -> PyResult<bool> {
        owned::enter(slf)
    }

    fn _release(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (me, thread) = waiting::caller();
        let Err(error) = slf.get().lock.release(me, thread) else { return Ok(()) };
        // A coroutine may own it as a task, which the asyncio half knows.
        match slf.call_method0(intern!(slf.py(), "_release_by_task"))?.is_truthy()? {
            true => Ok(()),
            false => Err(owned::release_error(slf.py(), error)),
        }
    }

    #[pyo3(signature = (*_error))]
    fn _exit(slf: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::_release(slf)
    }

    fn locked(&self) -> bool {
        self.lock.lock().is_locked()
    }

    /// Says that what the lock protects is right again after its owner died.
    fn recover(&self) -> bool {
        owned::recover(self)
    }

    fn _is_owned(&self) -> bool {
        let (me, thread) = waiting::caller();
        self.lock.is_owned(me, thread)
    }

    /// How often the calling thread has acquired it.
    fn _recursion_count(&self) -> u64 {
        if self._is_owned() { self.lock.count() } else { 0 }
    }

    fn _release_save(&self, py: Python<'_>) -> PyResult<u64> {
        let (me, thread) = waiting::caller();
        self.lock.release_save(me, thread).map_err(|error| owned::release_error(py, error))
    }

    fn _acquire_restore(slf: &Bound<'_, Self>, count: u64) -> PyResult<()> {
        let this = slf.get();
        let (me, thread) = waiting::caller();
        let (acquired, raised) = waiting::wait_through(slf.py(), |waiting| {
            this.lock.acquire_restore(me, thread, count, &this.spin, waiting)
        })?;
        owned::settle(slf, acquired, || _ = this.lock.release_save(me, thread))?;
        raised.map_or(Ok(()), Err)
    }

    /// An attempt of a coroutine, for the task with this number instead of the thread.
    fn _poll_as(slf: &Bound<'_, Self>, number: u32, waits: bool) -> PyResult<bool> {
        let (lock, me) = (&slf.get().lock, identity());
        let acquired = match waits {
            true => lock.poll_acquire(me, number, true),
            false => lock.acquire_now(me, number),
        };
        owned::settle(slf, acquired, || _ = lock.release(me, number))
    }

    fn _release_as(&self, py: Python<'_>, number: u32) -> PyResult<()> {
        self.lock.release(identity(), number).map_err(|error| owned::release_error(py, error))
    }

    fn _release_all_as(&self, py: Python<'_>, number: u32) -> PyResult<u64> {
        self.lock.release_save(identity(), number).map_err(|error| owned::release_error(py, error))
    }

    fn _is_owned_as(&self, number: u32) -> bool {
        self.lock.is_owned(identity(), number)
    }

    fn statistics<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        owned::statistics(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        owned::describe(slf)
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    fn _enlist(slf: &Bound<'_, Self>, door: u32) -> Enlisted {
        Enlisted::at(slf, door)
    }
}
