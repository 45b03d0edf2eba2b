//! Processes killed at every single store to shared memory, in each operation of each primitive, and while they recover
//! what another dead process has left: what the survivors find.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::sync::Arc;

use child::stepping::kill_at_every_store;
use child::{Child, News};
use ground::{await_that, memory, site, sleep_for_ever, soon, words};
use manyhands_os::clock;
use manyhands_os::process::identity;
use manyhands_sync::barrier::{Arrival, ArrivalToken, Barrier, NotPassed, Passage};
use manyhands_sync::condition::Condition;
use manyhands_sync::event::Event;
use manyhands_sync::semaphore::Semaphore;
use manyhands_sync::site::Site;
use manyhands_sync::waiting::{Patient, Stopped};
use manyhands_sync::{Patience, SpinPolicy};

/// Leaves `what` to a child that does it and dies.
fn leave_to_the_dead(what: impl FnOnce()) {
    assert_eq!(Child::run(what).wait(), News::Exited(0));
}

/// Looking again and again would only take thousands of instructions to trace.
static NO_SPIN: SpinPolicy = SpinPolicy::none();

fn enter(site: &Site) {
    site.enter().expect("a slot");
}

fn semaphore(initial: u64, bounded: bool) -> (Arc<Site>, Semaphore) {
    let site = site();
    let words = words(&site, Semaphore::words_for(initial));
    let semaphore = Semaphore::create(Arc::clone(&site), words, initial, bounded);
    (site, semaphore.with_spin(&NO_SPIN))
}

/// All permits can be had, by somebody who waits for each, and no more.
fn all_permits_are_there(semaphore: &Semaphore, what: &str) {
    let all = semaphore.initial();
    for number in 0..all {
        semaphore.acquire(soon(), &mut Patient).unwrap_or_else(|_| panic!("{number} of {all}, {what}"));
    }
    assert!(!semaphore.try_acquire(), "more than {all}, {what}");
    semaphore.release(all).unwrap_or_else(|error| panic!("{error}, {what}"));
    assert!(semaphore.release(1).is_err(), "too many, {what}");
}

fn kill_users_of_permits(initial: u64, prepare: impl Fn(&Semaphore), act: impl Fn(&Semaphore)) {
    let deaths = kill_at_every_store(
        || semaphore(initial, true),
        |(site, _)| memory(site),
        |(site, semaphore)| {
            enter(site);
            prepare(semaphore);
        },
        |(_, semaphore)| act(semaphore),
        |(_, semaphore), what| all_permits_are_there(semaphore, what),
    );
    assert!(deaths >= 3, "{deaths} stores");
}

#[test]
fn killed_while_it_acquires_and_releases_permits() {
    for initial in [1, 3] {
        let act = |semaphore: &Semaphore| {
            assert!(semaphore.try_acquire());
            semaphore.release(1).expect("ours");
        };
        kill_users_of_permits(initial, |_| (), act);
    }
}

#[test]
fn killed_while_it_waits_for_a_permit_in_vain() {
    let wait = |semaphore: &Semaphore| {
        let stopped = semaphore.acquire(Patience::Until(clock::now()), &mut Patient);
        assert!(matches!(stopped, Err(Stopped::TimedOut)));
    };
    let prepare = |semaphore: &Semaphore| {
        assert!(semaphore.try_acquire() && semaphore.try_acquire());
        wait(semaphore);
    };
    kill_users_of_permits(2, prepare, |semaphore| {
        wait(semaphore);
        semaphore.release(2).expect("ours");
    });
}

#[test]
fn killed_while_it_takes_permits_from_the_dead() {
    let leave = |semaphore: &Semaphore| {
        leave_to_the_dead(|| assert!(semaphore.try_acquire() && semaphore.try_acquire()));
    };
    kill_users_of_permits(2, leave, |semaphore| {
        assert!(semaphore.try_acquire());
        semaphore.release(1).expect("ours");
    });
}

/// A waiter gets the permit although the process that released it died before it woke anybody.
#[test]
fn killed_while_it_releases_a_permit_that_is_awaited() {
    kill_at_every_store(
        || {
            let (site, semaphore) = semaphore(1, true);
            assert!(semaphore.try_acquire());
            let waiter = Child::run(|| {
                enter(&site);
                semaphore.acquire(soon(), &mut Patient).expect("released");
                sleep_for_ever();
            });
            await_that("somebody sleeps", || semaphore.events().has_sleepers());
            (site, semaphore, waiter)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, semaphore, _)| semaphore.release(1).expect("anybody may"),
        |(_, semaphore, waiter), what| {
            if semaphore.holders().contains_key(&identity()) {
                semaphore.release(1).expect("ours");
            }
            let has_it = || semaphore.holders().keys().any(|holder| holder.pid() == waiter.pid());
            await_that(what, has_it);
        },
    );
}

/// Permits without a bound are never fewer than before, and released ones at most as many as were released.
#[test]
fn killed_while_it_releases_more_than_there_were() {
    kill_at_every_store(
        || semaphore(0, false),
        |(site, _)| memory(site),
        |(site, _)| enter(site),
        |(_, semaphore)| semaphore.release(3).expect("no bound"),
        |(_, semaphore), what| {
            let value = semaphore.value();
            assert!(value <= 3, "{value}, {what}");
            for _ in 0..value {
                assert!(semaphore.try_acquire(), "{what}");
            }
            assert!(!semaphore.try_acquire(), "{what}");
        },
    );
}

fn event() -> (Arc<Site>, Event) {
    let site = site();
    let event = Event::open(Arc::clone(&site), words(&site, Event::WORDS)).expect("room");
    (site, event.with_spin(&NO_SPIN))
}

#[test]
fn killed_while_it_sets_clears_and_awaits_an_event() {
    let wait = |event: &Event| {
        let stopped = event.wait(Patience::Until(clock::now()), &mut Patient);
        assert!(matches!(stopped, Err(Stopped::TimedOut)));
    };
    kill_at_every_store(
        event,
        |(site, _)| memory(site),
        |(site, event)| {
            enter(site);
            wait(event);
        },
        |(_, event)| {
            wait(event);
            event.set();
            event.clear();
        },
        |(_, event), what| {
            let was_set = event.is_set();
            event.clear();
            assert!(!event.is_set(), "{what}");
            let stopped = event.wait(Patience::Until(clock::now()), &mut Patient);
            assert!(matches!(stopped, Err(Stopped::TimedOut)), "{what}, set: {was_set}");
            event.set();
            event.wait(soon(), &mut Patient).unwrap_or_else(|_| panic!("{what}"));
        },
    );
}

/// A waiter is woken although the process that set the event died before it woke anybody.
#[test]
fn killed_while_it_sets_an_event_that_is_awaited() {
    kill_at_every_store(
        || {
            let (site, event) = event();
            let waiter = Child::run(|| {
                enter(&site);
                event.wait(soon(), &mut Patient).expect("set");
            });
            await_that("somebody sleeps", || event.events().has_sleepers());
            (site, event, waiter)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, event, _)| event.set(),
        |(_, event, waiter), what| {
            if !event.is_set() {
                event.set();
            }
            assert_eq!(waiter.wait(), News::Exited(0), "{what}");
        },
    );
}

fn condition() -> (Arc<Site>, Condition) {
    let site = site();
    let condition = Condition::open(Arc::clone(&site), words(&site, Condition::WORDS)).expect("room");
    (site, condition.with_spin(&NO_SPIN))
}

/// Two wait here, and one is notified: never none, never both.
fn one_of_two_is_notified(condition: &Condition, what: &str) {
    let (first, second) = (condition.enlist(true), condition.enlist(true));
    assert_eq!(condition.notify(1), 1, "{what}");
    assert!(first.is_notified() && !second.is_notified(), "{what}");
    let stopped = second.wait(Patience::Until(clock::now()), &mut Patient);
    assert!(matches!(stopped, Err(Stopped::TimedOut)), "{what}");
    first.wait(soon(), &mut Patient).unwrap_or_else(|_| panic!("{what}"));
    assert_eq!(condition.notify_all(), 0, "{what}");
    assert_eq!(condition.waiting(), 0, "{what}");
}

#[test]
fn killed_while_it_waits_for_a_notification() {
    let wait = |condition: &Condition| {
        let stopped = condition.enlist(true).wait(Patience::Until(clock::now()), &mut Patient);
        assert!(matches!(stopped, Err(Stopped::TimedOut)));
    };
    kill_at_every_store(
        condition,
        |(site, _)| memory(site),
        |(site, condition)| {
            enter(site);
            wait(condition);
        },
        |(_, condition)| wait(condition),
        |(_, condition), what| one_of_two_is_notified(condition, what),
    );
}

fn notify_oneself(condition: &Condition) {
    let waiter = condition.enlist(true);
    assert_eq!(condition.notify(2), 1);
    waiter.wait(soon(), &mut Patient).expect("notified");
}

/// Also over the entry of a dead waiter, which it strikes.
#[test]
fn killed_while_it_notifies() {
    kill_at_every_store(
        condition,
        |(site, _)| memory(site),
        |(site, condition)| {
            enter(site);
            notify_oneself(condition);
            leave_to_the_dead(|| std::mem::forget(condition.enlist(false)));
        },
        |(_, condition)| notify_oneself(condition),
        |(site, condition), what| {
            // One that was notified and has not said what it did with it: that goes to the next as well.
            if site.waiters_of(condition.key()).any(|entry| entry.called) {
                let waiter = condition.enlist(false);
                waiter.wait(soon(), &mut Patient).unwrap_or_else(|_| panic!("{what}"));
            }
            one_of_two_is_notified(condition, what);
        },
    );
}

/// A waiter is woken although the process that notified died before it woke anybody.
#[test]
fn killed_while_it_notifies_one_who_sleeps() {
    kill_at_every_store(
        || {
            let (site, condition) = condition();
            let waiter = Child::run(|| {
                enter(&site);
                condition.enlist(true).wait(soon(), &mut Patient).expect("notified");
            });
            await_that("somebody waits", || condition.waiting() == 1);
            (site, condition, waiter)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, condition, _)| assert_eq!(condition.notify(1), 1),
        |(_, condition, waiter), what| {
            let missed = condition.waiting() as u32;
            assert_eq!(condition.notify_all(), missed, "{what}");
            assert_eq!(waiter.wait(), News::Exited(0), "{what}");
        },
    );
}

fn barrier(parties: usize) -> (Arc<Site>, Barrier) {
    let site = site();
    let words = words(&site, Barrier::words_for(parties));
    let barrier = Barrier::create(Arc::clone(&site), words, parties);
    (site, barrier.with_spin(&NO_SPIN))
}

fn arrive(barrier: &Barrier) -> ArrivalToken {
    match barrier.arrive() {
        Arrival::Waits(token) => token,
        other => panic!("{other:?}"),
    }
}

fn act(barrier: &Barrier) -> ArrivalToken {
    match barrier.arrive() {
        Arrival::Acts(token) => token,
        other => panic!("{other:?}"),
    }
}

/// Two parties pass, after a reset if need be.
fn two_pass(barrier: &Barrier, what: &str) {
    if barrier.is_broken() {
        barrier.reset();
    }
    let (first, second) = match barrier.arrive() {
        Arrival::Waits(token) => (token, act(barrier)),
        other => panic!("{other:?}, {what}"),
    };
    assert!(barrier.pass(second), "{what}");
    assert_eq!(barrier.outcome(first), Some(Ok(0)), "{what}");
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false), "{what}");
}

/// Two parties, one of which is killed: the other one is told, or had not met it at all.
#[test]
fn killed_while_it_arrives() {
    kill_at_every_store(
        || barrier(2),
        |(site, _)| memory(site),
        |(site, _)| enter(site),
        |(_, barrier)| {
            let token = arrive(barrier);
            barrier.withdraw(token);
        },
        |(_, barrier), what| {
            let had_arrived = barrier.waiting() == 1;
            match barrier.wait(Patience::Until(clock::now()), &mut Patient) {
                Err(NotPassed::Broken) => assert!(barrier.is_broken(), "{what}"),
                other => panic!("{other:?}, {what}, arrived: {had_arrived}"),
            }
            two_pass(barrier, what);
        },
    );
}

/// It is the last to come, and dies before or after all have passed, in the child's own view and the others'.
#[test]
fn killed_while_it_lets_others_pass() {
    // The other party is the parent, whose place has to be kept from one closure to the next.
    kill_at_every_store(
        || {
            let (site, barrier) = barrier(2);
            let token = arrive(&barrier);
            (site, barrier, token)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, barrier, _)| match barrier.wait(soon(), &mut Patient) {
            Ok(Passage::Acts(acting)) => assert_eq!(acting.pass(), Ok(1)),
            other => panic!("{other:?}"),
        },
        |(_, barrier, token), what| {
            barrier.break_if_dead();
            if let Some(outcome) = barrier.outcome(*token) {
                assert_eq!(outcome.is_err(), barrier.is_broken(), "{what}");
            } else {
                // It had not come.
                assert_eq!(barrier.waiting(), 1, "{what}");
                assert!(barrier.pass(act(barrier)), "{what}");
                assert_eq!(barrier.outcome(*token), Some(Ok(0)), "{what}");
            }
            two_pass(barrier, what);
        },
    );
}

/// A waiter passes, or is told that the barrier is broken.
#[test]
fn killed_while_it_meets_one_who_sleeps() {
    kill_at_every_store(
        || {
            let (site, barrier) = barrier(2);
            let waiter = Child::run(|| {
                enter(&site);
                match barrier.wait(soon(), &mut Patient) {
                    Ok(Passage::Passed(0)) => assert!(!barrier.is_broken()),
                    Ok(Passage::Acts(acting)) => assert_eq!(acting.pass(), Ok(0)),
                    Err(NotPassed::Broken) => assert!(barrier.is_broken()),
                    other => panic!("{other:?}"),
                }
            });
            await_that("somebody sleeps", || barrier.events().has_sleepers());
            (site, barrier, waiter)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, barrier, _)| {
            if let Ok(Passage::Acts(acting)) = barrier.wait(soon(), &mut Patient) {
                assert_eq!(acting.pass(), Ok(1));
            }
        },
        |(_, barrier, waiter), what| {
            if barrier.waiting() == 1 {
                assert!(barrier.pass(act(barrier)), "{what}");
            }
            assert_eq!(waiter.wait(), News::Exited(0), "{what}");
        },
    );
}

fn wait_alone(barrier: &Barrier) {
    barrier.reset();
    let outcome = barrier.wait(Patience::Until(clock::now()), &mut Patient);
    assert!(matches!(outcome, Err(NotPassed::Broken)));
    barrier.reset();
}

#[test]
fn killed_while_it_breaks_and_resets() {
    kill_at_every_store(
        || {
            let (site, barrier) = barrier(2);
            let token = arrive(&barrier);
            (site, barrier, token)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, barrier, _)| {
            barrier.abort();
            wait_alone(barrier);
        },
        |(_, barrier, token), what| {
            let ended = barrier.outcome(*token);
            assert!(matches!(ended, None | Some(Err(_))), "{ended:?}, {what}");
            barrier.reset();
            two_pass(barrier, what);
        },
    );
}

/// Another party died before; the child is killed while it finds that out.
#[test]
fn killed_while_it_notices_a_death() {
    kill_at_every_store(
        || {
            let (site, barrier) = barrier(3);
            let token = arrive(&barrier);
            leave_to_the_dead(|| assert_eq!(arrive(&barrier).index(), 1));
            (site, barrier, token)
        },
        |(site, ..)| memory(site),
        |(site, ..)| enter(site),
        |(_, barrier, _)| assert_eq!(barrier.arrive(), Arrival::Broken),
        |(_, barrier, token), what| {
            barrier.break_if_dead();
            assert!(matches!(barrier.outcome(*token), Some(Err(_))), "{what}");
            barrier.reset();
            let (first, second) = (arrive(barrier), arrive(barrier));
            assert!(barrier.pass(act(barrier)), "{what}");
            assert_eq!(
                [first, second].map(|token| barrier.outcome(token)),
                [Some(Ok(0)), Some(Ok(1))],
                "{what}"
            );
        },
    );
}
