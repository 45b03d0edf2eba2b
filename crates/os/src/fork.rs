//! What is done right before and after this process is copied by `fork()`, whoever calls that, in whatever language.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::process;

/// What to do around a fork, all of it in the thread that forks.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Before: nothing of other threads is stopped yet. Locks that are taken here are free of half-made changes in the
    /// child.
    pub before: fn(),
    /// In the parent afterwards, also when the fork failed.
    pub in_parent: fn(),
    /// In the child, in its only thread. Locks that other threads had at the fork stay locked forever.
    pub in_child: fn(),
}

static STEPS: OnceLock<Steps> = OnceLock::new();

/// Has `steps` done at every fork from now on; what [`process::fork_count`] says is up to date by then. Calls
/// after the first change nothing.
///
/// A fork in the course of `posix_spawn`, or a `vfork`, is none: nothing is copied there.
///
/// ```
/// use manyhands_os::fork::{Steps, at_fork};
///
/// fn nothing() {}
/// at_fork(Steps { before: nothing, in_parent: nothing, in_child: nothing });
/// ```
pub fn at_fork(steps: Steps) {
    // Threads that come second wait until the first has finished.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if STEPS.get().is_some() {
        return;
    }
    // Handlers for the child run in the order in which they were registered: those of `process` come first.
    let _ = (process::fork_count(), process::identity());
    let _ = STEPS.set(steps);
    // SAFETY: the handlers live as long as the process. Those who write the steps know what is allowed there.
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

// A panic must not leave an `extern "C"` function: there it ends the process, which is right for a broken promise, as
// everything in the steps returns its errors.

unsafe extern "C" fn before() {
    STEPS.get().inspect(|steps| (steps.before)());
}

unsafe extern "C" fn in_parent() {
    STEPS.get().inspect(|steps| (steps.in_parent)());
}

unsafe extern "C" fn in_child() {
    STEPS.get().inspect(|steps| (steps.in_child)());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    static BEFORE: AtomicU32 = AtomicU32::new(0);
    static IN_PARENT: AtomicU32 = AtomicU32::new(0);
    static IN_CHILD: AtomicU32 = AtomicU32::new(0);

    fn count(steps: &AtomicU32) {
        steps.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn steps_are_done_around_a_fork() {
        let in_parent = || count(&IN_PARENT);
        at_fork(Steps { before: || count(&BEFORE), in_parent, in_child: || count(&IN_CHILD) });
        let twice = || count(&IN_CHILD);
        at_fork(Steps { before: twice, in_parent: twice, in_child: twice });
        // Other tests of this process fork, too.
        let before = process::fork_count();
        // SAFETY: the child only compares numbers and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let prepared = BEFORE.load(Ordering::SeqCst) > 0 && process::fork_count() == before + 1;
            let right = prepared && IN_CHILD.load(Ordering::SeqCst) == 1;
            // SAFETY: ends the child at once, running nothing of the parent's.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        let mut status = 0;
        // SAFETY: `status` is a live integer.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert!(IN_PARENT.load(Ordering::SeqCst) > 0);
        assert_eq!(IN_CHILD.load(Ordering::SeqCst), 0);
    }
}
