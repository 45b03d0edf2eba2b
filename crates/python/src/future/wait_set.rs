//! Waiting for several futures at once: each that is done puts itself on the list of a wait set.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_os::clock::{self, Deadline};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{FutureBase, Source, State};
use crate::interpreter::argument::Seconds;
use crate::interpreter::asked::{self, Waiting};
use crate::interpreter::imports;
use crate::interpreter::parker::{Expect, Parker, WakeReason};
use crate::interpreter::switching::{self, switched};

/// The futures of a wait set that are done. They refer to it weakly: a set that is gone is no trouble to them.
#[derive(Default)]
pub(super) struct DoneList {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    done: Vec<Py<FutureBase>>,
    /// The waiter, and for how many futures it waits.
    waiter: Option<(Arc<Parker>, usize)>,
    /// The pool whose results its waiter collects itself.
    source: Collects,
}

/// Where the results of all futures of a wait set come from.
#[derive(Default)]
enum Collects {
    /// There are no futures yet.
    #[default]
    Nothing,
    One(Arc<dyn Source>),
    /// From several pools, or none: others collect them.
    Mixed,
}

impl DoneList {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, count: usize) -> bool {
        self.lock().done.len() >= count
    }

    /// Notes where the result of one more future comes from.
    fn expect(&self, future: &FutureBase) {
        let source = future.source.get().map(|(source, _)| source);
        let mut inner = self.lock();
        inner.source = match (&inner.source, source) {
            (Collects::Nothing, Some(source)) => Collects::One(Arc::clone(source)),
            (Collects::One(known), Some(source)) if Arc::ptr_eq(known, source) => return,
            _ => Collects::Mixed,
        };
    }

    /// Adds a future that is done; returns whoever has waited for that.
    pub(super) fn put(&self, future: &Bound<'_, FutureBase>) -> Option<Arc<Parker>> {
        let mut inner = self.lock();
        inner.done.push(future.clone().unbind());
        let enough = inner.waiter.as_ref().is_some_and(|(_, wanted)| inner.done.len() >= *wanted);
        if !enough {
            return None;
        }
        if let Collects::One(source) = &inner.source {
            source.notify_leader();
        }
        inner.waiter.take().map(|(parker, _)| parker)
    }
}

/// Collects futures as they are done, for `manyhands.wait` and `manyhands.as_completed`.
///
/// Cancelled ones count as done once their waiters have been told, as in the standard library.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct WaitSet {
    done: Arc<DoneList>,
}

#[pymethods]
impl WaitSet {
    /// A set of `futures`, all of which must be of this package.
    #[new]
    fn new(futures: &Bound<'_, PyAny>) -> PyResult<Self> {
        let done = Arc::<DoneList>::default();
        for future in futures.try_iter()? {
            FutureBase::list_when_done(future?.cast::<FutureBase>()?, &done);
        }
        Ok(Self { done })
    }

    /// Adds a future, of this package.
    fn add(&self, future: &Bound<'_, FutureBase>) {
        FutureBase::list_when_done(future, &self.done);
    }

    /// Waits until `count` of the futures are done, at most `timeout` seconds, and takes all that are.
    #[pyo3(signature = (count, timeout=None))]
    fn take<'py>(
        slf: &Bound<'py, Self>,
        count: usize,
        timeout: Option<Seconds>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (this, py) = (slf.get(), slf.py());
        let seconds = timeout.map(|timeout| timeout.number()).transpose()?;
        if switching::is_on() && !this.done.has(count) {
            let take = slf.getattr(intern!(py, "take"))?;
            if let Some(list) = switched(imports::in_thread(py)?, (take, count, seconds))? {
                return Ok(list.cast_into()?);
            }
        }
        let deadline = seconds.and_then(clock::after);
        let parker = Parker::own();
        loop {
            parker.reset();
            let waiting = Waiting::begin(py)?;
            let (enough, source) = {
                let mut inner = this.done.lock();
                let enough =
                    inner.done.len() >= count || deadline.is_some_and(|deadline| clock::now() >= deadline);
                inner.waiter = (!enough).then(|| (Arc::clone(&parker), count));
                let source =
                    if let Collects::One(source) = &inner.source { Some(Arc::clone(source)) } else { None };
                (enough, source)
            };
            let reason = match enough {
                true => Ok(WakeReason::Unparked),
                false => match this.collect(py, source, count, deadline) {
                    Ok(false) => parker.wait(py, deadline, Expect::Perhaps),
                    collected => collected.map(|_| WakeReason::Unparked),
                },
            };
            waiting.end(py)?;
            if enough || reason? == WakeReason::TimedOut {
                let done = {
                    let mut inner = this.done.lock();
                    inner.waiter = None;
                    std::mem::take(&mut inner.done)
                };
                return PyList::new(py, done);
            }
        }
    }
}

impl WaitSet {
    /// Collects results until so many of the futures are done; false when that is for others to do.
    fn collect(
        &self,
        py: Python<'_>,
        source: Option<Arc<dyn Source>>,
        count: usize,
        deadline: Option<Deadline>,
    ) -> PyResult<bool> {
        // A worker of a pool of threads is called when its task must stop: it hears that only while it sleeps on its parker.
        let Some(source) = source.filter(|_| !asked::is_worker()) else { return Ok(false) };
        source.lead(py, &|| self.done.has(count), deadline)
    }
}

impl FutureBase {
    /// Puts the future on the list, now or once it is done.
    fn list_when_done(future: &Bound<'_, Self>, done: &Arc<DoneList>) {
        let this = future.get();
        done.expect(this);
        let mut cells = this.lock();
        if matches!(this.state(), State::Finished | State::CancelledAndNotified) {
            drop(cells);
            // Nobody waits yet.
            _ = done.put(future);
            return;
        }
        cells.done_lists.retain(|list| list.strong_count() > 0);
        cells.done_lists.push(Arc::downgrade(done));
    }

    /// Puts the future, which is done, on these lists; returns who waits for that.
    pub(super) fn put_on(
        future: &Bound<'_, Self>,
        done_lists: Vec<Weak<DoneList>>,
    ) -> impl Iterator<Item = Arc<Parker>> {
        done_lists.into_iter().filter_map(move |list| list.upgrade()?.put(future))
    }
}
