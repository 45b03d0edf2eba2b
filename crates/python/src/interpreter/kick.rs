//! When to ask for the interpreter after having been called by a thread that still has it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use manyhands_os::{clock, procfs};

use super::parker::detachments;

/// How long the thread that was called waits for its caller to release the interpreter, in nanoseconds.
const PATIENCE: u64 = 5_000;

/// The last time somebody was called: the caller had the interpreter, and will release it soon.
#[derive(Debug, Default)]
pub(crate) struct Kick {
    /// How often waits had released the interpreter by then: when that has moved on, now is a good moment.
    detachments: AtomicU32,
    /// The CPU on which the caller ran.
    cpu: AtomicUsize,
}

impl Kick {
    /// Notes that the calling thread is about to call another.
    pub(crate) fn note(&self) {
        self.detachments.store(detachments(), Ordering::Relaxed);
        self.cpu.store(procfs::current_cpu(), Ordering::Relaxed);
    }

    /// Waits a moment for the caller to release the interpreter. Asking for it before costs both of us a context switch.
    pub(crate) fn await_release(&self) {
        // On the caller's own CPU we would only keep it from letting go.
        if self.cpu.load(Ordering::Relaxed) == procfs::current_cpu() {
            return;
        }
        let kick = self.detachments.load(Ordering::Relaxed);
        let end = clock::now() + PATIENCE;
        while detachments() == kick && clock::now() < end {
            std::hint::spin_loop();
        }
    }
}
