//! Locks between threads: exclusion, deadlines, signals, turns, reentrance; waiters are listed, and woken
//! through their wake sockets.
// Loom has models of its own; Miri knows no futex between mappings.
#![cfg(not(any(loom, miri)))]

mod ground;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ground::{site, soon};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::poll::{Interest, Poller};
use manyhands_os::process::{identity, thread_id};
use manyhands_os::socket::WakeSocket;
use manyhands_sync::lock::{Acquired, Lock, NotLocked, NotOwner, RLock};
use manyhands_sync::site::{SITE_BYTES, Site, WaitKind};
use manyhands_sync::waiting::{Look, Patient, Stopped, Wait, Waiting};
use manyhands_sync::{Patience, SpinPolicy};

fn lock(site: &Arc<Site>) -> Lock {
    Lock::at(Arc::clone(site), SITE_BYTES).expect("room for a lock")
}

fn rlock(site: &Arc<Site>) -> RLock {
    RLock::at(Arc::clone(site), SITE_BYTES).expect("room for a lock")
}

fn acquire(lock: &Lock) {
    let spin = SpinPolicy::none();
    let acquired = lock.acquire(identity(), thread_id(), soon(), &spin, &mut Patient);
    assert_eq!(acquired.expect("acquired in time"), Acquired::Clean);
}

#[test]
fn one_at_a_time() {
    const TURNS: u64 = 20_000;
    let site = site();
    let (lock, inside, count) = (lock(&site), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    acquire(&lock);
                    assert!(!inside.swap(true, Ordering::Relaxed), "two at a time");
                    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    inside.store(false, Ordering::Relaxed);
                    lock.release(identity()).expect("ours");
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::Relaxed), 4 * TURNS);
    assert!(!lock.is_locked());
}

#[test]
fn what_is_not_a_lock_is_refused() {
    let site = site();
    let len = site.segment().len();
    for offset in [0, SITE_BYTES - 64, SITE_BYTES + 8, len, len - 8, usize::MAX - 63] {
        assert!(Lock::at(Arc::clone(&site), offset).is_err(), "{offset}");
    }
}

#[test]
fn any_thread_may_release() {
    let site = site();
    let lock = lock(&site);
    assert_eq!(lock.release(identity()), Err(NotLocked));
    acquire(&lock);
    assert_eq!(lock.owner(), Some((identity(), thread_id())));
    std::thread::scope(|scope| scope.spawn(|| lock.release(identity())).join())
        .expect("no panic")
        .expect("locked");
    assert_eq!(lock.owner(), None);
    assert_eq!(lock.release(identity()), Err(NotLocked));
}

#[test]
fn a_deadline_ends_the_wait() {
    let site = site();
    let lock = lock(&site);
    acquire(&lock);
    for after in [0, 1, 30] {
        let deadline = clock::now() + after * MILLISECOND;
        let spin = SpinPolicy::none();
        let outcome = lock.acquire(identity(), thread_id(), Patience::Until(deadline), &spin, &mut Patient);
        assert!(matches!(outcome, Err(Stopped::TimedOut)), "{outcome:?}");
        assert!(clock::now() >= deadline);
    }
    assert!(!lock.word().events().has_sleepers());
    lock.release(identity()).expect("ours");
    assert!(lock.try_acquire(identity(), thread_id()), "nothing is left of those who gave up");
}

/// Breaks off when it is told to.
struct Impatient<'a>(&'a AtomicBool);

impl Waiting for Impatient<'_> {
    fn pause(&mut self) -> ControlFlow<()> {
        if self.0.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_waiter_can_be_told_to_stop() {
    let site = site();
    let (lock, stop) = (lock(&site), AtomicBool::new(false));
    acquire(&lock);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let (spin, mut waiting) = (SpinPolicy::none(), Impatient(&stop));
            lock.acquire(identity(), thread_id(), Patience::Forever, &spin, &mut waiting)
        });
        while !lock.word().events().has_sleepers() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(waiter.join().expect("no panic"), Err(Stopped::Broken)));
    });
    lock.release(identity()).expect("ours");
    acquire(&lock);
}

/// A signal handler that interrupts system calls, as Python's do, makes the waiter pause at once.
#[test]
fn a_signal_makes_the_waiter_pause() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: plain integers and a pointer that may be null: all zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: a handler that does nothing, for a signal that nobody else here uses.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    struct Counting<'a>(&'a AtomicU64);
    impl Waiting for Counting<'_> {
        fn pause(&mut self) -> ControlFlow<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            ControlFlow::Break(())
        }
    }
    let site = site();
    let (lock, pauses, thread) = (lock(&site), AtomicU64::new(0), AtomicU64::new(0));
    acquire(&lock);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            thread.store(u64::from(thread_id()), Ordering::Release);
            let (spin, mut waiting) = (SpinPolicy::none(), Counting(&pauses));
            lock.acquire(identity(), thread_id(), Patience::Forever, &spin, &mut waiting)
        });
        while !lock.word().events().has_sleepers() {
            std::thread::yield_now();
        }
        let (process, thread) = (identity().pid(), thread.load(Ordering::Acquire));
        while !waiter.is_finished() {
            // SAFETY: a thread of this process that has not been joined.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            std::thread::yield_now();
        }
        assert!(matches!(waiter.join().expect("no panic"), Err(Stopped::Broken)));
    });
    assert_eq!(pauses.load(Ordering::Relaxed), 1);
}

/// A thread that releases and acquires again at once cannot keep another one out forever.
#[test]
fn who_waits_long_gets_a_turn() {
    let site = site();
    let (lock, done) = (lock(&site), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                acquire(&lock);
                let until = clock::now() + MILLISECOND / 10;
                while clock::now() < until {}
                lock.release(identity()).expect("ours");
            }
        });
        for _ in 0..50 {
            acquire(&lock);
            lock.release(identity()).expect("ours");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_rlock_counts() {
    let site = site();
    let lock = rlock(&site);
    let (me, thread, spin) = (identity(), thread_id(), SpinPolicy::none());
    assert_eq!(lock.release(me, thread), Err(NotOwner));
    assert!(lock.try_acquire(me, thread) && lock.try_acquire(me, thread));
    assert_eq!(lock.acquire_now(me, thread), Some(Acquired::Clean));
    assert_eq!(
        lock.acquire(me, thread, Patience::Forever, &spin, &mut Patient).expect("ours"),
        Acquired::Clean
    );
    assert_eq!(lock.count(), 4);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!lock.is_owned(me, thread_id()));
            assert!(!lock.try_acquire(me, thread_id()));
            assert_eq!(lock.release(me, thread_id()), Err(NotOwner));
        });
    });
    for _ in 0..4 {
        lock.release(me, thread).expect("ours");
    }
    assert_eq!((lock.count(), lock.is_owned(me, thread)), (0, false));
    assert_eq!(lock.release(me, thread), Err(NotOwner));
}

#[test]
fn an_rlock_is_given_up_whole_and_taken_back() {
    let site = site();
    let lock = rlock(&site);
    let (me, thread, spin) = (identity(), thread_id(), SpinPolicy::none());
    assert_eq!(lock.release_save(me, thread), Err(NotOwner));
    assert!(lock.try_acquire(me, thread) && lock.try_acquire(me, thread));
    let saved = lock.release_save(me, thread).expect("ours");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock.try_acquire(me, thread_id()), "free");
            lock.release(me, thread_id()).expect("ours");
        });
    });
    let _ = lock.acquire_restore(me, thread, saved, &spin, &mut Patient).expect("free");
    assert_eq!(lock.count(), 2);
    lock.release(me, thread).expect("ours");
    lock.release(me, thread).expect("ours");
    assert!(!lock.lock().is_locked());
}

#[test]
fn long_waits_are_listed() {
    let site = site();
    let lock = lock(&site);
    acquire(&lock);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            acquire(&lock);
            thread_id()
        });
        let entry = loop {
            if let Some(entry) = site.waiters().next() {
                break entry;
            }
            std::thread::yield_now();
        };
        assert_eq!((entry.kind, entry.key, entry.identity), (WaitKind::Lock, lock.key(), identity()));
        assert!(entry.timed && !entry.by_socket && !entry.called);
        lock.release(identity()).expect("ours");
        assert_eq!(waiter.join().expect("no panic"), entry.thread);
    });
    assert_eq!(site.waiters().count(), 0);
}

/// A waiter for which the lock would be kept is gone when it is released.
#[test]
fn a_lock_kept_for_nobody_is_free() {
    let site = site();
    let lock = lock(&site);
    for counted_for_ever in [false, true] {
        acquire(&lock);
        if counted_for_ever {
            // As a process that is killed while it sleeps.
            std::mem::forget(lock.word().events().prepare());
        }
        let patience = Patience::Until(clock::now() + 50 * MILLISECOND);
        let spin = SpinPolicy::none();
        let outcome = lock.acquire(identity(), thread_id(), patience, &spin, &mut Patient);
        assert!(matches!(outcome, Err(Stopped::TimedOut)), "{outcome:?}");
        assert!(lock.word().is_starving());
        lock.release(identity()).expect("ours");
        assert_eq!(lock.is_locked(), counted_for_ever);
        while lock.acquire_now(identity(), thread_id()).is_none() {}
        lock.release(identity()).expect("ours");
    }
}

/// What an event loop does, with a lock: enlist, look, wait for the wake socket, look.
#[test]
fn a_lock_wakes_those_without_a_thread() {
    let site = site();
    let lock = lock(&site);
    let socket = WakeSocket::open().expect("a wake socket");
    let poller = Poller::new().expect("a poller");
    poller.add(socket.as_fd(), 0, Interest::Readable).expect("added");
    let (me, thread) = (identity(), thread_id());
    let owner_has_it = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            acquire(&lock);
            owner_has_it.wait();
            while site.waiters_of(lock.key()).next().is_none() {
                std::thread::yield_now();
            }
            lock.release(me).expect("ours");
        });
        owner_has_it.wait();
        let events = lock.word().events();
        let mut ticket =
            site.enlist_async(events, WaitKind::Lock, lock.key(), socket.number()).expect("room");
        let mut acquired = lock.poll_acquire(me, thread, false);
        while acquired.is_none() {
            poller.wait(soon().deadline()).expect("waited");
            let _ = socket.drain();
            acquired = lock.poll_acquire(me, thread, true);
            if acquired.is_none() {
                ticket.rearm(events);
                acquired = lock.poll_acquire(me, thread, true);
            }
        }
        ticket.leave(events, true);
    });
    assert_eq!(lock.owner(), Some((me, thread)));
    assert!(!lock.word().events().has_sleepers());
    assert_eq!(site.waiters().count(), 0);
}

/// A waiter that was woken and does not want the lock any more passes the wake-up on.
#[test]
fn a_useless_wake_is_passed_on() {
    let site = site();
    let lock = lock(&site);
    acquire(&lock);
    let socket = WakeSocket::open().expect("a wake socket");
    let events = lock.word().events();
    let enlist = || site.enlist_async(events, WaitKind::Lock, lock.key(), socket.number()).expect("room");
    let (first, second) = (enlist(), enlist());
    for _ in 0..2 {
        assert!(lock.poll_acquire(identity(), thread_id(), false).is_none());
    }
    lock.release(identity()).expect("ours");
    assert!(first.is_called() && !second.is_called(), "the longest waiting first");
    first.leave(events, false);
    assert!(second.is_called());
    second.leave(events, false);
    assert!(lock.try_acquire(identity(), thread_id()), "nobody is left");
}

#[test]
fn a_certain_waiter_is_called() {
    let site = site();
    let key = SITE_BYTES as u64;
    let spin = SpinPolicy::none();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (site, spin) = (&site, &spin);
            scope.spawn(move || {
                let listed = site.enlist(WaitKind::Condition, key + number, false).expect("room");
                let wait = Wait {
                    events: listed.events(),
                    key: key + number,
                    kind: WaitKind::Condition,
                    patience: soon(),
                    spin,
                    listed: Some(&listed),
                };
                let called = |_: Look| listed.is_called().then_some(());
                site.block(wait, &mut Patient, |_| (), called).expect("called");
                assert!(!listed.withdraw(), "it was called");
            });
        }
        for number in [1, 0, 2] {
            let entry = loop {
                if let Some(entry) = site.waiters_of(key + number).next() {
                    break entry;
                }
                std::thread::yield_now();
            };
            assert!(!site.call(entry.index, entry.ticket + 1), "somebody else");
            assert!(site.call(entry.index, entry.ticket));
        }
    });
    assert_eq!(site.waiters().count(), 0);
}

/// Even if nobody is ever woken, every waiter looks again after a while.
#[test]
fn a_lost_wake_up_is_made_good() {
    let site = site();
    let (looks, lock) = (Cell::new(0), lock(&site));
    let (spin, events) = (SpinPolicy::none(), lock.word().events());
    let (kind, key) = (WaitKind::Event, lock.key());
    let wait = Wait { events, key, kind, patience: soon(), spin: &spin, listed: None };
    let third = |look: Look| {
        looks.set(looks.get() + u32::from(look.sleeping));
        (looks.get() == 4).then_some(())
    };
    site.block(wait, &mut Patient, |_| (), third).expect("looked often enough");
}
