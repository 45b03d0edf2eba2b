//! Segments by name, between threads and processes.
#![cfg(not(any(loom, miri)))]

use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::memory::Segment;
use manyhands_sync::names::{self, Kind, LONGEST_NAME, NameError, Wanted, make_or_open};
use manyhands_sync::site::{SITE_BYTES, Site};

const NOTHING: fn(&Arc<Site>) -> io::Result<()> = |_| Ok(());

/// A name that nobody else uses, here or in another run of the tests.
fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test {} {}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// One test at a time: the children of one have what the others have open at the fork.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wanted(name: &str) -> Wanted<'_> {
    Wanted { kind: Kind::Lock, name: Some(name), parameters: [7; 16], body: 64 }
}

fn has_segment(name: &str) -> bool {
    names::entries().values().any(|entry| entry.name.as_deref() == Some(name))
}

/// Forks; the child runs `body`, then exits with 0, or with 101 when it panics. Returns its number.
fn fork(body: impl FnOnce()) -> i32 {
    // SAFETY: the child runs only `body` and `_exit`, nothing of the test harness.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // A test that hangs must not leave a child behind.
        // SAFETY: plain system call.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
    }
    pid
}

fn park_for_ever() {
    loop {
        std::thread::park();
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: plain system call; `pid` is ours or our child's, not reaped yet.
    unsafe { libc::kill(pid, signal) };
}

/// The status of a child that has ended, as `waitpid` gives it.
fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: waits for our own child.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "{}", io::Error::last_os_error());
    status
}

#[test]
fn one_name_is_one_segment() {
    let _alone = alone();
    let name = name();
    let lay_out = |site: &Arc<Site>| {
        site.segment().copy_in(SITE_BYTES, b"laid out");
        Ok(())
    };
    let made = make_or_open(&wanted(&name), lay_out).expect("made");
    let opened = make_or_open(&wanted(&name), |_| panic!("made twice")).expect("opened");
    assert!(made.created && !opened.created);
    assert_eq!(made.inode, opened.inode);
    let mut text = [0; 8];
    opened.site.segment().copy_out(SITE_BYTES, &mut text);
    assert_eq!(&text, b"laid out");
    drop(made);
    assert!(has_segment(&name), "opened has it still");
    drop(opened);
    assert!(!has_segment(&name));
    assert!(make_or_open(&wanted(&name), NOTHING).expect("made").created, "a new one");
}

#[test]
fn without_a_name_each_is_its_own() {
    let _alone = alone();
    let unnamed = Wanted { name: None, ..wanted("") };
    let one = make_or_open(&unnamed, NOTHING).expect("made");
    let other = make_or_open(&unnamed, NOTHING).expect("made");
    assert_ne!(one.inode, other.inode);
    let empty = make_or_open(&wanted(""), NOTHING).expect_err("the empty name is none");
    assert!(matches!(empty, NameError::Empty), "{empty}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let _alone = alone();
    let name = name();
    let _made = make_or_open(&wanted(&name), NOTHING).expect("made");
    let text = |wanted: Wanted<'_>| make_or_open(&wanted, NOTHING).expect_err("refused").to_string();
    let kind = text(Wanted { kind: Kind::Queue, ..wanted(&name) });
    assert_eq!(kind, format!("the object named {name:?} is of kind Lock, not Queue"));
    let mut parameters = [7; 16];
    parameters[2] = 9;
    let other = text(Wanted { parameters, ..wanted(&name) });
    assert_eq!(other, format!("the Lock named {name:?} was made with 7, not 9"));
    let size = text(Wanted { body: 1 << 20, ..wanted(&name) });
    assert!(size.contains("is too short for"), "{size}");
    let elastic = format!("{name}, a queue");
    let queue = Wanted { kind: Kind::Queue, ..wanted(&elastic) };
    let small = make_or_open(&queue, NOTHING).expect("made");
    let same = make_or_open(&Wanted { body: 1 << 20, ..queue }, NOTHING).expect("of any length");
    assert_eq!(small.inode, same.inode);
    let long = "x".repeat(LONGEST_NAME + 1);
    assert!(text(wanted(&long)).contains("200 bytes, this one has 201"));
    assert!(text(wanted("a\0b")).contains("null character"));
    assert!(make_or_open(&wanted(&long[1..]), NOTHING).is_ok(), "the longest");
}

#[test]
fn another_version_says_so() {
    let _alone = alone();
    let name = name();
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    // The upper half of the second word.
    made.site.segment().word32(12).store(99, Ordering::Relaxed);
    let error = make_or_open(&wanted(&name), NOTHING).expect_err("another version");
    assert!(matches!(error, NameError::Unusable { .. }));
    let text = error.to_string();
    let library = env!("CARGO_PKG_VERSION");
    assert!(text.contains(&format!("made by manyhands {library} (format 99)")), "{text}");
    assert!(text.contains(&format!("this is manyhands {library} (format ")), "{text}");
}

#[test]
fn a_half_made_one_is_passed_over() {
    let _alone = alone();
    let name = name();
    let text = CString::new(format!("manyhands:Lock:{name}")).expect("no NUL");
    let empty = Segment::create(&text, SITE_BYTES + 64).expect("a segment");
    let segment = Arc::new(Segment::create(&text, SITE_BYTES + 64).expect("a segment"));
    let half = Site::create(segment, Kind::Lock.number(), [7; 16]).expect("a site");
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    assert!(made.created);
    drop((empty, half));
    assert_eq!(make_or_open(&wanted(&name), NOTHING).expect("opened").inode, made.inode);
}

#[test]
fn a_layout_that_fails_leaves_nothing() {
    let _alone = alone();
    let name = name();
    let error = make_or_open(&wanted(&name), |_| Err(io::Error::other("no room"))).expect_err("failed");
    assert!(error.to_string().contains("no room"), "{error}");
    assert!(!has_segment(&name));
    assert!(make_or_open(&wanted(&name), NOTHING).expect("made").created);
}

#[test]
fn a_maker_that_is_killed_leaves_nothing() {
    let _alone = alone();
    let name = name();
    let child = fork(|| {
        let _ = make_or_open(&wanted(&name), |_| {
            kill(std::process::id() as i32, libc::SIGKILL);
            Ok(())
        });
    });
    assert_eq!(reap(child), libc::SIGKILL);
    assert!(!has_segment(&name));
    assert!(make_or_open(&wanted(&name), NOTHING).expect("made").created);
}

#[test]
fn of_many_at_once_one_makes_it() {
    let _alone = alone();
    const CHILDREN: usize = 64;
    let name = name();
    let counts = Arc::new(Segment::create(c"test counts", 4096).expect("a segment"));
    counts.commit(0..4096).expect("committed");
    let (arrived, created) = (counts.word64(0), counts.word64(8));
    let child = || {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < CHILDREN as u64 {
            std::thread::yield_now();
        }
        let found = make_or_open(&wanted(&name), NOTHING).expect("made or opened");
        created.fetch_add(u64::from(found.created), Ordering::SeqCst);
        found.site.segment().word64(SITE_BYTES).fetch_add(1, Ordering::SeqCst);
        // Until all have come: the last one to go would take the segment along.
        while found.site.segment().word64(SITE_BYTES).load(Ordering::SeqCst) < CHILDREN as u64 {
            std::thread::yield_now();
        }
    };
    let children: Vec<i32> = (0..CHILDREN).map(|_| fork(child)).collect();
    for pid in children {
        assert_eq!(reap(pid), 0);
    }
    assert_eq!(created.load(Ordering::SeqCst), 1);
    assert!(!has_segment(&name), "gone with the last");
}

#[test]
fn what_this_process_has_is_not_looked_for() {
    let _alone = alone();
    let name = name();
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    let same = make_or_open(&wanted(&name), NOTHING).expect("opened");
    assert!(Arc::ptr_eq(&made.site, &same.site));
    let other = make_or_open(&Wanted { kind: Kind::Event, ..wanted(&name) }, NOTHING).expect_err("refused");
    assert!(matches!(other, NameError::OtherKind { .. }), "{other}");
}

#[test]
fn what_came_by_address_is_known_by_its_name() {
    let _alone = alone();
    use std::os::fd::AsRawFd;
    let name = name();
    let (reader, writer) = io::pipe().expect("a pipe");
    let child = fork(|| {
        let made = make_or_open(&wanted(&name), NOTHING).expect("made");
        let address =
            [made.site.segment().fd().as_raw_fd() as u64, made.inode].map(u64::to_ne_bytes).concat();
        io::Write::write_all(&mut &writer, &address).expect("written");
        park_for_ever();
    });
    let mut address = [0; 16];
    io::Read::read_exact(&mut &reader, &mut address).expect("read");
    let (fd, inode) = address.split_at(8);
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight"));
    let by_address = names::open(child, number(fd) as i32, number(inode)).expect("opened");
    let by_name = make_or_open(&wanted(&name), NOTHING).expect("opened");
    assert!(Arc::ptr_eq(&by_address, &by_name.site));
    kill(child, libc::SIGKILL);
    assert_eq!(reap(child), libc::SIGKILL);
    let again = make_or_open(&wanted(&name), NOTHING).expect("opened");
    assert!(!again.created && Arc::ptr_eq(&by_address, &again.site));
}

#[test]
fn a_name_goes_with_its_descriptor() {
    let _alone = alone();
    use std::os::fd::AsRawFd;
    let name = name();
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    // As by a daemon that closes all it does not know, and has another file with that number then.
    // SAFETY: plain system call; the segment knows that its number may come to be another file's.
    assert!(unsafe { libc::dup2(libc::STDERR_FILENO, made.site.segment().fd().as_raw_fd()) } >= 0);
    let next = make_or_open(&wanted(&name), NOTHING).expect("made");
    assert!(
        next.created && next.inode != made.inode,
        "as for all other processes, which cannot find the first"
    );
    assert_eq!(make_or_open(&wanted(&name), NOTHING).expect("opened").inode, next.inode);
}

#[test]
fn a_name_within_a_name_is_another() {
    let _alone = alone();
    let name = name();
    let long = make_or_open(&wanted(&format!("a:{name}")), NOTHING).expect("made");
    let short = make_or_open(&wanted(&name), NOTHING).expect("made");
    assert!(long.created && short.created);
}

#[test]
fn the_name_can_be_taken_away() {
    let _alone = alone();
    let name = name();
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    assert_eq!(names::retire(|entry| entry.name.as_deref() == Some(&name)), 1);
    assert!(made.site.is_retired());
    assert_eq!(names::retire(|entry| entry.name.as_deref() == Some(&name)), 0);
    let next = make_or_open(&wanted(&name), NOTHING).expect("made");
    assert!(next.created && next.inode != made.inode);
    assert_eq!(make_or_open(&wanted(&name), NOTHING).expect("opened").inode, next.inode);
}

#[test]
fn a_segment_is_found_by_address_as_long_as_anyone_has_it() {
    let _alone = alone();
    use std::os::fd::AsRawFd;
    let found = make_or_open(&Wanted { name: None, ..wanted("") }, NOTHING).expect("made");
    let (fd, inode) = (found.site.segment().fd().as_raw_fd(), found.inode);
    let here = std::process::id() as i32;
    assert_eq!(names::open(here, fd, inode).expect("opened").kind(), Kind::Lock.number());
    // The giver of the address is gone, or it was never there.
    assert!(names::open(here, fd + 100, inode).is_ok());
    drop(found);
    let error = names::open(here, fd, inode).expect_err("gone");
    assert!(error.to_string().contains(&format!("process {here} had it")), "{error}");
}

#[test]
fn the_list_names_all_users() {
    let _alone = alone();
    let name = name();
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    let again = make_or_open(&wanted(&name), NOTHING).expect("opened");
    let list = names::list();
    let (entry, site) = list.get(&made.inode).expect("listed");
    assert_eq!((entry.kind.as_str(), entry.name.as_deref()), ("Lock", Some(name.as_str())));
    let here = std::process::id() as i32;
    assert_eq!(entry.users.iter().filter(|(pid, _)| *pid == here).count(), 1, "both have it mapped once");
    assert_eq!(site.kind(), Kind::Lock.number());
    drop(again);
    drop(list);
    let child = fork(park_for_ever);
    let users: Vec<i32> =
        names::entries().remove(&made.inode).expect("listed").users.into_iter().map(|(pid, _)| pid).collect();
    assert_eq!(users, [here, child]);
    kill(child, libc::SIGKILL);
    assert_eq!(reap(child), libc::SIGKILL);
}

#[test]
fn more_processes_have_it_than_the_directory_has_room_for() {
    let _alone = alone();
    const CHILDREN: usize = 140;
    let name = name();
    let counts = Arc::new(Segment::create(c"test counts", 4096).expect("a segment"));
    counts.commit(0..4096).expect("committed");
    let opened = counts.word64(0);
    let child = || {
        let found = make_or_open(&wanted(&name), NOTHING).expect("made or opened");
        opened.fetch_add(1 + (u64::from(found.created) << 32), Ordering::SeqCst);
        park_for_ever();
    };
    let mut children = Vec::new();
    for number in 1..=CHILDREN {
        children.push(fork(child));
        while opened.load(Ordering::SeqCst) & 0xffff_ffff < number as u64 {
            std::thread::yield_now();
        }
    }
    assert_eq!(opened.load(Ordering::SeqCst) >> 32, 1, "one has made it");
    let end = |children: &[i32]| {
        for pid in children {
            kill(*pid, libc::SIGKILL);
            reap(*pid);
        }
    };
    // Those who came last have no row.
    let (first, last) = children.split_at(CHILDREN - 2);
    end(first);
    let found = make_or_open(&wanted(&name), NOTHING).expect("opened");
    assert!(!found.created, "the last ones have it still");
    drop(found);
    end(last);
    assert!(make_or_open(&wanted(&name), NOTHING).expect("made").created);
}

#[test]
fn what_is_there_can_be_opened_without_its_parameters() {
    let _alone = alone();
    let name = name();
    let mut any = wanted(&name);
    (any.parameters[3], any.body) = (names::ANY, 0);
    let error = make_or_open(&any, NOTHING).expect_err("there is nothing, and it is not said what to make");
    assert!(matches!(error, NameError::NotMade { .. }), "{error}");
    assert!(!has_segment(&name));
    let made = make_or_open(&wanted(&name), NOTHING).expect("made");
    let opened = make_or_open(&any, NOTHING).expect("opened");
    assert_eq!((opened.inode, opened.created), (made.inode, false));
    assert_eq!(opened.site.parameters(), [7; 16]);
    any.parameters[5] = 8;
    let error = make_or_open(&any, NOTHING).expect_err("another parameter is said, and differs");
    assert!(matches!(error, NameError::OtherParameters { .. }), "{error}");
}
