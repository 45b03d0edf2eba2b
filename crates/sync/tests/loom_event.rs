//! The flag of an event under the model checker: every interleaving of a few threads.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`.
#![cfg(loom)]

mod loom_models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;
    use manyhands_sync::event::{Flag, Turn};
    use manyhands_sync::words::HeapWords;

    struct Shared {
        flag: Flag<HeapWords>,
        /// Written before the flag is set, read by those who waited for it.
        data: UnsafeCell<u32>,
    }

    // SAFETY: the model checker reports every access to the data that is not ordered.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    impl Shared {
        fn new() -> Arc<Self> {
            let flag = Flag::new(HeapWords::new(Flag::<HeapWords>::WORDS)).expect("enough words");
            Arc::new(Self { flag, data: UnsafeCell::new(0) })
        }

        /// A lost wake-up is a deadlock, which loom reports.
        fn wait(&self, turn: Turn) {
            while !self.flag.was_set_since(turn) {
                let key = self.flag.events().prepare();
                if self.flag.was_set_since(turn) {
                    return;
                }
                self.flag.events().wait(key, None);
            }
        }

        fn set(&self) {
            self.flag.set();
            if self.flag.is_awaited() {
                self.flag.events().notify_all();
            }
        }

        fn write(&self) {
            // SAFETY: nobody reads before the flag is set, which is what is tested.
            self.data.with_mut(|data| unsafe { *data = 1 });
        }

        fn read(&self) -> u32 {
            // SAFETY: written before the flag was set, which is what is tested.
            self.data.with(|data| unsafe { *data })
        }
    }

    fn spawn(shared: &Arc<Shared>, body: impl FnOnce(&Shared) + 'static) -> thread::JoinHandle<()> {
        let shared = shared.clone();
        thread::spawn(move || body(&shared))
    }

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(body);
    }

    #[test]
    fn setting_wakes_all_and_shows_what_came_before() {
        model(3, || {
            let shared = Shared::new();
            let turn = shared.flag.turn();
            let wait = move |shared: &Shared| {
                shared.wait(turn);
                assert_eq!(shared.read(), 1);
            };
            let waiters = [(); 2].map(|()| spawn(&shared, wait));
            shared.write();
            shared.set();
            for waiter in waiters {
                waiter.join().expect("no panic");
            }
            assert!(!shared.flag.events().has_sleepers());
        });
    }

    #[test]
    fn who_waits_learns_of_a_flag_that_was_taken_back() {
        model(3, || {
            let shared = Shared::new();
            let turn = shared.flag.turn();
            let waiter = spawn(&shared, move |shared| {
                shared.wait(turn);
                assert_eq!(shared.read(), 1);
            });
            shared.write();
            shared.set();
            shared.flag.clear();
            waiter.join().expect("no panic");
            assert!(!shared.flag.is_set());
        });
    }

    #[test]
    fn clearing_by_another_takes_nothing_away() {
        model(3, || {
            let shared = Shared::new();
            let turn = shared.flag.turn();
            let waiter = spawn(&shared, move |shared| {
                shared.wait(turn);
                assert_eq!(shared.read(), 1);
            });
            let clearer = spawn(&shared, |shared| shared.flag.clear());
            shared.write();
            shared.set();
            waiter.join().expect("no panic");
            clearer.join().expect("no panic");
        });
    }

    /// As a signal handler does it, in the middle of another operation; and whoever set it first died before it woke
    /// anybody.
    #[test]
    fn setting_again_wakes_those_whom_the_dead_left() {
        loom::model(|| {
            let shared = Shared::new();
            let turn = shared.flag.turn();
            let waiter = spawn(&shared, move |shared| shared.wait(turn));
            shared.flag.set();
            shared.set();
            waiter.join().expect("no panic");
        });
    }
}
