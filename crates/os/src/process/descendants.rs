//! The processes that a process has started.

use std::collections::HashMap;
use std::fs;

use super::Pidfd;
use super::namespace::{number_here, number_in_proc};
use super::stat::Stat;

/// The processes that `ancestors` have started, those that these have started, and so on, as far as all between still
/// run: the children of one that has ended belong to the system. Left out, with all that they started, are processes in
/// another session than their parent: whoever makes a session for a process (`setsid`, a daemon) wants it to go on by
/// itself.
///
/// A look at every process of the machine, about 10 µs each. What is started during it may be missing: stop the
/// ancestors first (`SIGSTOP`).
///
/// ```
/// use manyhands_os::process::{self, Spawn};
/// use std::ffi::OsStr;
///
/// let child = process::spawn(&Spawn { program: OsStr::new("sleep"), args: &["9".into()], env: &[], fds: &[] })?;
/// let found = process::descendants(&[process::pid()]);
/// assert!(found.iter().any(|process| process.pid() == child.pid()));
/// child.send_signal(9)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn descendants(ancestors: &[i32]) -> Vec<Pidfd> {
    // All numbers but those of the result are those that `/proc` has.
    let ancestors: Vec<i32> = ancestors.iter().filter_map(|pid| number_in_proc(*pid)).collect();
    let all = processes();
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, stat) in &all {
        if all.get(&stat.parent).is_some_and(|parent| parent.session == stat.session) {
            children.entry(stat.parent).or_default().push(*pid);
        }
    }
    let mut found = Vec::new();
    let mut rest = ancestors.clone();
    while let Some(parent) = rest.pop() {
        // Removed, so that nobody is found twice when one of the ancestors descends from another.
        for pid in children.remove(&parent).unwrap_or_default() {
            rest.push(pid);
            if !ancestors.contains(&pid) {
                found.extend(hold(pid, all[&pid].start));
            }
        }
    }
    found
}

/// Kills processes (`SIGKILL`) and tells all that they have started to end (`SIGTERM`), see [`descendants`]: nobody else
/// knows that it is there, and a timeout is of little use if what took so long goes on.
///
/// ```
/// use manyhands_os::process::{self, Spawn};
/// use std::ffi::OsStr;
///
/// let child = process::spawn(&Spawn { program: OsStr::new("sleep"), args: &["9".into()], env: &[], fds: &[] })?;
/// process::kill_with_descendants(&[&child]);
/// while process::reap(&child)?.is_none() {}
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn kill_with_descendants(processes: &[&Pidfd]) {
    if processes.is_empty() {
        return;
    }
    for process in processes {
        // So that it starts nothing while we look.
        let _ = process.send_signal(libc::SIGSTOP);
    }
    let pids: Vec<i32> = processes.iter().map(|process| process.pid()).collect();
    let found = descendants(&pids);
    for process in processes {
        let _ = process.send_signal(libc::SIGKILL);
    }
    for descendant in found {
        // Not SIGKILL: resource trackers, which tidy up after all others, ignore this one for good reason.
        let _ = descendant.send_signal(libc::SIGTERM);
    }
}

/// All processes that there are, by number.
fn processes() -> HashMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

fn read(pid: i32) -> Option<Stat> {
    Stat::read(&format!("/proc/{pid}/stat")).ok()
}

/// The process that `/proc` shows under `pid`, unless the number means another by now than the one that started at
/// `start`.
fn hold(pid: i32, start: u64) -> Option<Pidfd> {
    let process = Pidfd::open(number_here(pid)?).ok()?;
    read(pid).filter(|stat| stat.start == start).map(|_| process)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;

    use super::super::{Spawn, reap, spawn};
    use super::*;
    use crate::socket;

    #[test]
    fn children_and_theirs_are_found_but_no_sessions_of_their_own() {
        let (reader, writer) = socket::pipe().expect("a pipe");
        // The inner shells say who they are, then wait for the end of the outer one.
        let script = "sh -c 'echo $$ >&3; exec sleep 60' & sh -c \"sh -c 'echo \\$\\$ >&3; exec sleep 60' & wait\" & \
            setsid sh -c 'echo $$ >&3; exec sleep 60' & wait";
        let args = ["-c".into(), script.into()];
        let fds = [writer.as_fd()];
        let outer =
            spawn(&Spawn { program: OsStr::new("sh"), args: &args, env: &[], fds: &fds }).expect("a shell");
        drop(writer);
        let lines = BufReader::new(std::fs::File::from(reader)).lines().take(3);
        let told: Vec<i32> = lines.map(|line| line.expect("text").parse().expect("a number")).collect();

        let found = descendants(&[outer.pid()]);
        let of_session = |pid: &i32| read(*pid).expect("alive").session == *pid;
        let (apart, ours): (Vec<i32>, Vec<i32>) = told.iter().partition(|pid| of_session(pid));
        assert_eq!((apart.len(), ours.len()), (1, 2), "{told:?}");
        assert!(
            ours.iter().all(|pid| found.iter().any(|process| process.pid() == *pid)),
            "{told:?} {found:?}"
        );
        assert!(!found.iter().any(|process| process.pid() == apart[0]), "{told:?} {found:?}");

        let twice = descendants(&[outer.pid(), ours[0]]);
        assert!(
            !twice.iter().any(|process| process.pid() == ours[0]),
            "an ancestor is none of its descendants"
        );
        let apart = Pidfd::open(apart[0]).expect("alive");
        for process in found.iter().chain([&apart, &outer]) {
            let _ = process.send_signal(libc::SIGKILL);
        }
        while reap(&outer).expect("our child").is_none() {}
        assert!(descendants(&[outer.pid()]).is_empty());
    }
}
