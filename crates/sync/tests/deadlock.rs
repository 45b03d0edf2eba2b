//! Cycles of waits are found, told to one member, and nothing else is taken for one.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::ffi::CString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use child::{Child, News};
use ground::{await_that, site};
use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::memory::Segment;
use manyhands_os::park;
use manyhands_os::process::{identity, thread_id};
use manyhands_sync::deadlock::Member;
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock, RLock};
use manyhands_sync::names::{Kind, Wanted, hold_still, make_or_open};
use manyhands_sync::site::{PARAMETERS, SITE_BYTES, Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};
use manyhands_sync::{Patience, SpinPolicy};

fn lock(site: &Arc<Site>, number: usize) -> Lock {
    Lock::at(Arc::clone(site), SITE_BYTES + number * LOCK_BYTES).expect("room for a lock")
}

fn rlock(site: &Arc<Site>, number: usize) -> RLock {
    RLock::at(Arc::clone(site), SITE_BYTES + number * LOCK_BYTES).expect("room for a lock")
}

/// Has a stack with a text of its own, and gives up when a test hangs.
struct Waiter {
    text: String,
    until: u64,
    /// Until this is true it cannot say what its stack is.
    has_stack: Arc<AtomicBool>,
    is_steadfast: bool,
}

impl Waiter {
    fn new(text: impl Into<String>) -> Self {
        let has_stack = Arc::new(AtomicBool::new(true));
        Self { text: text.into(), until: clock::now() + 30 * SECOND, has_stack, is_steadfast: false }
    }
}

impl Waiting for Waiter {
    fn pause(&mut self) -> ControlFlow<()> {
        if clock::now() < self.until { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn stack(&mut self) -> String {
        await_that("the stack is known", || self.has_stack.load(Ordering::Relaxed));
        self.text.clone()
    }

    fn is_steadfast(&self) -> bool {
        self.is_steadfast
    }
}

fn acquire(lock: &Lock, text: &str) -> Result<Acquired, Stopped> {
    lock.acquire(identity(), thread_id(), Patience::Forever, &SpinPolicy::none(), &mut Waiter::new(text))
}

fn members(outcome: Result<Acquired, Stopped>) -> Option<Vec<Member>> {
    match outcome {
        Err(Stopped::Deadlock(members)) => Some(members),
        Ok(_) => None,
        other => panic!("neither acquired nor told: {other:?}"),
    }
}

/// `count` threads that each have a lock and want the next one's, the last one the first one's.
fn circle(locks: &[Lock]) -> Vec<Vec<Member>> {
    let barrier = Barrier::new(locks.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..locks.len())
            .map(|number| {
                let (barrier, mine, next) = (&barrier, &locks[number], &locks[(number + 1) % locks.len()]);
                scope.spawn(move || {
                    assert!(mine.try_acquire(identity(), thread_id()));
                    barrier.wait();
                    let outcome = members(acquire(next, &format!("stack {number}")));
                    if outcome.is_none() {
                        next.release(identity()).expect("ours");
                    }
                    mine.release(identity()).expect("ours");
                    outcome
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn one_thread_of_a_cycle_is_told_and_the_others_go_on() {
    for count in [2, 3, 5] {
        let site = site();
        let locks: Vec<_> = (0..count).map(|number| lock(&site, number)).collect();
        let told = circle(&locks);
        assert_eq!(told.len(), 1, "one member of {count}");
        let members = &told[0];
        assert_eq!(members.len(), count);
        let mut stacks: Vec<_> = members.iter().map(|member| member.stack.clone()).collect();
        stacks.sort();
        assert_eq!(stacks, (0..count).map(|number| format!("stack {number}")).collect::<Vec<_>>());
        let latest = members.iter().map(|member| member.since).max();
        assert_eq!(Some(members[0].since), latest, "the youngest is told");
        for member in members {
            assert_eq!((member.identity, member.kind), (identity(), WaitKind::Lock));
            assert!(locks.iter().any(|lock| lock.key() == member.key));
        }
        assert!(locks.iter().all(|lock| !lock.is_locked()));
        assert_eq!(site.waiters().count(), 0);
    }
}

#[test]
fn locks_of_several_segments_make_cycles_too() {
    let sites = [site(), site(), site()];
    let told = circle(&[lock(&sites[0], 0), lock(&sites[1], 1), lock(&sites[2], 2)]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].len(), 3);
}

/// Counts how often it goes on.
struct Counted<'a> {
    waiter: Waiter,
    pauses: &'a AtomicUsize,
}

impl Waiting for Counted<'_> {
    fn pause(&mut self) -> ControlFlow<()> {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.waiter.pause()
    }

    fn stack(&mut self) -> String {
        self.waiter.stack()
    }
}

#[test]
fn who_waits_does_not_stand_behind_a_fork_or_another_look() {
    let site = site();
    let lock = lock(&site, 0);
    assert!(lock.try_acquire(identity(), thread_id()));
    let pauses = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let still = hold_still();
        let waiter = scope.spawn(|| {
            let mut counted = Counted { waiter: Waiter::new("waits"), pauses: &pauses };
            let outcome =
                lock.acquire(identity(), thread_id(), Patience::Forever, &SpinPolicy::none(), &mut counted);
            assert_eq!(outcome.expect("granted"), Acquired::Clean);
            lock.release(identity()).expect("ours");
        });
        await_that("the wait is written down", || site.waiters().count() == 1);
        let before = pauses.load(Ordering::Relaxed);
        await_that("it goes on", || pauses.load(Ordering::Relaxed) >= before + 3);
        lock.release(identity()).expect("ours");
        waiter.join().expect("it has got the lock by now");
        drop(still);
    });
}

/// What is told in a cycle of two threads, of which the second begins to wait when the first is listed.
fn cycle_of(older: &mut Waiter, younger: &mut Waiter) -> (Option<Vec<Member>>, Option<Vec<Member>>) {
    let site = site();
    let (first, second) = (lock(&site, 0), lock(&site, 1));
    let held = Barrier::new(2);
    let wait = |mine: &Lock, next: &Lock, waiter: &mut Waiter, ready: &dyn Fn()| {
        assert!(mine.try_acquire(identity(), thread_id()));
        held.wait();
        ready();
        let told =
            members(next.acquire(identity(), thread_id(), Patience::Forever, &SpinPolicy::none(), waiter));
        if told.is_none() {
            next.release(identity()).expect("ours");
        }
        mine.release(identity()).expect("ours");
        told
    };
    let has_stack = Arc::clone(&older.has_stack);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| wait(&first, &second, older, &|| {}));
        let listed = || await_that("the first waits", || site.waiters_of(second.key()).next().is_some());
        let younger = wait(&second, &first, younger, &listed);
        has_stack.store(true, Ordering::Relaxed);
        (other.join().expect("no panic"), younger)
    })
}

#[test]
fn who_must_come_back_with_its_lock_is_not_told() {
    let (mut older, mut younger) = (Waiter::new("older"), Waiter::new("younger"));
    younger.is_steadfast = true;
    let (told, not_told) = cycle_of(&mut older, &mut younger);
    assert!(not_told.is_none());
    let stacks: Vec<_> = told.expect("the only one").into_iter().map(|member| member.stack).collect();
    assert_eq!(stacks, ["older", "younger"]);
}

#[test]
fn stacks_are_waited_for_but_not_for_ever() {
    let (mut older, mut younger) = (Waiter::new("older"), Waiter::new("younger"));
    // It takes longer than most looks.
    older.has_stack.store(false, Ordering::Relaxed);
    let has_stack = Arc::clone(&older.has_stack);
    let soon = std::thread::spawn(move || {
        while !park::sleep_until(clock::now() + 100 * MILLISECOND) {}
        has_stack.store(true, Ordering::Relaxed);
    });
    let (_, told) = cycle_of(&mut older, &mut younger);
    assert_eq!(told.expect("the youngest")[1].stack, "older");
    soon.join().expect("no panic");
    // It never gets as far before the other has gone on.
    older.has_stack.store(false, Ordering::Relaxed);
    let (_, told) = cycle_of(&mut older, &mut younger);
    assert_eq!(told.expect("the youngest")[1].stack, "");
}

#[test]
fn processes_make_cycles_too() {
    let site = site();
    let (ours, theirs) = (lock(&site, 0), rlock(&site, 1));
    assert!(ours.try_acquire(identity(), thread_id()));
    let child = Child::run(|| {
        site.enter().expect("a slot");
        assert!(theirs.try_acquire(identity(), thread_id()));
        // The older one: it goes on when the other has given up.
        assert!(members(acquire(&ours, "theirs")).is_none());
        ours.release(identity()).expect("its own now");
        theirs.release(identity(), thread_id()).expect("its own");
    });
    while site.waiters_of(ours.key()).next().is_none() {
        std::thread::yield_now();
    }
    let (me, thread) = (identity(), thread_id());
    let outcome =
        theirs.acquire(me, thread, Patience::Forever, &SpinPolicy::none(), &mut Waiter::new("ours"));
    let members = members(outcome).expect("told");
    assert_eq!(members.len(), 2);
    assert_eq!((members[0].identity, members[0].thread), (me, thread));
    assert_eq!((members[0].kind, members[0].stack.as_str()), (WaitKind::RLock, "ours"));
    assert_eq!((members[1].identity.pid(), members[1].stack.as_str()), (child.pid(), "theirs"));
    ours.release(me).expect("ours");
    assert_eq!(child.wait(), News::Exited(0));
}

/// A lock in a segment of its own that others find by this name.
fn named(name: &str) -> Lock {
    let wanted = Wanted { kind: Kind::Lock, name: Some(name), parameters: [0; PARAMETERS], body: LOCK_BYTES };
    let room = |site: &Arc<Site>| site.segment().commit(SITE_BYTES..SITE_BYTES + LOCK_BYTES);
    let site = make_or_open(&wanted, room).expect("a segment").site;
    site.enter().expect("a slot");
    Lock::at(site, SITE_BYTES).expect("room for a lock")
}

/// Segments that look like named locks from outside, and are none.
fn impostors() -> Vec<Segment> {
    let text = CString::new("manyhands:Lock:impostor").expect("no NUL");
    let make = |len| Segment::create(&text, len).expect("a segment");
    let (short, empty, wild) = (make(4096), make(SITE_BYTES), make(SITE_BYTES + 4096));
    short.copy_in(0, b"mh-site\0");
    // A right heading, and after it nothing but ones: counts, participant slots, entries, stacks.
    let site = Site::create(Arc::new(wild), Kind::Lock.number(), [0; PARAMETERS]).expect("a site");
    site.publish();
    site.segment().copy_in(64, &vec![0xff; SITE_BYTES + 4096 - 64]);
    let fd = site.segment().fd().try_clone_to_owned().expect("a descriptor");
    vec![short, empty, Segment::attach(fd).expect("attached")]
}

/// The files and mappings of segments that this process has.
fn possessions() -> (Vec<PathBuf>, usize) {
    let targets = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let mut files: Vec<_> = targets.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    files.retain(|file| file.starts_with("/memfd:manyhands:"));
    files.sort();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    (files, maps.matches("/memfd:manyhands:").count())
}

/// Processes in a circle of which none has opened more than two of the locks.
#[test]
fn a_cycle_through_segments_of_others_is_found() {
    const COUNT: usize = 4;
    let result = site();
    let told = result.segment().word64(SITE_BYTES);
    let ready = result.segment().word64(SITE_BYTES + 8);
    let parent = std::process::id();
    let text = |number: usize| format!("cycle {parent} {}", number % COUNT);
    let member = |number: usize| {
        let _impostors = impostors();
        let (mine, next) = (named(&text(number)), named(&text(number + 1)));
        assert!(mine.try_acquire(identity(), thread_id()));
        ready.fetch_add(1, Ordering::SeqCst);
        await_that("all have their locks", || ready.load(Ordering::SeqCst) == COUNT as u64);
        let before = possessions();
        let outcome = members(acquire(&next, &format!("stack {number}")));
        assert_eq!(possessions(), before, "nothing is kept of a look");
        match outcome {
            Some(members) => {
                told.fetch_add(1, Ordering::SeqCst);
                let stacks: Vec<_> = members.iter().map(|member| member.stack.clone()).collect();
                let around = (number..number + COUNT).map(|other| format!("stack {}", other % COUNT));
                assert_eq!(stacks, around.collect::<Vec<_>>());
                assert!(members.iter().all(|member| member.key == next.key()));
            }
            None => next.release(identity()).expect("ours"),
        }
        mine.release(identity()).expect("ours");
    };
    let children: Vec<_> = (0..COUNT).map(|number| Child::run(|| member(number))).collect();
    assert!(children.iter().all(|child| child.wait() == News::Exited(0)));
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn who_gives_up_in_time_is_in_no_cycle() {
    let site = site();
    let (first, second) = (lock(&site, 0), lock(&site, 1));
    assert!(first.try_acquire(identity(), thread_id()));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            assert!(second.try_acquire(identity(), thread_id()));
            assert!(members(acquire(&first, "")).is_none(), "the other gave up");
            second.release(identity()).expect("ours");
            first.release(identity()).expect("ours");
        });
        while site.waiters_of(first.key()).next().is_none() {
            std::thread::yield_now();
        }
        let patience = Patience::Until(clock::now() + 300 * MILLISECOND);
        let spin = SpinPolicy::none();
        let outcome = second.acquire(identity(), thread_id(), patience, &spin, &mut Waiter::new(""));
        assert!(matches!(outcome, Err(Stopped::TimedOut)), "{outcome:?}");
        first.release(identity()).expect("ours");
        other.join().expect("no panic");
    });
}

/// A lock as a signal: one thread waits for what it has itself, until another one releases it.
#[test]
fn one_thread_that_waits_for_its_own_lock_is_left_alone() {
    let site = site();
    let lock = lock(&site, 0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            assert!(lock.try_acquire(identity(), thread_id()));
            assert!(members(acquire(&lock, "")).is_none());
        });
        let waits_for = |least: u64| {
            let waits = |since: u64| clock::now() > since + least;
            site.waiters_of(lock.key()).any(|entry| waits(entry.since))
        };
        // Several looks long.
        while !waits_for(150 * MILLISECOND) {
            std::thread::yield_now();
        }
        lock.release(identity()).expect("locked");
        waiter.join().expect("no panic");
    });
}

#[test]
fn a_chain_is_no_cycle() {
    let site = site();
    let (first, second) = (lock(&site, 0), lock(&site, 1));
    assert!(first.try_acquire(identity(), thread_id()));
    std::thread::scope(|scope| {
        let middle = scope.spawn(|| {
            assert!(second.try_acquire(identity(), thread_id()));
            assert!(members(acquire(&first, "")).is_none());
            second.release(identity()).expect("ours");
        });
        while site.waiters_of(first.key()).next().is_none() {
            std::thread::yield_now();
        }
        let last = scope.spawn(|| assert!(members(acquire(&second, "")).is_none()));
        let is_old = |since: u64| clock::now() > since + 150 * MILLISECOND;
        while !site.waiters_of(second.key()).any(|entry| is_old(entry.since)) {
            std::thread::yield_now();
        }
        first.release(identity()).expect("ours");
        middle.join().expect("no panic");
        last.join().expect("no panic");
    });
}
