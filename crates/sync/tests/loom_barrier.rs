//! The rounds of a barrier under the model checker: every interleaving of a few threads.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p manyhands-sync --release --tests`.
#![cfg(loom)]

mod loom_models {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;
    use manyhands_sync::atomic::{AtomicU32, Ordering};
    use manyhands_sync::barrier::{Arrival, ArrivalToken, BrokenBarrier, Party, Rounds};
    use manyhands_sync::words::HeapWords;

    const DEAD: u64 = 99;

    fn is_dead(who: Party) -> bool {
        // Or has not said all of its identity, which is no reason to wait for it forever.
        matches!(who, Party::Known(DEAD) | Party::Process(99))
    }

    struct Shared {
        rounds: Rounds<HeapWords>,
        /// What two parties write before they arrive, in each of two rounds: a party that has passed may read all of it.
        notes: [[UnsafeCell<u64>; 2]; 2],
        acted: AtomicU32,
    }

    // SAFETY: the model checker reports every access to the notes that is not ordered.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    impl Shared {
        fn new(parties: usize) -> Arc<Self> {
            let words = HeapWords::new(Rounds::<HeapWords>::words_for(parties));
            let rounds = Rounds::create(words, parties);
            Arc::new(Self { rounds, notes: Default::default(), acted: AtomicU32::new(0) })
        }

        fn sleep_until<T>(&self, look: impl Fn() -> Option<T>) -> T {
            // As a thread that looks before it sleeps: without the fences of the event count.
            if let Some(value) = look() {
                return value;
            }
            loop {
                let key = self.rounds.events().prepare();
                if let Some(value) = look() {
                    return value;
                }
                self.rounds.events().wait(key, None);
            }
        }

        fn arrive(&self, me: u64) -> Arrival {
            self.sleep_until(|| {
                let arrival = self.rounds.arrive(me, is_dead);
                (arrival != Arrival::Full).then_some(arrival)
            })
        }

        /// A lost wake-up is a deadlock, which loom reports.
        fn outcome(&self, token: ArrivalToken) -> Result<usize, BrokenBarrier> {
            self.sleep_until(|| self.rounds.outcome(token))
        }

        fn wake(&self, changed: bool) {
            if changed {
                self.rounds.events().notify_all();
            }
        }

        fn wait(&self, me: u64) -> Result<usize, BrokenBarrier> {
            match self.arrive(me) {
                Arrival::Waits(token) => self.outcome(token),
                Arrival::Acts(token) => {
                    self.acted.fetch_add(1, Ordering::Relaxed);
                    let passed = self.rounds.pass(token);
                    self.wake(passed);
                    if passed { Ok(token.index()) } else { Err(BrokenBarrier) }
                }
                Arrival::Full | Arrival::Broken => {
                    self.wake(true);
                    Err(BrokenBarrier)
                }
            }
        }
    }

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(body);
    }

    fn spawn<T: 'static>(
        shared: &Arc<Shared>,
        body: impl FnOnce(&Shared) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let shared = shared.clone();
        thread::spawn(move || body(&shared))
    }

    #[test]
    fn two_parties_two_rounds() {
        model(3, || {
            let shared = Shared::new(2);
            let party = |me| {
                move |shared: &Shared| {
                    [0, 1].map(|round| {
                        let notes: &[UnsafeCell<u64>; 2] = &shared.notes[round];
                        // SAFETY: nobody reads it before we arrive, which is what is tested.
                        notes[me as usize - 1].with_mut(|note| unsafe { *note = me });
                        let index = shared.wait(me).expect("nobody breaks it");
                        // SAFETY: both have arrived, which is what is tested.
                        let read = [0, 1].map(|party: usize| notes[party].with(|note| unsafe { *note }));
                        assert_eq!(read, [1, 2], "passed before all had come");
                        index
                    })
                }
            };
            let other = spawn(&shared, party(1));
            let mine = party(2)(&shared);
            let theirs = other.join().expect("no panic");
            assert_eq!([mine[0] + theirs[0], mine[1] + theirs[1]], [1, 1]);
            assert_eq!(shared.acted.load(Ordering::Relaxed), 2, "one acts in each round");
        });
    }

    #[test]
    fn three_parties() {
        model(2, || {
            let shared = Shared::new(3);
            let others = [1, 2].map(|me| spawn(&shared, move |shared| shared.wait(me)));
            let mut indices = vec![shared.wait(3)];
            indices.extend(others.map(|other| other.join().expect("no panic")));
            indices.sort_by_key(|index| index.ok());
            assert_eq!(indices, [Ok(0), Ok(1), Ok(2)]);
            assert_eq!(shared.acted.load(Ordering::Relaxed), 1);
        });
    }

    /// More threads than parties: one that has looked at a round which is over by now takes no place in the next.
    #[test]
    fn whoever_passes_was_counted() {
        model(4, || {
            let shared = Shared::new(1);
            let party = |me| {
                move |shared: &Shared| {
                    for _ in 0..2 {
                        assert_eq!(shared.wait(me), Ok(0));
                    }
                }
            };
            let other = spawn(&shared, party(1));
            party(2)(&shared);
            other.join().expect("no panic");
            assert_eq!(shared.acted.load(Ordering::Relaxed), 4, "one in each round");
        });
    }

    /// Time over for one while the other arrives: both pass or both are told that it is broken.
    #[test]
    fn all_or_nobody() {
        model(3, || {
            let shared = Shared::new(2);
            let other = spawn(&shared, |shared| shared.wait(1));
            let mine = match shared.arrive(2) {
                Arrival::Waits(token) => {
                    shared.wake(shared.rounds.expire(token));
                    shared.outcome(token)
                }
                Arrival::Acts(token) => {
                    shared.wake(shared.rounds.pass(token));
                    shared.outcome(token)
                }
                Arrival::Full | Arrival::Broken => Err(BrokenBarrier),
            };
            assert_eq!(mine.is_ok(), other.join().expect("no panic").is_ok());
        });
    }

    #[test]
    fn a_reset_breaks_or_comes_too_late() {
        model(3, || {
            let shared = Shared::new(2);
            let other = spawn(&shared, |shared| shared.wait(1));
            // Either it arrives before the reset, or after it and the abort breaks it, or it does not get in.
            shared.rounds.reset();
            shared.rounds.abort();
            shared.wake(true);
            assert_eq!(other.join().expect("no panic"), Err(BrokenBarrier));
        });
    }

    /// One of the arrived is dead: whoever notices, the other is told, also when it would have been the last.
    #[test]
    fn a_death_breaks_it() {
        model(3, || {
            let shared = Shared::new(2);
            assert!(matches!(shared.rounds.arrive(DEAD, |_| false), Arrival::Waits(_)));
            let party = spawn(&shared, |shared| shared.wait(1));
            let broken = shared.rounds.break_if_dead(is_dead);
            shared.wake(broken);
            assert_eq!(party.join().expect("no panic"), Err(BrokenBarrier));
            assert!(shared.rounds.is_broken());
        });
    }

    /// The one who acts dies over it.
    #[test]
    fn a_death_while_acting_breaks_it() {
        model(3, || {
            let shared = Shared::new(2);
            let party = spawn(&shared, |shared| shared.wait(1));
            // Takes the second place, or the first and then waits for the other to act.
            if let Arrival::Waits(token) = shared.rounds.arrive(DEAD, |_| false) {
                let broken = shared.rounds.break_if_dead(is_dead);
                shared.wake(broken);
                let _ = shared.sleep_until(|| shared.rounds.outcome(token));
            }
            let broken = shared.rounds.break_if_dead(is_dead);
            shared.wake(broken);
            let outcome = party.join().expect("no panic");
            assert_eq!(outcome.is_ok(), !shared.rounds.is_broken());
        });
    }

    /// A place is given back and taken again while the last free one is taken: one of the two who take them sees that
    /// all have come.
    #[test]
    fn whoever_comes_last_knows() {
        loom::model(|| {
            let shared = Shared::new(3);
            let [first, _second] = [7, 8].map(|who| match shared.rounds.arrive(who, |_| false) {
                Arrival::Waits(token) => token,
                other => panic!("{other:?}"),
            });
            let acts = |arrival| matches!(arrival, Arrival::Acts(_));
            let other = spawn(&shared, move |shared| acts(shared.rounds.arrive(1, |_| false)));
            shared.rounds.withdraw(first);
            let mine = acts(shared.rounds.arrive(2, |_| false));
            let theirs = other.join().expect("no panic");
            assert!(mine || theirs || shared.rounds.waiting() < 3, "all have come, and nobody acts");
            assert!(!(mine && theirs), "two act");
        });
    }

    /// A place that is given back just when the last party comes is either counted or taken by another, never both.
    #[test]
    fn a_withdrawal_leaves_room_for_one() {
        model(2, || {
            let shared = Shared::new(2);
            let Arrival::Waits(token) = shared.rounds.arrive(7, |_| false) else { panic!("alone") };
            let parties = [1, 2].map(|me| {
                spawn(&shared, move |shared| match shared.arrive(me) {
                    Arrival::Waits(token) => {
                        // With the one who withdraws there may be one too many or one too few.
                        shared.wake(shared.rounds.expire(token));
                        shared.outcome(token)
                    }
                    Arrival::Acts(token) => {
                        let passed = shared.rounds.pass(token);
                        shared.wake(passed);
                        passed.then_some(token.index()).ok_or(BrokenBarrier)
                    }
                    Arrival::Full | Arrival::Broken => Err(BrokenBarrier),
                })
            });
            shared.rounds.withdraw(token);
            let passed = parties.map(|party| party.join().expect("no panic").is_ok());
            let first = shared.rounds.outcome(token).is_some_and(|outcome| outcome.is_ok());
            let count = usize::from(passed[0]) + usize::from(passed[1]);
            // In a round of two that has been passed there were the two others, or one of them and the one who left.
            assert!(count < 2 || first, "{passed:?}, first {first}");
        });
    }
}
