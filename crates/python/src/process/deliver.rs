//! Outcomes on their way into futures, and what workers say on its way to the user.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use manyhands_pool::pool::Roused;
use manyhands_pool::slots::{Encoding, Head, flag};
use manyhands_pool::task::{Finished, Harvest, Outcome, Speech, Stream};
use pyo3::exceptions::{PyBaseException, PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::{Core, Ticket};
use super::payload;
use crate::codec::Decoder;
use crate::future::{self, FutureBase};
use crate::imports;

impl Core {
    /// Completes the futures of all that has finished.
    ///
    /// Callbacks are left to the collector, as in the standard library: they must not run in a thread
    /// that happens to wait for another future, with whatever locks it holds.
    pub(super) fn deliver(&self, py: Python<'_>) {
        let mut harvest = Harvest::default();
        let mut delivered = false;
        loop {
            let mut said = self.said.lock();
            self.pool.harvest(&mut harvest);
            said.extend(harvest.speech.drain(..));
            drop(said);
            // What a task said is shown before its result is there.
            let all = harvest.finished.iter().any(|finished| has_spoken(&finished.outcome));
            self.said.show(py, all, |speech| self.speak(py, speech));
            if harvest.is_empty() {
                break;
            }
            delivered = true;
            let bytes = std::mem::take(&mut harvest.bytes);
            for finished in harvest.finished.drain(..) {
                self.settle(py, finished, &bytes);
            }
            harvest.bytes = bytes;
            harvest.clear();
        }
        if delivered {
            self.pool.tell_leader();
        }
        if self.has_callbacks.load(Ordering::Relaxed) {
            self.pool.call_collector();
        }
    }

    /// The collector thread.
    pub(super) fn collect(&self, py: Python<'_>) {
        loop {
            let roused =
                py.detach(|| self.pool.wait_as_collector(|| self.has_callbacks.load(Ordering::Relaxed)));
            self.deliver(py);
            for (future, aftermath) in self.take_callbacks() {
                FutureBase::conclude(future.bind(py), aftermath);
            }
            if roused == Roused::Ended {
                return;
            }
        }
    }

    fn speak(&self, py: Python<'_>, speech: &Speech) {
        let bytes = PyBytes::new(py, &speech.bytes);
        let forwarder = self.forwarder.bind(py);
        let told = match (speech.stream, speech.bytes.split_first()) {
            (Stream::Stdout, Some(_)) => {
                forwarder.call_method1("output", (speech.seat, speech.pid, "stdout", bytes))
            }
            (Stream::Stderr, Some(_)) => {
                forwarder.call_method1("output", (speech.seat, speech.pid, "stderr", bytes))
            }
            (Stream::Records, Some((kind, payload))) => {
                let kind = PyBytes::new(py, &[*kind]);
                forwarder.call_method1("deliver", (kind, PyBytes::new(py, payload)))
            }
            (_, None) => forwarder.call_method1("ended", (speech.seat,)),
        };
        if let Err(error) = told {
            error.write_unraisable(py, Some(forwarder));
        }
    }

    fn settle(&self, py: Python<'_>, finished: Finished<Ticket>, bytes: &[u8]) {
        let outcome = decode(py, finished.outcome, bytes).unwrap_or_else(|error| Err(error.into_value(py)));
        if let Some(ticket) = finished.ticket {
            self.finish(py, &ticket, outcome);
            return;
        }
        // It failed, and may be retried: if its exception is of the right kind.
        let error = match &outcome {
            Err(error) => error.bind(py).clone(),
            Ok(_) => return,
        };
        let retry_on = self.pool.with_ticket(finished.token, |ticket| {
            ticket.retry_on.as_ref().map(|retry_on| retry_on.clone_ref(py))
        });
        let retry =
            retry_on.flatten().is_some_and(|classes| error.is_instance(classes.bind(py)).unwrap_or(false));
        if let Some(ticket) = self.pool.judge(finished.token, retry) {
            self.finish(py, &ticket, outcome);
        }
    }

    fn finish(&self, py: Python<'_>, ticket: &Ticket, outcome: future::Outcome) {
        let future = ticket.future.bind(py);
        let Some(mut aftermath) = FutureBase::finish(future, outcome) else { return };
        aftermath.call_waiters();
        if aftermath.has_callbacks() {
            let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            callbacks.push((ticket.future.clone_ref(py), aftermath));
            self.has_callbacks.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether the task may have said something.
fn has_spoken(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Inline(head, _) | Outcome::Block(head, _) => head.flags & flag::PRINTED != 0,
        Outcome::Died(_) | Outcome::TimedOut(..) | Outcome::Broken(_) => true,
        Outcome::Corrupted => false,
    }
}

/// The result or the exception that an outcome stands for.
fn decode(py: Python<'_>, outcome: Outcome, bytes: &[u8]) -> PyResult<future::Outcome> {
    match outcome {
        Outcome::Inline(head, range) => decode_inline(py, head, bytes.get(range).unwrap_or_default()),
        Outcome::Block(head, block) => {
            let loads =
                if head.flags & flag::RAISED == 0 { imports::loads(py)? } else { imports::load_raised(py)? };
            sort(head, payload::load(py, loads, block, false)?)
        }
        Outcome::Died(death) => {
            let death = *death;
            let made = imports::make_worker_died(py)?.call1((
                death.task,
                death.pid,
                death.wait_status,
                death.rss_bytes,
            ))?;
            Ok(Err(made.cast_into::<PyBaseException>()?.unbind()))
        }
        Outcome::TimedOut(task, timeout) => {
            let made = imports::make_task_timeout(py)?.call1((task, timeout as f64 / 1e9))?;
            Ok(Err(made.cast_into::<PyBaseException>()?.unbind()))
        }
        Outcome::Broken(reason) => {
            Err(imports::error(py, imports::broken_process_pool, Some(reason.to_string())))
        }
        Outcome::Corrupted => Err(PyRuntimeError::new_err(
            "the result of this task was overwritten in shared memory by something that is not manyhands",
        )),
    }
}

fn decode_inline(py: Python<'_>, head: Head, bytes: &[u8]) -> PyResult<future::Outcome> {
    if head.encoding == Encoding::Compact {
        let value = Decoder::new(bytes).value(py).ok_or_else(|| {
            PyRuntimeError::new_err("the result of this task was overwritten in shared memory")
        })?;
        if head.flags & flag::RAISED != 0 {
            // The worker had no memory for anything but this text.
            return Err(PyMemoryError::new_err(value.unbind()));
        }
        return Ok(Ok(value.unbind()));
    }
    let data = PyBytes::new(py, bytes);
    if head.flags & flag::RAISED == 0 {
        return sort(head, imports::loads(py)?.call1((data,))?);
    }
    sort(head, imports::load_exception(py)?.call1((data,))?)
}

fn sort(head: Head, value: Bound<'_, PyAny>) -> PyResult<future::Outcome> {
    if head.flags & flag::RAISED == 0 {
        Ok(Ok(value.unbind()))
    } else {
        Ok(Err(value.cast_into::<PyBaseException>()?.unbind()))
    }
}
