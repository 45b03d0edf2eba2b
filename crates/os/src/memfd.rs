//! The memory files (memfds) that processes of this user have open: what stands in for a directory of names.
//!
//! A memfd has a name but no place: it is found in `/proc/<pid>/fd` of a process that has it, and it is gone when
//! nobody has it any more, however they ended. Opening such an entry gives a descriptor of the same file.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};

use crate::process::number_in_proc;

/// What `/proc` writes around a memfd's name.
const BEFORE_NAME: &[u8] = b"/memfd:";
const AFTER_NAME: &[u8] = b" (deleted)";

/// The most bytes that the name of a memfd may have.
pub const LONGEST_NAME: usize = 249;

/// How often to ask which processes have appeared since. The second time hardly any has; this is for the end of it
/// all, should processes come faster than they are looked at.
const MOST_ROUNDS: usize = 64;

/// A memory file, as one of the processes that have it open shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memfd {
    /// The process.
    pub pid: i32,
    /// The number of the descriptor there.
    pub fd: i32,
    /// The file's own number: the same in every process.
    pub inode: u64,
    /// What it was called when it was made, without anything around it. Names need not be unique.
    pub name: OsString,
}

/// All memory files of this user's processes whose names begin with `prefix`, by process, ascending: one that several
/// processes have open comes several times. Processes that end during the look, or that the system hides from this
/// one, are left out.
///
/// A file that a process passes to its child by fork while this looks is seen: processes that have appeared since are
/// looked at, too.
///
/// ```
/// use manyhands_os::{memfd, memory::Segment};
///
/// let segment = Segment::create(c"manyhands:example", 4096)?;
/// let found = memfd::list("manyhands:example");
/// assert!(found.iter().any(|file| file.pid == std::process::id() as i32));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn list(prefix: &str) -> Vec<Memfd> {
    let mut found = Vec::new();
    find::<()>(&begins_with(prefix), |file| {
        found.push(file);
        None
    });
    found.sort_by_key(|file| file.pid);
    found
}

fn begins_with(prefix: &str) -> impl Fn(&[u8]) -> bool {
    move |name| name.starts_with(prefix.as_bytes())
}

/// Goes through the memory files of this user's processes whose names are `meant`, see [`list`], until `wanted` returns
/// something.
///
/// ```
/// use manyhands_os::{memfd, memory::Segment};
///
/// let segment = Segment::create(c"manyhands:example of find", 4096)?;
/// let found = memfd::find(&|name: &[u8]| name == b"manyhands:example of find", |file| Some(file.inode));
/// assert_eq!(found, Some(segment.number()));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn find<T>(meant: &impl Fn(&[u8]) -> bool, mut wanted: impl FnMut(Memfd) -> Option<T>) -> Option<T> {
    let user = user();
    let mut seen = HashSet::new();
    for _ in 0..MOST_ROUNDS {
        let new: Vec<i32> = processes().into_iter().filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        let value =
            new.into_iter().find_map(|pid| files_of(pid, user, meant).into_iter().find_map(&mut wanted));
        if value.is_some() {
            return value;
        }
    }
    None
}

/// The user in whose name this process opens files.
#[must_use]
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The memory files of process `pid`, if it is this user's, whose names begin with `prefix`; see [`list`].
///
/// ```
/// use manyhands_os::{memfd, memory::Segment};
///
/// let segment = Segment::create(c"manyhands:example", 4096)?;
/// assert_eq!(memfd::list_of(std::process::id() as i32, "manyhands:example").len(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn list_of(pid: i32, prefix: &str) -> Vec<Memfd> {
    files_of(pid, user(), &begins_with(prefix))
}

/// The memory files of process `pid`, if it is `user`'s, whose names are `meant`.
fn files_of(pid: i32, user: u32, meant: &impl Fn(&[u8]) -> bool) -> Vec<Memfd> {
    let mut found = Vec::new();
    // The folder belongs to the effective user of the process.
    if !fs::metadata(format!("/proc/{pid}")).is_ok_and(|folder| folder.uid() == user) {
        return found;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty()) else { return found };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let number = entry.file_name();
        // What is cut off here is longer than any memfd's.
        let mut target = [0; BEFORE_NAME.len() + LONGEST_NAME + AFTER_NAME.len() + 1];
        let Ok(len) = rustix::fs::readlinkat_raw(&folder, number, &mut target) else { continue };
        let Some(name) = parse(&target[..len]).filter(|name| meant(name)) else { continue };
        let Some(fd) = number.to_str().ok().and_then(|number| number.parse().ok()) else { continue };
        if let Ok(file) = rustix::fs::statat(&folder, number, AtFlags::empty()) {
            found.push(Memfd { pid, fd, inode: file.st_ino, name: OsString::from_vec(name.to_vec()) });
        }
    }
    found
}

/// The name in what a link of `/proc/<pid>/fd` says; `None` for what is no memfd.
fn parse(target: &[u8]) -> Option<&[u8]> {
    target.strip_prefix(BEFORE_NAME)?.strip_suffix(AFTER_NAME)
}

/// Opens the memory file with number `inode` that process `pid` has as `fd`.
///
/// # Errors
/// `NotFound` when there is no such process or it has that file no longer (what it has under the number now is left
/// alone), `PermissionDenied` when it belongs to somebody else.
pub fn open(pid: i32, fd: i32, inode: u64) -> io::Result<OwnedFd> {
    match open_in_proc(pid, fd, inode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // `/proc` may have another number for it.
            let number = number_in_proc(pid).filter(|number| *number != pid);
            number.map_or(Err(error), |number| open_in_proc(number, fd, inode))
        }
        outcome => outcome,
    }
}

fn open_in_proc(pid: i32, fd: i32, inode: u64) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{fd}");
    // Looked at before it is opened: opening a pipe, say, or a device can have effects.
    let is_memfd = fs::read_link(&path)?.as_os_str().as_bytes().starts_with(BEFORE_NAME);
    if !is_memfd || fs::metadata(&path)?.ino() != inode {
        return Err(elsewhere(pid));
    }
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let opened = file.metadata()?;
    if opened.ino() != inode {
        return Err(elsewhere(pid));
    }
    if opened.uid() != user() {
        let text = format!("the memory file of process {pid} belongs to user {}", opened.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(file.into())
}

/// Whether this process may see which files the process `pid` has open.
///
/// ```
/// use manyhands_os::{memfd, process};
/// assert!(memfd::can_look_into(process::pid()));
/// ```
#[must_use]
pub fn can_look_into(pid: i32) -> bool {
    // The folder of descriptors can be listed by some who may not follow what is in it.
    number_in_proc(pid).is_some_and(|number| fs::read_link(format!("/proc/{number}/cwd")).is_ok())
}

/// What the memory file behind a descriptor was called; `None` for what is no memory file, and without `/proc`.
///
/// ```
/// use manyhands_os::{memfd, memory::Segment};
///
/// let segment = Segment::create(c"manyhands:example", 4096)?;
/// assert_eq!(memfd::name_of(segment.fd()).expect("a memory file"), "manyhands:example");
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn name_of(fd: impl AsFd) -> Option<OsString> {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).ok()?;
    Some(OsString::from_vec(parse(link.as_os_str().as_bytes())?.to_vec()))
}

fn elsewhere(pid: i32) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("process {pid} no longer has this memory file open"))
}

/// The number of an open file, see [`Memfd::inode`].
///
/// # Errors
/// What the kernel says.
pub fn inode_of(fd: impl AsFd) -> io::Result<u64> {
    // A duplicate, as `File` takes a descriptor over; asking its metadata is the portable way to ask the kernel.
    Ok(File::from(fd.as_fd().try_clone_to_owned()?).metadata()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Segment;

    fn here() -> i32 {
        std::process::id() as i32
    }

    #[test]
    fn a_file_is_found_by_name_and_opened() {
        let segment = Segment::create(c"test:memfd (deleted) \n", 4096).expect("a segment");
        let found = list("test:memfd");
        let ours: Vec<_> = found.iter().filter(|file| file.pid == here()).collect();
        let [file] = ours.as_slice() else { panic!("found {found:?}") };
        assert_eq!(file.name, "test:memfd (deleted) \n");
        assert_eq!(file.fd, segment.fd().as_raw_fd());
        assert_eq!(file.inode, inode_of(segment.fd()).expect("a number"));
        segment.copy_in(0, b"same");
        let other = Segment::attach(open(file.pid, file.fd, file.inode).expect("opened")).expect("attached");
        let mut text = [0; 4];
        other.copy_out(0, &mut text);
        assert_eq!(&text, b"same");
    }

    #[test]
    fn what_is_not_meant_is_not_opened() {
        let segment = Segment::create(c"test:other", 4096).expect("a segment");
        let (fd, inode) = (segment.fd().as_raw_fd(), inode_of(segment.fd()).expect("a number"));
        assert_eq!(open(here(), fd, inode + 1).expect_err("another").kind(), io::ErrorKind::NotFound);
        let (reader, _writer) = crate::socket::pipe().expect("a pipe");
        let pipe = inode_of(&reader).expect("a number");
        let error = open(here(), reader.as_raw_fd(), pipe).expect_err("a pipe");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(open(-7, fd, inode).expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_child_that_comes_meanwhile_is_looked_at_too() {
        let _segment = Segment::create(c"test:newcomer", 4096).expect("a segment");
        let mut child = None;
        let found = find(&|name: &[u8]| name == b"test:newcomer", |file| {
            // Those of other tests have it, too.
            if file.pid != here() {
                return child.filter(|child| *child == file.pid);
            }
            child.get_or_insert_with(|| {
                // SAFETY: the child only sleeps until it is killed.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // SAFETY: plain system call; it does not outlive the test.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    loop {
                        // SAFETY: sleeps.
                        unsafe { libc::pause() };
                    }
                }
                pid
            });
            None
        });
        let child = child.expect("this process was looked at");
        // SAFETY: our own child, not reaped yet.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: waits for it.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!(found, Some(child));
    }

    #[test]
    fn links_are_parsed() {
        assert_eq!(parse(b"/memfd:a b (deleted)"), Some(b"a b".as_slice()));
        assert_eq!(parse(b"/memfd: (deleted)"), Some(b"".as_slice()));
        assert_eq!(parse(b"/memfd:half"), None);
        assert_eq!(parse(b"/tmp/memfd:x (deleted)"), None);
        assert_eq!(parse(b"pipe:[77]"), None);
    }
}
