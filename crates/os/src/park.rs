//! Sleeping on a word of memory until somebody wakes it: the futex, shared between processes.
//!
//! The word may live in private memory or in a [`Segment`](crate::memory::Segment): waits are keyed by the page
//! behind the address, not by the address. Deadlines are absolute, so a wait that was interrupted by a signal goes on
//! with the same deadline and never sleeps too long in sum.

use std::sync::atomic::AtomicU32;
use std::{io, ptr};

use crate::clock::{Deadline, SECOND};

mod any;

pub use any::{AnyOf, MOST_WORDS, can_wait_any, forbid_wait_any};

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody called [`wake`], or the kernel returned for no reason: look at the word again.
    Woken,
    /// The word did not hold the expected value: there was no sleep at all.
    Changed,
    /// The deadline has passed.
    TimedOut,
    /// A signal handler ran. The caller may want to look what it left behind before it waits on.
    Interrupted,
}

/// Sleeps while `word` holds `expected`, until woken, a signal arrives, or `deadline` passes (`None`: forever).
///
/// The kernel compares and goes to sleep in one step, so a wake-up between the caller's last look at the word and the
/// sleep is never lost as long as the waker changed the word before it woke.
///
/// ```
/// use manyhands_os::{clock, park};
/// use std::sync::atomic::AtomicU32;
///
/// let word = AtomicU32::new(7);
/// assert_eq!(park::wait(&word, 6, None), park::Wait::Changed);
/// assert_eq!(park::wait(&word, 7, Some(clock::now())), park::Wait::TimedOut);
/// ```
///
/// # Panics
/// When the kernel refuses for a reason that only a bug can cause (an address that is not mapped).
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Wait {
    let timeout = deadline.map(|nanoseconds| libc::timespec {
        tv_sec: (nanoseconds / SECOND) as libc::time_t,
        tv_nsec: (nanoseconds % SECOND) as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // With every bit set this is FUTEX_WAIT, except that the deadline is absolute, on CLOCK_MONOTONIC. Not by rustix:
    // how it makes this call is not understood by Miri, which has to see it.
    // SAFETY: the word and the time live until the call returns; the fifth argument is not used.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            timeout,
            ptr::null::<u32>(),
            u32::MAX,
        )
    };
    if outcome == 0 {
        return Wait::Woken;
    }
    no_wake("futex wait")
}

/// Why the call `what` of the kernel, which has just failed, did not sleep until it was woken.
fn no_wake(what: &str) -> Wait {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Wait::Changed,
        Some(libc::ETIMEDOUT) => Wait::TimedOut,
        Some(libc::EINTR) => Wait::Interrupted,
        // No memory for the sleep: look again.
        Some(libc::ENOMEM) => Wait::Woken,
        _ => panic!("{what} failed: {error}"),
    }
}

/// Wakes up to `count` of those who sleep on `word`, in any process; returns how many there were.
///
/// # Panics
/// When the kernel refuses for a reason that only a bug can cause (an address that is not mapped).
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel takes the count as a signed number.
    let count = count.min(i32::MAX as u32);
    // SAFETY: only the word's address is used, and it is mapped.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(woken).unwrap_or_else(|_| panic!("futex wake failed: {}", io::Error::last_os_error()))
}

/// Sleeps until `deadline`, or until a signal handler has run: returns whether the deadline was reached.
pub fn sleep_until(deadline: Deadline) -> bool {
    // A futex that nobody else knows: sleeps with an absolute deadline, like every other wait here.
    let word = AtomicU32::new(0);
    loop {
        match wait(&word, 0, Some(deadline)) {
            Wait::TimedOut => return true,
            Wait::Interrupted => return false,
            Wait::Woken | Wait::Changed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_sleeper_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, None);
                }
            });
            word.store(1, Ordering::Release);
            while !sleeper.is_finished() {
                wake(&word, u32::MAX);
            }
        });
    }

    #[test]
    fn sleeping_reaches_the_deadline() {
        let deadline = clock::now() + 2 * clock::MILLISECOND;
        while !sleep_until(deadline) {}
        assert!(clock::now() >= deadline);
        assert_eq!(clock::until(deadline), 0);
    }
}
