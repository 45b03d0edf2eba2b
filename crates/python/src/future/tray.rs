//! Waiting for several futures at once: each that is done puts itself on a tray.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_os::clock;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{FutureBase, State};
use crate::interpreter::asked::Waiting;
use crate::interpreter::parker::{Expect, Parker, Roused};

/// What the futures hold on to, weakly: a tray that nobody waits at any more is no trouble to them.
#[derive(Default)]
pub(super) struct Board {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    done: Vec<Py<FutureBase>>,
    /// The waiter, and for how many futures it waits.
    waiter: Option<(Arc<Parker>, usize)>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a future on the tray that is done; returns whoever has waited for that.
    pub(super) fn put(&self, future: &Bound<'_, FutureBase>) -> Option<Arc<Parker>> {
        let mut inner = self.lock();
        inner.done.push(future.clone().unbind());
        let enough = inner.waiter.as_ref().is_some_and(|(_, wanted)| inner.done.len() >= *wanted);
        if enough { inner.waiter.take().map(|(parker, _)| parker) } else { None }
    }
}

/// Collects futures as they are done, for `manyhands.wait` and `manyhands.as_completed`.
///
/// Cancelled ones count as done once their waiters have been told, as in the standard library.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct Tray {
    board: Arc<Board>,
}

#[pymethods]
impl Tray {
    /// A tray for `futures`, all of which must be of this package.
    #[new]
    fn new(futures: &Bound<'_, PyAny>) -> PyResult<Self> {
        let board = Arc::<Board>::default();
        for future in futures.try_iter()? {
            FutureBase::place(future?.cast::<FutureBase>()?, &board);
        }
        Ok(Self { board })
    }

    /// Waits until there are `count` futures on the tray, at most `timeout` seconds, and takes all that there are.
    #[pyo3(signature = (count, timeout=None))]
    fn take<'py>(&self, py: Python<'py>, count: usize, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let deadline = timeout.and_then(clock::after);
        let parker = Parker::own();
        loop {
            parker.reset();
            let waiting = Waiting::begin(py)?;
            let enough = {
                let mut inner = self.board.lock();
                let enough =
                    inner.done.len() >= count || deadline.is_some_and(|deadline| clock::now() >= deadline);
                inner.waiter = (!enough).then(|| (Arc::clone(&parker), count));
                enough
            };
            let roused = match enough {
                true => Ok(Roused::Called),
                false => parker.wait(py, deadline, Expect::Perhaps),
            };
            waiting.end(py)?;
            if enough || roused? == Roused::TimedOut {
                let done = {
                    let mut inner = self.board.lock();
                    inner.waiter = None;
                    std::mem::take(&mut inner.done)
                };
                return PyList::new(py, done);
            }
        }
    }
}

impl FutureBase {
    /// Puts the future on the tray, now or once it is done.
    fn place(future: &Bound<'_, Self>, board: &Arc<Board>) {
        let this = future.get();
        let mut cells = this.lock();
        if matches!(this.state(), State::Finished | State::CancelledAndNotified) {
            drop(cells);
            // Nobody waits yet.
            _ = board.put(future);
            return;
        }
        cells.boards.retain(|board| board.strong_count() > 0);
        cells.boards.push(Arc::downgrade(board));
    }

    /// Tells the trays that the future is done; returns who waits at them.
    pub(super) fn put_on(
        future: &Bound<'_, Self>,
        boards: Vec<Weak<Board>>,
    ) -> impl Iterator<Item = Arc<Parker>> {
        boards.into_iter().filter_map(move |board| board.upgrade()?.put(future))
    }
}
