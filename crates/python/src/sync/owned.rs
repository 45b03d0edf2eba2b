//! What locks with an owner have in common.

use std::sync::Arc;

use manyhands_os::process::Identity;
use manyhands_sync::lock::Acquired;
use manyhands_sync::site::Site;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::imports;

/// Tells the lock in Python when what it protects may be half changed; the caller has the lock.
///
/// # Errors
/// OwnerDied, if that is what the lock does then; what a function raised that was to put it right.
pub(super) fn settle(lock: &Bound<'_, PyAny>, acquired: Acquired, release: impl FnOnce()) -> PyResult<()> {
    let dead = match acquired {
        Acquired::Clean => return Ok(()),
        Acquired::Abandoned(dead) => Some(dead.pid()),
        Acquired::Poisoned => None,
    };
    let told = lock.call_method1(intern!(lock.py(), "_taken_over"), (dead,)).map(|_| ());
    told.inspect_err(|error| {
        // Only OwnerDied says that the caller has the lock.
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

/// After an `__enter__` that failed: the block will not run, so nobody would release the lock.
pub(super) fn not_entered(py: Python<'_>, error: &PyErr, release: impl FnOnce()) {
    if is_held(py, error) {
        _ = error.value(py).setattr(intern!(py, "held"), false);
        release();
    }
}

/// The error of a release without an acquire.
pub(super) fn release_error(py: Python<'_>, text: impl std::fmt::Display) -> PyErr {
    imports::error(py, imports::release_error, Some(text.to_string()))
}

/// How many wait for `key`, as far as they are listed: threads are when they have waited for 20 ms.
pub(super) fn waiting(site: &Arc<Site>, key: u64) -> usize {
    site.waiters_of(key).count()
}

/// What is known of a lock, for `statistics()`.
pub(super) fn statistics<'py>(
    py: Python<'py>,
    name: Option<&str>,
    owner: Option<(Identity, u32)>,
    waiting: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let statistics = PyDict::new(py);
    statistics.set_item("name", name)?;
    let owner = owner.map(|(owner, thread)| -> PyResult<_> {
        let who = PyDict::new(py);
        who.set_item("pid", owner.pid())?;
        who.set_item("thread", thread)?;
        Ok(who)
    });
    statistics.set_item("owner", owner.transpose()?)?;
    statistics.set_item("waiting", waiting)?;
    Ok(statistics)
}

/// The text of a lock, in the form of `threading`. `key` is the same in all processes, and what a DeadlockError calls it.
pub(super) fn describe(
    lock: &Bound<'_, PyAny>,
    key: u64,
    name: Option<&str>,
    owner: Option<(Identity, u32)>,
    locked: bool,
) -> PyResult<String> {
    let class = lock.get_type().name()?;
    let name = name.map_or(String::new(), |name| format!(" {name:?}"));
    let state = if locked { "locked" } else { "unlocked" };
    let owner = owner.map_or(String::new(), |(owner, thread)| format!(" owner={}/{thread}", owner.pid()));
    Ok(format!("<{state} manyhands.{class} object{name}{owner} at {key:#x}>"))
}
