//! Every operation on a lock, killed right after each of its changes of shared memory, also while it recovers from an
//! earlier death.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use child::Child;
use child::stepping::kill_at_every_store;
use ground::soon;
use manyhands_os::process::{identity, thread_id};
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock, RLock};
use manyhands_sync::site::{SITE_BYTES, Site, WaitKind};
use manyhands_sync::waiting::{Patient, Stopped, Waiting};
use manyhands_sync::{Patience, SpinPolicy};

struct Scene {
    site: Arc<Site>,
    lock: Lock,
    rlock: RLock,
}

impl Scene {
    fn new() -> Self {
        let site = ground::site();
        let lock = Lock::at(Arc::clone(&site), SITE_BYTES).expect("room");
        let rlock = RLock::at(Arc::clone(&site), SITE_BYTES + LOCK_BYTES).expect("room");
        Self { site, lock, rlock }
    }

    /// Both locks belong to a process that is dead.
    fn abandoned() -> Self {
        let scene = Self::new();
        let owner = Child::run(|| {
            scene.enter();
            assert_eq!(scene.acquire(), Acquired::Clean);
            let (me, thread) = (identity(), thread_id());
            assert!(scene.rlock.try_acquire(me, thread) && scene.rlock.try_acquire(me, thread));
        });
        assert_eq!(owner.wait(), child::News::Exited(0));
        scene
    }

    fn memory(&self) -> Vec<u8> {
        ground::memory(&self.site)
    }

    fn enter(&self) {
        self.site.enter().expect("a slot");
    }

    fn acquire(&self) -> Acquired {
        let (patience, spin) = (soon(), SpinPolicy::none());
        self.lock.acquire(identity(), thread_id(), patience, &spin, &mut Patient).expect("acquired in time")
    }

    /// Somebody else can go on with everything, and nothing is left of the dead.
    fn assert_usable(&self, what: &str) {
        let (me, thread) = (identity(), thread_id());
        let _ = self.acquire();
        self.lock.recover(me);
        self.lock.release(me).expect("ours");
        assert!(self.lock.try_acquire(me, thread), "as new: {what}");
        self.lock.release(me).expect("ours");

        let (patience, spin) = (soon(), SpinPolicy::none());
        let acquired = self.rlock.acquire(me, thread, patience, &spin, &mut Patient);
        assert!(acquired.is_ok(), "{acquired:?}: {what}");
        assert_eq!(self.rlock.count(), 1, "{what}");
        self.rlock.recover(me);
        self.rlock.release(me, thread).expect("ours");
        assert!(self.rlock.try_acquire(me, thread), "as new: {what}");
        self.rlock.release(me, thread).expect("ours");

        self.site.forget_all_dead();
        assert_eq!(self.site.waiters().count(), 0, "{what}");
        self.site.sweep(|_| ());
        assert_eq!(self.site.participants().count(), 1, "{what}");
    }
}

fn enter(scene: &Scene) {
    scene.enter();
}

/// Kills at every store of `act`; there are `least` of them at least, so that a test that sees none fails.
fn kill(least: usize, stage: impl Fn() -> Scene, prepare: impl Fn(&Scene), act: impl Fn(&Scene)) {
    let deaths = kill_at_every_store(stage, Scene::memory, prepare, act, Scene::assert_usable);
    assert!(deaths >= least, "{deaths} deaths only");
}

#[test]
fn acquire_and_release() {
    kill(3, Scene::new, enter, |scene| {
        assert!(scene.lock.try_acquire(identity(), thread_id()));
        scene.lock.release(identity()).expect("ours");
    });
}

#[test]
fn acquire_again_and_release_all() {
    kill(7, Scene::new, enter, |scene| {
        let (me, thread) = (identity(), thread_id());
        assert!(scene.rlock.try_acquire(me, thread) && scene.rlock.try_acquire(me, thread));
        scene.rlock.release(me, thread).expect("ours");
        assert!(scene.rlock.try_acquire(me, thread));
        assert_eq!(scene.rlock.release_save(me, thread), Ok(2));
    });
}

#[test]
fn take_over_and_recover() {
    kill(7, Scene::abandoned, enter, |scene| {
        let (me, thread) = (identity(), thread_id());
        assert!(matches!(scene.lock.acquire_now(me, thread), Some(Acquired::Abandoned(_))));
        assert!(scene.lock.recover(me));
        scene.lock.release(me).expect("ours");
        assert!(matches!(scene.rlock.acquire_now(me, thread), Some(Acquired::Abandoned(_))));
        assert!(scene.rlock.recover(me));
        scene.rlock.release(me, thread).expect("ours");
    });
}

#[test]
fn take_over_and_poison() {
    kill(4, Scene::abandoned, enter, |scene| {
        assert!(matches!(scene.acquire(), Acquired::Abandoned(_)));
        scene.lock.release(identity()).expect("ours");
        assert_eq!(scene.acquire(), Acquired::Poisoned);
        assert!(scene.lock.recover(identity()));
    });
}

/// Gives up when it may look after signals for the second time: by then it has been written into the table of waiters.
struct Twice(u32);

impl Waiting for Twice {
    fn pause(&mut self) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn stack(&mut self) -> String {
        "a stack".into()
    }
}

#[test]
fn wait_in_vain() {
    let stage = || {
        let scene = Scene::new();
        assert_eq!(scene.acquire(), Acquired::Clean);
        scene
    };
    let act = |scene: &Scene| {
        let spin = SpinPolicy::none();
        let outcome = scene.lock.acquire(identity(), thread_id(), Patience::Forever, &spin, &mut Twice(0));
        assert!(matches!(outcome, Err(Stopped::Broken)), "{outcome:?}");
    };
    let survive = |scene: &Scene, what: &str| {
        scene.lock.release(identity()).expect("ours all the time");
        scene.assert_usable(what);
    };
    let deaths = kill_at_every_store(stage, Scene::memory, enter, act, survive);
    assert!(deaths >= 15, "{deaths} deaths only");
}

/// Releases, while a thread of another process waits: that one gets the lock, whatever happens.
fn release_to_a_waiter(until: impl Fn(&Scene) -> bool) {
    let prepare = |scene: &Scene| {
        scene.enter();
        assert_eq!(scene.acquire(), Acquired::Clean);
        while !until(scene) {
            std::thread::yield_now();
        }
    };
    let stage = || {
        let scene = Scene::new();
        let waiting = scene.lock.clone();
        let waiter = std::thread::spawn(move || {
            while !waiting.is_locked() {
                std::thread::yield_now();
            }
            let (patience, spin) = (soon(), SpinPolicy::none());
            let acquired = waiting.acquire(identity(), thread_id(), patience, &spin, &mut Patient);
            let acquired = acquired.expect("acquired in time");
            waiting.recover(identity());
            waiting.release(identity()).expect("ours");
            acquired
        });
        (scene, RefCell::new(Some(waiter)))
    };
    let survive = |(scene, waiter): &(Scene, RefCell<Option<JoinHandle<Acquired>>>), what: &str| {
        let acquired = waiter.take().expect("a waiter").join().expect("no panic");
        assert!(matches!(acquired, Acquired::Abandoned(_) | Acquired::Clean), "{acquired:?}: {what}");
        scene.assert_usable(what);
    };
    let deaths = kill_at_every_store(
        stage,
        |(scene, _)| scene.memory(),
        |(scene, _)| prepare(scene),
        |(scene, _)| scene.lock.release(identity()).expect("ours"),
        survive,
    );
    assert!(deaths >= 2, "{deaths} deaths only");
}

#[test]
fn release_while_somebody_waits() {
    release_to_a_waiter(|scene| scene.lock.word().events().has_sleepers());
}

#[test]
fn hand_over_to_one_who_waits_too_long() {
    release_to_a_waiter(|scene| scene.lock.word().is_starving());
}

#[test]
fn enter_a_site() {
    kill(4, Scene::new, |_| (), enter);
}

#[test]
fn be_listed_and_called() {
    kill(12, Scene::new, enter, |scene| {
        let key = SITE_BYTES as u64;
        let listed = scene.site.enlist(WaitKind::Condition, key, true).expect("room");
        assert!(scene.site.call(listed.index(), listed.ticket()));
        drop(listed);
        let events = scene.lock.word().events();
        let mut ticket = scene.site.enlist_async(events, WaitKind::Lock, key, 7).expect("room");
        ticket.rearm(events);
        ticket.leave(events, true);
    });
}
