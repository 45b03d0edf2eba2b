//! Output of workers that the user has not seen yet.
//!
//! Any thread that takes completions may get output. It is shown by one thread at a time, in the order in which it
//! was taken, or the pieces of a line would change places. Showing runs Python code, which may let other threads
//! in: they leave what they have to the one that is showing.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use manyhands_pool::task::Output;
use pyo3::prelude::*;

/// How long a result waits for what its task printed to be shown by another thread. That thread may be waiting for a
/// lock that the one with the result has; better a line that comes late than a deadlock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Output, first to last, and which thread is showing it.
#[derive(Default)]
pub(crate) struct PendingOutput {
    queue: Mutex<Queue>,
    quiet: Condvar,
}

#[derive(Default)]
pub(crate) struct Queue {
    output: VecDeque<Output>,
    showing: Option<ThreadId>,
}

impl Queue {
    pub(crate) fn extend(&mut self, output: impl Iterator<Item = Output>) {
        self.output.extend(output);
    }
}

impl PendingOutput {
    /// Held while completions are taken, so that two batches cannot change places. Nobody waits for the interpreter
    /// with it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows everything with `show`. While another thread does so, it does the rest, too; `all`: wait until it has.
    pub(crate) fn show(&self, py: Python<'_>, all: bool, mut show: impl FnMut(&Output)) {
        let me = thread::current().id();
        loop {
            let mut queue = self.lock();
            match queue.showing {
                None if queue.output.is_empty() => return,
                None => queue.showing = Some(me),
                Some(showing) if showing == me || !all => return,
                Some(_) => {
                    drop(queue);
                    if !py.detach(|| self.wait()) {
                        return;
                    }
                    continue;
                }
            }
            let output = std::mem::take(&mut queue.output);
            drop(queue);
            output.iter().for_each(&mut show);
            self.lock().showing = None;
            self.quiet.notify_all();
        }
    }

    /// Waits until nobody is showing anything; false when that takes too long.
    fn wait(&self) -> bool {
        let shows = |queue: &mut Queue| queue.showing.is_some();
        let waited = self.quiet.wait_timeout_while(self.lock(), PATIENCE, shows);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}
