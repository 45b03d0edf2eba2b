//! A child process that runs a closure of the test.
// Not every test needs all of it.
#![allow(dead_code)]

#[cfg(target_arch = "x86_64")]
mod guarded;
pub(crate) mod stepping;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A child that is killed and reaped when it is dropped.
pub(crate) struct Child {
    pid: libc::pid_t,
    /// Whether it has been reaped: its number may be anybody's then.
    gone: Cell<bool>,
}

/// How a child stopped or ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    Stopped,
    Exited(i32),
    Killed(i32),
}

impl Child {
    /// Forks; the child runs `body` and exits with 0, or with 101 when it panics.
    pub(crate) fn run(body: impl FnOnce()) -> Self {
        // SAFETY: the child runs only `body` and `_exit`, nothing of the test harness.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            // A test that hangs must not leave a child behind.
            // SAFETY: plain system call.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) };
        }
        Self { pid, gone: Cell::new(false) }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        assert!(!self.gone.get(), "its number may be anybody's");
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Waits until it stops or ends.
    pub(crate) fn wait(&self) -> News {
        self.wait_for_signal().0
    }

    /// Waits until it stops or ends; also says by which signal it stopped.
    fn wait_for_signal(&self) -> (News, libc::c_int) {
        let mut status = 0;
        // SAFETY: waits for our own child.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WUNTRACED) };
        assert_eq!(waited, self.pid, "{}", std::io::Error::last_os_error());
        self.gone.set(!libc::WIFSTOPPED(status));
        let news = if libc::WIFSTOPPED(status) {
            News::Stopped
        } else if libc::WIFEXITED(status) {
            News::Exited(libc::WEXITSTATUS(status))
        } else {
            News::Killed(libc::WTERMSIG(status))
        };
        (news, libc::WSTOPSIG(status))
    }

    /// How it has stopped or ended, if it has.
    pub(crate) fn news(&self) -> Option<News> {
        let mut status = 0;
        // SAFETY: asks about our own child.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        if waited == 0 {
            return None;
        }
        assert_eq!(waited, self.pid, "{}", std::io::Error::last_os_error());
        self.gone.set(true);
        if libc::WIFEXITED(status) {
            Some(News::Exited(libc::WEXITSTATUS(status)))
        } else {
            Some(News::Killed(libc::WTERMSIG(status)))
        }
    }

    /// Kills it, if it has not ended, and waits for its end.
    pub(crate) fn kill(&self) {
        if !self.gone.replace(true) {
            // SAFETY: our own child, not reaped yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        }
    }

    /// Lets a child that is traced run one instruction; returns what became of it.
    pub(crate) fn step(&self) -> News {
        // SAFETY: our own child, stopped and traced.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0) };
        assert_eq!(stepped, 0, "{}", std::io::Error::last_os_error());
        self.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Called in the child: stops it until its parent steps or continues it.
pub(crate) fn stop_for_tracing() {
    // SAFETY: plain system call.
    unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    // SAFETY: plain system call.
    unsafe { libc::raise(libc::SIGSTOP) };
}
