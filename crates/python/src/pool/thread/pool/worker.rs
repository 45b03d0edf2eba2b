//! One worker of a thread pool: the loop that runs tasks, and what a task can ask about itself.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use manyhands_os::clock;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Pool;
use crate::future::{FutureBase, Outcome};
use crate::interpreter::free_threading::free_what_others_dropped;
use crate::interpreter::latch::Latch;
use crate::interpreter::parker::Parker;
use crate::interpreter::{asked, ending, imports};
use crate::pool::thread::deadlines::{self, Alarm};
use crate::pool::thread::running_frames::RunningFrames;
use crate::pool::thread::task::Task;

/// What has become of tasks, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tasks that returned.
    pub(crate) done: AtomicU64,
    /// Tasks that raised, or ran out of time.
    pub(crate) failed: AtomicU64,
    /// Attempts after the first one.
    pub(crate) retried: AtomicU64,
    /// Tasks that were cancelled, before they began or in the middle.
    pub(crate) cancelled: AtomicU64,
}

impl Counts {
    /// Tasks that have ended, one way or the other.
    pub(crate) fn ended(&self) -> u64 {
        self.done.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    /// Cancels a future, if it is not done; counted before anybody can know of it.
    pub(crate) fn cancel(&self, future: &Bound<'_, FutureBase>) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
        if !FutureBase::force_cancelled(future) {
            self.cancelled.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Adds another's numbers to these.
    pub(crate) fn add(&self, other: &Self) {
        for (mine, theirs) in [
            (&self.done, &other.done),
            (&self.failed, &other.failed),
            (&self.retried, &other.retried),
            (&self.cancelled, &other.cancelled),
        ] {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// A worker: what its thread and the pool both know of it.
pub(crate) struct Worker {
    pub(crate) pool: Arc<Pool>,
    pub(crate) number: usize,
    /// The pool's when the worker was made.
    pub(crate) epoch: u32,
    pub(crate) frames: RunningFrames,
    pub(crate) counts: Counts,
    /// The `threading.Thread`, once it runs.
    pub(crate) thread: PyOnceLock<Py<PyAny>>,
    /// The context that the initializer has left, if it has set anything.
    pub(crate) base: PyOnceLock<Py<PyAny>>,
    /// Open once the worker has looked for work, or it is known that it never will.
    arrival: Latch,
    /// Whether the pool has given it up while it was being started. Set once, after it was taken off the books.
    sent_away: AtomicBool,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Worker>>> = const { RefCell::new(None) };
}

impl Worker {
    pub(crate) fn new(pool: Arc<Pool>, number: usize, epoch: u32) -> Self {
        Self {
            pool,
            number,
            epoch,
            frames: RunningFrames::default(),
            counts: Counts::default(),
            thread: PyOnceLock::new(),
            base: PyOnceLock::new(),
            arrival: Latch::default(),
            sent_away: AtomicBool::new(false),
        }
    }

    /// The worker whose thread this is.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Option::clone)
    }

    pub(crate) fn is_current(&self) -> bool {
        CURRENT.with_borrow(|current| current.as_deref().is_some_and(|current| std::ptr::eq(current, self)))
    }

    /// Notes that the worker looks for work, or never will; whether nobody knew. Called with the pool's lock held: who
    /// waits for it finds afterwards that the worker has taken what was there.
    pub(crate) fn arrive(&self) -> bool {
        self.arrival.open()
    }

    /// Waits until the worker has looked for work, or never will.
    ///
    /// # Errors
    /// What a signal handler has raised.
    pub(crate) fn await_arrival(&self, py: Python<'_>) -> PyResult<()> {
        self.arrival.wait(py, None).map(drop)
    }

    /// Has the worker leave if it is there nevertheless.
    pub(crate) fn send_away(&self) {
        // It looks after it was called. pairs with: is_sent_away
        self.sent_away.store(true, Ordering::Release);
        self.unpark();
    }

    pub(crate) fn is_sent_away(&self) -> bool {
        self.sent_away.load(Ordering::Acquire)
    }

    pub(crate) fn parker(&self) -> &Parker {
        &self.frames.parker
    }

    pub(crate) fn unpark(&self) {
        self.parker().unpark();
    }

    /// Lies down among the idle workers; whether to spin before falling asleep. One at a time does, and stays on top,
    /// to be called first.
    pub(crate) fn rest(self: &Arc<Self>, idle: &mut Vec<Arc<Self>>) -> bool {
        self.parker().reset();
        let spins = idle.last().is_none_or(|top| !top.parker().is_awake());
        let at = if spins { idle.len() } else { idle.len() - 1 };
        idle.insert(at, Arc::clone(self));
        spins
    }

    /// Runs tasks in the calling thread until there is no more to do.
    pub(crate) fn run(self: &Arc<Self>, py: Python<'_>) {
        ending::outlast();
        self.frames.parker.adopt();
        let before = CURRENT.replace(Some(Arc::clone(self)));
        let outside = asked::run_as(Some(Arc::clone(self) as Arc<dyn asked::Worker>));
        let mut to_unpark = Vec::new();
        let mut looks_first = true;
        while let Some(task) = self.pool.next(py, self, std::mem::take(&mut looks_first), &mut to_unpark) {
            self.execute(py, task, &mut to_unpark);
            free_what_others_dropped(py);
        }
        for parker in to_unpark {
            parker.unpark();
        }
        asked::run_as(outside);
        CURRENT.set(before);
    }

    /// Runs one task, all its attempts. Waiters that nothing stands in the way of go to `to_unpark`.
    pub(crate) fn execute(self: &Arc<Self>, py: Python<'_>, task: Task, to_unpark: &mut Vec<Arc<Parker>>) {
        let mut task = task;
        // First: from when its future says that it runs, it can be asked to stop.
        self.frames.begin(&task, py);
        let future = task.future.bind(py);
        if if task.is_retry() { future.get().state().is_done() } else { !FutureBase::start(future) } {
            drop(self.frames.end());
            return;
        }
        let outcome = loop {
            match self.attempt(py, &task) {
                Ended::With(outcome) => break outcome,
                Ended::Again(next) if next.future.get().state().is_done() => {
                    drop(self.frames.end());
                    return;
                }
                Ended::Again(next) => match next.pause() {
                    Some(pause) => return self.put_off(py, next, pause),
                    None => task = next,
                },
                Ended::Stopped => {
                    self.counts.cancel(task.future.bind(py));
                    return;
                }
                Ended::Overdue => return,
            }
        };
        let future = task.future.clone_ref(py).into_bound(py);
        // Function and arguments go before anybody can have the result.
        drop(task);
        // Counted before anybody can know of the result.
        let count = if outcome.is_ok() { &self.counts.done } else { &self.counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
        let Some(mut aftermath) = FutureBase::finish(&future, outcome) else {
            // Cancelled in the meantime, and counted as that.
            count.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        if aftermath.has_callbacks() {
            aftermath.unpark_waiters();
            FutureBase::conclude(&future, aftermath);
        } else {
            to_unpark.append(&mut aftermath.take_waiters());
        }
    }

    /// Leaves the innermost task for so many seconds, unless it is asked to stop by then.
    fn put_off(&self, py: Python<'_>, next: Task, seconds: f64) {
        let token = next.token;
        // In this order: whoever asks it to stop finds it in one place or the other.
        self.pool.put_off(py, next, seconds);
        let is_asked = self.frames.end().is_some_and(|frame| frame.was_asked());
        if (is_asked || !self.pool.tries_again())
            && let Some(task) = self.pool.call_back(token)
        {
            self.counts.cancel(task.future.bind(py));
        }
    }

    /// Runs one attempt of the innermost task, which it leaves unless another follows.
    fn attempt(self: &Arc<Self>, py: Python<'_>, task: &Task) -> Ended {
        if self.frames.is_asked() {
            // Before it began, or since the last attempt.
            drop(self.frames.end());
            return Ended::Stopped;
        }
        let alarm = set_alarm(py, self, task);
        let ended = match &alarm {
            Ok(_) => task.call(py, self.base.get(py).map(|base| base.bind(py))),
            Err(error) => Err(error.clone_ref(py)),
        };
        if let Ok(Some(alarm)) = alarm {
            deadlines::end(alarm);
        }
        if let Err(error) = &ended
            && task.may_retry(error, py)
            && self.pool.tries_again()
            && self.frames.goes_on()
        {
            self.counts.retried.fetch_add(1, Ordering::Relaxed);
            return Ended::Again(task.next_attempt(py));
        }
        let Some(frame) = self.frames.end() else { return Ended::Overdue };
        if !frame.counts() {
            return Ended::Overdue;
        }
        let error = match ended {
            Ok(result) => return Ended::With(Ok(result.unbind())),
            Err(error) => error,
        };
        if frame.was_asked() {
            let stop = imports::task_cancelled(py);
            if stop.is_ok_and(|stop| error.is_instance(py, stop)) {
                return Ended::Stopped;
            }
        }
        Ended::With(Err(error.into_value(py)))
    }
}

impl asked::Worker for Worker {
    fn is_asked(&self) -> bool {
        self.frames.is_asked()
    }

    fn set_waiting(&self, waiting: bool) -> bool {
        self.frames.set_waiting(waiting)
    }
}

/// How one attempt ended.
enum Ended {
    With(Outcome),
    /// It failed and will be tried again.
    Again(Task),
    /// It stopped because it was asked to.
    Stopped,
    /// Its time was up before: its outcome no longer counts.
    Overdue,
}

/// The alarm of a task: it has run for as many seconds as it may.
struct Overdue {
    worker: Arc<Worker>,
    task: Task,
    seconds: f64,
}

impl Alarm for Overdue {
    fn ring(self: Box<Self>, py: Python<'_>) {
        expire(py, &self.worker, &self.task, self.seconds);
    }
}

/// Sets the alarm of a task that is about to run, if it has a timeout.
///
/// # Errors
/// RuntimeError when the thread cannot be started.
fn set_alarm(py: Python<'_>, worker: &Arc<Worker>, task: &Task) -> PyResult<Option<deadlines::Key>> {
    let Some(seconds) = task.timeout() else { return Ok(None) };
    let Some(deadline) = clock::after(seconds) else { return Ok(None) };
    let alarm = Overdue { worker: Arc::clone(worker), task: task.clone_ref(py), seconds };
    deadlines::set(deadline, Box::new(alarm)).map(Some)
}

/// Fails the future, or tries again, and asks the task to stop.
fn expire(py: Python<'_>, worker: &Arc<Worker>, task: &Task, seconds: f64) {
    if !worker.frames.expire(task.token) {
        return;
    }
    let error = overdue(py, task, seconds);
    if task.may_retry(&error, py) && worker.pool.tries_again() {
        let next = task.next_attempt(py);
        // Before it may begin: whoever has its result finds it counted.
        worker.counts.retried.fetch_add(1, Ordering::Relaxed);
        let requeued = match next.pause() {
            Some(pause) => {
                worker.pool.put_off(py, next, pause);
                Ok(())
            }
            None => worker.pool.requeue(py, next),
        };
        // A pool that has been closed since tries nothing again.
        if requeued.is_ok() {
            return;
        }
        worker.counts.retried.fetch_sub(1, Ordering::Relaxed);
    }
    worker.counts.failed.fetch_add(1, Ordering::Relaxed);
    FutureBase::complete(task.future.bind(py), Err(error.into_value(py)));
}

fn overdue(py: Python<'_>, task: &Task, seconds: f64) -> PyErr {
    let made = task.label(py).text(py).and_then(|name| {
        let text = format!("task '{name}' was asked to stop: it ran longer than its timeout of {seconds} s");
        imports::task_timeout(py)?.call1((text, name, seconds))
    });
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
