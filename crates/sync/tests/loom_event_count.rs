//! The event count under the model checker: every interleaving of a few threads.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`.
#![cfg(loom)]

mod loom_models {
    use loom::sync::Arc;
    use loom::thread;
    use manyhands_sync::EventCount;
    use manyhands_sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Shared {
        sequence: AtomicU32,
        sleepers: AtomicU32,
        condition: AtomicU32,
    }

    impl Shared {
        fn events(&self) -> EventCount<'_> {
            EventCount::new(&self.sequence, &self.sleepers)
        }

        /// Takes one from the condition; sleeps while there is none. A lost wake-up is a deadlock, which loom reports.
        fn take(&self) {
            loop {
                let key = self.events().prepare();
                if self.try_take() {
                    return;
                }
                self.events().wait(key, None);
            }
        }

        fn try_take(&self) -> bool {
            let less = |value: u32| value.checked_sub(1);
            self.condition.fetch_update(Ordering::Acquire, Ordering::Relaxed, less).is_ok()
        }

        fn put(&self) {
            // Relaxed on purpose: the fences of the event count have to do.
            self.condition.fetch_add(1, Ordering::Relaxed);
            self.events().notify(1);
        }
    }

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(body);
    }

    #[test]
    fn one_waits_one_notifies() {
        loom::model(|| {
            let shared = Arc::new(Shared::default());
            let waiter = thread::spawn({
                let shared = shared.clone();
                move || shared.take()
            });
            shared.put();
            waiter.join().expect("no panic");
            assert!(!shared.events().has_sleepers());
        });
    }

    #[test]
    fn two_wait_and_each_is_notified() {
        model(3, || {
            let shared = Arc::new(Shared::default());
            let waiters = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || shared.take())
            });
            shared.put();
            shared.put();
            for waiter in waiters {
                waiter.join().expect("no panic");
            }
            assert!(!shared.events().has_sleepers());
        });
    }

    #[test]
    fn one_waits_twice_two_notify() {
        model(3, || {
            let shared = Arc::new(Shared::default());
            let notifiers = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || shared.put())
            });
            shared.take();
            shared.take();
            for notifier in notifiers {
                notifier.join().expect("no panic");
            }
            assert!(!shared.events().has_sleepers());
        });
    }

    /// A supervisor that forgets the dead at any moment takes nobody's wake-up away.
    #[test]
    fn forgetting_the_dead_loses_nobody() {
        model(3, || {
            let shared = Arc::new(Shared::default());
            // Killed while it waited: counted in forever.
            std::mem::forget(shared.events().prepare());
            let waiter = thread::spawn({
                let shared = shared.clone();
                move || shared.take()
            });
            let supervisor = thread::spawn({
                let shared = shared.clone();
                move || shared.events().notify_all()
            });
            shared.put();
            waiter.join().expect("no panic");
            supervisor.join().expect("no panic");
            shared.events().notify_all();
            assert!(!shared.events().has_sleepers());
        });
    }
}
