//! Semaphores between threads and processes; holders that die, stop, or have no participant slot.
// Loom has models of its own; Miri knows no futex between mappings.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use child::{Child, News};
use ground::{await_that, both_ways, site, sleep_for_ever, soon, words};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::park::can_wait_any;
use manyhands_os::process::{Identity, identity};
use manyhands_sync::Patience;
use manyhands_sync::semaphore::{ReleasedTooOften, Semaphore};
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Patient, Stopped, Waiting};

fn semaphore(initial: u64, bounded: bool) -> (Arc<Site>, Semaphore) {
    let site = site();
    let words = words(&site, Semaphore::words_for(initial));
    let semaphore = Semaphore::create(Arc::clone(&site), words, initial, bounded);
    (site, semaphore)
}

fn acquire(semaphore: &Semaphore) {
    semaphore.acquire(soon(), &mut Patient).expect("acquired in time");
}

fn wait_for_sleepers(semaphore: &Semaphore) {
    await_that("somebody sleeps", || semaphore.events().has_sleepers());
}

/// A child that has `count` permits.
fn holder_of(site: &Site, semaphore: &Semaphore, count: u64, with_slot: bool) -> Child {
    let holder = Child::run(|| {
        if with_slot {
            site.enter().expect("a slot");
        }
        (0..count).for_each(|_| acquire(semaphore));
        sleep_for_ever();
    });
    let who = Identity::of(holder.pid()).expect("alive");
    await_that("it has its permits", || semaphore.holders().get(&who) == Some(&count));
    holder
}

#[test]
fn never_more_inside_than_permits() {
    const TURNS: u32 = 5000;
    let (_site, semaphore) = semaphore(3, true);
    let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    acquire(&semaphore);
                    most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    semaphore.release(1).expect("ours");
                }
            });
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
    assert_eq!((semaphore.value(), semaphore.holders().len()), (3, 0));
    assert_eq!(semaphore.release(1), Err(ReleasedTooOften));
}

#[test]
fn as_many_are_woken_as_permits_are_released() {
    let (site, semaphore) = semaphore(0, false);
    let through = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                acquire(&semaphore);
                through.fetch_add(1, Ordering::Relaxed);
            });
        }
        await_that("all wait", || site.waiters_of(semaphore.key()).count() == 5);
        semaphore.release(3).expect("no bound");
        await_that("three are through", || through.load(Ordering::Relaxed) == 3);
        assert!(!semaphore.try_acquire());
        assert_eq!(through.load(Ordering::Relaxed), 3);
        semaphore.release(2).expect("no bound");
    });
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn time_over_and_nothing_taken() {
    let (_site, semaphore) = semaphore(1, true);
    acquire(&semaphore);
    let deadline = clock::now() + 5 * MILLISECOND;
    let stopped = semaphore.acquire(Patience::Until(deadline), &mut Patient);
    assert!(matches!(stopped, Err(Stopped::TimedOut)) && clock::now() >= deadline);
    semaphore.release(1).expect("ours");
    assert_eq!(semaphore.value(), 1);
    assert!(!semaphore.events().has_sleepers());
}

/// A waiter that is interrupted in the moment in which it is woken hands the wake-up on.
#[test]
fn who_stops_waiting_keeps_nobody_from_a_permit() {
    struct Stop<'a>(&'a Semaphore);
    impl Waiting for Stop<'_> {
        fn pause(&mut self) -> ControlFlow<()> {
            // Released while the handler runs: the wake-up is for us, and we go.
            let _ = self.0.release(1);
            ControlFlow::Break(())
        }
    }
    let (_site, semaphore) = semaphore(1, true);
    acquire(&semaphore);
    let stopped = semaphore.acquire(Patience::Forever, &mut Stop(&semaphore));
    assert!(matches!(stopped, Err(Stopped::Broken)));
    assert_eq!(semaphore.value(), 1, "nothing was taken");
}

#[test]
fn a_waiter_gets_the_permit_of_a_killed_holder() {
    for with_slot in [true, false] {
        both_ways(|| {
            let (site, semaphore) = semaphore(2, true);
            for _ in 0..5 {
                let holder = holder_of(&site, &semaphore, 2, with_slot);
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| {
                        acquire(&semaphore);
                        acquire(&semaphore);
                        assert!(!semaphore.try_acquire());
                        semaphore.release(2).expect("ours");
                    });
                    wait_for_sleepers(&semaphore);
                    holder.kill();
                    waiter.join().expect("no panic");
                });
                assert_eq!(semaphore.value(), 2);
                site.sweep(|_| ());
            }
        });
    }
}

/// More holders than can be watched at a time: whichever dies is noticed.
#[test]
fn one_of_many_holders_is_killed() {
    const HOLDERS: usize = 20;
    both_ways(|| {
        let (site, semaphore) = semaphore(HOLDERS as u64, true);
        let holders: Vec<_> = (0..HOLDERS).map(|_| holder_of(&site, &semaphore, 1, true)).collect();
        for killed in [0, HOLDERS - 1, HOLDERS / 2] {
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| acquire(&semaphore));
                wait_for_sleepers(&semaphore);
                holders[killed].kill();
                waiter.join().expect("no panic");
            });
        }
        assert_eq!(semaphore.value(), 0);
        assert_eq!(semaphore.holders()[&identity()], 3);
        drop(holders);
        assert_eq!(semaphore.recover(), HOLDERS as u32 - 3);
        assert_eq!(semaphore.recover(), 0);
        semaphore.release(3).expect("ours");
        assert_eq!(semaphore.release(1), Err(ReleasedTooOften), "as many as in the beginning");
    });
}

#[test]
fn without_waiting_the_permits_of_the_dead_are_found() {
    let (site, semaphore) = semaphore(1, true);
    let holder = holder_of(&site, &semaphore, 1, true);
    assert!(!semaphore.try_acquire(), "it lives");
    holder.kill();
    assert_eq!(semaphore.value(), 0, "nobody has looked");
    assert!(semaphore.try_acquire());
    assert!(!semaphore.try_acquire());
}

#[test]
fn a_stopped_holder_is_not_robbed() {
    both_ways(|| {
        let (site, semaphore) = semaphore(1, true);
        let holder = holder_of(&site, &semaphore, 1, true);
        holder.signal(libc::SIGSTOP);
        assert_eq!(holder.wait(), News::Stopped);
        let stopped = semaphore.acquire(Patience::Until(clock::now() + 450 * MILLISECOND), &mut Patient);
        assert!(matches!(stopped, Err(Stopped::TimedOut)));
        assert_eq!((semaphore.recover(), semaphore.try_acquire()), (0, false));
        holder.kill();
        acquire(&semaphore);
    });
}

/// Whoever is woken by a release and killed before it acquires takes nobody's turn.
#[test]
fn waiters_that_are_killed_keep_nobody_from_a_permit() {
    let (site, semaphore) = semaphore(1, true);
    for _ in 0..10 {
        acquire(&semaphore);
        let waiter = Child::run(|| {
            site.enter().expect("a slot");
            acquire(&semaphore);
            sleep_for_ever();
        });
        wait_for_sleepers(&semaphore);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                acquire(&semaphore);
                semaphore.release(1).expect("ours");
            });
            waiter.signal(libc::SIGSTOP);
            semaphore.release(1).expect("ours");
            waiter.kill();
            other.join().expect("no panic");
        });
        site.sweep(|_| ());
    }
}

#[test]
fn a_storm_of_deaths_keeps_the_number_of_permits() {
    const PERMITS: u64 = 3;
    const DEATHS: u64 = 60;
    let (site, semaphore) = semaphore(PERMITS, true);
    let turns = words(&site, 40);
    let turns = manyhands_sync::words::Words::word(&turns, 30);
    let start = || {
        Child::run(|| {
            site.enter();
            loop {
                acquire(&semaphore);
                turns.fetch_add(1, Ordering::Relaxed);
                semaphore.release(1).expect("ours");
            }
        })
    };
    let mut workers: Vec<_> = (0..5).map(|_| start()).collect();
    let progress = AtomicU64::new(0);
    for death in 0..DEATHS {
        let goal = progress.load(Ordering::Relaxed) + death % 7 * 50;
        await_that("they go on", || turns.load(Ordering::Relaxed) >= goal);
        progress.store(turns.load(Ordering::Relaxed), Ordering::Relaxed);
        let victim = death as usize % workers.len();
        if death % 5 == 0 {
            workers[victim].signal(libc::SIGSTOP);
            let seen = turns.load(Ordering::Relaxed);
            await_that("the others go on", || turns.load(Ordering::Relaxed) > seen + 10);
        }
        workers[victim] = start();
        site.sweep(|_| ());
    }
    drop(workers);
    (0..PERMITS).for_each(|_| acquire(&semaphore));
    assert!(!semaphore.try_acquire());
    semaphore.release(PERMITS).expect("ours");
    assert_eq!(semaphore.release(1), Err(ReleasedTooOften));
}

#[test]
fn a_forked_child_has_no_permits() {
    let (site, semaphore) = semaphore(1, true);
    acquire(&semaphore);
    let child = Child::run(|| {
        assert!(!semaphore.try_acquire());
        assert_eq!(semaphore.recover(), 0, "its parent lives");
        assert!(!semaphore.holders().contains_key(&identity()));
        site.enter().expect("a slot");
    });
    assert_eq!(child.wait(), News::Exited(0));
    semaphore.release(1).expect("ours");
}

/// A semaphore that two processes map at different places.
#[test]
fn opened_by_another_it_is_the_same() {
    let (site, semaphore) = semaphore(2, true);
    let fd = site.segment().fd().try_clone_to_owned().expect("a descriptor");
    let segment = Arc::new(manyhands_os::memory::Segment::attach(fd).expect("mapped"));
    let again = Site::attach(segment).expect("a site");
    let other = Semaphore::open(Arc::clone(&again), words(&again, 7)).expect("the semaphore");
    assert_eq!((other.initial(), other.is_bounded(), other.key()), (2, true, semaphore.key()));
    assert!(other.try_acquire());
    assert_eq!(semaphore.value(), 1);
    assert!(Semaphore::open(again.clone(), words(&again, 6)).is_err(), "too few words");
}

/// Nobody can have written that into a cell.
#[test]
fn a_damaged_cell_is_an_empty_one() {
    let (site, semaphore) = semaphore(1, true);
    let cell = words(&site, Semaphore::words_for(1));
    let cell = manyhands_sync::words::Words::word(&cell, 5);
    for nonsense in [u64::MAX, 1 << 63, 5 << 22] {
        cell.store(nonsense, Ordering::Relaxed);
        acquire(&semaphore);
        cell.store(nonsense, Ordering::Relaxed);
        assert!(semaphore.try_acquire());
    }
}

#[test]
fn an_event_loop_is_woken() {
    use manyhands_os::socket::WakeSocket;

    let (site, semaphore) = semaphore(1, true);
    let socket = WakeSocket::open().expect("a wake socket");
    acquire(&semaphore);
    let events = semaphore.events();
    let ticket = site
        .enlist_async(events, WaitKind::Semaphore, semaphore.key(), socket.number())
        .expect("room in the table");
    assert!(!semaphore.try_acquire());
    semaphore.release(1).expect("ours");
    assert!(ticket.is_called());
    assert_eq!(socket.drain(), [ticket.call_number()]);
    assert!(semaphore.try_acquire());
    ticket.leave(events, true);
    assert!(!events.has_sleepers());
}

/// However many processes have permits: a waiter notices the death of any of them.
#[test]
fn one_of_very_many_holders_is_killed() {
    // As many as the kernel watches at once, and more; and how long half of the deaths may take to be noticed.
    for (count, limit) in [(40, 100 * MILLISECOND), (160, 400 * MILLISECOND)] {
        both_ways(|| {
            let limit = if can_wait_any() { limit } else { 400 * MILLISECOND };
            let delays = delays(count);
            assert!(delays[delays.len() / 2] < limit, "{count} holders, nanoseconds: {delays:?}");
        });
    }
}

/// In how many nanoseconds the deaths of some of `count` holders are noticed, the shortest first.
fn delays(count: usize) -> Vec<u64> {
    let (site, semaphore) = semaphore(count as u64, true);
    let hold = || {
        Child::run(|| {
            site.enter().expect("a slot");
            assert!(semaphore.try_acquire());
            sleep_for_ever();
        })
    };
    let holders: Vec<_> = (0..count).map(|_| hold()).collect();
    await_that("all permits are taken", || semaphore.value() == 0);
    let kill = |victim: &Child| {
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| semaphore.acquire(soon(), &mut Patient).map(|()| clock::now()));
            await_that("it has waited for a while", || site.waiters().count() == 1);
            victim.kill();
            let killed = clock::now();
            waiter.join().expect("no panic").expect("a permit").saturating_sub(killed)
        })
    };
    let mut delays: Vec<u64> = holders.iter().rev().step_by(count / 5).map(kill).collect();
    delays.sort_unstable();
    delays
}
