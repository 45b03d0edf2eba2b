//! Threads that are ended from within, by `pthread_exit`, and may not be.
//!
//! glibc ends such a thread by unwinding its stack, as if an exception were thrown. Rust ends the whole process rather than
//! let that pass through its functions. CPython does it (up to 3.13) to each daemon thread that comes back to the
//! interpreter when that has ended.

/// From now on, whoever ends the calling thread from within while `when` says true makes it sleep forever instead, with
/// all that is on its stack. It goes with the process. Calls of the same thread after the first change nothing.
///
/// A thread that returns from its first function ends as always. So does everything with a C library other than glibc, as
/// that unwinds nothing.
///
/// ```
/// use manyhands_os::ending::sleep_rather_than_end;
///
/// sleep_rather_than_end(|| false);
/// ```
pub fn sleep_rather_than_end(when: fn() -> bool) {
    #[cfg(all(target_env = "gnu", not(miri)))]
    glibc::CLEANUP.with(|cleanup| cleanup.set_up(when));
    #[cfg(not(all(target_env = "gnu", not(miri))))]
    let _ = when;
}

#[cfg(all(target_env = "gnu", not(miri)))]
mod glibc {
    use std::cell::Cell;
    use std::ffi::{c_int, c_void};
    use std::ptr;

    use crate::clock;

    /// `struct _pthread_cleanup_buffer` of `<pthread.h>`.
    #[repr(C)]
    struct Buffer {
        routine: Option<unsafe extern "C" fn(*mut c_void)>,
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Buffer,
    }

    unsafe extern "C" {
        fn _pthread_cleanup_push(
            buffer: *mut Buffer,
            routine: unsafe extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        fn _pthread_cleanup_pop(buffer: *mut Buffer, execute: c_int);
    }

    /// A thread's entry in its list of what to run before it is ended.
    ///
    /// glibc runs an entry when unwinding reaches the frame in which the entry lies. One that lies in no frame, as ours, is
    /// run at the first, before any function of Rust is asked what it thinks of it.
    pub(super) struct Cleanup {
        buffer: Cell<*mut Buffer>,
    }

    thread_local! {
        pub(super) static CLEANUP: Cleanup = const { Cleanup { buffer: Cell::new(ptr::null_mut()) } };
    }

    impl Cleanup {
        pub(super) fn set_up(&self, when: fn() -> bool) {
            if self.buffer.get().is_null() {
                self.push(when);
            }
        }

        #[cold]
        fn push(&self, when: fn() -> bool) {
            let empty = Buffer {
                routine: None,
                argument: ptr::null_mut(),
                cancel_type: 0,
                previous: ptr::null_mut(),
            };
            let buffer = Box::into_raw(Box::new(empty));
            self.buffer.set(buffer);
            // SAFETY: the buffer is alive until `drop` takes it out of the list, in this thread, whose own the list is.
            unsafe { _pthread_cleanup_push(buffer, sleep_if, when as *mut c_void) };
        }
    }

    impl Drop for Cleanup {
        fn drop(&mut self) {
            let buffer = self.buffer.replace(ptr::null_mut());
            if buffer.is_null() {
                return;
            }
            // SAFETY: `push` has put it into this thread's list, where it is the last: whatever came later lay in
            // functions that have returned.
            unsafe { _pthread_cleanup_pop(buffer, 0) };
            // SAFETY: `push` has made it of a box, and nobody else has a pointer to it any more.
            drop(unsafe { Box::from_raw(buffer) });
        }
    }

    unsafe extern "C" fn sleep_if(when: *mut c_void) {
        // SAFETY: `push` has made it of such a function.
        let when: fn() -> bool = unsafe { std::mem::transmute(when) };
        while when() {
            crate::park::sleep_until(clock::now() + clock::SECOND);
        }
    }
}

#[cfg(all(test, target_env = "gnu", not(miri)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    static WAS_ASKED: AtomicBool = AtomicBool::new(false);

    fn asked() -> bool {
        WAS_ASKED.store(true, Ordering::SeqCst);
        true
    }

    #[test]
    fn a_thread_sleeps_rather_than_ends() {
        let (begun, begins) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            sleep_rather_than_end(asked);
            begun.send(()).unwrap();
            // SAFETY: no function is unwound: it sleeps.
            unsafe { libc::pthread_exit(std::ptr::null_mut()) }
        });
        begins.recv().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(WAS_ASKED.load(Ordering::SeqCst));
        assert!(!thread.is_finished());
    }

    #[test]
    fn a_thread_that_returns_ends() {
        let thread = std::thread::spawn(|| {
            sleep_rather_than_end(|| true);
            sleep_rather_than_end(|| true);
            7
        });
        assert_eq!(thread.join().unwrap(), 7);
    }
}
