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
    let args = ["-c".into(), "echo here >&3; exec sleep 1000".into()];
    let child =
        process::spawn(&Spawn { program: OsStr::new("sh"), args: &args, env: &[], fds: &[writer.as_fd()] })
            .expect("a shell");
    let mut buffer = [0; 16];
    assert_eq!(socket::read(&reader, &mut buffer).expect("its greeting"), 5);
    let kept = format!("/proc/{}/fd/{}", child.pid(), process::FIRST_FD);
    assert!(std::fs::symlink_metadata(kept).is_ok());
    let after = std::fs::read_dir(format!("/proc/{}/fd", child.pid())).expect("a live process").count();
    assert_eq!(after, 4, "the standard three and the one passed");
    child.send_signal(9).expect("alive");
    while process::reap(&child).expect("our child").is_none() {
        std::thread::yield_now();
    }
}
