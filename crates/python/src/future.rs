//! The state of a future, and waiting for it: the native half of `manyhands.Future`.
//!
//! A future is PENDING, RUNNING, CANCELLED, CANCELLED_AND_NOTIFIED or FINISHED, as in `concurrent.futures`, and follows
//! the same protocol, so that the standard library's `wait`, `as_completed` and `asyncio.wrap_future` work on it. Those
//! lock a future through its `_condition`. Building that object costs more than everything else a future does, so it
//! exists only once somebody has asked for it, and from then on every change of state happens under it.
//!
//! A program may hold a million futures, so those that Rust makes are shown to the garbage collector only once they refer
//! to something that may refer back: a result that is no number or string, an exception, a callback, an attribute.
//!
//! No Python code ever runs, and nothing releases the interpreter, while the Rust lock is held: nothing is allocated
//! that the garbage collector tracks, nothing is looked up for the first time (`intern!`, `imports`), no reference is
//! dropped.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use manyhands_os::clock::{self, Deadline};
use pyo3::exceptions::{PyBaseException, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

mod aftermath;
mod awaited;
pub(crate) mod ffi;
mod methods;
mod wait_set;

pub(crate) use self::aftermath::Aftermath;
use self::aftermath::log_callback_error;
use self::ffi::FutureClass;
use self::wait_set::{DoneList, WaitSet};
use crate::interpreter::argument::Seconds;
use crate::interpreter::asked::Waiting;
use crate::interpreter::parker::{Expect, Parker, WakeReason};
use crate::interpreter::switching::{self, switched};
use crate::interpreter::{ending, imports};

/// Adds the native half of futures to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FutureBase", module.py().get_type::<FutureBase>())?;
    module.add_class::<WaitSet>()?;
    module.add_function(wrap_pyfunction!(register_future, module)?)
}

/// Makes `future_class` the class of every future that the executors return.
#[pyfunction]
fn register_future(future_class: &Bound<'_, PyType>) -> PyResult<()> {
    FutureClass::register(future_class)
}

/// The state of a future, in the standard library's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum State {
    Pending = 0,
    Running = 1,
    Cancelled = 2,
    CancelledAndNotified = 3,
    Finished = 4,
}

impl State {
    const ALL: [Self; 5] =
        [Self::Pending, Self::Running, Self::Cancelled, Self::CancelledAndNotified, Self::Finished];

    fn from_word(word: u32) -> Self {
        Self::ALL[word as usize]
    }

    /// The name in `_state`.
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Cancelled => "CANCELLED",
            Self::CancelledAndNotified => "CANCELLED_AND_NOTIFIED",
            Self::Finished => "FINISHED",
        }
    }

    /// The word in `repr()`.
    fn description(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelled | Self::CancelledAndNotified => "cancelled",
            Self::Finished => "finished",
        }
    }

    pub(crate) fn is_cancelled(self) -> bool {
        matches!(self, Self::Cancelled | Self::CancelledAndNotified)
    }

    pub(crate) fn is_done(self) -> bool {
        self as u32 >= Self::Cancelled as u32
    }
}

/// What becomes of a task that is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelAnswer {
    /// It never ran and never will: the future is cancelled.
    Withdrawn,
    /// It runs and is being ended: the future is cancelled now.
    Ending,
    /// It may or may not end; nothing is certain yet.
    Refused,
}

/// Where the result of a future comes from: the pool that runs its task.
///
/// `token` is what the pool gave to [`FutureBase::of_source`].
pub(crate) trait Source: Send + Sync {
    /// Waits until the future may be done, or until `deadline`; may complete other futures in the meantime. The caller
    /// looks again and calls again, so returning early is no error.
    fn wait(&self, future: &Bound<'_, FutureBase>, token: u64, deadline: Option<Deadline>) -> PyResult<()>;

    /// Whether a task whose future still says PENDING has begun to run.
    fn is_running(&self, token: u64) -> bool;

    /// Asks the task to stop. `running` is what the caller believes; when that has changed since, answer `Refused`
    /// and you will be asked again if need be.
    fn cancel(&self, future: &Bound<'_, FutureBase>, token: u64, running: bool) -> CancelAnswer;

    /// Collects results, for whichever futures they are, until `is_enough`, or until `deadline`; returning early is no error.
    /// False when that is for other threads to do: they tell whom it concerns.
    fn lead(
        &self,
        _py: Python<'_>,
        _is_enough: &(dyn Fn() -> bool + Sync),
        _deadline: Option<Deadline>,
    ) -> PyResult<bool> {
        Ok(false)
    }

    /// Has the thread that leads look whether it has enough.
    fn notify_leader(&self) {}

    /// Of what kind its workers are.
    fn kind(&self) -> &'static str;

    /// The future has been cancelled because of the answer; for those that count by futures.
    fn note_cancelled(&self) {}
}

/// How a task ended.
pub(crate) type Outcome = Result<Py<PyAny>, Py<PyBaseException>>;

/// An outcome as Python gives it: `set_exception` takes whatever can be raised, a class for one.
type Ended = Result<Py<PyAny>, Py<PyAny>>;

/// What is guarded by the lock of a future.
#[derive(Default)]
struct Cells {
    result: Option<Py<PyAny>>,
    exception: Option<Py<PyAny>>,
    condition: Option<Py<PyAny>>,
    waiters: Option<Py<PyList>>,
    callbacks: Option<Py<PyList>>,
    /// The futures that it comes after, while nothing else works for it.
    awaited: Option<Py<PyList>>,
    /// Threads that wait in `result()`.
    parked: Vec<Arc<Parker>>,
    /// Lists to be put on when it is done.
    done_lists: Vec<Weak<DoneList>>,
}

/// The native half of `manyhands.Future`: state, result, waiters and callbacks.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Future")]
pub(crate) struct FutureBase {
    /// A `State`. Written under the lock (and under the condition where there is one), read without.
    state: AtomicU32,
    cells: Mutex<Cells>,
    source: OnceLock<(Arc<dyn Source>, u64)>,
}

/// The Rust side: what executors use.
impl FutureBase {
    /// A new future whose task is `token` of `source`.
    pub(crate) fn of_source<'py>(
        py: Python<'py>,
        source: Arc<dyn Source>,
        token: u64,
    ) -> PyResult<Bound<'py, Self>> {
        let future = FutureClass::instantiate(py)?;
        _ = future.get().source.set((source, token));
        Ok(future)
    }

    /// Says where the result comes from, for a future that had to exist before its token.
    pub(crate) fn attach(&self, source: Arc<dyn Source>, token: u64) {
        _ = self.source.set((source, token));
    }

    /// The state, without asking the source.
    pub(crate) fn state(&self) -> State {
        // pairs with: settle, which publishes the outcome before the state
        State::from_word(self.state.load(Ordering::Acquire))
    }

    fn state_now(&self) -> State {
        match (self.state(), self.source.get()) {
            (State::Pending, Some((source, token))) if source.is_running(*token) => State::Running,
            (state, _) => state,
        }
    }

    /// Whether the task waits in the backlog of `source`, or may yet come to do so.
    pub(crate) fn is_pending_in(&self, source: &Arc<impl Source>) -> bool {
        if self.is_following() {
            return true;
        }
        let mine = self.source.get().map(|(mine, _)| Arc::as_ptr(mine).cast::<()>());
        mine == Some(Arc::as_ptr(source).cast()) && self.state() == State::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PENDING → RUNNING; false, and nothing changes, when the future is no longer pending.
    pub(crate) fn start(future: &Bound<'_, Self>) -> bool {
        Self::settle(future, &[State::Pending], State::Running, None).is_some()
    }

    /// Completes a future: waiters hear, callbacks run. Does nothing when it is done already (cancelled, say), and
    /// survives whatever callbacks do: their errors are logged.
    pub(crate) fn complete(future: &Bound<'_, Self>, outcome: Outcome) {
        if let Some(mut aftermath) = Self::finish(future, outcome) {
            aftermath.unpark_waiters();
            Self::conclude(future, aftermath);
        }
    }

    /// The first half of [`complete`](Self::complete): the outcome is there for all to see, but neither sleeping
    /// waiters nor callbacks know yet.
    pub(crate) fn finish(future: &Bound<'_, Self>, outcome: Outcome) -> Option<Aftermath> {
        const BEFORE: [State; 2] = [State::Pending, State::Running];
        let ended = outcome.map_err(Py::into_any);
        Self::settle(future, &BEFORE, State::Finished, Some(ended))
    }

    /// Runs the callbacks, and logs what is not theirs to raise.
    pub(crate) fn conclude(future: &Bound<'_, Self>, aftermath: Aftermath) {
        ending::outlast();
        let py = future.py();
        if let Err(error) = aftermath.run_callbacks(future)
            && let Err(error) = log_callback_error(future, &error)
        {
            error.write_unraisable(py, Some(future));
        }
    }

    /// Cancels a future whatever its task does: PENDING or RUNNING → CANCELLED_AND_NOTIFIED. False when it was done.
    pub(crate) fn force_cancelled(future: &Bound<'_, Self>) -> bool {
        Self::cancel_from(future, &[State::Pending, State::Running])
    }

    /// Cancels a future whose task has not begun: PENDING → CANCELLED_AND_NOTIFIED. False when it has.
    pub(crate) fn withdraw(future: &Bound<'_, Self>) -> bool {
        Self::cancel_from(future, &[State::Pending])
    }

    fn cancel_from(future: &Bound<'_, Self>, before: &[State]) -> bool {
        let Some(mut aftermath) = Self::settle(future, before, State::CancelledAndNotified, None) else {
            return false;
        };
        aftermath.unpark_waiters();
        Self::conclude(future, aftermath);
        true
    }

    /// Fails a future whose task is in another process, after a fork: quietly, for callbacks and waiters are the
    /// parent's, and without the condition, which a thread may hold that does not exist here.
    pub(crate) fn orphan(future: &Bound<'_, Self>, text: &str) {
        let (this, py) = (future.get(), future.py());
        let error = imports::error(py, imports::manyhands_error, Some(text.to_owned())).into_value(py);
        let mut cells = Self::lock_to_add(future);
        if this.state().is_done() {
            return;
        }
        let condition = cells.condition.take();
        let callbacks = cells.callbacks.take();
        cells.exception = Some(error.into_any());
        // pairs with: state (Acquire): whoever sees the end sees the exception
        this.state.store(State::Finished as u32, Ordering::Release);
        drop(cells);
        drop((condition, callbacks));
    }

    /// Sleeps until the future is done, until `deadline`, or until somebody calls this thread for another reason.
    pub(crate) fn park(
        future: &Bound<'_, Self>,
        deadline: Option<Deadline>,
        expect: Expect,
    ) -> PyResult<WakeReason> {
        let (this, py) = (future.get(), future.py());
        let parker = Parker::own();
        parker.reset();
        let waiting = Waiting::begin(py)?;
        {
            let mut cells = this.lock();
            if this.state().is_done() {
                return Ok(WakeReason::Unparked);
            }
            cells.parked.push(Arc::clone(&parker));
        }
        let reason = parker.wait(py, deadline, expect);
        if !this.state().is_done() {
            this.lock().parked.retain(|parked| !Arc::ptr_eq(parked, &parker));
        }
        waiting.end(py)?;
        reason
    }

    /// Locks a future in order to change its state: its condition first, if there is one.
    fn lock_to_change<'a, 'py>(
        future: &'a Bound<'py, Self>,
    ) -> (Option<Bound<'py, PyAny>>, MutexGuard<'a, Cells>) {
        let (this, py) = (future.get(), future.py());
        let cells = this.lock();
        let Some(condition) = cells.condition.as_ref().map(|condition| condition.clone_ref(py)) else {
            return (None, cells);
        };
        drop(cells);
        let condition = condition.into_bound(py);
        // A signal handler may raise in here; whoever is interrupted, the state must change.
        while let Err(error) = condition.call_method0(intern!(py, "acquire")) {
            error.write_unraisable(py, Some(future));
        }
        (Some(condition), this.lock())
    }

    /// Changes the state, and the outcome with it; `None` when the state is not one of `before`.
    ///
    /// What foreign waiters raise is reported, and changes nothing.
    fn settle(
        future: &Bound<'_, Self>,
        before: &[State],
        after: State,
        outcome: Option<Ended>,
    ) -> Option<Aftermath> {
        let (this, py) = (future.get(), future.py());
        let (held, mut cells) = Self::lock_to_change(future);
        let allowed = before.contains(&this.state());
        let mut aftermath = Aftermath::default();
        let mut waiters = None;
        let mut done_lists = Vec::new();
        let mut awaited = None;
        // What was there before is dropped when the lock is free again.
        let mut replaced = None;
        let heard = match outcome {
            Some(Ok(_)) => "add_result",
            Some(Err(_)) => "add_exception",
            None => "add_cancelled",
        };
        if allowed {
            match outcome {
                Some(Ok(result)) => {
                    if ffi::is_collectable_kind(result.bind(py)) {
                        ffi::show_to_collector(future);
                    }
                    replaced = cells.result.replace(result);
                }
                Some(Err(exception)) => {
                    ffi::show_to_collector(future);
                    replaced = cells.exception.replace(exception);
                }
                None => {}
            }
            // pairs with: state (Acquire): whoever sees the end sees the outcome
            this.state.store(after as u32, Ordering::Release);
            if matches!(after, State::Finished | State::CancelledAndNotified) {
                waiters = cells.waiters.as_ref().map(|waiters| waiters.clone_ref(py));
                done_lists = std::mem::take(&mut cells.done_lists);
            }
            if after.is_done() {
                aftermath.parked = std::mem::take(&mut cells.parked);
                aftermath.callbacks = cells.callbacks.take();
                awaited = cells.awaited.take();
            }
        }
        drop(cells);
        drop((replaced, awaited));
        let mut told = waiters.map_or(Ok(()), |waiters| tell(future, waiters.bind(py), heard));
        if let Some(condition) = held {
            told = told.and(condition.call_method0(intern!(py, "notify_all")).map(drop));
            told = told.and(condition.call_method0(intern!(py, "release")).map(drop));
        }
        if let Err(error) = told {
            error.write_unraisable(py, Some(future));
        }
        aftermath.parked.extend(Self::put_on(future, done_lists));
        allowed.then_some(aftermath)
    }

    fn wait_until_done(future: &Bound<'_, Self>, timeout: Option<Seconds>) -> PyResult<State> {
        let this = future.get();
        let deadline = timeout.map(|timeout| timeout.number()).transpose()?.and_then(clock::after);
        let mut has_waited = false;
        loop {
            let state = this.state();
            if state.is_done() {
                if has_waited {
                    this.pass_condition(future.py())?;
                }
                return Ok(state);
            }
            has_waited = true;
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Err(PyTimeoutError::new_err(()));
            }
            if switching::is_on() {
                let left = deadline.map(|deadline| clock::seconds(clock::until(deadline)));
                if switched(imports::until_done(future.py())?, (future, left))?.is_some() {
                    continue;
                }
            }
            match this.source.get() {
                Some((source, token)) => source.wait(future, *token, deadline)?,
                None => Self::wait_without_source(future, deadline)?,
            }
        }
    }

    /// Waits until whoever holds the condition is through: it may have set the state first and the outcome after.
    fn pass_condition(&self, py: Python<'_>) -> PyResult<()> {
        let condition = self.lock().condition.as_ref().map(|condition| condition.clone_ref(py));
        let Some(condition) = condition else { return Ok(()) };
        condition.call_method0(py, intern!(py, "acquire"))?;
        condition.call_method0(py, intern!(py, "release")).map(drop)
    }

    /// Locks a future in order to add to what it refers to.
    fn lock_to_add<'a>(future: &'a Bound<'_, Self>) -> MutexGuard<'a, Cells> {
        let cells = future.get().lock();
        ffi::show_to_collector(future);
        cells
    }

    fn list<'py>(
        future: &Bound<'py, Self>,
        which: fn(&mut Cells) -> &mut Option<Py<PyList>>,
    ) -> Bound<'py, PyList> {
        let py = future.py();
        // Made before the lock is taken: making it may run the garbage collector.
        let fresh = PyList::empty(py).unbind();
        which(&mut Self::lock_to_add(future)).get_or_insert(fresh).clone_ref(py).into_bound(py)
    }
}

fn tell(future: &Bound<'_, FutureBase>, waiters: &Bound<'_, PyList>, heard: &str) -> PyResult<()> {
    ending::outlast();
    let mut outcome = Ok(());
    for waiter in waiters.iter() {
        outcome = outcome.and(waiter.call_method1(heard, (future,)).map(drop));
    }
    outcome
}
