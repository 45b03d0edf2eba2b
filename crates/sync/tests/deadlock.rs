//! Cycles of waits are found, told to one member, and nothing else is taken for one.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::ops::ControlFlow;
use std::sync::{Arc, Barrier};

use child::{Child, News};
use ground::site;
use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::process::{identity, thread_id};
use manyhands_sync::SpinBudget;
use manyhands_sync::deadlock::Member;
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock, RLock};
use manyhands_sync::site::{SITE_BYTES, Site, WaitKind};
use manyhands_sync::waiting::{Stopped, Waiting};

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
}

impl Waiter {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), until: clock::now() + 30 * SECOND }
    }
}

impl Waiting for Waiter {
    fn pause(&mut self) -> ControlFlow<()> {
        if clock::now() < self.until { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn stack(&mut self) -> String {
        self.text.clone()
    }
}

fn acquire(lock: &Lock, text: &str) -> Result<Acquired, Stopped> {
    lock.acquire(identity(), thread_id(), None, &SpinBudget::none(), &mut Waiter::new(text))
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

#[test]
fn processes_make_cycles_too() {
    let site = site();
    let (ours, theirs) = (lock(&site, 0), rlock(&site, 1));
    assert!(ours.try_acquire(identity(), thread_id()));
    let child = Child::run(|| {
        site.enter().expect("a lease");
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
    let outcome = theirs.acquire(me, thread, None, &SpinBudget::none(), &mut Waiter::new("ours"));
    let members = members(outcome).expect("told");
    assert_eq!(members.len(), 2);
    assert_eq!((members[0].identity, members[0].thread), (me, thread));
    assert_eq!((members[0].kind, members[0].stack.as_str()), (WaitKind::RLock, "ours"));
    assert_eq!((members[1].identity.pid(), members[1].stack.as_str()), (child.pid(), "theirs"));
    ours.release(me).expect("ours");
    assert_eq!(child.wait(), News::Exited(0));
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
        let deadline = Some(clock::now() + 300 * MILLISECOND);
        let spin = SpinBudget::none();
        let outcome = second.acquire(identity(), thread_id(), deadline, &spin, &mut Waiter::new(""));
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
