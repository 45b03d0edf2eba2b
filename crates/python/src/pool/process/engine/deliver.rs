//! Outcomes on their way into futures, and what workers say on its way to the user.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use manyhands_os::clock::{self, Deadline};
use manyhands_pool::pool::WakeReason;
use manyhands_pool::slots::{Encoding, Head, flag};
use manyhands_pool::task::{Completions, Finished, Outcome, Output, Stream};
use pyo3::exceptions::{PyBaseException, PyMemoryError, PyRuntimeError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use super::{Core, UserData};
use crate::codec::compact::Decoder;
use crate::codec::payload;
use crate::future::{self, FutureBase};
use crate::interpreter::free_threading::free_what_others_dropped;
use crate::interpreter::spare::{self, PAUSES, Worth};
use crate::interpreter::{ending, imports};

impl Core {
    /// Completes the futures of all that has finished.
    ///
    /// Callbacks are left to the collector, as in the standard library: they must not run in a thread
    /// that happens to wait for another future, with whatever locks it holds.
    pub(crate) fn deliver(&self, py: Python<'_>) {
        let mut completions = Completions::default();
        let mut delivered = false;
        loop {
            let mut output = self.pending_output.lock();
            self.pool.take_completions(&mut completions);
            output.extend(completions.output.drain(..));
            drop(output);
            // What a task printed is shown before its result is there.
            let all = completions.finished.iter().any(|finished| has_output(&finished.outcome));
            self.pending_output.show(py, all, |output| self.show(py, output));
            if completions.is_empty() {
                break;
            }
            delivered = true;
            let bytes = std::mem::take(&mut completions.bytes);
            for finished in completions.finished.drain(..) {
                self.settle(py, finished, &bytes);
            }
            completions.bytes = bytes;
            completions.clear();
        }
        if delivered {
            self.pool.notify_leader();
            if !self.has_served.load(Ordering::Relaxed) {
                self.has_served.store(true, Ordering::Relaxed);
                self.pool.wake_collector();
            }
        }
        if self.has_callbacks.load(Ordering::Relaxed) {
            self.pool.wake_collector();
        }
    }

    /// The collector thread.
    pub(crate) fn collect(&self, py: Python<'_>) {
        ending::outlast();
        let mut readiness = Readiness::ToCome;
        loop {
            let called = || {
                let served = readiness == Readiness::ToCome && self.has_served.load(Ordering::Relaxed);
                served || self.has_callbacks.load(Ordering::Relaxed)
            };
            let deadline = if let Readiness::Due(time) = readiness { Some(time) } else { None };
            let reason = py.detach(|| self.pool.wait_as_collector(called, deadline));
            self.deliver(py);
            readiness = match readiness {
                Readiness::ToCome if self.has_served.load(Ordering::Relaxed) => {
                    Readiness::Due(clock::now() + QUIET)
                }
                Readiness::Due(_) if reason == WakeReason::TimedOut => {
                    get_ready(py);
                    Readiness::Ready
                }
                as_before => as_before,
            };
            for (future, aftermath) in self.take_callbacks() {
                FutureBase::conclude(future.bind(py), aftermath);
            }
            free_what_others_dropped(py);
            if reason == WakeReason::Ended {
                return;
            }
        }
    }

    fn show(&self, py: Python<'_>, output: &Output) {
        let bytes = PyBytes::new(py, &output.bytes);
        let forwarder = self.forwarder.bind(py);
        let told = match (output.stream, output.bytes.split_first()) {
            (Stream::Stdout, Some(_)) => {
                forwarder.call_method1("output", (output.worker_slot, output.pid, "stdout", bytes))
            }
            (Stream::Stderr, Some(_)) => {
                forwarder.call_method1("output", (output.worker_slot, output.pid, "stderr", bytes))
            }
            (Stream::Reports, Some((kind, payload))) => {
                let kind = PyBytes::new(py, &[*kind]);
                forwarder.call_method1("deliver", (kind, PyBytes::new(py, payload)))
            }
            (_, None) => forwarder.call_method1("ended", (output.worker_slot,)),
        };
        if let Err(error) = told {
            error.write_unraisable(py, Some(forwarder));
        }
    }

    fn settle(&self, py: Python<'_>, finished: Finished<UserData>, bytes: &[u8]) {
        let outcome = decode(py, &finished.outcome, bytes);
        drop(finished.outcome);
        if let Some(user_data) = finished.user_data {
            self.finish(py, &user_data, outcome);
            return;
        }
        // It failed, and may be retried: if its exception is of the right kind.
        let error = match &outcome {
            Err(error) => error.bind(py).clone(),
            Ok(_) => return,
        };
        let retry_on = self.pool.with_user_data(finished.token, |user_data| {
            user_data.retry_on.as_ref().map(|retry_on| retry_on.clone_ref(py))
        });
        let retry =
            retry_on.flatten().is_some_and(|classes| is_one_of(&error, classes.bind(py)).unwrap_or(false));
        if let Some(user_data) = self.pool.decide_retry(finished.token, retry) {
            self.finish(py, &user_data, outcome);
        }
    }

    fn finish(&self, py: Python<'_>, user_data: &UserData, outcome: future::Outcome) {
        let future = user_data.future.bind(py);
        let Some(mut aftermath) = FutureBase::finish(future, outcome) else { return };
        aftermath.unpark_waiters();
        if aftermath.has_callbacks() {
            let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            callbacks.push((user_data.future.clone_ref(py), aftermath));
            self.has_callbacks.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether a task raised one of these classes, even if what it raised could not be handed over.
fn is_one_of(error: &Bound<'_, PyBaseException>, classes: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = error.py();
    if error.get_type().is(imports::manyhands_error(py)?) {
        let cause = error.getattr(intern!(py, "__cause__"))?;
        if let Ok(raised) =
            cause.getattr(intern!(py, "kind")).and_then(|kind| Ok(kind.cast_into::<PyType>()?))
        {
            return raised.is_subclass(classes);
        }
    }
    error.is_instance(classes)
}

/// How far the parent has got with importing what it needs on bad days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// Nothing has been delivered yet: a start must not take longer for it.
    ToCome,
    /// It will, if nothing comes before this time.
    Due(Deadline),
    /// It has.
    Ready,
}

/// How long nothing has to happen in a pool before it makes ready for bad days, in nanoseconds.
const QUIET: u64 = 100 * clock::MILLISECOND;

/// Imports what failures are told with, as long as there are descriptors and memory for it.
fn get_ready(py: Python<'_>) {
    let needed = [
        imports::load_exception,
        imports::load_raised,
        imports::manyhands_error,
        imports::make_task_timeout,
        imports::task_cancelled,
        imports::logger,
    ];
    for each in needed {
        // Whoever needs it will be told.
        _ = each(py);
    }
}

/// Whether the task may have printed something.
fn has_output(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Inline(head, _) | Outcome::Block(head, _) => head.flags & flag::PRINTED != 0,
        Outcome::Died(_) | Outcome::TimedOut(..) | Outcome::Broken(_) => true,
        Outcome::Corrupted => false,
    }
}

/// The result or the exception that an outcome stands for.
fn decode(py: Python<'_>, outcome: &Outcome, bytes: &[u8]) -> future::Outcome {
    let (pauses, worth) = match outcome {
        // No code of the user's is run for these, which could mind: if they cannot be made, it is for a shortage.
        Outcome::Died(_) | Outcome::TimedOut(..) => (PAUSES, Worth::Anything),
        // Nor for this, but there may be thousands of them.
        Outcome::Broken(_) => (&PAUSES[..1], Worth::Anything),
        _ => (PAUSES, Worth::Descriptors),
    };
    let made = spare::retry(py, pauses, worth, || try_decode(py, outcome, bytes));
    made.unwrap_or_else(|problem| Err(stand_in(py, outcome, bytes, problem).into_value(py)))
}

/// What is said of an outcome that cannot be made into what it stands for. Needs nothing to be imported.
fn stand_in(py: Python<'_>, outcome: &Outcome, bytes: &[u8], problem: PyErr) -> PyErr {
    let text = match outcome {
        Outcome::Inline(head, range) if head.flags & flag::RAISED != 0 => {
            let data = bytes.get(range.clone()).unwrap_or_default();
            summary(PyBytes::new(py, data).as_any())
        }
        Outcome::Block(head, block) if head.flags & flag::RAISED != 0 => {
            imports::loads(py).and_then(|loads| summary(&payload::load(py, loads, block.clone(), false)?))
        }
        Outcome::Died(death) => {
            let who = death.pid.map_or("a worker".to_owned(), |pid| format!("worker {pid}"));
            Ok(format!("{who} died while running task {:?}", death.task))
        }
        Outcome::TimedOut(task, timeout) => {
            let seconds = *timeout as f64 / 1e9;
            return PyTimeoutError::new_err(format!(
                "task {task:?} was stopped: it ran longer than its timeout of {seconds} s"
            ));
        }
        Outcome::Broken(reason) => Ok(reason.to_string()),
        Outcome::Inline(..) | Outcome::Block(..) => {
            let note = "manyhands: raised here while unpickling the result of the task";
            // Without it, if there is no memory for it.
            _ = problem.value(py).call_method1(intern!(py, "add_note"), (note,));
            return problem;
        }
        Outcome::Corrupted => return problem,
    };
    let Ok(text) = text else { return problem };
    let error =
        PyRuntimeError::new_err(format!("{text} (the exception for it cannot be created: {problem})"));
    error.set_cause(py, Some(problem));
    error
}

/// The words for an exception that `dump_exception` has pickled.
fn summary(data: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = data.py();
    let (_, text, (task, kind, shown, _)) =
        imports::loads(py)?
            .call1((data,))?
            .extract::<(Bound<'_, PyAny>, String, (String, String, String, String))>()?;
    Ok(format!("task {task:?} raised {kind}: {shown}\n{text}"))
}

fn try_decode(py: Python<'_>, outcome: &Outcome, bytes: &[u8]) -> PyResult<future::Outcome> {
    match outcome {
        Outcome::Inline(head, range) => {
            decode_inline(py, *head, bytes.get(range.clone()).unwrap_or_default())
        }
        Outcome::Block(head, block) if head.flags & flag::COMPACT != 0 => {
            decode_compact(py, *head, &payload::read_compact(block))
        }
        Outcome::Block(head, block) => {
            let loads =
                if head.flags & flag::RAISED == 0 { imports::loads(py)? } else { imports::load_raised(py)? };
            sort(*head, payload::load(py, loads, block.clone(), false)?)
        }
        Outcome::Died(death) => {
            let made = imports::make_worker_died(py)?.call1((
                &death.task,
                death.pid,
                death.wait_status,
                death.rss_bytes,
            ))?;
            Ok(Err(made.cast_into::<PyBaseException>()?.unbind()))
        }
        Outcome::TimedOut(task, timeout) => {
            let made = imports::make_task_timeout(py)?.call1((task, *timeout as f64 / 1e9))?;
            Ok(Err(made.cast_into::<PyBaseException>()?.unbind()))
        }
        Outcome::Broken(reason) => {
            let made = imports::broken_process_pool(py)?.call1((&**reason,))?;
            Ok(Err(made.cast_into::<PyBaseException>()?.unbind()))
        }
        Outcome::Corrupted => Err(PyRuntimeError::new_err(
            "the result of this task was overwritten in shared memory by code other than manyhands",
        )),
    }
}

fn decode_inline(py: Python<'_>, head: Head, bytes: &[u8]) -> PyResult<future::Outcome> {
    if head.encoding == Encoding::Compact {
        return decode_compact(py, head, bytes);
    }
    let data = PyBytes::new(py, bytes);
    if head.flags & flag::RAISED == 0 {
        return sort(head, imports::loads(py)?.call1((data,))?);
    }
    sort(head, imports::load_exception(py)?.call1((data,))?)
}

fn decode_compact(py: Python<'_>, head: Head, bytes: &[u8]) -> PyResult<future::Outcome> {
    let mut decoder = Decoder::new(bytes);
    let Some(value) = decoder.value(py) else {
        return Err(decoder.into_error("the result of this task was overwritten in shared memory"));
    };
    if head.flags & flag::RAISED != 0 {
        // The worker had no memory for anything but this text.
        return Ok(Err(PyMemoryError::new_err(value.unbind()).into_value(py)));
    }
    Ok(Ok(value.unbind()))
}

fn sort(head: Head, value: Bound<'_, PyAny>) -> PyResult<future::Outcome> {
    if head.flags & flag::RAISED == 0 {
        Ok(Ok(value.unbind()))
    } else {
        Ok(Err(value.cast_into::<PyBaseException>()?.unbind()))
    }
}
