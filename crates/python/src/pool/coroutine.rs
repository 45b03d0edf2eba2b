//! Pools of coroutines: how event loops are woken.
//!
//! The pool itself, and the loops, are Python's (`python/manyhands/_coroutine`). What is here makes a call from another thread
//! cheap: a loop that has nothing to do looks for a moment whether something comes before it sleeps in its selector, where it can
//! be woken only by a system call; and whoever waits for a result learns of it when the loop has released the interpreter.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::poll::EventFd;
use manyhands_sync::{Spent, SpinPolicy};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::future::{FutureBase, Outcome};
use crate::interpreter::kick::Kick;
use crate::interpreter::lock::lock;
use crate::interpreter::parker::{self, Parker};

/// Adds what pools of coroutines need to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoopBell>()
}

/// The loop sleeps in its selector, or runs callbacks: only its descriptor gets its attention.
const AWAY: u32 = 0;
/// The loop looks at this word.
const LOOKING: u32 = 1;
/// Somebody has rung since the loop last answered.
const RUNG: u32 = 2;

/// What all loops have learned of such waits.
static SPIN: SpinPolicy = SpinPolicy::new();

/// What wakes an event loop: many rings before it answers are one.
///
/// | word | set by | cleared by |
/// |------|--------|------------|
/// | AWAY | the loop, in `answer`, and when it has looked without success | |
/// | LOOKING | the loop, only from AWAY | whoever rings, the loop |
/// | RUNG | anyone, from any state | the loop, in `answer` |
#[pyclass(frozen, module = "manyhands._native")]
struct LoopBell {
    word: AtomicU32,
    /// What the loop's selector watches; none before it is opened, and once it is closed.
    fd: Mutex<Option<EventFd>>,
    /// When it was last rung.
    kick: Kick,
    /// A look without success, whose wait goes on in the selector.
    spent: Mutex<Option<Spent<'static>>>,
    /// Those that wait for results which this loop has produced, and have not heard of it yet.
    waiters: Mutex<Vec<Arc<Parker>>>,
}

impl LoopBell {
    fn unpark_waiters(&self) {
        let waiters = std::mem::take(&mut *lock(&self.waiters));
        for waiter in waiters {
            waiter.unpark();
        }
    }

    fn has_waiter_in_our_way(&self) -> bool {
        lock(&self.waiters).iter().any(|waiter| waiter.is_in_our_way())
    }

    fn end(&self, future: &Bound<'_, FutureBase>, outcome: Outcome, lingers: bool) -> bool {
        let Some(mut aftermath) = FutureBase::finish(future, outcome) else { return false };
        if lingers && !aftermath.has_callbacks() {
            lock(&self.waiters).append(&mut aftermath.take_waiters());
        } else {
            aftermath.unpark_waiters();
        }
        FutureBase::conclude(future, aftermath);
        true
    }
}

#[pymethods]
impl LoopBell {
    #[new]
    fn new() -> Self {
        Self {
            word: AtomicU32::new(AWAY),
            fd: Mutex::default(),
            kick: Kick::default(),
            spent: Mutex::default(),
            waiters: Mutex::default(),
        }
    }

    /// Open the descriptor that is readable when the bell was rung while the loop was away, and return its number.
    fn open(&self) -> PyResult<i32> {
        let fd = EventFd::new()?;
        let number = fd.as_fd().as_raw_fd();
        *lock(&self.fd) = Some(fd);
        Ok(number)
    }

    /// Close the descriptor: whoever rings from now on is too late. Not when the loop is collected, which a traceback may put off.
    fn close(&self) {
        lock(&self.fd).take();
    }

    /// Have the loop look at what is there for it.
    fn ring(&self) {
        self.kick.note();
        // pairs with: answer, linger
        if self.word.swap(RUNG, Ordering::AcqRel) == AWAY
            && let Some(fd) = &*lock(&self.fd)
        {
            // Closed by the program, as a daemon does that begins: nobody is there to be told.
            _ = fd.signal();
        }
    }

    /// The loop has seen that its descriptor is readable.
    fn drain(&self) {
        if let Some(fd) = &*lock(&self.fd) {
            fd.drain();
        }
    }

    /// Whether it has been rung and the loop has not answered yet.
    #[getter]
    fn is_rung(&self) -> bool {
        self.word.load(Ordering::Acquire) == RUNG
    }

    /// The loop is here, and looks at what is there for it *after* this.
    fn answer(&self) {
        // pairs with: ring: what was there before it rang is seen now
        self.word.swap(AWAY, Ordering::AcqRel);
        if let Some(spent) = lock(&self.spent).take() {
            spent.end();
        }
    }

    /// The loop has nothing to do: tell those that wait for its results, and look for a moment whether somebody rings. False when
    /// nobody has, and it should sleep.
    fn linger(&self, py: Python<'_>) -> bool {
        // Not learned from: that wait has ended otherwise than by a ring.
        lock(&self.spent).take();
        // pairs with: ring (AcqRel)
        if self.word.compare_exchange(AWAY, LOOKING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.unpark_waiters();
            return true;
        }
        py.detach(|| {
            parker::count_detachment();
            let looks = !self.has_waiter_in_our_way();
            self.unpark_waiters();
            if looks {
                let is_rung = || (self.word.load(Ordering::Acquire) == RUNG).then_some(());
                match SPIN.look(is_rung) {
                    Ok(()) => {
                        self.kick.await_release();
                        return true;
                    }
                    Err(spent) => *lock(&self.spent) = Some(spent),
                }
            }
            // pairs with: ring (AcqRel)
            self.word.compare_exchange(LOOKING, AWAY, Ordering::AcqRel, Ordering::Acquire).is_err()
        })
    }

    /// Tell those that wait for results of this loop, which ends.
    fn tell(&self) {
        self.unpark_waiters();
    }

    /// Complete the future; false if it was done. With `lingers`, `linger` is called next, and waiters hear of it there.
    fn succeed(&self, future: &Bound<'_, FutureBase>, result: Py<PyAny>, lingers: bool) -> bool {
        self.end(future, Ok(result), lingers)
    }

    /// As `succeed`, with an exception.
    fn fail(&self, future: &Bound<'_, FutureBase>, error: Py<PyBaseException>, lingers: bool) -> bool {
        self.end(future, Err(error), lingers)
    }
}
