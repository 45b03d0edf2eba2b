//! The permits of a semaphore under the model checker: every interleaving of a few threads.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`.
#![cfg(loom)]

mod loom_models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;
    use manyhands_sync::atomic::{AtomicU32, Ordering};
    use manyhands_sync::semaphore::Permits;
    use manyhands_sync::words::HeapWords;

    const DEAD: u64 = 99;

    struct Shared {
        permits: Permits<HeapWords>,
        /// What one permit protects.
        data: UnsafeCell<u32>,
        inside: AtomicU32,
    }

    // SAFETY: the model checker reports every access to the data that is not ordered.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    impl Shared {
        fn new(initial: u64) -> Arc<Self> {
            let words = HeapWords::new(Permits::<HeapWords>::words_for(initial));
            let permits = Permits::create(words, initial, true);
            Arc::new(Self { permits, data: UnsafeCell::new(0), inside: AtomicU32::new(0) })
        }

        /// A lost wake-up is a deadlock, which loom reports.
        fn acquire(&self, me: u64) {
            while !self.permits.acquire(me) {
                let key = self.permits.events().prepare();
                if self.permits.acquire(me) {
                    return;
                }
                self.permits.events().wait(key, None);
            }
        }

        fn release(&self, me: u64) {
            self.permits.release(me, 1).expect("it was acquired");
            if self.permits.are_awaited() {
                self.permits.events().notify(1);
            }
        }

        fn free_the_dead(&self) {
            let freed = self.permits.free_the_dead(|who| who == DEAD);
            if freed > 0 && self.permits.are_awaited() {
                self.permits.events().notify(freed);
            }
        }

        /// Uses what is protected by the only permit.
        fn work(&self) {
            // SAFETY: the only one, which is what is tested.
            self.data.with_mut(|data| unsafe { *data += 1 });
        }
    }

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(body);
    }

    fn spawn(shared: &Arc<Shared>, body: impl FnOnce(&Shared) + 'static) -> thread::JoinHandle<()> {
        let shared = shared.clone();
        thread::spawn(move || body(&shared))
    }

    #[test]
    fn one_permit_excludes() {
        model(3, || {
            let shared = Shared::new(1);
            let turn = |me| {
                move |shared: &Shared| {
                    shared.acquire(me);
                    shared.work();
                    shared.release(me);
                }
            };
            let others = [1, 2].map(|me| spawn(&shared, turn(me)));
            for other in others {
                other.join().expect("no panic");
            }
            assert_eq!(shared.permits.value(), 1);
            assert!(!shared.permits.events().has_sleepers());
        });
    }

    #[test]
    fn three_threads_two_permits() {
        model(2, || {
            let shared = Shared::new(2);
            let turn = |me| {
                move |shared: &Shared| {
                    shared.acquire(me);
                    assert!(shared.inside.fetch_add(1, Ordering::Relaxed) < 2);
                    shared.inside.fetch_sub(1, Ordering::Relaxed);
                    shared.release(me);
                }
            };
            let others = [1, 2].map(|me| spawn(&shared, turn(me)));
            turn(3)(&shared);
            for other in others {
                other.join().expect("no panic");
            }
            assert_eq!(shared.permits.value(), 2);
        });
    }

    #[test]
    fn a_signal_arrives() {
        loom::model(|| {
            let words = HeapWords::new(Permits::<HeapWords>::words_for(0));
            let permits = Permits::create(words, 0, false);
            let shared = Arc::new(Shared { permits, data: UnsafeCell::new(0), inside: AtomicU32::new(0) });
            let consumer = spawn(&shared, |shared| {
                shared.acquire(1);
                shared.work();
            });
            shared.work();
            shared.release(2);
            consumer.join().expect("no panic");
            assert_eq!(shared.permits.value(), 0);
        });
    }

    /// Whoever frees the permit of the dead, and however many do: it is one.
    #[test]
    fn the_permit_of_the_dead_comes_back_once() {
        model(3, || {
            let shared = Shared::new(1);
            assert!(shared.permits.acquire(DEAD));
            let turn = |me| {
                move |shared: &Shared| {
                    shared.free_the_dead();
                    shared.acquire(me);
                    shared.work();
                    shared.release(me);
                }
            };
            let others = [1, 2].map(|me| spawn(&shared, turn(me)));
            for other in others {
                other.join().expect("no panic");
            }
            assert_eq!(shared.permits.value(), 1);
        });
    }

    /// One waits, another notices the death.
    #[test]
    fn a_waiter_gets_the_permit_of_the_dead() {
        loom::model(|| {
            let shared = Shared::new(1);
            assert!(shared.permits.acquire(DEAD));
            let waiter = spawn(&shared, |shared| {
                shared.acquire(1);
                shared.release(1);
            });
            shared.free_the_dead();
            waiter.join().expect("no panic");
            assert_eq!(shared.permits.value(), 1);
        });
    }

    /// As many permits as threads: nobody is told that there is none.
    #[test]
    fn without_waiting_there_is_one_for_each() {
        model(2, || {
            let shared = Shared::new(2);
            let turn = |me| {
                move |shared: &Shared| {
                    for _ in 0..2 {
                        assert!(shared.permits.acquire_surely(me));
                        shared.release(me);
                    }
                }
            };
            let other = spawn(&shared, turn(1));
            turn(2)(&shared);
            other.join().expect("no panic");
            assert!(!shared.permits.events().has_sleepers());
        });
    }
}
