//! Whose numbers are whose: a process has another number in each PID namespace, and `/proc` may be that of another
//! namespace than this process's own, or missing.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;

use super::Pidfd;
use crate::finding::Finding;

/// Whether `/proc` has the numbers that this process uses; not when it is that of another namespace, or missing.
static OURS: Finding = Finding::new();

/// Which PID namespace this process is in, as a number from 1 to 255 that another namespace is unlikely to have; 0
/// when that cannot be found out.
pub(super) fn fingerprint() -> u64 {
    let number = fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino());
    // Numbers of namespaces are given out one after the other.
    number.ok().or_else(number_by_pidfd).map_or(0, |number| number % 255 + 1)
}

/// The number of this process's PID namespace, without `/proc`; since Linux 6.11.
fn number_by_pidfd() -> Option<u64> {
    const PIDFD_GET_PID_NAMESPACE: libc::Ioctl = 0xff05;
    let this = Pidfd::open(super::pid()).ok()?;
    // SAFETY: takes no argument, and returns a new descriptor or -1.
    let namespace = unsafe { libc::ioctl(this.fd.as_raw_fd(), PIDFD_GET_PID_NAMESPACE, 0) };
    // SAFETY: just opened here, and nobody else has it.
    let namespace = (namespace >= 0).then(|| unsafe { fs::File::from_raw_fd(namespace) })?;
    namespace.metadata().map(|namespace| namespace.ino()).ok()
}

/// Forgets what is known: a child may be in another namespace.
pub(super) fn forget() {
    OURS.forget();
}

/// Whether `/proc` has the numbers that this process uses.
fn is_ours() -> bool {
    OURS.get(|| {
        let link = fs::read_link("/proc/self");
        let number = link.ok().and_then(|link| link.to_str()?.parse::<i32>().ok());
        number == Some(super::pid())
    })
}

/// The number that `/proc` has for the process with number `pid`; `None` when it shows no such process.
///
/// ```
/// use manyhands_os::process::{number_in_proc, pid};
/// assert_eq!(number_in_proc(pid()), Some(pid()), "the usual case");
/// ```
#[must_use]
pub fn number_in_proc(pid: i32) -> Option<i32> {
    if is_ours() {
        return Some(pid);
    }
    translate(&Pidfd::open(pid).ok()?)
}

/// The number that this process has to use for the one that `/proc` shows under `number`; `None` when it is in another
/// namespace.
pub(super) fn number_here(number: i32) -> Option<i32> {
    if is_ours() {
        return Some(number);
    }
    // From the namespace of `/proc` to its own.
    let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let own = numbers.split_ascii_whitespace().next_back()?.parse().ok()?;
    (number_in_proc(own) == Some(number)).then_some(own)
}

/// The number that `/proc` has for a process.
pub(super) fn translate(process: &Pidfd) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.fd.as_raw_fd())).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // Zero for a process of a namespace that is not seen from there, -1 for one that has been reaped.
    number.trim().parse().ok().filter(|number| *number > 0)
}

/// Whether what `/proc` says of the number `pid` is about the process with that number.
pub(super) fn proc_knows(pid: i32) -> bool {
    pid == super::pid() || is_ours()
}
