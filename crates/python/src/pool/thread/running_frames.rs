//! What a worker thread is doing, and how it is asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::clock;
use pyo3::prelude::*;

use super::task::{Label, Task};
use crate::future::{CancelAnswer, FutureBase};
use crate::interpreter::parker::Parker;

/// What one worker thread runs: a task, and while that one waits for another of the same pool, perhaps that one too.
///
/// Its lock is taken only by threads that are attached to the interpreter, and never held across Python code.
#[derive(Default)]
pub(crate) struct RunningFrames {
    frames: Mutex<Vec<Frame>>,
    /// Whether any frame has been asked to stop: saves the lock on the common path. Set under the lock.
    asked: AtomicBool,
    /// What the worker sleeps on.
    pub(crate) parker: Arc<Parker>,
}

/// A task that has begun and not ended.
pub(crate) struct Frame {
    token: u64,
    label: Label,
    future: Py<FutureBase>,
    /// When it began, or its latest attempt, by the clock.
    begun: u64,
    /// It should stop: the next check or wait in it raises.
    asked: bool,
    /// It is in a wait of ours, and so certain to notice when it is asked.
    waiting: bool,
    /// Its outcome no longer counts, for it ran out of time.
    overdue: bool,
}

impl Frame {
    /// The task ended: was it asked to stop?
    pub(crate) fn was_asked(&self) -> bool {
        self.asked
    }

    /// The task ended: does its outcome still count?
    pub(crate) fn counts(&self) -> bool {
        !self.overdue
    }

    pub(crate) fn into_future(self) -> Py<FutureBase> {
        self.future
    }
}

impl RunningFrames {
    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks have begun and not ended.
    pub(crate) fn depth(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn begin(&self, task: &Task, py: Python<'_>) {
        let frame = Frame {
            token: task.token,
            label: task.label(py),
            future: task.future.clone_ref(py),
            begun: clock::now(),
            asked: false,
            waiting: false,
            overdue: false,
        };
        self.lock().push(frame);
    }

    /// Ends the innermost task. The caller drops the frame, outside of the lock.
    pub(crate) fn end(&self) -> Option<Frame> {
        let mut frames = self.lock();
        let ended = frames.pop();
        self.asked.store(frames.iter().any(|frame| frame.asked), Ordering::Relaxed);
        ended
    }

    /// The innermost task has failed and would run again: whether it may. It stays among the frames until then, so
    /// that nobody asks it for nothing.
    pub(crate) fn goes_on(&self) -> bool {
        let mut frames = self.lock();
        frames.last_mut().is_some_and(|frame| {
            frame.begun = clock::now();
            !frame.asked && !frame.overdue
        })
    }

    /// Whether the innermost task should stop.
    pub(crate) fn is_asked(&self) -> bool {
        // Relaxed: whoever was asked in the meantime notices at its next check.
        self.asked.load(Ordering::Relaxed) && self.lock().last().is_some_and(|frame| frame.asked)
    }

    /// The innermost task begins or ends a wait of ours; true when it should stop instead.
    pub(crate) fn set_waiting(&self, waiting: bool) -> bool {
        let mut frames = self.lock();
        frames.last_mut().is_some_and(|frame| {
            frame.waiting = waiting;
            frame.asked
        })
    }

    /// Asks the task `token` to stop, if it is among the frames.
    pub(crate) fn ask(&self, token: u64) -> Option<CancelAnswer> {
        let mut frames = self.lock();
        let innermost = frames.len().checked_sub(1)?;
        let at = frames.iter().position(|frame| frame.token == token && !frame.overdue)?;
        frames[at].asked = true;
        self.asked.store(true, Ordering::Relaxed);
        if at != innermost || !frames[at].waiting {
            return Some(CancelAnswer::Refused);
        }
        drop(frames);
        self.parker.unpark();
        Some(CancelAnswer::Ending)
    }

    /// Asks every task among the frames to stop.
    pub(crate) fn ask_all(&self) {
        let mut frames = self.lock();
        for frame in &mut *frames {
            frame.asked = true;
        }
        self.asked.store(!frames.is_empty(), Ordering::Relaxed);
        drop(frames);
        self.parker.unpark();
    }

    /// Asks the task `token` to stop because its time is up: what it returns no longer counts.
    pub(crate) fn expire(&self, token: u64) -> bool {
        let mut frames = self.lock();
        let Some(frame) = frames.iter_mut().find(|frame| frame.token == token && !frame.overdue) else {
            return false;
        };
        frame.asked = true;
        frame.overdue = true;
        self.asked.store(true, Ordering::Relaxed);
        drop(frames);
        self.parker.unpark();
        true
    }

    /// The name of the innermost task, and how many seconds ago it began.
    pub(crate) fn innermost(&self, py: Python<'_>) -> PyResult<Option<(String, f64)>> {
        let frames = self.lock();
        let found = frames.last().map(|frame| (frame.label.clone_ref(py), frame.begun));
        drop(frames);
        let Some((label, begun)) = found else { return Ok(None) };
        let seconds = clock::seconds(clock::now().saturating_sub(begun));
        Ok(Some((label.text(py)?, seconds)))
    }

    /// Takes every task off the frames: their thread is not in this process.
    pub(crate) fn vacate(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.lock())
    }
}
