//! Every interleaving of a few threads around a lock.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use manyhands_os::process::Identity;
use manyhands_sync::lock::{Acquired, Attempt, LockWord};
use manyhands_sync::words::HeapWords;

struct Shared {
    lock: LockWord<HeapWords>,
    /// What the lock protects: loom reports two at a time.
    inside: UnsafeCell<u32>,
}

// SAFETY: the cell is touched only by the owner of the lock, which is what the models are about.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

fn who(number: u64) -> Identity {
    Identity::from_bits(number).expect("possible")
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { lock: LockWord::new(HeapWords::new(8)), inside: UnsafeCell::new(0) })
    }

    /// Acquires as waiters do, without the spinning. A lost wake-up is a deadlock, which loom reports.
    fn acquire(&self, me: u64, starving: bool, dead: Option<u64>) -> Acquired {
        if self.lock.try_acquire(who(me), 1) {
            return Acquired::Clean;
        }
        let mut how = Attempt { starving, dead: dead.map(who), ..Attempt::default() };
        loop {
            let key = self.lock.events().prepare();
            how.sleeping = true;
            if let Some(acquired) = self.lock.attempt(who(me), 1, how) {
                return acquired;
            }
            self.lock.events().wait(key, None);
            how.slept = true;
        }
    }

    fn release(&self, me: u64) {
        if self.lock.try_release(who(me)) {
            return;
        }
        if self.lock.release().expect("locked") && !self.lock.events().notify(1) {
            let _ = self.lock.stop_waiting();
        }
    }

    /// What the owner does.
    fn change(&self) {
        // SAFETY: the caller has the lock.
        self.inside.with_mut(|value| unsafe { *value += 1 });
    }

    fn take_turn(&self, me: u64, starving: bool) {
        assert_eq!(self.acquire(me, starving, None), Acquired::Clean);
        self.change();
        self.release(me);
    }

    fn value(&self) -> u32 {
        // SAFETY: called when all others have been joined.
        self.inside.with(|value| unsafe { *value })
    }
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

#[test]
fn two_take_turns() {
    loom::model(|| {
        let shared = Shared::new();
        let other = thread::spawn({
            let shared = shared.clone();
            move || shared.take_turn(2, false)
        });
        shared.take_turn(1, false);
        other.join().expect("no panic");
        assert_eq!(shared.value(), 2);
        assert!(!shared.lock.is_locked());
    });
}

#[test]
fn two_take_two_turns_each() {
    model(3, || {
        let shared = Shared::new();
        let other = thread::spawn({
            let shared = shared.clone();
            move || [(); 2].map(|()| shared.take_turn(2, false))
        });
        for _ in 0..2 {
            shared.take_turn(1, false);
        }
        other.join().expect("no panic");
        assert_eq!(shared.value(), 4);
    });
}

#[test]
fn three_take_turns() {
    model(2, || {
        let shared = Shared::new();
        let others = [2, 3].map(|me| {
            let shared = shared.clone();
            thread::spawn(move || shared.take_turn(me, false))
        });
        shared.take_turn(1, false);
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(shared.value(), 3);
    });
}

/// Handed over instead of freed: it is never kept for somebody who is not there.
#[test]
fn it_is_handed_over_to_who_starves() {
    model(3, || {
        let shared = Shared::new();
        let others = [2, 3].map(|me| {
            let shared = shared.clone();
            thread::spawn(move || shared.take_turn(me, me == 2))
        });
        shared.take_turn(1, false);
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(shared.value(), 3);
        assert!(!shared.lock.is_locked());
    });
}

/// Two who know that the owner is dead: one of them takes over, the other waits for that one.
#[test]
fn a_dead_owner_is_taken_over_from_once() {
    model(3, || {
        let shared = Shared::new();
        assert!(shared.lock.try_acquire(who(9), 1));
        let play = |shared: &Shared, me: u64| {
            let acquired = shared.acquire(me, false, Some(9));
            shared.change();
            if acquired == Acquired::Abandoned(who(9)) {
                assert!(shared.lock.recover(who(me)));
            }
            shared.release(me);
            acquired
        };
        let other = thread::spawn({
            let shared = shared.clone();
            move || play(&shared, 2)
        });
        let mine = play(&shared, 1);
        let both = [mine, other.join().expect("no panic")];
        let taken_over = both.iter().filter(|acquired| **acquired == Acquired::Abandoned(who(9))).count();
        assert_eq!(taken_over, 1);
        assert!(both.iter().all(|acquired| *acquired != Acquired::Poisoned));
        assert!(shared.lock.try_acquire(who(1), 1), "nothing is left");
    });
}

/// Whoever did not recover leaves it poisoned for the next.
#[test]
fn an_abandoned_lock_is_poisoned_by_its_release() {
    model(3, || {
        let shared = Shared::new();
        assert!(shared.lock.try_acquire(who(9), 1));
        let other = thread::spawn({
            let shared = shared.clone();
            move || {
                let acquired = shared.acquire(2, false, Some(9));
                shared.release(2);
                acquired
            }
        });
        let mine = shared.acquire(1, false, Some(9));
        shared.release(1);
        let theirs = other.join().expect("no panic");
        let first = Acquired::Abandoned(who(9));
        assert!([(first, Acquired::Poisoned), (Acquired::Poisoned, first)].contains(&(mine, theirs)));
        assert!(!shared.lock.is_locked() && shared.lock.is_damaged());
    });
}
