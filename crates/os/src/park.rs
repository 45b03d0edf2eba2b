//! Sleeping on a word of memory until somebody wakes it: the futex, shared between processes.
//!
//! The word may live in private memory or in a [`Segment`](crate::memory::Segment): waits are keyed by the page
//! behind the address, not by the address. Deadlines are absolute, so a wait that was interrupted by a signal goes on
//! with the same deadline and never sleeps too long in sum.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex;

use crate::clock::{Deadline, to_timespec};

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

/// Sleeps while `word` holds `expected`, until woken, a signal arrives, or `deadline` passes (`None`: for ever).
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
    let timeout = deadline.map(to_timespec);
    // FUTEX_WAIT_BITSET with every bit set is FUTEX_WAIT with an absolute deadline on CLOCK_MONOTONIC.
    let outcome =
        futex::wait_bitset(word, futex::Flags::empty(), expected, timeout.as_ref(), NonZeroU32::MAX);
    match outcome {
        Ok(()) => Wait::Woken,
        Err(Errno::AGAIN) => Wait::Changed,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        Err(error) => panic!("futex wait failed: {error}"),
    }
}

/// Wakes up to `count` of those who sleep on `word`, in any process; returns how many there were.
///
/// # Panics
/// When the kernel refuses for a reason that only a bug can cause (an address that is not mapped).
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel takes the count as a signed number.
    let count = count.min(i32::MAX as u32);
    match futex::wake(word, futex::Flags::empty(), count) {
        Ok(woken) => woken,
        Err(error) => panic!("futex wake failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
