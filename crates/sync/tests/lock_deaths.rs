//! Owners of locks that die, stop, or wait for each other.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::sync::{Arc, Mutex};

use child::{Child, News};
use ground::{both_ways, site, soon};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::process::{Identity, identity, thread_id};
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock, NotLocked, NotOwner, RLock};
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::waiting::{Patient, Stopped};
use manyhands_sync::{Patience, SpinPolicy};

fn lock(site: &Arc<Site>, number: usize) -> Lock {
    Lock::at(Arc::clone(site), SITE_BYTES + number * LOCK_BYTES).expect("room for a lock")
}

fn rlock(site: &Arc<Site>, number: usize) -> RLock {
    RLock::at(Arc::clone(site), SITE_BYTES + number * LOCK_BYTES).expect("room for a lock")
}

fn acquire(lock: &Lock) -> Acquired {
    lock.acquire(identity(), thread_id(), soon(), &SpinPolicy::none(), &mut Patient)
        .expect("acquired in time")
}

/// The child has acquired `lock`.
fn wait_until_owned(lock: &Lock, by: i32) {
    while lock.owner().is_none_or(|(owner, _)| owner.pid() != by) {
        std::thread::yield_now();
    }
}

fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}

/// A child that owns `locks`, all of which others must not have.
fn owner_of(site: &Site, locks: &[&Lock]) -> (Child, Identity) {
    let owner = Child::run(|| {
        site.enter().expect("a slot");
        for lock in locks {
            assert_eq!(acquire(lock), Acquired::Clean);
        }
        sleep_for_ever();
    });
    for lock in locks {
        wait_until_owned(lock, owner.pid());
    }
    let identity = Identity::of(owner.pid()).expect("alive");
    (owner, identity)
}

fn wait_for_sleepers(lock: &Lock) {
    while !lock.word().events().has_sleepers() {
        std::thread::yield_now();
    }
}

#[test]
fn a_waiter_takes_over_from_a_killed_owner() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        for _ in 0..5 {
            let (owner, dead) = owner_of(&site, &[&lock]);
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    assert_eq!(acquire(&lock), Acquired::Abandoned(dead));
                    assert!(lock.recover(identity()));
                    lock.release(identity()).expect("ours");
                });
                wait_for_sleepers(&lock);
                owner.kill();
                waiter.join().expect("no panic");
            });
            assert_eq!(acquire(&lock), Acquired::Clean);
            lock.release(identity()).expect("ours");
            site.sweep(|_| ());
        }
    });
}

#[test]
fn all_waiters_get_the_lock_of_a_killed_owner_in_turn() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        let (owner, dead) = owner_of(&site, &[&lock]);
        let abandoned = Mutex::new(0);
        let count = || site.waiters_of(lock.key()).count();
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let acquired = acquire(&lock);
                    if acquired == Acquired::Abandoned(dead) {
                        *abandoned.lock().expect("no panic") += 1;
                        assert!(lock.recover(identity()));
                    }
                    lock.release(identity()).expect("ours");
                });
            }
            while count() < 6 {
                std::thread::yield_now();
            }
            owner.kill();
        });
        assert_eq!(abandoned.into_inner().expect("no panic"), 1, "taken over once");
        assert_eq!(count(), 0);
        assert_eq!(acquire(&lock), Acquired::Clean);
    });
}

#[test]
fn released_without_recovering_it_is_poisoned() {
    let site = site();
    let lock = lock(&site, 0);
    let (owner, dead) = owner_of(&site, &[&lock]);
    assert_eq!(lock.acquire_now(identity(), thread_id()), None);
    owner.kill();
    assert_eq!(lock.acquire_now(identity(), thread_id()), Some(Acquired::Abandoned(dead)));
    assert!(lock.word().is_damaged());
    lock.release(identity()).expect("ours");
    for _ in 0..2 {
        assert!(!lock.is_locked());
        assert!(!lock.try_acquire(identity(), thread_id()), "not in passing");
        assert_eq!(acquire(&lock), Acquired::Poisoned);
        lock.release(identity()).expect("ours");
    }
    assert_eq!(acquire(&lock), Acquired::Poisoned);
    assert!(lock.recover(identity()));
    assert!(!lock.recover(identity()), "nothing left to recover");
    lock.release(identity()).expect("ours");
    assert!(lock.try_acquire(identity(), thread_id()));
    assert_eq!(lock.release(identity()), Ok(()));
    assert_eq!(lock.release(identity()), Err(NotLocked));
}

#[test]
fn a_second_owner_that_dies_is_taken_over_from_too() {
    let site = site();
    let lock = lock(&site, 0);
    let (first, first_dead) = owner_of(&site, &[&lock]);
    first.kill();
    let second = Child::run(|| {
        assert_eq!(acquire(&lock), Acquired::Abandoned(first_dead));
        sleep_for_ever();
    });
    wait_until_owned(&lock, second.pid());
    let second_dead = Identity::of(second.pid()).expect("alive");
    second.kill();
    assert_eq!(acquire(&lock), Acquired::Abandoned(second_dead));
}

#[test]
fn a_stopped_owner_is_not_robbed() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        let (go, went) = std::io::pipe().expect("a pipe");
        let owner = Child::run(|| {
            site.enter().expect("a slot");
            assert_eq!(acquire(&lock), Acquired::Clean);
            std::io::Read::read_exact(&mut &go, &mut [0]).expect("told");
            lock.release(identity()).expect("still ours");
        });
        wait_until_owned(&lock, owner.pid());
        owner.signal(libc::SIGSTOP);
        assert_eq!(owner.wait(), News::Stopped);
        let before = lock.owner();
        let patience = Patience::Until(clock::now() + 450 * MILLISECOND);
        let spin = SpinPolicy::none();
        let outcome = lock.acquire(identity(), thread_id(), patience, &spin, &mut Patient);
        assert!(matches!(outcome, Err(Stopped::TimedOut)), "{outcome:?}");
        assert_eq!(lock.acquire_now(identity(), thread_id()), None);
        assert_eq!(lock.owner(), before);
        owner.signal(libc::SIGCONT);
        std::io::Write::write_all(&mut &went, b"x").expect("told");
        assert_eq!(acquire(&lock), Acquired::Clean);
        assert_eq!(owner.wait(), News::Exited(0));
    });
}

/// A process that ends without having released anything.
#[test]
fn an_owner_that_ends_in_an_orderly_way_is_taken_over_from() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        let (go, went) = std::io::pipe().expect("a pipe");
        let owner = Child::run(|| {
            site.enter().expect("a slot");
            assert_eq!(acquire(&lock), Acquired::Clean);
            std::io::Read::read_exact(&mut &go, &mut [0]).expect("told");
            // SAFETY: the destructors of this thread, and handlers that only flush output.
            unsafe { libc::exit(0) };
        });
        wait_until_owned(&lock, owner.pid());
        let dead = Identity::of(owner.pid()).expect("alive");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| assert_eq!(acquire(&lock), Acquired::Abandoned(dead)));
            wait_for_sleepers(&lock);
            std::io::Write::write_all(&mut &went, b"x").expect("told");
            waiter.join().expect("no panic");
        });
        assert_eq!(owner.wait(), News::Exited(0));
    });
}

/// The participant slot is guarded by a thread that ends before its process does.
#[test]
fn an_owner_whose_guard_has_ended_is_taken_over_from() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        let owner = Child::run(|| {
            let enter = || site.enter().expect("a slot");
            std::thread::scope(|scope| scope.spawn(enter).join().expect("no panic"));
            assert_eq!(acquire(&lock), Acquired::Clean);
            sleep_for_ever();
        });
        wait_until_owned(&lock, owner.pid());
        let dead = Identity::of(owner.pid()).expect("alive");
        assert!(!site.is_dead(dead));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| assert_eq!(acquire(&lock), Acquired::Abandoned(dead)));
            wait_for_sleepers(&lock);
            owner.kill();
            waiter.join().expect("no panic");
        });
    });
}

#[test]
fn an_owner_without_a_slot_is_taken_over_from() {
    both_ways(|| {
        let site = site();
        let lock = lock(&site, 0);
        let owner = Child::run(|| {
            assert_eq!(acquire(&lock), Acquired::Clean);
            sleep_for_ever();
        });
        wait_until_owned(&lock, owner.pid());
        let dead = Identity::of(owner.pid()).expect("alive");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| assert_eq!(acquire(&lock), Acquired::Abandoned(dead)));
            wait_for_sleepers(&lock);
            owner.kill();
            waiter.join().expect("no panic");
        });
    });
}

/// Whoever is woken by a release and killed before it acquires takes nobody's turn.
#[test]
fn waiters_that_are_killed_keep_nobody_from_the_lock() {
    let site = site();
    let lock = lock(&site, 0);
    for _ in 0..4 {
        assert_eq!(acquire(&lock), Acquired::Clean);
        let waiter = Child::run(|| {
            site.enter().expect("a slot");
            let _ = acquire(&lock);
            sleep_for_ever();
        });
        wait_for_sleepers(&lock);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let acquired = acquire(&lock);
                assert!(matches!(acquired, Acquired::Clean | Acquired::Abandoned(_)), "{acquired:?}");
                lock.recover(identity());
                lock.release(identity()).expect("ours");
            });
            waiter.signal(libc::SIGSTOP);
            lock.release(identity()).expect("ours");
            waiter.kill();
            other.join().expect("no panic");
        });
        site.sweep(|_| ());
    }
}

#[test]
fn a_forked_child_owns_nothing() {
    let site = site();
    let (plain, reentrant) = (lock(&site, 0), rlock(&site, 1));
    let thread = thread_id();
    assert!(plain.try_acquire(identity(), thread) && reentrant.try_acquire(identity(), thread));
    let child = Child::run(|| {
        assert_eq!(site.participant(), None);
        assert!(!plain.recover(identity()));
        assert!(!reentrant.is_owned(identity(), thread_id()));
        assert_eq!(reentrant.release(identity(), thread_id()), Err(NotOwner));
        assert_eq!(reentrant.acquire_now(identity(), thread_id()), None, "its parent lives");
        assert!(site.enter().is_some());
    });
    assert_eq!(child.wait(), News::Exited(0));
    assert_eq!(site.participant(), Some(0));
    reentrant.release(identity(), thread).expect("ours");
    plain.release(identity()).expect("ours");
}
