//! What locks with an owner have in common.

use std::io;
use std::sync::Arc;

use manyhands_os::process::Identity;
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock};
use manyhands_sync::names::Kind;
use manyhands_sync::site::Site;
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{Patience, SpinPolicy};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::timeout::{self, Flag};
use super::waiting;
use crate::interpreter::ffi::Haste;
use crate::interpreter::imports;
use crate::interpreter::switching::switched_method;
use crate::memory::objects::{self, Record};

/// A lock that has an owner.
pub(super) trait Owned: Send + Sync + Sized {
    const KIND: Kind;

    /// # Errors
    /// When there is no place for a lock.
    fn at(site: Arc<Site>, offset: usize) -> io::Result<Self>;
    /// The lock underneath: to look at.
    fn plain(&self) -> &Lock;
    fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired>;
    /// # Errors
    /// When it was not acquired.
    fn acquire(
        &self,
        me: Identity,
        thread: u32,
        patience: Patience,
        spin: &SpinPolicy,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped>;
    /// Releases it once; whether the caller had it.
    fn give_back(&self, me: Identity, thread: u32) -> bool;
}

/// A lock and where it lies. `object`, in what follows, is the object of Python that has it.
pub(super) struct Placed<L> {
    pub(super) lock: L,
    pub(super) record: Record,
    /// How long to look for it before sleeping.
    pub(super) spin: SpinPolicy,
}

impl<L: Owned> Placed<L> {
    pub(super) fn open(name: Option<&str>, address: Option<&Bound<'_, PyTuple>>) -> PyResult<Self> {
        let record = objects::record(address, L::KIND, name, &[], LOCK_BYTES / 8, |_, _| Ok(()))?;
        let lock = L::at(Arc::clone(record.site()), usize::try_from(record.key())?)?;
        Ok(Self { lock, record, spin: super::spin_policy() })
    }

    /// `acquire`, with all the arguments it may have.
    pub(super) fn acquire(
        &self,
        object: &Bound<'_, PyAny>,
        blocking: &Flag<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (lock, spin) = (&self.lock, &self.spin);
        let patience = timeout::of_lock(blocking, timeout)?;
        let name = intern!(object.py(), "async_acquire");
        if let Some(acquired) = switched_method(object, name, || (timeout::left(patience),))? {
            return acquired.is_truthy();
        }
        let (me, thread) = waiting::caller();
        // Kept until all is said: reporting may release the interpreter again and again.
        let mut haste = None;
        let acquired = match patience {
            Patience::Now => lock.acquire_now(me, thread),
            _ => {
                if patience == Patience::Forever
                    && lock.plain().owner().is_some_and(|owner| is_task(owner, me))
                {
                    object.call_method0(intern!(object.py(), "_refuse_wait"))?;
                }
                waiting::wait(object.py(), |waiting| {
                    let acquired = lock.acquire(me, thread, patience, spin, waiting)?;
                    // Nobody has looked after what it protects since its owner died.
                    // The main thread is the one that would stand aside: it would wait for itself.
                    let is_main = u32::try_from(me.pid()) == Ok(thread);
                    haste = (matches!(acquired, Acquired::Abandoned(_)) && !is_main).then(Haste::begin);
                    Ok(acquired)
                })?
            }
        };
        settle(object, acquired, || _ = lock.give_back(me, thread))
    }

    /// `__enter__`. Not in Python, so that no signal handler runs between getting the lock and saying so.
    pub(super) fn enter(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        if switched_method(object, intern!(object.py(), "__aenter__"), || ())?.is_some() {
            return Ok(true);
        }
        self.acquire(object, &Flag::ABSENT, None).inspect_err(|error| {
            // The block will not run, so nobody would release the lock.
            if is_held(object.py(), error) {
                _ = error.value(object.py()).setattr(intern!(object.py(), "held"), false);
                // Python code, in which a signal handler may raise: then the text stays as it was.
                _ = object.call_method1(intern!(object.py(), "_tell_without"), (error.value(object.py()),));
                let (me, thread) = waiting::caller();
                self.lock.give_back(me, thread);
            }
        })
    }

    /// Says that what the lock protects is right again after its owner died.
    pub(super) fn recover(&self) -> bool {
        let (me, thread) = waiting::caller();
        let plain = self.lock.plain();
        if plain.recover(me) {
            return true;
        }
        // Not ours: free and poisoned, then.
        if !plain.word().is_damaged() || self.lock.acquire_now(me, thread).is_none() {
            return false;
        }
        let recovered = plain.recover(me);
        self.lock.give_back(me, thread) && recovered
    }

    /// What is known of it.
    pub(super) fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        let owner = self.lock.plain().owner().map(|(owner, thread)| -> PyResult<_> {
            let who = PyDict::new(py);
            who.set_item("pid", owner.pid())?;
            who.set_item("thread", thread)?;
            Ok(who)
        });
        statistics.set_item("owner", owner.transpose()?)?;
        statistics.set_item("waiting", waiting(&self.record))?;
        Ok(statistics)
    }

    /// Its text, in the form of `threading`; with its key, which is the same in all processes, and what a DeadlockError
    /// calls it.
    pub(super) fn describe(&self, object: &Bound<'_, PyAny>, more: &str) -> PyResult<String> {
        let class = object.get_type().name()?;
        let name = self.record.label();
        let plain = self.lock.plain();
        let state = if plain.is_locked() { "locked" } else { "unlocked" };
        let owner = plain.owner();
        let owner = owner.map_or(String::new(), |(owner, thread)| format!(" owner={}/{thread}", owner.pid()));
        Ok(format!("<{state} manyhands.{class} object{name}{owner}{more} at {:#x}>", self.record.key()))
    }
}

/// Whether the lock was acquired. Tells its Python half when what it protects may be half-changed; if that fails in any way
/// but by an OwnerDied, which says that the caller has the lock, it is released.
///
/// # Errors
/// OwnerDied, if that is what the lock does then; what a function raised that should have repaired it.
pub(super) fn settle(
    object: &Bound<'_, PyAny>,
    acquired: Option<Acquired>,
    release: impl FnOnce(),
) -> PyResult<bool> {
    let dead = match acquired {
        None => return Ok(false),
        Some(Acquired::Clean) => return Ok(true),
        Some(Acquired::Abandoned(dead)) => Some(dead.pid()),
        Some(Acquired::Poisoned) => None,
    };
    let told = object.call_method1(intern!(object.py(), "_taken_over"), (dead,));
    told.map(|_| true).inspect_err(|error| {
        if !is_held(object.py(), error) {
            release();
        }
    })
}

/// From here on the numbers of owners are those of asyncio tasks, which the Python half counts; threads have smaller ones.
pub(super) const FIRST_TASK_NUMBER: u32 = 1 << 31;

/// Whether an owner is an asyncio task of this process.
fn is_task((owner, number): (Identity, u32), me: Identity) -> bool {
    owner == me && number >= FIRST_TASK_NUMBER
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

/// How many wait for a primitive, as far as they are listed: threads are when they have waited for 20 ms.
pub(super) fn waiting(record: &Record) -> usize {
    record.site().waiters_of(record.key()).count()
}
