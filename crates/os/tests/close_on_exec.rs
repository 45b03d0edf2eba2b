//! No descriptor of ours is inherited by a program that somebody else's code starts.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use manyhands_os::memory::Segment;
use manyhands_os::poll::{EventFd, Poller};
use manyhands_os::process::{self, Pidfd, Spawn};
use manyhands_os::socket;

fn assert_close_on_exec(what: &str, fd: BorrowedFd<'_>) {
    let flags = rustix::io::fcntl_getfd(fd).expect("an open descriptor");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{what} would be inherited");
}

#[test]
fn every_descriptor_is_close_on_exec() {
    let segment = Segment::create(c"test", 4096).expect("a segment");
    assert_close_on_exec("a segment", segment.fd());
    assert_close_on_exec("an eventfd", EventFd::new().expect("an eventfd").as_fd());
    assert_close_on_exec("a poller", Poller::new().expect("a poller").as_fd());
    assert_close_on_exec("a pidfd", Pidfd::open(process::pid()).expect("ourselves").as_fd());
    let pairs = [socket::pipe().expect("a pipe"), socket::seqpacket_pair().expect("a pair")];
    for (one, other) in pairs {
        assert_close_on_exec("a pipe or socket", one.as_fd());
        assert_close_on_exec("a pipe or socket", other.as_fd());
    }
}

#[test]
fn a_child_gets_what_it_is_passed_and_nothing_else() {
    let (reader, writer) = socket::pipe().expect("a pipe");
    // Somebody else's descriptor, which is not close-on-exec.
    let forgotten = rustix::io::dup(&writer).expect("a duplicate");
    rustix::io::fcntl_setfd(&forgotten, rustix::io::FdFlags::empty()).expect("set");
    let args = ["-c".into(), "exec ls /proc/self/fd >&3".into()];
    let fds = [writer.as_fd()];
    let child = process::spawn(&Spawn { program: OsStr::new("sh"), args: &args, env: &[], fds: &fds });
    drop((writer, forgotten));
    let mut listed = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match socket::read(&reader, &mut buffer).expect("the list, then its end") {
            0 => break,
            len => listed.extend_from_slice(&buffer[..len]),
        }
    }
    let listed = String::from_utf8_lossy(&listed);
    // The standard three, the one passed, and the folder that is being listed.
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
    let child = child.expect("a shell");
    while process::reap(&child).expect("our child").is_none() {
        std::thread::yield_now();
    }
}
