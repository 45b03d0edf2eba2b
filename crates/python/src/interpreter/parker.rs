//! How a thread waits: detached from the interpreter, spinning for a moment where that can help, then asleep.
//!
//! This is the only place that waits for another thread of the process. Each thread has one [`Parker`]; whoever it
//! waits for holds an `Arc` of it and unparks it. That is a hint: the waiter looks again at what it waits for.
//!
//! What does *not* work: unparks are not counted, so two before a wait wake the thread once.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use manyhands_os::clock::{self, Deadline, MILLISECOND};
use manyhands_os::{park, procfs};
use manyhands_sync::SpinPolicy;
use pyo3::prelude::*;

use crate::interpreter::ending;

/// The thread runs, or spins.
const AWAKE: u32 = 0;
/// The thread sleeps, or is about to: whoever unparks it must wake it.
const ASLEEP: u32 = 1;
/// The thread has been unparked since its last [`Parker::reset`].
const UNPARKED: u32 = 2;

/// A signal that arrives between the last look at it and the sleep does not end the sleep; this does.
const SIGNAL_SLICE: u64 = 500 * MILLISECOND;
/// How many waits of ours have released the interpreter so far; see [`detachments`].
static DETACHMENTS: AtomicU32 = AtomicU32::new(0);

/// Counts the waits of ours that have released the interpreter.
///
/// A thread that needs the interpreter and sees this number move knows that now is a good moment to ask for it: asking
/// while another thread holds it costs two context switches.
pub(crate) fn detachments() -> u32 {
    DETACHMENTS.load(Ordering::Relaxed)
}

/// Called right after releasing the interpreter.
pub(crate) fn count_detachment() {
    ending::outlast();
    DETACHMENTS.fetch_add(1, Ordering::Relaxed);
}

/// Why [`Parker::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeReason {
    /// It was unparked, or a signal handler ran: look again.
    Unparked,
    /// The deadline has passed.
    TimedOut,
}

/// What one thread sleeps on.
///
/// | state  | set by                        | cleared by            |
/// |--------|-------------------------------|-----------------------|
/// | AWAKE  | the thread, in `reset`        |                       |
/// | ASLEEP | the thread, only from AWAKE   | the waker, the thread |
/// | UNPARKED | anyone, from any state        | the thread, in `reset`|
#[derive(Debug)]
pub(crate) struct Parker {
    word: AtomicU32,
    /// How long to spin.
    spin: SpinPolicy,
    /// The CPU on which the thread spun last.
    cpu: AtomicUsize,
}

/// What a waiter knows of the one it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It cannot come while we keep the CPU.
    Nothing,
    /// It may come soon: experience tells.
    Perhaps,
}

thread_local! {
    static OWN: RefCell<Arc<Parker>> = RefCell::new(Arc::default());
}

impl Default for Parker {
    fn default() -> Self {
        Self { word: AtomicU32::new(AWAKE), spin: SpinPolicy::new(), cpu: AtomicUsize::new(usize::MAX) }
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

    /// Forgets earlier unparking. Look at what you wait for *after* this, then [`wait`](Self::wait).
    pub(crate) fn reset(&self) {
        // pairs with: unpark. An exchange, so that what the other thread did before unparking is seen by the look that
        // follows.
        self.word.swap(AWAKE, Ordering::AcqRel);
    }

    /// Wakes the thread if it sleeps, or keeps it from falling asleep. Makes no system call unless it sleeps.
    pub(crate) fn unpark(&self) {
        // pairs with: reset, is_unparked
        if self.word.swap(UNPARKED, Ordering::AcqRel) == ASLEEP {
            manyhands_sync::wake(&self.word, 1);
        }
    }

    /// Whether it was unparked since the last reset.
    pub(crate) fn is_unparked(&self) -> bool {
        self.word.load(Ordering::Acquire) == UNPARKED
    }

    /// Whether unparking now would cost no system call.
    pub(crate) fn is_awake(&self) -> bool {
        self.word.load(Ordering::Relaxed) != ASLEEP
    }

    /// Whether the thread spins on the CPU on which we run: then it does not run, but will when we sleep.
    pub(crate) fn is_in_our_way(&self) -> bool {
        self.is_awake() && self.cpu.load(Ordering::Relaxed) == procfs::current_cpu()
    }

    /// Waits, detached, until unparked or until `deadline`; runs Python's signal handlers when signals arrive.
    ///
    /// # Errors
    /// What a signal handler raised, KeyboardInterrupt for one.
    pub(crate) fn wait(
        &self,
        py: Python<'_>,
        deadline: Option<Deadline>,
        expect: Expect,
    ) -> PyResult<WakeReason> {
        let slice = clock::now() + SIGNAL_SLICE;
        let until = deadline.map_or(slice, |deadline| deadline.min(slice));
        let unparked = py.detach(|| {
            count_detachment();
            self.wait_detached(Some(until), expect)
        });
        if unparked {
            return Ok(WakeReason::Unparked);
        }
        py.check_signals()?;
        match deadline {
            Some(deadline) if clock::now() >= deadline => Ok(WakeReason::TimedOut),
            _ => Ok(WakeReason::Unparked),
        }
    }

    /// Waits until unparked; false when the deadline passed, or a signal arrived, first.
    pub(crate) fn wait_detached(&self, deadline: Option<Deadline>, expect: Expect) -> bool {
        let spent = match expect {
            Expect::Nothing => None,
            _ => {
                self.cpu.store(procfs::current_cpu(), Ordering::Relaxed);
                match self.spin.look(|| self.is_unparked().then_some(())) {
                    Ok(()) => return true,
                    Err(spent) => Some(spent),
                }
            }
        };
        // pairs with: unpark (AcqRel): what was written before unparking is seen after it
        if self.word.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return true;
        }
        loop {
            let reason = park::wait(&self.word, ASLEEP, deadline);
            if self.is_unparked() {
                spent.inspect(|spent| spent.end());
                return true;
            }
            if reason == park::Wait::TimedOut {
                spent.inspect(|spent| spent.end());
            }
            if matches!(reason, park::Wait::TimedOut | park::Wait::Interrupted) {
                // Back to AWAKE, unless it was unparked at the last moment. pairs with: unpark (AcqRel)
                return self
                    .word
                    .compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Acquire)
                    .is_err();
            }
        }
    }
}
