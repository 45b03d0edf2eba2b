//! Tasks of a thread pool that are still to come: their next attempt must wait, or they have only been announced.
//!
//! No worker waits with them. The thread that watches deadlines says when a pause is over.

use std::sync::Arc;

use manyhands_os::clock::{self, Deadline};
use pyo3::prelude::*;

use super::{Inner, Pool};
use crate::future::{FutureBase, Source};
use crate::pool::thread::deadlines::{self, Alarm, Key};
use crate::pool::thread::refusal::{Refusal, is_of_a_start};
use crate::pool::thread::task::Task;

/// What is not in the backlog yet.
#[derive(Default)]
pub(crate) struct Expected {
    announced: usize,
    put_off: Vec<PutOff>,
    /// Whether all that had not begun has been withdrawn: what fails afterwards is not begun again.
    withdrawn: bool,
}

/// A task that waits for its next attempt.
pub(crate) struct PutOff {
    task: Task,
    /// The alarm that rings when the pause is over, once it has been set.
    reminder: Option<Key>,
}

impl PutOff {
    /// The task, which waits no longer. Not to be called with a pool's lock held.
    pub(crate) fn into_task(self) -> Task {
        if let Some(reminder) = self.reminder {
            deadlines::end(reminder);
        }
        self.task
    }
}

impl Expected {
    fn is_empty(&self) -> bool {
        self.announced == 0 && self.put_off.is_empty()
    }

    /// How many tasks wait for their next attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.put_off.len()
    }

    /// Takes a task out that waits for its next attempt.
    pub(crate) fn take(&mut self, token: u64) -> Option<PutOff> {
        let at = self.put_off.iter().position(|put_off| put_off.task.token == token)?;
        Some(self.put_off.swap_remove(at))
    }

    /// Notes the alarm of a task that waits; false when it does so no longer.
    fn note(&mut self, token: u64, reminder: Key) -> bool {
        let put_off = self.put_off.iter_mut().find(|put_off| put_off.task.token == token);
        put_off.map(|put_off| put_off.reminder = Some(reminder)).is_some()
    }

    /// Takes all tasks out that wait for their next attempt.
    pub(crate) fn take_all(&mut self) -> Vec<PutOff> {
        std::mem::take(&mut self.put_off)
    }

    /// In the child of a fork: what was announced will be submitted in the parent.
    pub(crate) fn forget_announced(&mut self) {
        self.announced = 0;
    }
}

impl Inner {
    /// Whether workers that find nothing to do must leave: nothing more will come.
    pub(crate) fn has_done_all(&self) -> bool {
        self.closing && self.expected.is_empty() && self.backlog.len() == 0
    }
}

impl Pool {
    /// Announces a task: until [`give_back`](Self::give_back) workers stay, and the pool takes it even if it is closed.
    ///
    /// # Errors
    /// When the pool is closed or broken.
    pub(crate) fn reserve(&self, py: Python<'_>) -> PyResult<()> {
        let mut inner = self.lock();
        if let Some(refusal) = inner.refusal() {
            drop(inner);
            return Err(refusal.error(py));
        }
        inner.expected.announced += 1;
        Ok(())
    }

    /// Sees to it that a pool which has been closed has a worker for what is expected: whoever waits for its threads
    /// waits for that, too.
    ///
    /// # Errors
    /// What a signal handler raises in the meantime.
    pub(crate) fn stay(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let mut inner = self.lock();
        if inner.workers.is_empty() && inner.closing && !inner.expected.is_empty() {
            let decision = inner.add_worker(self);
            drop(inner);
            return match self.carry_out(py, decision) {
                // For want of something: it will be tried again when the task is there.
                Err(error) if is_of_a_start(py, &error) => Ok(()),
                done => done,
            };
        }
        Ok(())
    }

    /// The task that was announced has been submitted, or will never be.
    pub(crate) fn give_back(&self) {
        let mut inner = self.lock();
        inner.expected.announced = inner.expected.announced.saturating_sub(1);
        if inner.has_done_all() {
            self.release_idle(&mut inner);
        }
    }

    /// Queues a task that was announced; `make` builds it around its future, which is there already.
    ///
    /// # Errors
    /// When the pool is broken, when `make` fails, or when no thread can be started at all.
    pub(crate) fn submit_announced(
        self: &Arc<Self>,
        py: Python<'_>,
        future: &Bound<'_, FutureBase>,
        make: impl FnOnce(u64, Py<FutureBase>) -> PyResult<Task>,
    ) -> PyResult<()> {
        let token = self.lock().new_token();
        let task = make(token, future.clone().unbind())?;
        let mut inner = self.lock();
        if let Some(refusal @ Refusal::Broken(_)) = inner.refusal() {
            drop(inner);
            return Err(refusal.error(py));
        }
        // Workers look at the future before they begin: it may have been cancelled.
        let source: Arc<dyn Source> = Arc::<Self>::clone(self);
        future.get().attach(source, token);
        inner.backlog.push(token, task);
        self.dispatch(py, inner, token)?;
        _ = future.get().follow_no_more();
        Ok(())
    }

    /// Takes a task out of the way for so many seconds, until its next attempt.
    pub(crate) fn put_off(self: &Arc<Self>, py: Python<'_>, task: Task, seconds: f64) {
        let token = task.token;
        self.lock().expected.put_off.push(PutOff { task, reminder: None });
        // So long a pause that no clock reaches its end needs no alarm.
        let Some(due) = clock::after(seconds) else { return };
        match remind(self, token, due) {
            Ok(reminder) => {
                let waits = self.lock().expected.note(token, reminder);
                if !waits {
                    deadlines::end(reminder);
                }
            }
            // Without a thread to watch the time, it does not wait.
            Err(_) => self.resume(py, token),
        }
    }

    /// Takes out everything that no worker has begun; what fails from now on is not begun again.
    pub(crate) fn withdraw_all(&self) -> Vec<Task> {
        self.lock().expected.withdrawn = true;
        self.clear()
    }

    /// Whether anything that has failed may run again.
    pub(crate) fn tries_again(&self) -> bool {
        !self.lock().expected.withdrawn
    }

    /// Takes a task out that waits for its next attempt.
    pub(crate) fn call_back(&self, token: u64) -> Option<Task> {
        let mut inner = self.lock();
        let put_off = inner.expected.take(token);
        if inner.has_done_all() {
            self.release_idle(&mut inner);
        }
        drop(inner);
        put_off.map(PutOff::into_task)
    }

    /// Takes out everything that no worker has begun, or will begin again.
    pub(crate) fn clear(&self) -> Vec<Task> {
        let mut inner = self.lock();
        let mut tasks: Vec<Task> = std::iter::from_fn(|| inner.backlog.pop()).collect();
        let put_off = inner.expected.take_all();
        if inner.has_done_all() {
            self.release_idle(&mut inner);
        }
        drop(inner);
        tasks.extend(put_off.into_iter().map(PutOff::into_task));
        tasks
    }

    /// Queues a task whose pause is over, unless it has been cancelled.
    pub(crate) fn resume(self: &Arc<Self>, py: Python<'_>, token: u64) {
        let mut inner = self.lock();
        let Some(PutOff { task, .. }) = inner.expected.take(token) else { return };
        let future = task.future.clone_ref(py);
        let key = inner.new_token();
        inner.backlog.push(key, task);
        if let Err(error) = self.dispatch(py, inner, token) {
            FutureBase::complete(future.bind(py), Err(error.into_value(py)));
        }
    }
}

/// The alarm of a task whose pause is over.
struct Reminder {
    pool: Arc<Pool>,
    token: u64,
}

impl Alarm for Reminder {
    fn ring(self: Box<Self>, py: Python<'_>) {
        self.pool.resume(py, self.token);
    }
}

/// Has [`Pool::resume`] called at `due`.
///
/// # Errors
/// RuntimeError when the thread cannot be started.
fn remind(pool: &Arc<Pool>, token: u64, due: Deadline) -> PyResult<Key> {
    deadlines::set(due, Box::new(Reminder { pool: Arc::clone(pool), token }))
}
