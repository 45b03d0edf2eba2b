//! Starting, watching, signalling and reaping processes; what a process says about itself.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};

use crate::refused;

mod descendants;
mod identity;
mod namespace;
mod signals_sent;
mod stat;

pub use descendants::{descendants, kill_with_descendants};
pub use identity::{Identity, identity, is_gone, thread_id};
pub use namespace::number_in_proc;
pub use signals_sent::wait_for_signals_sent;
pub(crate) use stat::Stat;

/// A process, held by descriptor: unlike a number it can never come to mean another process. Readable (for a
/// [`Poller`](crate::poll::Poller)) once the process has ended.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
    pid: i32,
}

impl Pidfd {
    /// Takes hold of the process `pid`. Only safe from mistaken identity while the caller knows that nobody has reaped
    /// it yet.
    ///
    /// # Errors
    /// `ESRCH` (kind `Uncategorized`) when there is none.
    pub fn open(pid: i32) -> io::Result<Self> {
        let id = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        let opened = rustix::process::pidfd_open(id, PidfdFlags::empty());
        let fd = opened.map_err(|error| refused("pidfd_open", "processes cannot be watched", error))?;
        Ok(Self { fd, pid })
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `signal` (as in `signal(7)`).
    ///
    /// # Errors
    /// `ESRCH` when the process has been reaped, `InvalidInput` when there is no such signal, `PermissionDenied` and the
    /// like when the system refuses it.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        let named = Signal::from_named_raw(signal).ok_or(rustix::io::Errno::INVAL)?;
        match rustix::process::pidfd_send_signal(&self.fd, named) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(rustix::io::Errno::SRCH.into()),
            // Filters of system calls may know only the older one.
            Err(_) => send_signal(self.pid, signal),
        }
    }

    /// Whether the process has ended (reaped or not).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now))).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends `signal` to the process `pid`, which must be one that nobody has reaped.
///
/// # Errors
/// `ESRCH` when there is none, `InvalidInput` when there is no such signal.
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    let id = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    let signal = Signal::from_named_raw(signal).ok_or(rustix::io::Errno::INVAL)?;
    Ok(rustix::process::kill_process(id, signal)?)
}

/// Whether this process may send signals to `pid`, a process of its own user: seccomp, or another user that the process
/// has become, may be in the way. Sends none. True, too, when there is no such process (any more).
///
/// ```
/// use manyhands_os::process;
/// assert!(process::may_signal(process::pid()));
/// ```
#[must_use]
pub fn may_signal(pid: i32) -> bool {
    let Some(id) = Pid::from_raw(pid) else { return false };
    if matches!(rustix::process::test_kill_process(id), Ok(()) | Err(rustix::io::Errno::SRCH)) {
        return true;
    }
    let Ok(process) = Pidfd::open(pid) else { return false };
    let no_signal = ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor, no signal and no information about one: the call only checks.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.fd.as_raw_fd(), 0, no_signal, 0_u32) };
    sent == 0
}

/// Whether an error of the system means that it has too little of something at present: descriptors, processes, memory.
///
/// ```
/// use manyhands_os::process::is_shortage;
/// assert!(is_shortage(24) && !is_shortage(2), "EMFILE, ENOENT");
/// ```
#[must_use]
pub fn is_shortage(errno: i32) -> bool {
    use rustix::io::Errno;
    let others = [Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS, Errno::TOOMANYREFS, Errno::INTR];
    lacks_descriptors(errno) || others.iter().any(|shortage| shortage.raw_os_error() == errno)
}

/// Whether an error of the system means that this process, or all together, have too many descriptors open.
///
/// ```
/// use manyhands_os::process::lacks_descriptors;
/// assert!(lacks_descriptors(24) && !lacks_descriptors(12), "EMFILE, ENOMEM");
/// ```
#[must_use]
pub fn lacks_descriptors(errno: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|shortage| shortage.raw_os_error() == errno)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// Reads the status as `waitpid` writes it.
    ///
    /// ```
    /// use manyhands_os::process::ExitStatus;
    /// assert_eq!(ExitStatus::from_wait_status(9), ExitStatus::Signal(9));
    /// assert_eq!(ExitStatus::from_wait_status(3 << 8), ExitStatus::Code(3));
    /// ```
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8) & 0xff),
            signal => Self::Signal(signal),
        }
    }

    /// The number Python's `multiprocessing` and `subprocess` use: the code, or minus the signal.
    #[must_use]
    pub fn exitcode(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal,
        }
    }
}

/// Reaps a child that has ended; `None` while it runs.
///
/// # Errors
/// `ECHILD` when it is not a child of this process, or somebody else has reaped it.
pub fn reap(child: &Pidfd) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let waited =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(child.as_fd()), options))?;
    Ok(waited.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
    }))
}

/// The number that the first of [`Spawn::fds`] has in the new process; the others follow.
pub const FIRST_FD: RawFd = 3;

/// A process to start by [`spawn`].
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// The file to run; searched for in `PATH` when there is no slash in it.
    pub program: &'a OsStr,
    /// Its arguments, without the program itself.
    pub args: &'a [OsString],
    /// Changes to the environment it inherits: set to a value, or removed.
    pub env: &'a [(OsString, Option<OsString>)],
    /// Descriptors it gets, as numbers [`FIRST_FD`] and up, in this order; the standard three it inherits, every other
    /// one is closed.
    pub fds: &'a [BorrowedFd<'a>],
}

/// Starts a process: no signal blocked, SIGPIPE, SIGXFSZ and SIGCHLD as by default. Neither copies the caller's page
/// tables nor runs anything of the caller's in the child, so it is fast and safe in a big program with many threads.
///
/// ```
/// use manyhands_os::process::{self, ExitStatus, Spawn};
/// use std::ffi::OsStr;
///
/// let args = ["-c".into(), "exit 7".into()];
/// let child = process::spawn(&Spawn { program: OsStr::new("sh"), args: &args, env: &[], fds: &[] })?;
/// let status = loop {
///     if let Some(status) = process::reap(&child)? {
///         break status;
///     }
/// };
/// assert_eq!(status, ExitStatus::Code(7));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `NotFound` and the like when the program cannot be run, `InvalidInput` for a string with a NUL in it, otherwise what
/// the kernel says.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Pidfd> {
    let program = CString::new(spawn.program.as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in spawn.args {
        arguments.push(CString::new(argument.as_bytes())?);
    }
    let environment = environment(spawn.env)?;
    let (actions, _duplicates) = FileActions::passing(spawn.fds)?;
    let attributes = Attributes::fresh_signals()?;
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    let mut pid = 0;
    // SAFETY: every pointer is to a live, initialised value; both arrays end with a null pointer.
    let error = unsafe {
        libc::posix_spawnp(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    check(error)?;
    Pidfd::open(pid).inspect_err(|_| {
        // Nobody could see to it. It is our child and has not been reaped, so the number is its own.
        let _ = send_signal(pid, libc::SIGKILL);
        let child = Pid::from_raw(pid);
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(child, WaitOptions::empty()));
    })
}

/// The environment of this process with `changes` made.
fn environment(changes: &[(OsString, Option<OsString>)]) -> io::Result<Vec<CString>> {
    let kept = std::env::vars_os().filter(|(name, _)| !changes.iter().any(|(n, _)| n == name));
    let set = changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    kept.chain(set)
        .map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            Ok(CString::new(entry)?)
        })
        .collect()
}

/// What `execve` takes: pointers to the strings, then a null.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    let strings = strings.iter().map(|string| string.as_ptr().cast_mut());
    strings.chain([ptr::null_mut()]).collect()
}

/// Turns the error numbers that the `posix_spawn` family returns into errors.
fn check(error: i32) -> io::Result<()> {
    match error {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// What the child does with its descriptors before it becomes the program.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    /// Gives the child `fds` from [`FIRST_FD`] on, and closes all that come after. The second value must live until
    /// the child has started.
    fn passing(fds: &[BorrowedFd<'_>]) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: initialises what it points to.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised by the line above, which would have returned otherwise.
        let mut actions = Self(unsafe { actions.assume_init() });
        let after_last = FIRST_FD + fds.len() as RawFd;
        let mut duplicates = Vec::new();
        for (fd, number) in fds.iter().zip(FIRST_FD..) {
            // A duplicate above all targets: otherwise the first dup2 could overwrite the source of the second.
            let source = rustix::io::fcntl_dupfd_cloexec(fd, after_last)?;
            // SAFETY: an initialised list of actions.
            check(unsafe {
                libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, source.as_raw_fd(), number)
            })?;
            duplicates.push(source);
        }
        // Elsewhere everything of ours is close-on-exec anyway; this is for what other libraries forgot.
        #[cfg(target_env = "gnu")]
        // SAFETY: an initialised list of actions.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut actions.0, after_last) })?;
        Ok((actions, duplicates))
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `passing`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// How the child starts.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// No signal blocked; those that a parent may have set to be ignored as by default.
    fn fresh_signals() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises what it points to.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised by the line above, which would have returned otherwise.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: initialised attributes.
        check(unsafe { libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as _) })?;
        let blocked = signal_set(&[]);
        // SAFETY: initialised attributes and set.
        check(unsafe { libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &blocked) })?;
        let default = signal_set(&[libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD]);
        // SAFETY: initialised attributes and set.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &default) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `fresh_signals`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialises what it points to, and cannot fail.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: an initialised set.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// Blocks every signal in the calling thread: the first thing a thread of ours does, so that signals go to the threads
/// that Python expects them in.
pub fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: initialises what it points to, and cannot fail.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: an initialised set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut()) };
}

/// The number of this process.
#[must_use]
pub fn pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

/// The number of this process's parent; 0 when the parent is outside of the PID namespace.
#[must_use]
pub fn parent_pid() -> i32 {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// Asks the kernel to send `signal` to this process when its parent ends. The parent may be gone already: compare
/// [`parent_pid`] afterwards. ("Parent" is the *thread* that forked: it must live as long as its process.)
///
/// # Errors
/// `InvalidInput` when there is no such signal.
pub fn parent_death_signal(signal: i32) -> io::Result<()> {
    let signal = Signal::from_named_raw(signal).ok_or(rustix::io::Errno::INVAL)?;
    Ok(rustix::process::set_parent_process_death_signal(Some(signal))?)
}

/// Names the calling thread, as `ps` and `top` show it; the kernel keeps 15 bytes. The main thread's name is the
/// process's.
pub fn set_name(name: &CStr) {
    let _ = rustix::thread::set_name(name);
}

/// How often this process's line of ancestors has forked (as far as this library was loaded): a value that differs
/// after a `fork()` marks what belongs to the parent.
///
/// A copied process has copies of everything its parent had, and must not act on them: not wake its sleepers, not release
/// its memory. Comparing this number with one kept is a load; asking the kernel who we are is a system call.
///
/// ```
/// let mine = manyhands_os::process::fork_count();
/// assert_eq!(manyhands_os::process::fork_count(), mine);
/// ```
#[must_use]
pub fn fork_count() -> u32 {
    static REGISTERED: Once = Once::new();
    if !REGISTERED.is_completed() {
        REGISTERED.call_once(|| {
            // SAFETY: the handler only adds to an atomic, which is allowed between fork and exec.
            unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        });
    }
    FORKS.load(Ordering::Relaxed)
}

static FORKS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller};
    use crate::socket;

    fn shell(script: &str, env: &[(OsString, Option<OsString>)], fds: &[BorrowedFd<'_>]) -> Pidfd {
        let args = ["-c".into(), script.into()];
        spawn(&Spawn { program: OsStr::new("sh"), args: &args, env, fds }).expect("a shell")
    }

    fn wait(child: &Pidfd) -> ExitStatus {
        let poller = Poller::new().expect("a poller");
        poller.add(child, 0, Interest::Readable).expect("added");
        while poller.wait(None).expect("waited").is_empty() {}
        assert!(child.has_ended());
        reap(child).expect("our child").expect("ended")
    }

    #[test]
    fn an_exit_code_comes_back() {
        let child = shell("exit 42", &[], &[]);
        assert_eq!(wait(&child), ExitStatus::Code(42));
        assert!(reap(&child).is_err(), "reaped twice");
        assert!(child.send_signal(libc::SIGTERM).is_err());
    }

    #[test]
    fn a_killed_child_says_by_what() {
        let (reader, _writer) = socket::pipe().expect("a pipe");
        let child = shell("read line <&3", &[], &[reader.as_fd()]);
        assert_eq!(reap(&child).expect("our child"), None);
        assert!(!child.has_ended());
        child.send_signal(libc::SIGKILL).expect("alive");
        assert_eq!(wait(&child), ExitStatus::Signal(libc::SIGKILL));
        assert_eq!(ExitStatus::Signal(libc::SIGKILL).exitcode(), -9);
    }

    #[test]
    fn descriptors_arrive_in_order_and_no_others() {
        let (first, second) = (socket::pipe().expect("a pipe"), socket::pipe().expect("a pipe"));
        // Passed crosswise: whatever their numbers here, no dup2 may overwrite what another one needs.
        let fds = [second.1.as_fd(), first.1.as_fd()];
        let child = shell("echo second >&3; echo first >&4; ls /proc/self/fd | wc -l >&4", &[], &fds);
        assert_eq!(wait(&child), ExitStatus::Code(0));
        let mut buffer = [0; 64];
        let len = socket::read(&second.0, &mut buffer).expect("read");
        assert_eq!(&buffer[..len], b"second\n");
        let len = socket::read(&first.0, &mut buffer).expect("read");
        let text = String::from_utf8_lossy(&buffer[..len]);
        // 0, 1, 2, the two passed and the directory that ls reads.
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["first", "6"]);
    }

    #[test]
    fn the_environment_is_changed() {
        let env = [
            ("MANYHANDS_TEST".into(), Some("a b".into())),
            ("PATH_THAT_IS_NOT_SET".into(), None),
            ("CARGO_MANIFEST_DIR".into(), None),
        ];
        let script = r#"test "$MANYHANDS_TEST" = "a b" -a -z "$CARGO_MANIFEST_DIR" -a -n "$PATH""#;
        assert_eq!(wait(&shell(script, &env, &[])), ExitStatus::Code(0));
    }

    #[test]
    fn signals_blocked_here_are_not_blocked_there() {
        std::thread::spawn(|| {
            block_signals();
            assert_eq!(wait(&shell("kill -TERM $$", &[], &[])), ExitStatus::Signal(libc::SIGTERM));
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let program = OsStr::new("/no/such/program");
        let error = spawn(&Spawn { program, args: &[], env: &[], fds: &[] }).expect_err("missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn forks_are_counted_in_the_child() {
        let before = fork_count();
        // SAFETY: the child calls nothing but a load and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(fork_count() != before + 1);
            // SAFETY: ends the child at once, running nothing of the parent's.
            unsafe { libc::_exit(code) };
        }
        let child = Pidfd::open(child).expect("our child");
        assert_eq!(wait(&child), ExitStatus::Code(0));
        assert_eq!(fork_count(), before);
    }
}
