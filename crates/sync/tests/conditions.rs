//! Conditions between threads and processes: exactly as many are woken as were asked for.
// Miri knows no futex between mappings; loom no table of waiters.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use child::{Child, News};
use ground::{await_that, both_ways, site, soon, words};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::process::{identity, thread_id};
use manyhands_os::socket::WakeSocket;
use manyhands_sync::condition::{AsyncEnlisted, Condition};
use manyhands_sync::lock::Lock;
use manyhands_sync::site::{MOST_WAITERS, SITE_BYTES, Site, WaitKind};
use manyhands_sync::waiting::{Patient, Stopped, Waiting};
use manyhands_sync::words::Words;
use manyhands_sync::{EventCount, Patience, SpinPolicy};

fn condition() -> (Arc<Site>, Condition) {
    let site = site();
    let condition = Condition::open(Arc::clone(&site), words(&site, Condition::WORDS)).expect("room");
    (site, condition)
}

/// A child that waits once.
fn waiter(site: &Site, condition: &Condition) -> Child {
    let before = condition.waiting();
    let child = Child::run(|| {
        site.enter();
        condition.enlist(false).wait(soon(), &mut Patient).expect("notified");
    });
    await_that("it waits", || condition.waiting() == before + 1);
    child
}

#[test]
fn the_oldest_are_woken_and_no_others() {
    let (_site, condition) = condition();
    let mut waiting: VecDeque<_> = (0..7).map(|_| condition.enlist(true)).collect();
    for count in [0, 1, 3, 2] {
        assert_eq!(condition.notify(count), count);
        for _ in 0..count {
            let notified = waiting.pop_front().expect("there are seven");
            assert!(notified.is_notified());
            notified.wait(soon(), &mut Patient).expect("notified");
        }
        assert!(!waiting.iter().any(|waiter| waiter.is_notified()));
    }
    assert_eq!((condition.waiting(), condition.notify(9), condition.notify_all()), (1, 1, 0));
    // It came before the wait.
    waiting.pop_back().expect("one").wait(soon(), &mut Patient).expect("notified");
}

#[test]
fn threads_are_woken_in_turn() {
    let (_site, condition) = condition();
    let woken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..5 {
            let enlisted = condition.enlist(false);
            let woken = &woken;
            scope.spawn(move || {
                enlisted.wait(soon(), &mut Patient).expect("notified");
                woken.lock().expect("no panic").push(number);
            });
        }
        for number in 0..5 {
            assert_eq!(condition.notify(1), 1);
            await_that("one more", || woken.lock().expect("no panic").len() == number + 1);
        }
    });
    assert_eq!(woken.into_inner().expect("no panic"), [0, 1, 2, 3, 4]);
}

#[test]
fn who_gave_up_is_passed_over() {
    let (_site, condition) = condition();
    let (first, second) = (condition.enlist(true), condition.enlist(true));
    let deadline = clock::now() + 3 * MILLISECOND;
    assert!(matches!(first.wait(Patience::Until(deadline), &mut Patient), Err(Stopped::TimedOut)));
    assert!(clock::now() >= deadline);
    assert_eq!(condition.notify(1), 1);
    // Its time is over, but it has been notified.
    second.wait(Patience::Now, &mut Patient).expect("notified");
    assert_eq!(condition.waiting(), 0);
}

/// Notified in the moment in which it is interrupted: somebody else gets the notification.
#[test]
fn who_is_interrupted_passes_it_on() {
    struct Stop<'a>(&'a Condition);
    impl Waiting for Stop<'_> {
        fn pause(&mut self) -> ControlFlow<()> {
            assert_eq!(self.0.notify(1), 1);
            ControlFlow::Break(())
        }
    }
    let (_site, condition) = condition();
    let (first, second, third) = (condition.enlist(true), condition.enlist(true), condition.enlist(true));
    assert!(matches!(first.wait(Patience::Forever, &mut Stop(&condition)), Err(Stopped::Broken)));
    assert!(second.is_notified() && !third.is_notified());
    // And who does not even begin to wait.
    drop(second);
    assert!(third.is_notified());
}

#[test]
fn dead_waiters_do_not_count() {
    both_ways(|| {
        let (site, condition) = condition();
        let waiters: Vec<_> = (0..4).map(|_| waiter(&site, &condition)).collect();
        waiters[0].kill();
        waiters[2].kill();
        assert_eq!(condition.notify(1), 1);
        assert_eq!(waiters[1].wait(), News::Exited(0));
        assert_eq!(condition.notify(2), 1);
        assert_eq!(waiters[3].wait(), News::Exited(0));
        assert_eq!(condition.waiting(), 0);
    });
}

/// Called, and dead before they can have made use of it, one after the other: the call reaches one that lives.
#[test]
fn a_call_that_the_dead_got_goes_to_the_next() {
    both_ways(|| {
        let (site, condition) = condition();
        let doomed: Vec<_> = (0..3).map(|_| waiter(&site, &condition)).collect();
        for child in &doomed {
            child.signal(libc::SIGSTOP);
            assert_eq!(child.wait(), News::Stopped);
        }
        let (second, third) = (waiter(&site, &condition), waiter(&site, &condition));
        // The first is called; whoever passes its call on means the next of the stopped, and so on.
        assert_eq!(condition.notify(1), 1);
        doomed.iter().for_each(Child::kill);
        assert_eq!(second.wait(), News::Exited(0));
        assert_eq!(condition.waiting(), 1, "one call, one that is woken");
        assert_eq!(condition.notify(1), 1);
        assert_eq!(third.wait(), News::Exited(0));
    });
}

/// Waiters have to answer nothing: not the stopped, not the dead.
#[test]
fn a_stopped_waiter_counts_and_holds_up_nobody() {
    let (site, condition) = condition();
    let (first, second) = (waiter(&site, &condition), waiter(&site, &condition));
    first.signal(libc::SIGSTOP);
    assert_eq!(first.wait(), News::Stopped);
    assert_eq!(condition.notify(1), 1);
    assert_eq!(condition.waiting(), 1, "the stopped one was the oldest");
    assert_eq!(condition.notify(1), 1);
    assert_eq!(second.wait(), News::Exited(0));
    first.signal(libc::SIGCONT);
    assert_eq!(first.wait(), News::Exited(0));
}

/// With a lock of ours, between processes: every item put is taken once.
#[test]
fn producers_and_consumers_in_processes() {
    const ITEMS: u64 = 400;
    let site = site();
    let all = words(&site, 32);
    let (items, taken) = (all.word(16), all.word(17));
    let lock = Lock::at(Arc::clone(&site), SITE_BYTES).expect("room");
    let condition = Condition::open(Arc::clone(&site), all.part(8, Condition::WORDS)).expect("room");
    let spin = SpinPolicy::none();
    let acquire =
        || lock.acquire(identity(), thread_id(), soon(), &spin, &mut Patient).map(|_| ()).expect("acquired");
    let release = || lock.release(identity()).expect("ours");
    let order = std::sync::atomic::Ordering::Relaxed;
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            Child::run(|| {
                site.enter();
                loop {
                    acquire();
                    while items.load(order) == 0 {
                        let enlisted = condition.enlist(false);
                        release();
                        enlisted.wait(soon(), &mut Patient).expect("notified");
                        acquire();
                    }
                    items.fetch_sub(1, order);
                    let count = taken.fetch_add(1, order) + 1;
                    release();
                    if count > ITEMS {
                        return;
                    }
                }
            })
        })
        .collect();
    for _ in 0..ITEMS {
        acquire();
        items.fetch_add(1, order);
        condition.notify(1);
        release();
    }
    await_that("all are taken", || taken.load(order) == ITEMS);
    acquire();
    // One for each of them to end by.
    items.fetch_add(3, order);
    condition.notify_all();
    release();
    assert!(consumers.iter().all(|consumer| consumer.wait() == News::Exited(0)));
}

/// More waiters than the table has room for: they are woken, if not one by one.
#[test]
fn without_room_in_the_table_all_look_again() {
    let (site, condition) = condition();
    let others: Vec<_> =
        (0..MOST_WAITERS - 1).map(|_| site.enlist(WaitKind::Event, 64, true).expect("room")).collect();
    let (listed, unlisted) = (condition.enlist(true), condition.enlist(true));
    assert!(condition.enlist_async(1).is_none());
    assert_eq!(condition.notify(1), 1);
    assert!(listed.is_notified() && !unlisted.is_notified(), "the oldest, as long as there are such");
    let again = condition.enlist(true);
    std::thread::scope(|scope| {
        let waiters = [unlisted, again].map(|waiter| scope.spawn(|| waiter.wait(soon(), &mut Patient)));
        await_that("somebody sleeps", || waiters.iter().all(|waiter| !waiter.is_finished()));
        condition.notify(1);
        for waiter in waiters {
            waiter.join().expect("no panic").expect("notified");
        }
    });
    let late = condition.enlist(true);
    assert!(matches!(late.wait(Patience::Until(clock::now()), &mut Patient), Err(Stopped::TimedOut)));
    drop((listed, others));
    assert_eq!(site.waiters().count(), 0);
}

#[test]
fn event_loops_wait_in_the_same_line() {
    let (_site, condition) = condition();
    let socket = WakeSocket::open().expect("a wake socket");
    let first = condition.enlist(true);
    let by_socket = || condition.enlist_async(socket.number()).expect("room");
    let (second, third, fourth) = (by_socket(), by_socket(), by_socket());
    assert_eq!(condition.notify(2), 2);
    assert!(first.is_notified() && second.is_notified() && !third.is_notified());
    assert!(!socket.drain().is_empty());
    // Cancelled after it was notified: the next one is.
    assert!(condition.leave_async(second, false));
    assert!(third.is_notified() && !fourth.is_notified());
    assert!(condition.leave_async(third, true));
    assert!(!condition.leave_async(fourth, false), "without success");
    assert_eq!(condition.notify_all(), 0);
}

/// A child that leaves the functions in which it was forked drops copies of its parent's places.
#[test]
fn a_forked_child_takes_nobody_off_the_list() {
    let (site, condition) = condition();
    let all = words(&site, 32);
    let events = EventCount::new(all.futex(16), all.futex(17));
    let socket = WakeSocket::open().expect("a wake socket");
    let mut listed = Some(condition.enlist(true));
    let by_socket = || condition.enlist_async(socket.number()).expect("room");
    let mut at_sockets: VecDeque<_> = (0..3).map(|_| by_socket()).collect();
    let mut ticket = site.enlist_async(events, WaitKind::Event, 64, socket.number());
    let child = Child::run(|| {
        let waits = listed.take().expect("there").wait(soon(), &mut Patient);
        waits.expect("it looks again at once, as if it had been notified");
        drop(condition.enlist(false));
        let first = at_sockets.pop_front().expect("three");
        assert!(first.is_notified(), "as above");
        assert!(!condition.leave_async(first, false));
        at_sockets.clear();
        let mut ticket = ticket.take().expect("room");
        ticket.rearm(events);
        assert!(ticket.withdraw() && !ticket.is_called());
        ticket.leave(events, false);
    });
    assert_eq!(child.wait(), News::Exited(0));
    assert_eq!((condition.waiting(), site.waiters().count()), (4, 5));
    assert_eq!(condition.notify_all(), 4);
    listed.expect("there").wait(soon(), &mut Patient).expect("notified");
    assert!(at_sockets.iter().all(AsyncEnlisted::is_notified));
    assert!(site.notify(events, 64, 1) && ticket.expect("room").is_called());
}
