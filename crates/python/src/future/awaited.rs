//! Futures that come after others: of `then`, and of tasks whose arguments are not there yet.
//!
//! Until such a future has a task of its own, nothing works for it but what works for those it comes after. So a worker of
//! a thread pool that waits for it helps with those, or is replaced; everybody else sleeps until it is done.

use std::collections::HashSet;

use manyhands_os::clock::{self, Deadline, MILLISECOND};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::FutureBase;
use crate::interpreter::asked;
use crate::interpreter::parker::Expect;

/// How often a worker that waits for such a future looks what it could help with now.
const SLICE: u64 = 50 * MILLISECOND;

impl FutureBase {
    /// Says that the future comes after others, until it has a task of its own.
    pub(super) fn come_after(future: &Bound<'_, Self>, others: Py<PyList>) {
        let replaced = Self::lock_to_add(future).awaited.replace(others);
        drop(replaced);
    }

    /// The future that came after others has a task now: whoever waits for it looks again. False when it was cancelled
    /// before that, so that the task is nobody's.
    pub(crate) fn follow_no_more(&self) -> bool {
        let mut cells = self.lock();
        let (awaited, parked) = (cells.awaited.take(), std::mem::take(&mut cells.parked));
        drop(cells);
        drop(awaited);
        for parker in parked {
            parker.unpark();
        }
        !self.state().is_done()
    }

    /// Whether the future comes after others, and has no task of its own yet.
    pub(super) fn is_following(&self) -> bool {
        self.source.get().is_none() && !self.state().is_done() && self.lock().awaited.is_some()
    }

    /// Waits for a future that no pool works for.
    pub(super) fn wait_without_source(future: &Bound<'_, Self>, deadline: Option<Deadline>) -> PyResult<()> {
        if !asked::is_worker() || !future.get().is_following() {
            return Self::park(future, deadline, Expect::Perhaps).map(drop);
        }
        let slice = clock::now() + SLICE;
        let until = Some(deadline.map_or(slice, |deadline| deadline.min(slice)));
        let helped = Self::first_with_source(future);
        match helped.as_ref().and_then(|helped| helped.get().source.get().map(|source| (helped, source))) {
            Some((helped, (source, token))) => source.wait(helped, *token, until),
            None => Self::park(future, until, Expect::Perhaps).map(drop),
        }
    }

    /// In the child of a fork: fails a future that comes after tasks of the parent's pools.
    pub(super) fn orphan_in_child(future: &Bound<'_, Self>) {
        if future.get().is_following()
            && Self::find_awaited(future, |this| this.source.get().is_some()).is_some()
        {
            let text = "the tasks before this one run in the process that this one was forked from; its \
                        result is available only there";
            Self::orphan(future, text);
        }
    }

    /// Of all that it comes after, a future that is not done and that a pool works for.
    fn first_with_source<'py>(future: &Bound<'py, Self>) -> Option<Bound<'py, Self>> {
        Self::find_awaited(future, |this| this.source.get().is_some() && !this.state().is_done())
    }

    /// A future, of this one and all that it comes after, that `is_it`.
    fn find_awaited<'py>(
        future: &Bound<'py, Self>,
        is_it: impl Fn(&Self) -> bool,
    ) -> Option<Bound<'py, Self>> {
        let py = future.py();
        let mut seen = HashSet::new();
        let mut open = vec![future.clone()];
        while let Some(next) = open.pop() {
            let this = next.get();
            if !seen.insert(next.as_ptr() as usize) {
                continue;
            }
            if is_it(this) {
                return Some(next);
            }
            let awaited = this.lock().awaited.as_ref().map(|awaited| awaited.clone_ref(py));
            let Some(awaited) = awaited else { continue };
            open.extend(awaited.bind(py).iter().filter_map(|other| other.cast_into::<Self>().ok()));
        }
        None
    }
}
