//! The lock that its owner can acquire again.

use std::io;
use std::sync::Arc;

use manyhands_os::process::{Identity, identity, thread_id};
use manyhands_sync::lock::{Acquired, Lock, RLock};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{EventCount, Patience, SpinPolicy};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::owned::{self, Owned, Placed};
use super::quick::{Quick, add_quick_methods};
use super::timeout::Flag;
use super::waiting;
use super::wake_socket::{Awaited, Enlisted};
use crate::interpreter::argument::Name;
use crate::interpreter::switching;
use crate::memory::objects::Record;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("RLockBase", module.py().get_type::<RLockBase>())?;
    add_quick_methods::<RLockBase>(module.py())
}

/// The native half of `manyhands.RLock`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "RLock")]
pub(crate) struct RLockBase {
    placed: Placed<RLock>,
}

impl Quick for RLockBase {
    #[inline]
    fn enter(&self) -> bool {
        // Tasks that are greenlets own it as tasks: their thread is that of others, too.
        !switching::is_on() && self.placed.lock.try_acquire(identity(), thread_id())
    }

    #[inline]
    fn leave(&self) -> bool {
        self.placed.lock.release(identity(), thread_id()).is_ok()
    }
}

impl Awaited for RLockBase {
    const KIND: WaitKind = WaitKind::RLock;

    fn record(&self) -> &Record {
        &self.placed.record
    }

    fn events(&self) -> EventCount<'_> {
        self.placed.lock.lock().word().events()
    }
}

impl Owned for RLock {
    const KIND: Kind = Kind::RLock;

    fn at(site: Arc<Site>, offset: usize) -> io::Result<Self> {
        Self::at(site, offset)
    }

    fn plain(&self) -> &Lock {
        self.lock()
    }

    fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired> {
        self.acquire_now(me, thread)
    }

    fn acquire(
        &self,
        me: Identity,
        thread: u32,
        patience: Patience,
        spin: &SpinPolicy,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped> {
        self.acquire(me, thread, patience, spin, waiting)
    }

    fn give_back(&self, me: Identity, thread: u32) -> bool {
        self.release(me, thread).is_ok()
    }
}

impl RLockBase {
    fn is_owned_by_thread(&self) -> bool {
        let (me, thread) = waiting::caller();
        self.placed.lock.is_owned(me, thread)
    }
}

#[pymethods]
impl RLockBase {
    #[new]
    #[pyo3(signature = (*_rest, name = None, _address = None, **_more))]
    fn new(
        _rest: &Bound<'_, PyTuple>,
        name: Option<Name<'_>>,
        _address: Option<&Bound<'_, PyTuple>>,
        _more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        // The rest is for `__init__`, here or of a subclass.
        Ok(Self { placed: Placed::open(name.as_deref(), _address)? })
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.placed.record.name()
    }

    /// Acquire the lock for the calling thread, also when that has it already.
    ///
    /// Arguments, result and errors are those of `Lock.acquire`.
    #[pyo3(
        name = "acquire",
        signature = (blocking = Flag::ABSENT, timeout = None, *, block = Flag::ABSENT),
        text_signature = "($self, blocking=True, timeout=-1, *, block=True)"
    )]
    fn _acquire(
        slf: &Bound<'_, Self>,
        blocking: Flag<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        block: Flag<'_>,
    ) -> PyResult<bool> {
        slf.get().placed.acquire(slf, &blocking.or(block)?, timeout)
    }

    /// Acquire, for a ``with`` statement. If this raises, the lock is not held.
    #[pyo3(name = "__enter__")]
    fn _enter(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().placed.enter(slf)
    }

    /// Release the lock once.
    ///
    /// Raises:
    ///     ReleaseError: neither the calling thread nor the running asyncio task has it.
    #[pyo3(name = "release")]
    fn _release(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (me, thread) = waiting::caller();
        let Err(error) = slf.get().placed.lock.release(me, thread) else { return Ok(()) };
        // A coroutine may own it as a task, which the asyncio half knows.
        match slf.call_method0(intern!(slf.py(), "_release_by_task"))?.is_truthy()? {
            true => Ok(()),
            false => Err(owned::release_error(slf.py(), error)),
        }
    }

    #[pyo3(name = "__exit__", signature = (*_error))]
    fn _exit(slf: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        Self::_release(slf)
    }

    /// Return whether somebody has it at this moment.
    fn locked(&self) -> bool {
        self.placed.lock.lock().is_locked()
    }

    /// Say that what the lock protects is right again, after a process died while it had the lock: as `Lock.recover`.
    fn recover(&self) -> bool {
        self.placed.recover()
    }

    /// Whether the calling thread has it, or the coroutine that it runs.
    fn _is_owned(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if slf.get().is_owned_by_thread() {
            return Ok(true);
        }
        Ok(!slf.call_method0(intern!(slf.py(), "_task_that_owns"))?.is_none())
    }

    /// How often the calling thread has acquired it.
    fn _recursion_count(&self) -> u64 {
        if self.is_owned_by_thread() { self.placed.lock.count() } else { 0 }
    }

    pub(super) fn _release_save(&self, py: Python<'_>) -> PyResult<u64> {
        let (me, thread) = waiting::caller();
        self.placed.lock.release_save(me, thread).map_err(|error| owned::release_error(py, error))
    }

    pub(super) fn _acquire_restore(slf: &Bound<'_, Self>, count: u64) -> PyResult<()> {
        let Placed { lock, spin, .. } = &slf.get().placed;
        let (me, thread) = waiting::caller();
        let (acquired, raised) = waiting::wait_through(slf.py(), |waiting| {
            lock.acquire_restore(me, thread, count, spin, waiting)
        })?;
        owned::settle(slf, acquired, || _ = lock.release_save(me, thread))?;
        raised.map_or(Ok(()), Err)
    }

    /// An attempt of a coroutine, for the task with this number instead of the thread.
    fn _poll_as(slf: &Bound<'_, Self>, number: u32, waits: bool) -> PyResult<bool> {
        let (lock, me) = (&slf.get().placed.lock, identity());
        let acquired = match waits {
            true => lock.poll_acquire(me, number, true),
            false => lock.acquire_now(me, number),
        };
        owned::settle(slf, acquired, || _ = lock.release(me, number))
    }

    fn _release_as(&self, py: Python<'_>, number: u32) -> PyResult<()> {
        self.placed.lock.release(identity(), number).map_err(|error| owned::release_error(py, error))
    }

    fn _release_all_as(&self, py: Python<'_>, number: u32) -> PyResult<u64> {
        self.placed.lock.release_save(identity(), number).map_err(|error| owned::release_error(py, error))
    }

    fn _is_owned_as(&self, number: u32) -> bool {
        self.placed.lock.is_owned(identity(), number)
    }

    /// Return what is known of the lock, as `Lock.statistics`.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.placed.statistics(py)
    }

    /// The number by which texts call it.
    fn _key(&self) -> u64 {
        self.placed.record.key()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let placed = &slf.get().placed;
        placed.describe(slf, &format!(" count={}", placed.lock.count()))
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.placed.record.address(py)
    }

    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> Enlisted {
        Enlisted::at(slf, socket)
    }
}
