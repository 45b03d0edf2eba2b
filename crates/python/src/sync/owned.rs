//! What locks with an owner have in common.

use manyhands_os::process::Identity;
use manyhands_sync::lock::{Acquired, Lock};
use manyhands_sync::site::Site;
use manyhands_sync::waiting::{Stopped, Waiting};
use pyo3::PyClass;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyDict;

use super::{timeout, waiting};
use crate::home::Record;
use crate::imports;

/// A class of locks that have an owner.
pub(super) trait Owned: PyClass<Frozen = True> + Sync {
    /// The lock underneath: to look at.
    fn lock(&self) -> &Lock;
    fn record(&self) -> &Record;
    fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired>;
    /// # Errors
    /// When it was not acquired.
    fn acquire_until(
        &self,
        me: Identity,
        thread: u32,
        deadline: Option<u64>,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped>;
    /// Releases it once; whether the caller had it.
    fn give_back(&self, me: Identity, thread: u32) -> bool;
}

/// `acquire`, with all the arguments it may have.
pub(super) fn acquire<C: Owned>(
    lock: &Bound<'_, C>,
    blocking: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let this = lock.get();
    let patience = timeout::of_lock(blocking, timeout)?;
    let (me, thread) = waiting::caller();
    let acquired = match patience.deadline() {
        Some(0) => this.acquire_now(me, thread),
        deadline => waiting::wait(lock.py(), |waiting| this.acquire_until(me, thread, deadline, waiting))?,
    };
    settle(lock, acquired, || _ = this.give_back(me, thread))
}

/// `__enter__`. Not in Python, so that no signal handler runs between getting the lock and saying so.
pub(super) fn enter<C: Owned>(lock: &Bound<'_, C>) -> PyResult<bool> {
    acquire(lock, None, None).inspect_err(|error| {
        // The block will not run, so nobody would release the lock.
        if is_held(lock.py(), error) {
            _ = error.value(lock.py()).setattr(intern!(lock.py(), "held"), false);
            let (me, thread) = waiting::caller();
            lock.get().give_back(me, thread);
        }
    })
}

/// Says that what the lock protects is right again after its owner died.
pub(super) fn recover<C: Owned>(lock: &C) -> bool {
    let (me, thread) = waiting::caller();
    if lock.lock().recover(me) {
        return true;
    }
    // Not ours: free and poisoned, then.
    if !lock.lock().word().is_damaged() || lock.acquire_now(me, thread).is_none() {
        return false;
    }
    let recovered = lock.lock().recover(me);
    lock.give_back(me, thread) && recovered
}

/// Whether the lock was acquired. Tells its Python half when what it protects may be half changed; if that fails in any way
/// but by an OwnerDied, which says that the caller has the lock, it is released.
///
/// # Errors
/// OwnerDied, if that is what the lock does then; what a function raised that was to put it right.
pub(super) fn settle<C: Owned>(
    lock: &Bound<'_, C>,
    acquired: Option<Acquired>,
    release: impl FnOnce(),
) -> PyResult<bool> {
    let dead = match acquired {
        None => return Ok(false),
        Some(Acquired::Clean) => return Ok(true),
        Some(Acquired::Abandoned(dead)) => Some(dead.pid()),
        Some(Acquired::Poisoned) => None,
    };
    let told = lock.as_any().call_method1(intern!(lock.py(), "_taken_over"), (dead,));
    told.map(|_| true).inspect_err(|error| {
        if !is_held(lock.py(), error) {
            release();
        }
    })
}

fn is_held(py: Python<'_>, error: &PyErr) -> bool {
    let held = || -> PyResult<bool> {
        let value = error.value(py);
        Ok(value.is_instance(imports::owner_died(py)?)? && value.getattr(intern!(py, "held"))?.is_truthy()?)
    };
    held().unwrap_or(false)
}

/// The error of a release without an acquire.
pub(super) fn release_error(py: Python<'_>, text: impl std::fmt::Display) -> PyErr {
    imports::error(py, imports::release_error, Some(text.to_string()))
}

/// How many wait for `key`, as far as they are listed: threads are when they have waited for 20 ms.
pub(super) fn waiting(site: &Site, key: u64) -> usize {
    site.waiters_of(key).count()
}

/// What is known of a lock.
pub(super) fn statistics<'py, C: Owned>(lock: &Bound<'py, C>) -> PyResult<Bound<'py, PyDict>> {
    let (py, this) = (lock.py(), lock.get());
    let statistics = PyDict::new(py);
    statistics.set_item("name", this.record().name())?;
    let owner = this.lock().owner().map(|(owner, thread)| -> PyResult<_> {
        let who = PyDict::new(py);
        who.set_item("pid", owner.pid())?;
        who.set_item("thread", thread)?;
        Ok(who)
    });
    statistics.set_item("owner", owner.transpose()?)?;
    statistics.set_item("waiting", waiting(this.record().site(), this.lock().key()))?;
    Ok(statistics)
}

/// The text of a lock, in the form of `threading`; with its key, which is the same in all processes, and what a
/// DeadlockError calls it.
pub(super) fn describe<C: Owned>(lock: &Bound<'_, C>) -> PyResult<String> {
    let this = lock.get();
    let class = lock.as_any().get_type().name()?;
    let name = this.record().label();
    let state = if this.lock().is_locked() { "locked" } else { "unlocked" };
    let owner = this.lock().owner();
    let owner = owner.map_or(String::new(), |(owner, thread)| format!(" owner={}/{thread}", owner.pid()));
    Ok(format!("<{state} manyhands.{class} object{name}{owner} at {:#x}>", this.lock().key()))
}
