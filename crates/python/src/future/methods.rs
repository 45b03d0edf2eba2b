//! What Python sees of a future: the methods and attributes of `concurrent.futures.Future`.

use std::sync::TryLockError;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::aftermath::run_callback;
use super::{CancelAnswer, Cells, Ended, FutureBase, Source, State};
use crate::future::ffi;
use crate::interpreter::argument::Seconds;
use crate::interpreter::imports;

#[pymethods]
impl FutureBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            state: AtomicU32::new(State::Pending as u32),
            cells: Default::default(),
            source: Default::default(),
        }
    }

    /// Cancel the task if possible; see `manyhands.Future.cancel`.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        loop {
            let state = this.state_now();
            if state.is_done() {
                return Ok(state.is_cancelled());
            }
            let Some((source, token)) = this.source.get() else {
                return match state {
                    State::Running => Ok(false),
                    // Nobody will come across it: those in `wait()` hear of it now.
                    _ if this.is_following() && Self::withdraw(slf) => Ok(true),
                    _ => Self::cancel_pending(slf),
                };
            };
            let running = state == State::Running;
            match source.cancel(slf, *token, running) {
                CancelAnswer::Withdrawn | CancelAnswer::Ending => {
                    return Ok(Self::cancel_for_good(slf, &**source));
                }
                CancelAnswer::Refused if running || this.state().is_done() => {
                    return Ok(this.state().is_cancelled());
                }
                // It began to run while we asked.
                CancelAnswer::Refused => {}
            }
        }
    }

    /// Cancel the task if it has not begun, and say whether it has not; what runs is left to finish.
    fn _withdraw(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let this = slf.get();
        let state = this.state_now();
        if state.is_done() || state == State::Running {
            return Ok(state.is_cancelled());
        }
        let Some((source, token)) = this.source.get() else {
            if this.is_following() && Self::withdraw(slf) {
                return Ok(true);
            }
            return Self::cancel_pending(slf);
        };
        match source.cancel(slf, *token, false) {
            CancelAnswer::Refused => Ok(this.state().is_cancelled()),
            CancelAnswer::Withdrawn | CancelAnswer::Ending => Ok(Self::cancel_for_good(slf, &**source)),
        }
    }

    /// Say that the future comes after `others`, a list of futures, until it has a task of its own.
    fn _come_after(slf: &Bound<'_, Self>, others: Py<PyList>) {
        Self::come_after(slf, others);
    }

    /// In the child of a fork: fail if the future comes after tasks of the parent's pools.
    fn _orphan_in_child(slf: &Bound<'_, Self>) {
        Self::orphan_in_child(slf);
    }

    /// Mark a pending future as running; False if it is not pending any more.
    fn _begin(slf: &Bound<'_, Self>) -> bool {
        Self::start(slf)
    }

    /// Make the future as new, as another call of its ``__init__`` does in the stdlib.
    ///
    /// Threads that wait for it go on waiting.
    fn _renew(&self) -> PyResult<()> {
        if self.source.get().is_some() {
            return Err(PyRuntimeError::new_err(
                "the future of a submitted task cannot be initialized again; make a new Future()",
            ));
        }
        let mut cells = self.lock();
        let kept = Cells {
            parked: std::mem::take(&mut cells.parked),
            done_lists: std::mem::take(&mut cells.done_lists),
            ..Cells::default()
        };
        let dropped = std::mem::replace(&mut *cells, kept);
        // pairs with: state, in those who look without the lock.
        self.state.store(State::Pending as u32, Ordering::Release);
        drop(cells);
        // What it refers to may run any code while it goes.
        drop(dropped);
        Ok(())
    }

    /// Whether the future was cancelled.
    fn cancelled(&self) -> bool {
        self.state().is_cancelled()
    }

    /// Whether the task is being executed now.
    fn running(&self) -> bool {
        self.state_now() == State::Running
    }

    /// Whether the future was cancelled or its task has ended.
    fn done(&self) -> bool {
        self.state().is_done()
    }

    /// Call `function` with the future once it is done; at once if it is.
    fn add_done_callback(slf: &Bound<'_, Self>, function: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if !this.state().is_done() {
            let fresh = PyList::empty(slf.py()).unbind();
            let mut cells = Self::lock_to_add(slf);
            if !this.state().is_done() {
                let callbacks = cells.callbacks.get_or_insert(fresh);
                return callbacks.bind(slf.py()).append(function);
            }
        }
        run_callback(slf, function)
    }

    /// Wait for the task's result, at most `timeout` seconds, and return it or raise its exception.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let state = Self::wait_until_done(slf, timeout)?;
        if state.is_cancelled() {
            return Err(imports::error(py, imports::cancelled_error, None));
        }
        let cells = slf.get().lock();
        match &cells.exception {
            None => Ok(cells.result.as_ref().map_or_else(|| py.None(), |result| result.clone_ref(py))),
            Some(exception) => {
                let exception = exception.clone_ref(py).into_bound(py);
                drop(cells);
                Err(PyErr::from_value(exception))
            }
        }
    }

    /// Wait for the task to end, at most `timeout` seconds, and return its exception, or None.
    #[pyo3(signature = (timeout=None))]
    fn exception(slf: &Bound<'_, Self>, timeout: Option<Seconds>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        if Self::wait_until_done(slf, timeout)?.is_cancelled() {
            return Err(imports::error(py, imports::cancelled_error, None));
        }
        Ok(slf.get().lock().exception.as_ref().map(|exception| exception.clone_ref(py)))
    }

    /// Mark the future as running, or tell those who wait that it was cancelled; for executors and tests.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        if Self::settle(slf, &[State::Pending], State::Running, None).is_some() {
            return Ok(true);
        }
        let told = Self::settle(slf, &[State::Cancelled], State::CancelledAndNotified, None);
        if let Some(mut aftermath) = told {
            aftermath.unpark_waiters();
            return Ok(false);
        }
        let (py, state) = (slf.py(), slf.get().state().name());
        let text = "Future %s in unexpected state: %s";
        imports::logger(py)?.call_method1("critical", (text, slf.as_ptr() as usize, state))?;
        Err(PyRuntimeError::new_err("Future in unexpected state"))
    }

    /// Complete the future with a result; for executors and tests.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        Self::finish_or_raise(slf, Ok(result))
    }

    /// Complete the future with an exception; for executors and tests.
    fn set_exception(slf: &Bound<'_, Self>, exception: Py<PyAny>) -> PyResult<()> {
        Self::finish_or_raise(slf, Err(exception))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, this) = (slf.py(), slf.get());
        let state = this.state_now();
        let ended = (state == State::Finished).then(|| {
            let cells = this.lock();
            match &cells.exception {
                Some(exception) => (" raised ", Some(exception.clone_ref(py))),
                None => (" returned ", cells.result.as_ref().map(|result| result.clone_ref(py))),
            }
        });
        let ending = match ended {
            Some((verb, Some(object))) => format!("{verb}{}", object.bind(py).get_type().name()?),
            Some((verb, None)) => format!("{verb}NoneType"),
            None => String::new(),
        };
        let (class, word) = (slf.get_type().name()?, state.description());
        // One that nobody works for looks as in the standard library.
        let kind = this.source.get().map(|(source, _)| format!(" workers={}", source.kind()));
        let kind = kind.unwrap_or_default();
        Ok(format!("<{class} at {:#x} state={word}{ending}{kind}>", slf.as_ptr() as usize))
    }

    #[getter(_state)]
    fn get_state(&self) -> &'static str {
        self.state_now().name()
    }

    #[setter(_state)]
    fn set_state(&self, name: &str) -> PyResult<()> {
        let Some(state) = State::ALL.into_iter().find(|state| state.name() == name) else {
            return Err(PyValueError::new_err(format!("{name:?} is not the state of a future")));
        };
        let mut cells = self.lock();
        // pairs with: Future::state (Acquire)
        self.state.store(state as u32, Ordering::Release);
        let parked = std::mem::take(&mut cells.parked);
        drop(cells);
        for parker in parked {
            parker.unpark();
        }
        Ok(())
    }

    #[getter(_result)]
    fn get_result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().result.as_ref().map(|result| result.clone_ref(py))
    }

    #[setter(_result)]
    fn set_result_cell(slf: &Bound<'_, Self>, result: Option<Py<PyAny>>) {
        let replaced = std::mem::replace(&mut Self::lock_to_add(slf).result, result);
        drop(replaced);
    }

    #[getter(_exception)]
    fn get_exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().exception.as_ref().map(|exception| exception.clone_ref(py))
    }

    #[setter(_exception)]
    fn set_exception_cell(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) {
        let replaced = std::mem::replace(&mut Self::lock_to_add(slf).exception, exception);
        drop(replaced);
    }

    #[getter(_waiters)]
    fn get_waiters<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyList> {
        Self::list(slf, |cells| &mut cells.waiters)
    }

    #[setter(_waiters)]
    fn set_waiters(slf: &Bound<'_, Self>, waiters: Py<PyList>) {
        let replaced = Self::lock_to_add(slf).waiters.replace(waiters);
        drop(replaced);
    }

    #[getter(_done_callbacks)]
    fn get_callbacks<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyList> {
        Self::list(slf, |cells| &mut cells.callbacks)
    }

    #[setter(_done_callbacks)]
    fn set_callbacks(slf: &Bound<'_, Self>, callbacks: Py<PyList>) {
        let replaced = Self::lock_to_add(slf).callbacks.replace(callbacks);
        drop(replaced);
    }

    #[getter(_condition)]
    fn get_condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(condition) = &slf.get().lock().condition {
            return Ok(condition.clone_ref(py));
        }
        let fresh = imports::condition(py)?.call0()?.unbind();
        let mut cells = Self::lock_to_add(slf);
        let condition = cells.condition.get_or_insert_with(|| fresh.clone_ref(py)).clone_ref(py);
        drop(cells);
        Ok(condition)
    }

    #[setter(_condition)]
    fn set_condition(slf: &Bound<'_, Self>, condition: Py<PyAny>) {
        let replaced = Self::lock_to_add(slf).condition.replace(condition);
        drop(replaced);
    }

    // Attributes of a user's own may refer back to the future.
    fn __setattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        drop(Self::lock_to_add(slf));
        ffi::set_plain_attribute(slf, name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        ffi::set_plain_attribute(slf, name, None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A future whose lock is taken is in use, and what it refers to is alive.
        let cells = match self.cells.try_lock() {
            Ok(cells) => cells,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        visit.call(&cells.result)?;
        visit.call(&cells.exception)?;
        visit.call(&cells.condition)?;
        visit.call(&cells.waiters)?;
        visit.call(&cells.callbacks)?;
        visit.call(&cells.awaited)
    }

    fn __clear__(&self) {
        let cells = std::mem::take(&mut *self.lock());
        drop(cells);
    }
}

impl FutureBase {
    /// Cancels a future whose source has agreed to that; whether it is cancelled.
    fn cancel_for_good(slf: &Bound<'_, Self>, source: &dyn Source) -> bool {
        if !Self::force_cancelled(slf) {
            return slf.get().state().is_cancelled();
        }
        source.note_cancelled();
        true
    }

    fn finish_or_raise(slf: &Bound<'_, Self>, ended: Ended) -> PyResult<()> {
        const BEFORE: [State; 2] = [State::Pending, State::Running];
        match Self::settle(slf, &BEFORE, State::Finished, Some(ended)) {
            Some(mut aftermath) => {
                aftermath.unpark_waiters();
                aftermath.run_callbacks(slf)
            }
            None => {
                let text = format!("{}: {}", slf.get().state().name(), slf.repr()?);
                Err(imports::error(slf.py(), imports::invalid_state_error, Some(text)))
            }
        }
    }

    /// Cancels a future that nobody works for; those in `wait()` hear of it when an executor comes across it, as in
    /// the standard library.
    fn cancel_pending(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let Some(mut aftermath) = Self::settle(slf, &[State::Pending], State::Cancelled, None) else {
            return Ok(slf.get().state().is_cancelled());
        };
        aftermath.unpark_waiters();
        aftermath.run_callbacks(slf)?;
        Ok(true)
    }
}
