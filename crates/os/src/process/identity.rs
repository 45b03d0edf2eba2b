//! The identity of a process: a number that no other process of this machine has had since it was started, and whether that
//! process still lives.

use std::cell::Cell;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stat::Stat;
use super::{Pidfd, namespace};

/// Bits of a process number; the kernel's limit is 2²².
const PID_BITS: u32 = 22;

/// Bits of the moment at which it started: about two days. A number is not given out again at the same tick of another
/// day but by the rarest of chances.
const START_BITS: u32 = 24;

/// Bits that tell PID namespaces apart.
const NAMESPACE_BITS: u32 = 8;

/// A process, by number and by the moment it started: unlike the number alone, it never comes to mean another process.
///
/// | bits | meaning |
/// |---|---|
/// | 0-21 | the number of the process, not zero |
/// | 22-45 | when it started, in the kernel's clock ticks since boot, modulo 2²⁴; 0 when that is not known |
/// | 46-53 | the PID namespace whose number it is; 0 when that is not known |
/// | 54-63 | zero: room for the flags of whoever writes it into a word |
///
/// ```
/// use manyhands_os::process::{Identity, identity, pid};
///
/// let me = identity();
/// assert_eq!(me.pid(), pid());
/// assert!(!me.is_dead());
/// assert_eq!(Identity::from_bits(me.to_bits()), Some(me));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(NonZeroU64);

impl Identity {
    /// The bits that an identity may use; the others of a 64-bit word are free for flags.
    pub const MASK: u64 = (1 << (PID_BITS + START_BITS + NAMESPACE_BITS)) - 1;

    /// The process that this one knows by the number `pid`, as it is now.
    ///
    /// # Errors
    /// `NotFound` when there is none; otherwise what reading `/proc` says.
    pub fn of(pid: i32) -> io::Result<Self> {
        let number = namespace::number_in_proc(pid).ok_or(io::ErrorKind::NotFound)?;
        let stat = Stat::read(&format!("/proc/{number}/stat"))?;
        Self::with(pid, Some(stat.start), identity().namespace())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn with(pid: i32, start: Option<u64>, namespace: u64) -> Option<Self> {
        let number = u64::try_from(pid).ok().filter(|pid| *pid > 0 && *pid < 1 << PID_BITS)?;
        let since = number | start.map_or(0, short) << PID_BITS;
        NonZeroU64::new(since | namespace << (PID_BITS + START_BITS)).map(Self)
    }

    /// The identity with these bits; `None` when no process can have it.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let possible = bits & !Self::MASK == 0 && bits & ((1 << PID_BITS) - 1) != 0;
        NonZeroU64::new(bits).filter(|_| possible).map(Self)
    }

    /// The bits, never zero.
    #[inline]
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The number of the process.
    #[must_use]
    pub fn pid(self) -> i32 {
        (self.0.get() & ((1 << PID_BITS) - 1)) as i32
    }

    /// Whether its number is one of another PID namespace: here the same number is another process or none, and whether
    /// that one lives cannot be asked.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        self.namespace() != identity().namespace()
    }

    /// Whether no thread of that process will ever run another instruction of its program: it is gone, or all of it is
    /// on its way out. A stopped process lives. Reads `/proc`, some microseconds; when that says nothing, or it is
    /// [foreign](Self::is_foreign), the answer is no.
    #[must_use]
    pub fn is_dead(self) -> bool {
        let pid = self.pid();
        if self.is_foreign() {
            return false;
        }
        if !namespace::proc_knows(pid) {
            return self.has_ended_by_pidfd();
        }
        match Stat::read(&format!("/proc/{pid}/stat")) {
            // Another process has the number by now.
            Ok(stat) if self.is_another(&stat) => true,
            // The first thread lives; when it has ended, others may go on.
            Ok(stat) if !stat.is_ending() => false,
            Ok(_) => self.all_threads_end(),
            Err(_) => is_gone(pid),
        }
    }

    /// [`is_dead`](Self::is_dead) where `/proc` has other numbers, or is missing.
    fn has_ended_by_pidfd(self) -> bool {
        let Ok(process) = Pidfd::open(self.pid()) else { return is_gone(self.pid()) };
        if process.has_ended() {
            return true;
        }
        let number = namespace::translate(&process);
        let stat = number.and_then(|number| Stat::read(&format!("/proc/{number}/stat")).ok());
        stat.is_some_and(|stat| self.is_another(&stat))
    }

    /// Whether what has its number now started at another time.
    fn is_another(self, stat: &Stat) -> bool {
        self.start() != 0 && self.start() != short(stat.start)
    }

    /// Zero when the process could not find out when it started; then the number has to do.
    fn start(self) -> u64 {
        self.to_bits() >> PID_BITS & ((1 << START_BITS) - 1)
    }

    fn namespace(self) -> u64 {
        self.to_bits() >> (PID_BITS + START_BITS)
    }

    fn all_threads_end(self) -> bool {
        let pid = self.pid();
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return is_gone(pid);
        };
        for thread in threads {
            let Ok(thread) = thread else { return is_gone(pid) };
            let path = format!("/proc/{pid}/task/{}/stat", thread.file_name().to_string_lossy());
            // One that cannot be read any more has just gone.
            match Stat::read(&path) {
                Ok(stat) if stat.is_ending() => {}
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        || error.raw_os_error() == Some(libc::ESRCH) => {}
                _ => return false,
            }
        }
        true
    }
}

/// What an identity has of a moment; never zero.
fn short(start: u64) -> u64 {
    (start & ((1 << START_BITS) - 1)).max(1)
}

/// Whether the kernel knows no process with this number.
///
/// ```
/// use manyhands_os::process::{is_gone, pid};
/// assert!(!is_gone(pid()));
/// ```
#[must_use]
pub fn is_gone(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// This process's identity, or 0 before it was asked for.
static IDENTITY: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This thread's number, or 0 before it was asked for.
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

/// The identity of this process. A load, except for the first time in a process.
///
/// # Panics
/// When the kernel gives this process a number beyond its own limit.
#[inline]
#[must_use]
pub fn identity() -> Identity {
    match NonZeroU64::new(IDENTITY.load(Ordering::Relaxed)) {
        Some(known) => Identity(known),
        None => find_identity(),
    }
}

#[cold]
fn find_identity() -> Identity {
    forget_in_children();
    let pid = super::pid();
    // Without a readable /proc the number has to do; then nobody can tell our start from another's either.
    let start = if cfg!(miri) { Some(1) } else { Stat::read("/proc/self/stat").map(|stat| stat.start).ok() };
    let namespace = if cfg!(miri) { 0 } else { namespace::fingerprint() };
    let identity = Identity::with(pid, start, namespace).expect("a process number below the kernel's limit");
    IDENTITY.store(identity.to_bits(), Ordering::Relaxed);
    identity
}

/// The kernel's number of the calling thread; no other living thread of the machine has it. A load, except for the
/// first time in a thread.
#[inline]
#[must_use]
pub fn thread_id() -> u32 {
    match THREAD.get() {
        0 => find_thread_id(),
        known => known,
    }
}

#[cold]
fn find_thread_id() -> u32 {
    forget_in_children();
    let thread = rustix::thread::gettid().as_raw_pid().unsigned_abs();
    THREAD.set(thread);
    thread
}

/// Has a forked child determine its identity again.
fn forget_in_children() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler only stores to an atomic and to a cell of the calling thread.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    });
}

unsafe extern "C" fn forget() {
    IDENTITY.store(0, Ordering::Relaxed);
    namespace::forget();
    THREAD.set(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Forks; the child runs `body` and exits with 0 when it returns true.
    fn child(body: impl FnOnce() -> bool) -> i32 {
        // SAFETY: the child runs only `body` and `_exit`, nothing of the test harness.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let code = i32::from(!body());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) };
        }
        pid
    }

    fn wait(pid: i32, options: i32) -> i32 {
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, options) }, pid);
        status
    }

    #[test]
    fn a_forked_child_is_another() {
        let (me, thread) = (identity(), thread_id());
        let pid =
            child(|| identity() != me && identity().pid() == super::super::pid() && thread_id() != thread);
        assert_eq!(wait(pid, 0), 0, "the child found its own identity");
        assert_eq!((identity(), thread_id()), (me, thread));
    }

    #[test]
    fn threads_have_their_own_numbers() {
        let other = std::thread::spawn(thread_id).join().expect("no panic");
        assert_ne!(thread_id(), other);
        assert_eq!(thread_id(), thread_id());
    }

    #[test]
    fn stopped_is_alive_zombie_and_reaped_are_dead() {
        let pid = child(|| {
            loop {
                // SAFETY: plain system call.
                unsafe { libc::pause() };
            }
        });
        let them = Identity::of(pid).expect("alive");
        assert!(!them.is_dead());
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        wait(pid, libc::WUNTRACED);
        assert!(!them.is_dead(), "stopped");
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        while !them.is_dead() {}
        assert!(libc::WIFSIGNALED(wait(pid, 0)));
        assert!(them.is_dead(), "reaped");
        assert_eq!(Identity::of(pid).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_lives_as_long_as_any_of_its_threads() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let pid = child(|| {
            let (_keep, forever) = mpsc::channel::<()>();
            std::thread::spawn(move || {
                io::Write::write_all(&mut &writer, b"x").expect("written");
                let _ = forever.recv();
            });
            // Ends only this thread, the first of its process.
            // SAFETY: plain system call; nothing of this thread is used afterwards.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            true
        });
        let them = Identity::of(pid).expect("alive");
        io::Read::read_exact(&mut reader, &mut [0]).expect("the second thread has started");
        let first_ended = || Stat::read(&format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.is_ending());
        while !first_ended() {}
        assert!(!them.is_dead(), "the second thread lives");
        // SAFETY: our own child.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        wait(pid, 0);
        assert!(them.is_dead());
    }

    #[test]
    fn another_with_the_same_number_is_another() {
        let me = identity();
        let earlier = Identity::from_bits(me.to_bits() ^ 1 << PID_BITS).expect("possible");
        assert_eq!(earlier.pid(), me.pid());
        assert!(earlier.is_dead());
    }

    #[test]
    fn impossible_bits_are_refused() {
        assert_eq!(Identity::from_bits(0), None);
        assert_eq!(Identity::from_bits(7 << PID_BITS), None, "no number");
        assert_eq!(Identity::from_bits(1 << 63 | 1), None, "a flag");
    }
}
