//! The shared state of a thread pool: its backlog, its workers, and which of them to wake for what.
//!
//! Everything is guarded by one lock that only threads attached to the interpreter take, and never across Python code
//! or anything else that may release the interpreter.
//! So `fork()`, which runs attached as well, can never catch it locked, and a waiting worker can only be called through
//! its parker.

pub(super) mod blocked;
mod expected;
mod lost_worker;
pub(super) mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use manyhands_os::clock::{self, Deadline};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use self::blocked::Blocked;
use self::expected::Expected;
use self::worker::{Counts, Worker};
use super::ThreadWorker;
use super::backlog::Backlog;
use super::refusal::{Refusal, is_of_a_start};
use super::task::Task;
use crate::future::{CancelAnswer, FutureBase, Source, State};
use crate::interpreter::ending;
use crate::interpreter::kick::Kick;
use crate::interpreter::parker::{self, Expect, Parker};

/// A wait inside a wait inside a wait … runs awaited tasks on one stack only up to here.
const DEEPEST_HELP: usize = 32;

/// A pool of threads, shared by the executor, its workers and its futures.
#[derive(Default)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// The last submit: a worker that spins takes the interpreter when the submitter has released it.
    kick: Kick,
    /// Whether the worker that was called last cannot run as long as the caller keeps its CPU.
    is_in_our_way: AtomicBool,
    settings: OnceLock<Settings>,
}

/// What never changes about a pool.
struct Settings {
    /// How many seconds a worker may be idle before it leaves.
    idle_timeout: f64,
    /// A weak reference to the Python object that starts threads; each worker thread keeps that object alive.
    crew: Py<PyAny>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) backlog: Backlog,
    /// All workers whose thread runs or is being started.
    pub(crate) workers: Vec<Arc<Worker>>,
    /// Workers that wait to be called; the last one is called first, and may be spinning.
    idle: Vec<Arc<Worker>>,
    /// Workers that have been called, or started, and have not yet looked at the backlog.
    coming: usize,
    /// How many of these are being started, which takes long on busy CPUs.
    starting: usize,
    pub(crate) limit: usize,
    /// Workers that wait for a queued task of this very pool, each of which may be replaced by one more.
    pub(crate) blocked: usize,
    /// Tasks that are not in the backlog yet. While there are any, workers stay although the pool has been closed.
    pub(crate) expected: Expected,
    last_token: u64,
    pub(crate) closing: bool,
    pub(crate) broken: Option<String>,
    /// What workers did that have left since, and what befell tasks that no worker had.
    pub(crate) departed: Counts,
    /// Grows when the process forks: workers of an earlier epoch are in another process.
    epoch: u32,
}

/// What has to be done, once the lock is free, so that the backlog gets done.
#[must_use]
pub(crate) enum WakeDecision {
    Nobody,
    Unpark(Arc<Worker>),
    Start(Arc<Worker>),
}

impl Inner {
    /// Finds somebody for what is in the backlog.
    pub(crate) fn decide_wake(&mut self, pool: &Arc<Pool>) -> WakeDecision {
        let waiting = self.backlog.len();
        let ready = self.idle.len() + self.coming;
        if waiting > ready && self.workers.len() < self.limit + self.blocked {
            return self.add_worker(pool);
        }
        self.call_idle()
    }

    /// Finds somebody idle for what is in the backlog.
    fn call_idle(&mut self) -> WakeDecision {
        // One at a time: whoever has been called calls the next if there is still work.
        if self.backlog.len() == 0 || self.coming > self.starting {
            return WakeDecision::Nobody;
        }
        match self.idle.pop() {
            Some(worker) => {
                self.coming += 1;
                WakeDecision::Unpark(worker)
            }
            None => WakeDecision::Nobody,
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.broken {
            Some(message) => Some(Refusal::Broken(message.clone())),
            None => self.closing.then_some(Refusal::Closed),
        }
    }

    /// Takes on one more worker, in the place with the smallest number that is free.
    pub(crate) fn add_worker(&mut self, pool: &Arc<Pool>) -> WakeDecision {
        let number = (0..).find(|number| self.workers.iter().all(|worker| worker.number != *number));
        let worker = Arc::new(Worker::new(Arc::clone(pool), number.unwrap_or_default(), self.epoch));
        self.workers.push(Arc::clone(&worker));
        self.coming += 1;
        self.starting += 1;
        WakeDecision::Start(worker)
    }

    /// Counts on a worker no longer that was being started: it is there, or never will be.
    fn count_arrival(&mut self) {
        self.coming = self.coming.saturating_sub(1);
        self.starting = self.starting.saturating_sub(1);
    }

    pub(crate) fn new_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Takes a worker off the books.
    fn strike(&mut self, worker: &Arc<Worker>) {
        let before = self.workers.len();
        self.workers.retain(|other| !Arc::ptr_eq(other, worker));
        self.idle.retain(|other| !Arc::ptr_eq(other, worker));
        if self.workers.len() < before {
            self.departed.add(&worker.counts);
        }
    }
}

impl Pool {
    /// Says how many workers there may be, how many seconds one may be idle, and what starts threads: a weak reference
    /// to an object with a method `start(worker)`.
    pub(crate) fn open(&self, limit: usize, idle_timeout: f64, crew: Py<PyAny>) {
        self.lock().limit = limit;
        _ = self.settings.set(Settings { idle_timeout, crew });
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a task; `make` builds it around its new future.
    ///
    /// # Errors
    /// When the pool takes no more tasks, when `make` fails, or when no thread can be started at all.
    pub(crate) fn submit(
        self: &Arc<Self>,
        py: Python<'_>,
        make: impl FnOnce(u64, Py<FutureBase>) -> PyResult<Task>,
    ) -> PyResult<Py<FutureBase>> {
        let token = {
            let mut inner = self.lock();
            match inner.refusal() {
                Some(refusal) => {
                    drop(inner);
                    return Err(refusal.error(py));
                }
                None => inner.new_token(),
            }
        };
        let source: Arc<dyn Source> = Arc::<Self>::clone(self);
        let future = FutureBase::of_source(py, source, token)?;
        let task = make(token, future.clone().unbind())?;
        self.enqueue(py, token, task)?;
        Ok(future.unbind())
    }

    fn enqueue(self: &Arc<Self>, py: Python<'_>, key: u64, task: Task) -> PyResult<()> {
        let token = task.token;
        let mut inner = self.lock();
        // Building the task may have run Python code, which may have closed the pool.
        if let Some(refusal) = inner.refusal() {
            drop(inner);
            return Err(refusal.error(py));
        }
        inner.backlog.push(key, task);
        self.dispatch(py, inner, token)
    }

    /// Finds somebody for a task that has just been queued.
    ///
    /// # Errors
    /// When no thread can be started at all, or when a signal handler has raised in the meantime: the task has left the
    /// backlog then, unless somebody has taken it.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        py: Python<'_>,
        mut inner: MutexGuard<'_, Inner>,
        token: u64,
    ) -> PyResult<()> {
        self.kick.note();
        let decision = inner.decide_wake(self);
        drop(inner);
        let Err(error) = self.carry_out(py, decision) else { return Ok(()) };
        let mut inner = self.lock();
        if is_of_a_start(py, &error) && !inner.workers.is_empty() {
            return Ok(());
        }
        let withdrawn = inner.backlog.take(token).or_else(|| inner.backlog.take_retry(token));
        drop(inner);
        drop(withdrawn);
        Err(error)
    }

    pub(crate) fn carry_out(&self, py: Python<'_>, decision: WakeDecision) -> PyResult<()> {
        match decision {
            WakeDecision::Nobody => Ok(()),
            WakeDecision::Unpark(worker) => {
                self.is_in_our_way.store(worker.parker().is_in_our_way(), Ordering::Relaxed);
                worker.unpark();
                Ok(())
            }
            WakeDecision::Start(worker) => {
                self.is_in_our_way.store(false, Ordering::Relaxed);
                self.start(py, &worker).inspect_err(|_| {
                    self.dismiss(&worker);
                    // Its thread may have started all the same, if a signal handler has raised right after that.
                    worker.send_away();
                })
            }
        }
    }

    fn start(&self, py: Python<'_>, worker: &Arc<Worker>) -> PyResult<()> {
        ending::outlast();
        let crew = match self.settings.get() {
            Some(settings) => settings.crew.call0(py)?,
            None => py.None(),
        };
        if crew.is_none(py) {
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        crew.call_method1(py, "start", (ThreadWorker::of(worker),)).map(drop)
    }

    /// Starts or calls whoever is needed after more workers have become allowed.
    pub(crate) fn summon_all(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        loop {
            let decision = self.lock().decide_wake(self);
            match decision {
                WakeDecision::Start(_) => self.carry_out(py, decision)?,
                _ => return self.carry_out(py, decision),
            }
        }
    }

    /// The next task for `worker`, which waits for one if need be; `None` when the worker must leave.
    ///
    /// With `looks_first`, whoever waits for the worker to come hears of it. `to_unpark` are waiters whose futures this
    /// worker has completed. They need the interpreter: they are called when this worker releases it, or before it
    /// begins another task.
    pub(crate) fn next(
        self: &Arc<Self>,
        py: Python<'_>,
        worker: &Arc<Worker>,
        mut looks_first: bool,
        to_unpark: &mut Vec<Arc<Parker>>,
    ) -> Option<Task> {
        let mut comes = false;
        // Known once the worker is idle; the inner `None` is "forever".
        let mut idle_until: Option<Option<Deadline>> = None;
        loop {
            let mut inner = self.lock();
            if inner.epoch != worker.epoch || worker.is_sent_away() {
                return None;
            }
            if std::mem::take(&mut looks_first) && worker.arrive() {
                inner.count_arrival();
            }
            if std::mem::take(&mut comes) {
                inner.coming = inner.coming.saturating_sub(1);
            }
            if inner.workers.len() > inner.limit + inner.blocked {
                inner.strike(worker);
                let decision = inner.decide_wake(self);
                drop(inner);
                _ = self.carry_out(py, decision);
                return None;
            }
            if let Some(task) = inner.backlog.pop() {
                let decision = inner.decide_wake(self);
                drop(inner);
                // No thread for it now: the task stays in the backlog, where this worker finds it.
                _ = self.carry_out(py, decision);
                unpark_all(to_unpark);
                return Some(task);
            }
            let out_of_time = idle_until.flatten().is_some_and(|until| clock::now() >= until);
            if inner.has_done_all() || (out_of_time && !inner.closing) {
                inner.strike(worker);
                return None;
            }
            let spin = worker.rest(&mut inner.idle);
            // Another thread could perhaps not be started any more.
            let stays = inner.closing;
            drop(inner);
            let idle_until = *idle_until.get_or_insert_with(|| self.idle_deadline());
            let idle_until = idle_until.filter(|_| !stays);
            py.detach(|| {
                parker::count_detachment();
                let in_our_way = to_unpark.iter().any(|waiter| waiter.is_in_our_way());
                unpark_all(to_unpark);
                let expect = if spin && !in_our_way { Expect::Perhaps } else { Expect::Nothing };
                if worker.parker().wait_detached(idle_until, expect) {
                    self.kick.await_release();
                }
            });
            let mut inner = self.lock();
            let rested = inner.idle.len();
            inner.idle.retain(|other| !Arc::ptr_eq(other, worker));
            comes = inner.idle.len() == rested;
        }
    }

    fn idle_deadline(&self) -> Option<Deadline> {
        self.settings.get().and_then(|settings| clock::after(settings.idle_timeout))
    }

    /// How soon a result may be there, as far as we know.
    fn expectation(&self) -> Expect {
        if self.is_in_our_way.load(Ordering::Relaxed) { Expect::Nothing } else { Expect::Perhaps }
    }

    /// Puts a task whose time is up back for another attempt.
    pub(crate) fn requeue(self: &Arc<Self>, py: Python<'_>, task: Task) -> PyResult<()> {
        let key = self.lock().new_token();
        self.enqueue(py, key, task)
    }

    /// Takes no more tasks; workers leave when the backlog is done.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        self.release_idle(&mut inner);
    }

    /// Calls every idle worker, so that each looks whether it is still wanted.
    pub(crate) fn release_idle(&self, inner: &mut Inner) {
        let idle = std::mem::take(&mut inner.idle);
        inner.coming += idle.len();
        for worker in idle {
            worker.unpark();
        }
    }

    pub(crate) fn resize(self: &Arc<Self>, py: Python<'_>, limit: usize) -> PyResult<()> {
        let mut inner = self.lock();
        inner.limit = limit;
        if inner.workers.len() > limit {
            self.release_idle(&mut inner);
        }
        drop(inner);
        self.summon_all(py)
    }

    /// Starts afresh in the child of a fork: no thread but the calling one has come along.
    pub(crate) fn restart(&self, py: Python<'_>) {
        let mut inner = self.lock();
        inner.epoch += 1;
        let workers = std::mem::take(&mut inner.workers);
        inner.idle.clear();
        (inner.coming, inner.starting, inner.blocked) = (0, 0, 0);
        inner.expected.forget_announced();
        drop(inner);
        let text =
            "the task runs in the process that this one was forked from; its result is available only there";
        for task in self.clear() {
            FutureBase::orphan(task.future.bind(py), text);
        }
        for worker in workers {
            // A task that forked goes on in the child.
            if !worker.is_current() {
                for frame in worker.frames.vacate() {
                    FutureBase::orphan(frame.into_future().bind(py), text);
                }
            }
        }
    }
}

fn unpark_all(to_unpark: &mut Vec<Arc<Parker>>) {
    for parker in to_unpark.drain(..) {
        parker.unpark();
    }
}

impl Source for Pool {
    fn kind(&self) -> &'static str {
        "thread"
    }

    fn note_cancelled(&self) {
        self.lock().departed.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    fn wait(&self, future: &Bound<'_, FutureBase>, token: u64, deadline: Option<Deadline>) -> PyResult<()> {
        let worker = Worker::current().filter(|worker| std::ptr::eq(&*worker.pool, self));
        let Some(worker) = worker.filter(|_| future.get().state() == State::Pending) else {
            return FutureBase::park(future, deadline, self.expectation()).map(drop);
        };
        // A worker that waits for its own pool must not keep the pool from doing what it waits for.
        if deadline.is_none() && worker.frames.depth() < DEEPEST_HELP {
            let awaited = self.lock().backlog.take(token);
            if let Some(task) = awaited {
                let mut to_unpark = Vec::new();
                worker.execute(future.py(), task, &mut to_unpark);
                unpark_all(&mut to_unpark);
                return Ok(());
            }
        }
        let _blocked = Blocked::enter(future.py(), &worker.pool)?;
        FutureBase::park(future, deadline, self.expectation()).map(drop)
    }

    fn is_running(&self, _token: u64) -> bool {
        // The worker itself says so to the future.
        false
    }

    fn cancel(&self, future: &Bound<'_, FutureBase>, token: u64, running: bool) -> CancelAnswer {
        let mut inner = self.lock();
        if !running {
            let task = inner.backlog.take(token);
            drop(inner);
            drop(task);
            // Even if a worker has taken it just now: it looks at the future before it begins.
            return match FutureBase::withdraw(future) {
                true => {
                    self.note_cancelled();
                    CancelAnswer::Withdrawn
                }
                false => CancelAnswer::Refused,
            };
        }
        if let Some(answer) = inner.workers.iter().find_map(|worker| worker.frames.ask(token)) {
            return answer;
        }
        let task = inner.backlog.take_retry(token);
        drop(inner);
        match task.or_else(|| self.call_back(token)) {
            Some(_) => CancelAnswer::Ending,
            None => CancelAnswer::Refused,
        }
    }
}
