//! A word in shared memory that the kernel marks when a thread ends: the mutex that POSIX calls robust.
//!
//! Nobody waits for the mutex as such. A thread locks it and keeps it; when the thread ends, however it ends, the kernel
//! sets [`DIED`] in the mutex's word and, if [`WAITERS`] is set there, wakes one sleeper. That is the fastest news of a
//! death there is: it comes before the parent's SIGCHLD.
//!
//! A thread has one list of such words, and the C library keeps it; so the mutex is locked through the C library, and
//! the word's place is read off the list afterwards.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::memory::Segment;
use crate::process::fork_count;

/// Bytes that a mutex takes, at a multiple of 8.
pub const LEN: usize = 48;

const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= LEN);

/// The bit of the word that the kernel sets when the thread has ended.
pub const DIED: u32 = 1 << 30;

/// The bit of the word by which a sleeper asks to be woken.
pub const WAITERS: u32 = 1 << 31;

/// The bits of the word that name the thread; 0 when none has the mutex.
pub const THREAD: u32 = DIED - 1;

/// What the kernel knows about the list (`get_robust_list(2)`).
#[repr(C)]
struct ListHead {
    first: *mut u8,
    futex_offset: libc::c_long,
    pending: *mut u8,
}

/// A robust mutex that the calling thread has locked. Dropping it, in the same thread, unlocks it. The C library links
/// the mutexes of a thread with each other, so the memory stays mapped until then.
#[derive(Debug)]
pub struct RobustGuard {
    segment: Arc<Segment>,
    place: usize,
    /// Where the word is, in bytes behind `place`.
    word: usize,
    forks: u32,
    /// Only the thread that locked may unlock.
    thread: PhantomData<*mut u8>,
}

impl RobustGuard {
    /// Makes a mutex of the [`LEN`] bytes at byte `place` of `segment`, whatever was there before, and locks it.
    ///
    /// # Errors
    /// `Unsupported` when the C library does not do this in a way that others can watch.
    ///
    /// # Panics
    /// When the bytes are not inside the segment or `place` is not a multiple of 8.
    pub fn lock(segment: &Arc<Segment>, place: usize) -> io::Result<Self> {
        assert!(place.is_multiple_of(8), "a mutex at {place}");
        if cfg!(miri) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mutex: *mut libc::pthread_mutex_t = segment.pointer(place, LEN).as_ptr().cast();
        let forks = fork_count();
        initialise(mutex)?;
        // SAFETY: initialised above, and nobody else has locked it since.
        check(unsafe { libc::pthread_mutex_lock(mutex) })?;
        let mut guard = Self { segment: Arc::clone(segment), place, word: 0, forks, thread: PhantomData };
        guard.word = word_of(mutex).ok_or(io::ErrorKind::Unsupported)?;
        Ok(guard)
    }

    /// Where the word is that the kernel marks, in bytes from the start of the mutex: a multiple of 4 below [`LEN`].
    #[must_use]
    pub fn word_offset(&self) -> usize {
        self.word
    }

    /// The word that the kernel marks.
    #[must_use]
    pub fn word(&self) -> &AtomicU32 {
        self.segment.word32(self.place + self.word)
    }
}

impl Drop for RobustGuard {
    fn drop(&mut self) {
        // A forked child has a copy of this value; the mutex is its parent's.
        if self.forks == fork_count() {
            let mutex = self.segment.pointer(self.place, LEN).as_ptr();
            // SAFETY: locked by this thread in `lock`, and mapped as long as `self`.
            unsafe { libc::pthread_mutex_unlock(mutex.cast()) };
        }
    }
}

fn initialise(mutex: *mut libc::pthread_mutex_t) -> io::Result<()> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: initialises what it points to.
    check(unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) })?;
    let attributes = attributes.as_mut_ptr();
    // SAFETY: initialised above.
    check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
    // SAFETY: initialised above.
    check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
    // SAFETY: room for a mutex that nobody uses, and initialised attributes.
    let made = check(unsafe { libc::pthread_mutex_init(mutex, attributes) });
    // SAFETY: initialised above, and not used again.
    unsafe { libc::pthread_mutexattr_destroy(attributes) };
    made
}

/// Where in the mutex that this thread locked last the word is that the kernel will mark.
fn word_of(mutex: *mut libc::pthread_mutex_t) -> Option<usize> {
    let mut head: *const ListHead = ptr::null();
    let mut len: libc::size_t = 0;
    // SAFETY: both are written by the kernel, for the calling thread.
    let outcome = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if outcome != 0 || head.is_null() || len != size_of::<ListHead>() {
        return None;
    }
    // SAFETY: the head lives as long as its thread, which is this one.
    let head = unsafe { ptr::read(head) };
    // The lowest bit of a link says of which kind the mutex is.
    let word = ((head.first as usize) & !1).checked_add_signed(head.futex_offset as isize)?;
    let offset = word.checked_sub(mutex as usize)?;
    (offset.is_multiple_of(4) && offset < LEN).then_some(offset)
}

fn check(error: i32) -> io::Result<()> {
    match error {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::park::{self, Wait};
    use crate::process::thread_id;
    use std::sync::atomic::Ordering;

    fn segment() -> Arc<Segment> {
        Arc::new(Segment::create(c"test", 4096).expect("a segment"))
    }

    #[test]
    fn the_word_names_the_thread_and_is_zero_afterwards() {
        let segment = segment();
        let first = RobustGuard::lock(&segment, 0).expect("locked");
        let second = RobustGuard::lock(&segment, 64).expect("locked");
        assert_eq!(first.word().load(Ordering::Relaxed), thread_id());
        assert_eq!(second.word().load(Ordering::Relaxed), thread_id());
        let word = first.word_offset();
        drop(first);
        assert_eq!(segment.word32(word).load(Ordering::Relaxed), 0);
        assert_eq!(second.word().load(Ordering::Relaxed), thread_id());
    }

    #[test]
    fn a_thread_that_ends_is_marked_and_a_sleeper_woken() {
        let segment = segment();
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let segment = &segment;
            scope.spawn(move || {
                let guard = RobustGuard::lock(segment, 0).expect("locked");
                tell.send(guard.word_offset()).expect("somebody listens");
                let _ = stopped.recv();
                std::mem::forget(guard);
            });
            let word = segment.word32(told.recv().expect("told"));
            let held = word.fetch_or(WAITERS, Ordering::Relaxed);
            assert_ne!(held & THREAD, 0);
            drop(stop);
            while word.load(Ordering::Acquire) & DIED == 0 {
                assert_ne!(park::wait(word, held | WAITERS, None), Wait::TimedOut);
            }
        });
        // What a dead thread left behind does not matter to the next.
        drop(RobustGuard::lock(&segment, 0).expect("locked again"));
    }

    #[test]
    fn a_forked_copy_unlocks_nothing() {
        let segment = segment();
        let guard = RobustGuard::lock(&segment, 0).expect("locked");
        let word = guard.word_offset();
        let guard = std::cell::Cell::new(Some(guard));
        // SAFETY: the child drops a value and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(guard.take());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(segment.word32(word).load(Ordering::Relaxed), thread_id());
    }
}
