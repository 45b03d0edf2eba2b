//! The lock.

use std::io;
use std::sync::Arc;

use manyhands_os::process::{Identity, identity, thread_id};
use manyhands_sync::lock::{Acquired, Lock};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{EventCount, Patience, SpinPolicy};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::owned::{self, Owned, Placed};
use super::quick::{Quick, add_quick_methods};
use super::timeout::Flag;
use super::waiting;
use super::wake_socket::{Awaited, Enlisted};
use crate::interpreter::argument::Name;
use crate::memory::objects::Record;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("LockBase", module.py().get_type::<LockBase>())?;
    add_quick_methods::<LockBase>(module.py())
}

/// The native half of `manyhands.Lock`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Lock")]
pub(crate) struct LockBase {
    placed: Placed<Lock>,
}

impl Quick for LockBase {
    #[inline]
    fn enter(&self) -> bool {
        self.placed.lock.try_acquire(identity(), thread_id())
    }

    #[inline]
    fn leave(&self) -> bool {
        self.placed.lock.word().try_release(identity())
    }
}

impl Awaited for LockBase {
    const KIND: WaitKind = WaitKind::Lock;

    fn record(&self) -> &Record {
        &self.placed.record
    }

    fn events(&self) -> EventCount<'_> {
        self.placed.lock.word().events()
    }
}

impl Owned for Lock {
    const KIND: Kind = Kind::Lock;

    fn at(site: Arc<Site>, offset: usize) -> io::Result<Self> {
        Self::at(site, offset)
    }

    fn plain(&self) -> &Lock {
        self
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

    fn give_back(&self, me: Identity, _thread: u32) -> bool {
        self.release(me).is_ok()
    }
}

#[pymethods]
impl LockBase {
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

    /// Acquire the lock.
    ///
    /// Args:
    ///     blocking: whether to wait for it.
    ///     timeout: seconds to wait; -1 or None for no limit.
    ///     block: the same as `blocking`, under the name that `multiprocessing` has for it.
    ///
    /// Returns:
    ///     whether it was acquired.
    ///
    /// Raises:
    ///     OwnerDied: a process died while it had the lock. The caller has it now, and must repair what it protects; or
    ///         what `on_owner_died` says is done instead.
    ///     DeadlockError: the caller would wait for a thread that waits, directly or through others, for the caller.
    ///     ValueError: a timeout together with ``blocking=False``, or a negative one.
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

    /// An attempt of a coroutine, which will be called through its wake socket if it fails.
    fn _poll(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let (me, thread) = waiting::caller();
        let acquired = slf.get().placed.lock.poll_acquire(me, thread, true);
        owned::settle(slf, acquired, || _ = slf.get().placed.lock.release(me))
    }

    /// Release the lock. Any thread of any process may do that.
    ///
    /// Raises:
    ///     ReleaseError: nobody has it.
    #[pyo3(name = "release")]
    pub(super) fn _release(&self, py: Python<'_>) -> PyResult<()> {
        self.placed.lock.release(identity()).map_err(|error| owned::release_error(py, error))
    }

    #[pyo3(name = "__exit__", signature = (*_error))]
    fn _exit(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self._release(py)
    }

    fn _release_save(&self, py: Python<'_>) -> PyResult<()> {
        self._release(py)
    }

    /// Acquires it, whatever happens in the meantime: a Condition comes back with its lock.
    pub(super) fn _acquire_restore(slf: &Bound<'_, Self>, _saved: &Bound<'_, PyAny>) -> PyResult<()> {
        let Placed { lock, spin, .. } = &slf.get().placed;
        let (me, thread) = waiting::caller();
        let (acquired, raised) = waiting::wait_through(slf.py(), |waiting| {
            lock.acquire(me, thread, Patience::Forever, spin, waiting)
        })?;
        owned::settle(slf, acquired, || _ = lock.release(me))?;
        raised.map_or(Ok(()), Err)
    }

    /// Return whether somebody has it at this moment.
    fn locked(&self) -> bool {
        self.placed.lock.is_locked()
    }

    /// Say that what the lock protects is right again, after a process died while it had the lock.
    ///
    /// Returns:
    ///     whether there was something to recover from, and nobody else has the lock.
    fn recover(&self) -> bool {
        self.placed.recover()
    }

    /// Return what is known of the lock.
    ///
    /// Returns:
    ///     a dict of ``name``, ``owner`` (None, or a dict of ``pid`` and ``thread``) and ``waiting``: how many
    ///     coroutines wait, and threads that have done so for longer than 20 ms.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.placed.statistics(py)
    }

    /// The number by which texts call it.
    fn _key(&self) -> u64 {
        self.placed.record.key()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.get().placed.describe(slf, "")
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.placed.record.address(py)
    }

    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> Enlisted {
        Enlisted::at(slf, socket)
    }
}
