//! The lock.

use std::sync::Arc;

use manyhands_os::process::{Identity, identity, thread_id};
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{EventCount, SpinBudget};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::door::{Awaited, Enlisted};
use super::owned::Owned;
use super::quick::{Quick, add_quick_methods};
use super::{owned, waiting};
use crate::home::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LockBase>()?;
    add_quick_methods::<LockBase>(module.py())
}

/// The native half of `manyhands.Lock`.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct LockBase {
    lock: Lock,
    record: Record,
    spin: SpinBudget,
}

impl Quick for LockBase {
    #[inline]
    fn enter(&self) -> bool {
        self.lock.try_acquire(identity(), thread_id())
    }

    #[inline]
    fn leave(&self) -> bool {
        self.lock.word().try_release(identity())
    }
}

impl Awaited for LockBase {
    fn site(&self) -> &Arc<Site> {
        self.record.site()
    }

    fn events(&self) -> EventCount<'_> {
        self.lock.word().events()
    }

    fn key(&self) -> u64 {
        self.lock.key()
    }

    fn kind(&self) -> WaitKind {
        WaitKind::Lock
    }
}

impl Owned for LockBase {
    fn lock(&self) -> &Lock {
        &self.lock
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

    fn give_back(&self, me: Identity, _thread: u32) -> bool {
        self.lock.release(me).is_ok()
    }
}

#[pymethods]
impl LockBase {
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
            Some(address) => home::open_record(address, Kind::Lock, words)?,
            None => home::record(Kind::Lock, name, &[], words, |_, _| Ok(()))?,
        };
        let lock = Lock::at(Arc::clone(record.site()), usize::try_from(record.key())?)?;
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

    /// An attempt of a coroutine, which will be called at its door if it is in vain.
    fn _poll(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (me, thread) = waiting::caller();
        let acquired = slf.get().lock.poll_acquire(me, thread, true);
        owned::settle(slf, acquired, || _ = slf.get().lock.release(me))
    }

    fn _release(&self, py: Python<'_>) -> PyResult<()> {
        self.lock.release(identity()).map_err(|error| owned::release_error(py, error))
    }

    #[pyo3(signature = (*_error))]
    fn _exit(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self._release(py)
    }

    fn _release_save(&self, py: Python<'_>) -> PyResult<()> {
        self._release(py)
    }

    /// Acquires it, whatever happens meanwhile: a Condition comes back with its lock.
    fn _acquire_restore(slf: &Bound<'_, Self>, _saved: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let (me, thread) = waiting::caller();
        let (acquired, raised) = waiting::wait_through(slf.py(), |waiting| {
            this.lock.acquire(me, thread, None, &this.spin, waiting)
        })?;
        owned::settle(slf, acquired, || _ = this.lock.release(me))?;
        raised.map_or(Ok(()), Err)
    }

    fn locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Says that what the lock protects is right again after its owner died.
    fn recover(&self) -> bool {
        owned::recover(self)
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
