//! The only system calls of manyhands.
//!
//! Everything above this crate is arithmetic over memory and messages; whoever wants the time, a page, a signal, a
//! process or a file descriptor asks here. That buys two things: another operating system is one crate's work, and the
//! state machines above can be tested without one. The Python package's own calls (through CPython) are the one
//! exception, and they stay in Python.
//!
//! | module | what it gives | kernel interface |
//! |---|---|---|
//! | [`memory`] | a segment of memory several processes map | `memfd_create`, `mmap`, `fallocate`, seals |
//! | [`memfd`] | which segments this user's processes have, by name | `/proc/<pid>/fd` |
//! | [`sysv`] | memory that one user's processes find without a descriptor; what one of them can have at a time | `shmget`, `shmat`, `shmctl` |
//! | [`park`] | sleeping on a word, or several, until somebody wakes it | `futex`, `futex_waitv` |
//! | [`robust`] | a word that the kernel marks when a thread ends | `get_robust_list`, robust mutexes |
//! | [`clock`] | the time that all processes of a machine agree on | `clock_gettime(CLOCK_MONOTONIC)` |
//! | [`process`] | starting, signalling, reaping; identities; forks noticed | `posix_spawn`, `pidfd_*`, `waitid`, `/proc/*/stat` |
//! | [`fork`] | what is done around every fork | `pthread_atfork` |
//! | [`finding`] | what is found out once for the whole process | |
//! | [`ending`] | threads that sleep rather than be ended from within | `pthread_exit` |
//! | [`poll`] | waiting for many descriptors; waking who waits so | `epoll`, `eventfd` |
//! | [`socket`] | packets with descriptors between two processes; pipes; sockets to wake others by | `AF_UNIX`, `SCM_RIGHTS`, `pipe2` |
//! | [`stream`] | connections: taken off a listener, read and written without waiting | `accept4`, `recv`, `send`, `shutdown` |
//! | [`datagram`] | datagrams of clients, received without waiting | `recvfrom` |
//! | [`service_manager`] | telling the service manager how a service is | `AF_UNIX` datagrams |
//! | [`procfs`] | what a process uses and what the machine has | `/proc`, cgroup files, `sched_getaffinity` |
//! | [`terminal`] | how large the terminal behind a stream is, and its keys | `ioctl(TIOCGWINSZ)`, `tcsetattr`, `poll` |
//!
//! Linux 5.15 or newer. Descriptors made here are close-on-exec, always. Times are nanoseconds, sizes are bytes.
//!
//! No function here retries on `EINTR` where a caller may want to look at signals first ([`park::wait`],
//! [`poll::Poller::wait`]); where no caller could want that, the call is repeated here.

pub mod clock;
pub mod datagram;
pub mod ending;
pub mod finding;
pub mod fork;
pub mod memfd;
pub mod memory;
pub mod park;
pub mod poll;
pub mod process;
pub mod procfs;
pub mod random;
pub mod robust;
pub mod service_manager;
pub mod socket;
pub mod stream;
pub mod sysv;
pub mod terminal;

/// Says which system call has failed, and what that means, where a sandbox's filter does not allow it.
pub(crate) fn refused(call: &str, therefore: &str, error: rustix::io::Errno) -> std::io::Error {
    use rustix::io::Errno;
    if !matches!(error, Errno::PERM | Errno::ACCESS | Errno::NOSYS) {
        return error.into();
    }
    let error = std::io::Error::from(error);
    let text =
        format!("the system refuses {call} ({error}), without which {therefore}; a sandbox may forbid it");
    std::io::Error::new(error.kind(), text)
}
