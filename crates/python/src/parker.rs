//! How a thread waits: detached from the interpreter, spinning for a moment where that can help, then asleep.
//!
//! This is the only place that waits for another thread of the process. Each thread has one [`Parker`]; whoever it
//! waits for holds an `Arc` of it and calls it. Calls are hints: the waiter looks again at what it waits for.
//!
//! What does *not* work: a call is not counted, so two calls before a wait wake it once.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use manyhands_os::clock::{self, Deadline, MILLISECOND};
use manyhands_os::{park, procfs};
use pyo3::prelude::*;

use crate::ending;

/// The thread runs, or spins.
const AWAKE: u32 = 0;
/// The thread sleeps, or is about to: whoever calls it must wake it.
const ASLEEP: u32 = 1;
/// The thread has been called since its last [`Parker::reset`].
const CALLED: u32 = 2;

/// A signal that arrives between the last look at it and the sleep does not end the sleep; this does.
const SIGNAL_SLICE: u64 = 500 * MILLISECOND;
/// Nobody ever spins longer, in nanoseconds: past this, sleeping and being woken costs less than it saves.
const LONGEST_SPIN: u32 = 50_000;
/// What is left of the budget when spinning never pays: when all CPUs are busy, say.
const SHORTEST_SPIN: u32 = 1_000;
/// The least when the one who will call is known to be running on another CPU: the answer is on its way.
const ANSWER_SPIN: u32 = 8_000;
/// After so many spins in vain, one goes to the full length, to see whether times have changed.
const RETRY_AFTER: u32 = 64;

/// How many waits of ours have let go of the interpreter so far; see [`detachments`].
static DETACHMENTS: AtomicU32 = AtomicU32::new(0);

static MAY_SPIN: LazyLock<bool> = LazyLock::new(|| procfs::cpus() > 1);

/// Makes now what is made when it is first used.
pub(crate) fn settle() {
    LazyLock::force(&MAY_SPIN);
}

/// Counts the waits of ours that have let go of the interpreter.
///
/// A thread that needs the interpreter and sees this number move knows that now is a good moment to ask for it: asking
/// while another thread holds it costs two context switches.
pub(crate) fn detachments() -> u32 {
    DETACHMENTS.load(Ordering::Relaxed)
}

/// To be said right after letting go of the interpreter.
pub(crate) fn count_detachment() {
    ending::outlast();
    DETACHMENTS.fetch_add(1, Ordering::Relaxed);
}

/// Why [`Parker::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roused {
    /// Somebody called, or a signal handler ran: look again.
    Called,
    /// The deadline has passed.
    TimedOut,
}

/// What one thread sleeps on.
///
/// | state  | set by                        | cleared by            |
/// |--------|-------------------------------|-----------------------|
/// | AWAKE  | the thread, in `reset`        |                       |
/// | ASLEEP | the thread, only from AWAKE   | the caller, the thread|
/// | CALLED | anyone, from any state        | the thread, in `reset`|
#[derive(Debug)]
pub(crate) struct Parker {
    word: AtomicU32,
    /// How long the next wait spins, in nanoseconds. Only the thread itself touches this.
    budget: AtomicU32,
    /// Spins in vain since the last one that paid.
    in_vain: AtomicU32,
    /// The CPU on which the thread spun last.
    cpu: AtomicUsize,
}

/// What a waiter knows of the one it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Expect {
    /// It cannot come while we keep the CPU.
    Nothing,
    /// It may come soon: experience tells.
    Perhaps,
    /// It is about to come: whoever will call is running now.
    Soon,
}

thread_local! {
    static OWN: RefCell<Arc<Parker>> = RefCell::new(Arc::default());
}

impl Default for Parker {
    fn default() -> Self {
        Self {
            word: AtomicU32::new(AWAKE),
            budget: AtomicU32::new(LONGEST_SPIN / 2),
            in_vain: AtomicU32::new(0),
            cpu: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Parker {
    /// The calling thread's own.
    pub(crate) fn own() -> Arc<Self> {
        OWN.with_borrow(Arc::clone)
    }

    /// Makes this one the calling thread's own.
    pub(crate) fn adopt(self: &Arc<Self>) {
        OWN.set(Arc::clone(self));
    }

    /// Forgets earlier calls. Look at what you wait for *after* this, then [`wait`](Self::wait).
    pub(crate) fn reset(&self) {
        // pairs with: call. An exchange, so that what the caller did before its call is seen by the look that follows.
        self.word.swap(AWAKE, Ordering::AcqRel);
    }

    /// Wakes the thread if it sleeps, or keeps it from falling asleep. Makes no system call unless it sleeps.
    pub(crate) fn call(&self) {
        // pairs with: reset, is_called
        if self.word.swap(CALLED, Ordering::AcqRel) == ASLEEP {
            park::wake(&self.word, 1);
        }
    }

    /// Whether somebody called since the last reset.
    pub(crate) fn is_called(&self) -> bool {
        self.word.load(Ordering::Acquire) == CALLED
    }

    /// Whether a call now would cost no system call.
    pub(crate) fn is_awake(&self) -> bool {
        self.word.load(Ordering::Relaxed) != ASLEEP
    }

    /// How soon one who calls the thread now may expect something of it.
    pub(crate) fn promptness(&self) -> Expect {
        if !self.is_awake() {
            return Expect::Perhaps;
        }
        // A thread that spins on the CPU on which we run does not run: it will when we sleep.
        match self.cpu.load(Ordering::Relaxed) == procfs::current_cpu() {
            true => Expect::Nothing,
            false => Expect::Soon,
        }
    }

    /// Waits, detached, until called or until `deadline`; runs Python's signal handlers when signals arrive.
    ///
    /// # Errors
    /// What a signal handler raised, KeyboardInterrupt for one.
    pub(crate) fn wait(
        &self,
        py: Python<'_>,
        deadline: Option<Deadline>,
        expect: Expect,
    ) -> PyResult<Roused> {
        let slice = clock::now() + SIGNAL_SLICE;
        let until = deadline.map_or(slice, |deadline| deadline.min(slice));
        let called = py.detach(|| {
            count_detachment();
            self.wait_detached(Some(until), expect)
        });
        if called {
            return Ok(Roused::Called);
        }
        py.check_signals()?;
        match deadline {
            Some(deadline) if clock::now() >= deadline => Ok(Roused::TimedOut),
            _ => Ok(Roused::Called),
        }
    }

    /// Waits until called; false when the deadline passed, or a signal arrived, first.
    pub(crate) fn wait_detached(&self, deadline: Option<Deadline>, expect: Expect) -> bool {
        if expect != Expect::Nothing && *MAY_SPIN && self.spin(expect) {
            return true;
        }
        if self.word.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return true;
        }
        loop {
            let roused = park::wait(&self.word, ASLEEP, deadline);
            if self.is_called() {
                return true;
            }
            if matches!(roused, park::Wait::TimedOut | park::Wait::Interrupted) {
                // Back to AWAKE, unless a call came in at the last moment.
                return self
                    .word
                    .compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Acquire)
                    .is_err();
            }
        }
    }

    /// Spins for as long as it has paid lately; whether a call came.
    fn spin(&self, expect: Expect) -> bool {
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        let retry = in_vain >= RETRY_AFTER;
        let budget = if retry { LONGEST_SPIN } else { self.budget.load(Ordering::Relaxed) };
        let least = if expect == Expect::Soon { ANSWER_SPIN } else { SHORTEST_SPIN };
        self.cpu.store(procfs::current_cpu(), Ordering::Relaxed);
        let start = clock::now();
        let end = start + u64::from(budget.max(least));
        loop {
            for _ in 0..16 {
                if self.is_called() {
                    // Twice of what was needed, at once when that is more, by and by when it is less.
                    let used = u32::try_from(clock::now() - start).unwrap_or(LONGEST_SPIN);
                    let wanted = used.saturating_mul(2).max(budget / 8 * 7);
                    self.budget.store(wanted.clamp(SHORTEST_SPIN, LONGEST_SPIN), Ordering::Relaxed);
                    self.in_vain.store(0, Ordering::Relaxed);
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::now() >= end {
                let less = self.budget.load(Ordering::Relaxed) / 2;
                self.budget.store(less.max(SHORTEST_SPIN), Ordering::Relaxed);
                self.in_vain.store(if retry { 0 } else { in_vain + 1 }, Ordering::Relaxed);
                return false;
            }
        }
    }
}
