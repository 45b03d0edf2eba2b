//! Barriers between threads and processes: all pass or nobody does, also when a party dies.
// Loom has models of its own; Miri knows no futex between mappings.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use child::{Child, News};
use ground::{await_that, both_ways, site, sleep_for_ever, soon, words};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::socket::WakeSocket;
use manyhands_sync::Patience;
use manyhands_sync::barrier::{Arrival, Barrier, NotPassed, Passage};
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Patient, Waiting};
use manyhands_sync::words::Words;

fn barrier(parties: usize) -> (Arc<Site>, Barrier) {
    let site = site();
    let words = words(&site, Barrier::words_for(parties));
    let barrier = Barrier::create(Arc::clone(&site), words, parties);
    (site, barrier)
}

fn wait(barrier: &Barrier) -> Result<usize, NotPassed> {
    match barrier.wait(soon(), &mut Patient)? {
        Passage::Passed(index) => Ok(index),
        Passage::Acts(acting) => acting.pass().map_err(|_| NotPassed::Broken),
    }
}

/// A child that arrives and waits; it ends when its wait does, with 0 if that was broken.
fn arrived_child(site: &Site, barrier: &Barrier, with_slot: bool) -> Child {
    let before = barrier.waiting();
    let child = Child::run(|| {
        if with_slot {
            site.enter().expect("a slot");
        }
        assert_eq!(wait(barrier), Err(NotPassed::Broken));
    });
    await_that("it has arrived", || barrier.waiting() == before + 1);
    child
}

#[test]
fn in_lockstep() {
    const PARTIES: usize = 5;
    const ROUNDS: usize = 300;
    let (_site, barrier) = barrier(PARTIES);
    let (came, acted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let sums = [(); ROUNDS].map(|()| AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..PARTIES {
            scope.spawn(|| {
                for (round, sum) in sums.iter().enumerate() {
                    came.fetch_add(1, Ordering::Relaxed);
                    let index = match barrier.wait(soon(), &mut Patient).expect("nobody breaks it") {
                        Passage::Passed(index) => index,
                        Passage::Acts(acting) => {
                            assert_eq!(came.load(Ordering::Relaxed), (round + 1) * PARTIES, "while all wait");
                            acted.fetch_add(1, Ordering::Relaxed);
                            acting.pass().expect("nobody breaks it")
                        }
                    };
                    assert_eq!(acted.load(Ordering::Relaxed), round + 1);
                    sum.fetch_add(1 << (8 * index), Ordering::Relaxed);
                    // Nobody goes on to the next round before all have looked.
                    wait(&barrier).expect("nobody breaks it");
                }
            });
        }
    });
    assert!(sums.iter().all(|sum| sum.load(Ordering::Relaxed) == 0x01_0101_0101), "each index once");
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
}

#[test]
fn processes_meet() {
    const ROUNDS: u64 = 200;
    both_ways(|| {
        let (site, barrier) = barrier(3);
        let all = words(&site, 64);
        let came = all.word(40);
        let party = || {
            for round in 1..=ROUNDS {
                came.fetch_add(1, Ordering::Relaxed);
                wait(&barrier).expect("nobody breaks it");
                assert!(came.load(Ordering::Relaxed) >= 3 * round);
            }
        };
        let others = [(); 2].map(|()| {
            Child::run(|| {
                site.enter();
                party();
            })
        });
        party();
        assert_eq!(others.map(|other| other.wait()), [News::Exited(0), News::Exited(0)]);
        assert_eq!(came.load(Ordering::Relaxed), 3 * ROUNDS);
    });
}

/// More threads than parties: every round is passed by exactly as many as there are parties, however late they look.
#[test]
fn more_threads_than_parties() {
    const ROUNDS: u64 = 3000;
    let (_site, barrier) = barrier(2);
    let (acted, passed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Ok(passage) = barrier.wait(soon(), &mut Patient) {
                    match passage {
                        Passage::Passed(_) => {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                        Passage::Acts(acting) => {
                            if acting.pass().is_ok() && acted.fetch_add(1, Ordering::Relaxed) == ROUNDS {
                                barrier.abort();
                            }
                        }
                    }
                }
            });
        }
    });
    assert!(acted.load(Ordering::Relaxed) >= ROUNDS);
    assert_eq!(acted.into_inner(), passed.into_inner());
}

#[test]
fn time_over_breaks_it_for_all() {
    let (_site, barrier) = barrier(3);
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| wait(&barrier));
        await_that("it waits", || barrier.waiting() == 1);
        let deadline = clock::now() + 5 * MILLISECOND;
        let late = barrier.wait(Patience::Until(deadline), &mut Patient);
        assert!(matches!(late, Err(NotPassed::Broken)) && clock::now() >= deadline);
        assert_eq!(patient.join().expect("no panic"), Err(NotPassed::Broken));
    });
    assert!(barrier.is_broken());
    assert_eq!(wait(&barrier), Err(NotPassed::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
}

#[test]
fn abort_and_reset() {
    let (_site, barrier) = barrier(2);
    for abort in [true, false] {
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&barrier));
            await_that("it waits", || barrier.waiting() == 1);
            if abort {
                barrier.abort()
            } else {
                barrier.reset()
            }
            assert_eq!(waiter.join().expect("no panic"), Err(NotPassed::Broken));
        });
        assert_eq!((barrier.is_broken(), barrier.waiting()), (abort, 0));
        barrier.reset();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| wait(&barrier));
            let indices = [wait(&barrier), other.join().expect("no panic")];
            assert_eq!(indices.map(|index| index.expect("passed")).iter().sum::<usize>(), 1);
        });
    }
}

#[test]
fn an_action_that_fails_breaks_it() {
    let (_site, barrier) = barrier(2);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&barrier));
        await_that("it waits", || barrier.waiting() == 1);
        match barrier.wait(soon(), &mut Patient) {
            Ok(Passage::Acts(acting)) => drop(acting),
            other => panic!("{other:?}"),
        }
        assert_eq!(waiter.join().expect("no panic"), Err(NotPassed::Broken));
    });
}

/// While somebody acts, those who come wait for the next round, and no time counts.
#[test]
fn nobody_is_late_while_somebody_acts() {
    let (_site, barrier) = barrier(2);
    std::thread::scope(|scope| {
        let impatient = scope.spawn(|| {
            barrier.wait(Patience::Until(clock::now() + 100 * MILLISECOND), &mut Patient).map(drop)
        });
        await_that("it waits", || barrier.waiting() == 1);
        let Ok(Passage::Acts(acting)) = barrier.wait(soon(), &mut Patient) else { panic!("the last") };
        let next = scope.spawn(|| wait(&barrier));
        let over = clock::now() + 150 * MILLISECOND;
        await_that("its time is over", || clock::now() > over);
        assert!(!impatient.is_finished() && !next.is_finished());
        assert_eq!(acting.pass(), Ok(1));
        impatient.join().expect("no panic").expect("passed");
        assert!(wait(&barrier).is_ok() && next.join().expect("no panic").is_ok());
    });
}

#[test]
fn who_is_interrupted_has_not_arrived() {
    struct Stop;
    impl Waiting for Stop {
        fn pause(&mut self) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let (_site, barrier) = barrier(2);
    assert!(matches!(barrier.wait(Patience::Forever, &mut Stop), Err(NotPassed::Interrupted)));
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| wait(&barrier));
        assert!(wait(&barrier).is_ok() && other.join().expect("no panic").is_ok());
    });
}

#[test]
fn a_death_breaks_it_for_those_who_wait() {
    for with_slot in [true, false] {
        both_ways(|| {
            let (site, barrier) = barrier(4);
            let other = arrived_child(&site, &barrier, true);
            let victim = arrived_child(&site, &barrier, with_slot);
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| wait(&barrier));
                await_that("all but one", || barrier.waiting() == 3);
                victim.kill();
                assert_eq!(thread.join().expect("no panic"), Err(NotPassed::Broken));
            });
            assert_eq!(other.wait(), News::Exited(0));
            assert!(barrier.is_broken());
        });
    }
}

/// Nobody waits who could notice: the one who would complete the round does.
#[test]
fn a_round_with_a_dead_party_is_not_passed() {
    let (site, barrier) = barrier(2);
    arrived_child(&site, &barrier, true).kill();
    assert_eq!(wait(&barrier), Err(NotPassed::Broken));
    barrier.reset();
    arrived_child(&site, &barrier, true).kill();
    assert!(barrier.break_if_dead());
    assert!(!barrier.break_if_dead());
}

#[test]
fn the_death_of_the_one_who_acts_breaks_it() {
    both_ways(|| {
        let (_site, barrier) = barrier(2);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&barrier));
            await_that("it waits", || barrier.waiting() == 1);
            let actor = Child::run(|| {
                let Ok(Passage::Acts(_acting)) = barrier.wait(soon(), &mut Patient) else {
                    panic!("the last")
                };
                sleep_for_ever();
            });
            await_that("it acts", || barrier.waiting() == 0);
            assert_eq!(barrier.arrive(), Arrival::Full);
            let next = scope.spawn(|| wait(&barrier));
            actor.kill();
            assert_eq!(waiter.join().expect("no panic"), Err(NotPassed::Broken));
            assert_eq!(next.join().expect("no panic"), Err(NotPassed::Broken));
        });
    });
}

/// Parties are killed at any moment, the barrier is reset, and the next ones go on.
#[test]
fn a_storm_of_deaths_stops_nobody() {
    const DEATHS: usize = 60;
    let (site, barrier) = barrier(3);
    let all = words(&site, 64);
    let rounds = all.word(40);
    let start = || {
        Child::run(|| {
            site.enter();
            loop {
                match barrier.wait(soon(), &mut Patient) {
                    Ok(Passage::Passed(_)) => {}
                    Ok(Passage::Acts(acting)) => {
                        if acting.pass().is_ok() {
                            rounds.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Err(_) => await_that("it is reset", || !barrier.is_broken()),
                }
            }
        })
    };
    let resets = AtomicUsize::new(0);
    let go_on = |more: u64| {
        let goal = rounds.load(Ordering::Relaxed) + more;
        await_that("they go on", || {
            // A party that passes counts the round afterwards, perhaps long afterwards: those that meet the dead one may break the
            // next round at any time, also when all rounds have been counted.
            if barrier.is_broken() {
                resets.fetch_add(1, Ordering::Relaxed);
                barrier.reset();
            }
            rounds.load(Ordering::Relaxed) >= goal
        });
    };
    let mut parties = [(); 3].map(|()| start());
    for death in 0..DEATHS {
        go_on(1 + death as u64 % 7 * 10);
        let victim = death % 3;
        if death % 4 == 0 {
            parties[victim].signal(libc::SIGSTOP);
            assert_eq!(parties[victim].wait(), News::Stopped);
        }
        // Killed, and another one takes its place.
        parties[victim] = start();
        go_on(1);
        site.sweep(|_| ());
    }
    let resets = resets.into_inner();
    assert!((1..=DEATHS).contains(&resets), "a death breaks one round at most: {resets} of {DEATHS}");
    drop(parties);
    barrier.reset();
    std::thread::scope(|scope| {
        let others = [(); 2].map(|()| scope.spawn(|| wait(&barrier)));
        let mut indices = vec![wait(&barrier)];
        indices.extend(others.map(|other| other.join().expect("no panic")));
        assert_eq!(indices.into_iter().map(|index| index.expect("passed")).sum::<usize>(), 3);
    });
}

#[test]
fn a_stopped_party_is_waited_for() {
    let (site, barrier) = barrier(2);
    let party = arrived_child(&site, &barrier, true);
    party.signal(libc::SIGSTOP);
    assert_eq!(party.wait(), News::Stopped);
    assert!(!barrier.break_if_dead());
    barrier.reset();
    party.signal(libc::SIGCONT);
    assert_eq!(party.wait(), News::Exited(0), "it learned of the reset");
}

#[test]
fn an_event_loop_is_a_party() {
    let (site, barrier) = barrier(2);
    let socket = WakeSocket::open().expect("a wake socket");
    let ticket =
        site.enlist_async(barrier.events(), WaitKind::Barrier, barrier.key(), socket.number()).expect("room");
    let Arrival::Waits(place) = barrier.arrive() else { panic!("alone") };
    assert_eq!(barrier.outcome(place), None);
    assert_eq!(wait(&barrier), Ok(1));
    assert!(ticket.is_called() && !socket.drain().is_empty());
    assert_eq!(barrier.outcome(place), Some(Ok(0)));
    ticket.leave(barrier.events(), true);
    // The last to come, with an action that fails.
    let Arrival::Waits(first) = barrier.arrive() else { panic!("alone") };
    let Arrival::Acts(second) = barrier.arrive() else { panic!("the last") };
    barrier.fail(second);
    assert!(barrier.is_broken() && matches!(barrier.outcome(first), Some(Err(_))));
}

#[test]
fn a_damaged_barrier_is_refused_or_broken() {
    let (site, barrier) = barrier(2);
    let all = words(&site, Barrier::words_for(2));
    let Arrival::Waits(place) = barrier.arrive() else { panic!("alone") };
    // A cell of this round that no process can have written.
    let cell = all.word(6).load(Ordering::Relaxed);
    all.word(8).store(cell >> 22 << 22, Ordering::Relaxed);
    assert_eq!(wait(&barrier), Err(NotPassed::Broken));
    assert!(matches!(barrier.outcome(place), Some(Err(_))));
    for nonsense in [0, 3, u64::MAX] {
        all.word(0).store(nonsense, Ordering::Relaxed);
        assert!(Barrier::open(Arc::clone(&site), all.clone()).is_err());
    }
    all.word(1).store(u64::MAX, Ordering::Relaxed);
    assert!(barrier.is_broken());
    barrier.reset();
    assert!(!barrier.is_broken());
}

/// A child that leaves the functions in which it was forked drops copies of its parent's places.
#[test]
fn a_forked_child_is_no_party() {
    let (_site, barrier) = barrier(2);
    let Arrival::Waits(first) = barrier.arrive() else { panic!("alone") };
    let child = Child::run(|| {
        barrier.withdraw(first);
        assert!(barrier.expire(first), "its own wait is over");
    });
    assert_eq!(child.wait(), News::Exited(0));
    assert_eq!((barrier.waiting(), barrier.is_broken()), (1, false));
    let Ok(Passage::Acts(acting)) = barrier.wait(soon(), &mut Patient) else { panic!("the last") };
    let mut acting = Some(acting);
    for passes in [true, false] {
        let child = Child::run(|| {
            let acting = acting.take().expect("there");
            if passes {
                assert!(acting.pass().is_err(), "it is not the one who acts");
            }
        });
        assert_eq!(child.wait(), News::Exited(0));
        assert_eq!((barrier.outcome(first), barrier.is_broken()), (None, false));
    }
    assert_eq!(acting.expect("there").pass(), Ok(1));
    assert_eq!(barrier.outcome(first), Some(Ok(0)));
}
