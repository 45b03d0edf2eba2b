//! Sleeping on several words at once.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{Wait, no_wake, wait};
use crate::clock::{Deadline, SECOND};
use crate::finding::Finding;

/// The most words that can be slept on at once: the kernel's limit.
pub const MOST_WORDS: usize = 128;

/// What the kernel calls `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Entry {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// The word has 32 bits (`FUTEX2_SIZE_U32`) and may be shared between processes.
const SHARED_WORD: u32 = 2;

static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Has [`can_wait_any`] say no, as on a machine whose kernel cannot do it; `false` allows it again. For tests; the
/// environment variable `MANYHANDS_NO_WAITV=1` does the same from the start.
pub fn forbid_wait_any(forbid: bool) {
    FORBIDDEN.store(forbid, Ordering::Relaxed);
}

/// Whether [`AnyOf`] can sleep on more than one word: Linux 5.16 and later, unless a sandbox or
/// [`forbid_wait_any`] says no.
#[must_use]
pub fn can_wait_any() -> bool {
    static POSSIBLE: Finding = Finding::new();
    !FORBIDDEN.load(Ordering::Relaxed) && POSSIBLE.get(is_possible)
}

fn is_possible() -> bool {
    if cfg!(miri) || std::env::var_os("MANYHANDS_NO_WAITV").is_some_and(|value| value != "0") {
        return false;
    }
    // Without words it is an error, and which one tells whether the kernel knows the call.
    // SAFETY: no word is read.
    unsafe { libc::syscall(libc::SYS_futex_waitv, ptr::null::<Entry>(), 0, 0, ptr::null::<u32>(), 0) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// Several words to sleep on at once, as long as each of them holds a certain value.
///
/// ```
/// use manyhands_os::{clock, park};
/// use std::sync::atomic::AtomicU32;
///
/// let (one, two) = (AtomicU32::new(1), AtomicU32::new(2));
/// let soon = Some(clock::now() + clock::MILLISECOND);
/// let mut words = park::AnyOf::new(&one, 1);
/// assert!(words.push(&two, 2));
/// assert_eq!(words.wait(soon), park::Wait::TimedOut);
/// assert_eq!(park::AnyOf::new(&one, 0).wait(None), park::Wait::Changed);
/// ```
#[derive(Debug)]
pub struct AnyOf<'a> {
    first: (&'a AtomicU32, u32),
    /// As the kernel wants them. Not filled in advance: most sleeps are on two or three words.
    entries: [MaybeUninit<Entry>; MOST_WORDS],
    count: usize,
}

impl<'a> AnyOf<'a> {
    /// One word, and the value that it holds as long as the caller wants to sleep.
    #[inline]
    #[must_use]
    pub fn new(word: &'a AtomicU32, expected: u32) -> Self {
        let mut this =
            Self { first: (word, expected), entries: [MaybeUninit::uninit(); MOST_WORDS], count: 0 };
        this.push(word, expected);
        this
    }

    /// Another one; returns false when there are [`MOST_WORDS`] already.
    #[inline]
    pub fn push(&mut self, word: &'a AtomicU32, expected: u32) -> bool {
        let Some(entry) = self.entries.get_mut(self.count) else { return false };
        let address = word.as_ptr() as u64;
        entry.write(Entry { expected: u64::from(expected), address, flags: SHARED_WORD, reserved: 0 });
        self.count += 1;
        true
    }

    /// Sleeps while each of the words holds its value, until one of them is woken, a signal arrives, or `deadline` passes
    /// (`None`: forever). When [`can_wait_any`] says no, only the first is slept on.
    ///
    /// # Panics
    /// When the kernel refuses for a reason that only a bug can cause (an address that is not mapped).
    pub fn wait(&self, deadline: Option<Deadline>) -> Wait {
        if self.count == 1 || !can_wait_any() {
            return wait(self.first.0, self.first.1, deadline);
        }
        let timeout = deadline.map(|nanoseconds| libc::timespec {
            tv_sec: (nanoseconds / SECOND) as libc::time_t,
            tv_nsec: (nanoseconds % SECOND) as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (entries, count) = (self.entries.as_ptr(), self.count);
        // SAFETY: as many entries are initialised as are announced, the words they name live as long as `self`, and the
        // time until the call returns.
        let outcome = unsafe {
            libc::syscall(libc::SYS_futex_waitv, entries, count, 0, timeout, libc::CLOCK_MONOTONIC)
        };
        if outcome >= 0 {
            return Wait::Woken;
        }
        no_wake("futex_waitv")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::wake;

    #[test]
    fn any_of_two_words_wakes() {
        for woken in 0..2 {
            let words = [AtomicU32::new(0), AtomicU32::new(0)];
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    while words[woken].load(Ordering::Acquire) == 0 {
                        // Where only the first word can be slept on, the deadline is what makes it look again.
                        let soon = Some(crate::clock::now() + crate::clock::MILLISECOND);
                        let deadline = soon.filter(|_| !can_wait_any());
                        let mut any = AnyOf::new(&words[0], 0);
                        any.push(&words[1], 0);
                        any.wait(deadline);
                    }
                });
                words[woken].store(1, Ordering::Release);
                while !sleeper.is_finished() {
                    wake(&words[woken], u32::MAX);
                }
            });
        }
    }

    #[test]
    fn as_many_words_as_the_kernel_takes() {
        let words: Vec<_> = (0..MOST_WORDS).map(|_| AtomicU32::new(3)).collect();
        let mut any = AnyOf::new(&words[0], 3);
        assert!(words[1..].iter().all(|word| any.push(word, 3)));
        assert!(!any.push(&words[0], 3));
        let soon = Some(crate::clock::now() + crate::clock::MILLISECOND);
        assert_eq!(any.wait(soon), Wait::TimedOut);
        if can_wait_any() {
            words[MOST_WORDS - 1].store(4, Ordering::Relaxed);
            assert_eq!(any.wait(None), Wait::Changed);
        }
    }
}
