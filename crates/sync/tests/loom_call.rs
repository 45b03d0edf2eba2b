//! Calling one certain waiter, as conditions and wake sockets do, under the model checker: every interleaving of a few
//! threads. Run with `RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`.
#![cfg(loom)]

mod loom_models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;
    use manyhands_sync::EventCount;
    use manyhands_sync::atomic::{AtomicU32, AtomicU64};
    use manyhands_sync::call::Call;

    /// A waiter's place.
    #[derive(Default)]
    struct Place {
        state: AtomicU64,
        sequence: AtomicU32,
        sleepers: AtomicU32,
    }

    impl Place {
        fn call(&self) -> Call<'_> {
            Call::new(&self.state, EventCount::new(&self.sequence, &self.sleepers))
        }

        /// A lost wake-up is a deadlock, which loom reports.
        fn wait(&self, ticket: u64) {
            while !self.call().is_called(ticket) {
                let key = self.call().events().prepare();
                if self.call().is_called(ticket) {
                    return;
                }
                self.call().events().wait(key, None);
            }
        }

        fn notify(&self, ticket: u64) -> bool {
            let called = self.call().call(ticket);
            if called {
                self.call().wake();
            }
            called
        }
    }

    struct Shared {
        places: [Place; 2],
        /// Written before a call, read by the waiter that has been called.
        data: UnsafeCell<u32>,
    }

    // SAFETY: the model checker reports every access to the data that is not ordered.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self { places: Default::default(), data: UnsafeCell::new(0) })
        }

        /// Calls the oldest who has not been called, as a condition does.
        fn notify_one(&self) -> bool {
            self.places[0].notify(1) || self.places[1].notify(2)
        }
    }

    fn spawn<T: 'static>(
        shared: &Arc<Shared>,
        body: impl FnOnce(&Shared) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let shared = shared.clone();
        thread::spawn(move || body(&shared))
    }

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(body);
    }

    #[test]
    fn who_is_called_wakes_and_sees_what_came_before() {
        loom::model(|| {
            let shared = Shared::new();
            shared.places[0].call().begin(1);
            let waiter = spawn(&shared, |shared| {
                shared.places[0].wait(1);
                // SAFETY: written before the call, which is what is tested.
                assert_eq!(shared.data.with(|data| unsafe { *data }), 1);
            });
            // SAFETY: nobody reads before the call, which is what is tested.
            shared.data.with_mut(|data| unsafe { *data = 1 });
            assert!(shared.places[0].notify(1));
            waiter.join().expect("no panic");
        });
    }

    #[test]
    fn called_or_given_up_and_never_both() {
        loom::model(|| {
            let shared = Shared::new();
            shared.places[0].call().begin(1);
            let waiter = spawn(&shared, |shared| shared.places[0].call().withdraw(1));
            let called = shared.places[0].notify(1);
            assert_ne!(waiter.join().expect("no panic"), called);
        });
    }

    /// Two are notified one after the other: both wake, whoever of the two who notify comes first.
    #[test]
    fn each_notification_wakes_another() {
        model(2, || {
            let shared = Shared::new();
            shared.places[0].call().begin(1);
            shared.places[1].call().begin(2);
            let waiter = spawn(&shared, |shared| {
                shared.places[0].wait(1);
                shared.places[1].wait(2);
            });
            let other = spawn(&shared, |shared| assert!(shared.notify_one()));
            assert!(shared.notify_one());
            other.join().expect("no panic");
            waiter.join().expect("no panic");
            assert!(!shared.notify_one());
        });
    }

    /// A waiter that gives up passes on the notification that came too late; so it always arrives.
    #[test]
    fn a_notification_is_passed_on() {
        model(3, || {
            let shared = Shared::new();
            shared.places[0].call().begin(1);
            shared.places[1].call().begin(2);
            let patient = spawn(&shared, |shared| shared.places[1].wait(2));
            let leaving = spawn(&shared, |shared| {
                if !shared.places[0].call().withdraw(1) {
                    assert!(shared.places[1].notify(2));
                }
            });
            assert!(shared.notify_one());
            leaving.join().expect("no panic");
            patient.join().expect("no panic");
        });
    }

    /// The place is used by another before the call comes.
    #[test]
    fn a_late_call_reaches_nobody_else() {
        loom::model(|| {
            let shared = Shared::new();
            shared.places[0].call().begin(1);
            let holder = spawn(&shared, |shared| {
                let left = shared.places[0].call().withdraw(1);
                shared.places[0].call().fill(3);
                shared.places[0].call().begin(3);
                left
            });
            let called = shared.places[0].notify(1);
            assert_ne!(holder.join().expect("no panic"), called);
            assert!(!shared.places[0].call().is_called(3));
        });
    }
}
