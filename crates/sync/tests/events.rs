//! Events between threads and processes, and in signal handlers.
// Loom has models of its own; Miri knows no futex between mappings.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use child::{Child, News};
use ground::{await_that, both_ways, site, soon, words};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::socket::WakeSocket;
use manyhands_sync::Patience;
use manyhands_sync::event::Event;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Patient, Stopped, Waiting};
use manyhands_sync::words::Words;

fn event() -> (Arc<Site>, Event) {
    let site = site();
    let event = Event::open(Arc::clone(&site), words(&site, Event::WORDS)).expect("room");
    (site, event)
}

fn wait(event: &Event) {
    event.wait(soon(), &mut Patient).expect("set in time");
}

#[test]
fn setting_wakes_all_in_threads_and_processes() {
    both_ways(|| {
        let (site, event) = event();
        let processes: Vec<_> = (0..3).map(|_| Child::run(|| wait(&event))).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| wait(&event));
            }
            await_that("all wait", || site.waiters_of(event.key()).count() == 6);
            event.set();
        });
        assert!(processes.iter().all(|process| process.wait() == News::Exited(0)));
        assert!(event.is_set());
        wait(&event);
        event.clear();
        let deadline = clock::now() + 5 * MILLISECOND;
        let stopped = event.wait(Patience::Until(deadline), &mut Patient);
        assert!(matches!(stopped, Err(Stopped::TimedOut)) && clock::now() >= deadline);
    });
}

#[test]
fn a_waiter_that_was_stopped_learns_of_a_flag_taken_back() {
    let (site, event) = event();
    let waiter = Child::run(|| wait(&event));
    await_that("it waits", || site.waiters_of(event.key()).count() == 1);
    waiter.signal(libc::SIGSTOP);
    assert_eq!(waiter.wait(), News::Stopped);
    event.set();
    event.clear();
    waiter.signal(libc::SIGCONT);
    assert_eq!(waiter.wait(), News::Exited(0));
}

#[test]
fn dead_waiters_hold_up_nobody() {
    let (site, event) = event();
    let start = || {
        Child::run(|| {
            site.enter();
            wait(&event);
        })
    };
    for _ in 0..5 {
        let (dead, alive) = (start(), start());
        await_that("both wait", || site.waiters_of(event.key()).count() == 2);
        dead.kill();
        event.set();
        assert_eq!(alive.wait(), News::Exited(0));
        event.clear();
        site.sweep(|_| ());
        site.waiters().for_each(|entry| site.forget(entry.identity));
    }
}

#[test]
fn a_ball_goes_to_and_fro_between_processes() {
    const TURNS: usize = 500;
    let site = site();
    let all = words(&site, 2 * Event::WORDS);
    let part = |first| all.part(first, Event::WORDS);
    let open = |first| Event::open(Arc::clone(&site), part(first)).expect("room");
    let (there, back) = (open(0), open(Event::WORDS));
    let player = Child::run(|| {
        for _ in 0..TURNS {
            wait(&there);
            there.clear();
            back.set();
        }
    });
    for _ in 0..TURNS {
        there.set();
        wait(&back);
        back.clear();
    }
    assert_eq!(player.wait(), News::Exited(0));
}

#[test]
fn who_waits_can_be_stopped() {
    struct Stop;
    impl Waiting for Stop {
        fn pause(&mut self) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let (_site, event) = event();
    assert!(matches!(event.wait(Patience::Forever, &mut Stop), Err(Stopped::Broken)));
    assert!(!event.events().has_sleepers());
}

static SIGNALLED: OnceLock<Event> = OnceLock::new();
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn set_in_handler(_: i32) {
    if let Some(event) = SIGNALLED.get() {
        event.set();
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

/// The handler interrupts the same thread in whatever it does with the same event: nothing is lost, nothing hangs.
#[test]
fn it_may_be_set_in_a_signal_handler() {
    const SIGNALS: u32 = 300;
    let (_site, event) = event();
    let event = SIGNALLED.get_or_init(|| event);
    let handler = set_in_handler as extern "C" fn(i32);
    // SAFETY: the handler only uses atomics and wakes.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        // SAFETY: plain library call.
        let this = unsafe { libc::pthread_self() };
        scope.spawn(move || {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                // Each is handled before the next is sent, so that none is merged with another.
                if HANDLED.load(Ordering::Relaxed) == sent && sent < SIGNALS {
                    sent += 1;
                    // SAFETY: that thread outlives this one.
                    unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
                }
                std::thread::yield_now();
            }
        });
        while HANDLED.load(Ordering::Relaxed) < SIGNALS {
            // Only the handler ever sets it.
            wait(event);
            event.clear();
            if HANDLED.load(Ordering::Relaxed) == SIGNALS {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_event_loop_is_woken() {
    let (site, event) = event();
    let socket = WakeSocket::open().expect("a wake socket");
    let enlist =
        || site.enlist_async(event.events(), WaitKind::Event, event.key(), socket.number()).expect("room");
    let turn = event.turn();
    let (first, second) = (enlist(), enlist());
    assert!(!event.was_set_since(turn));
    event.set();
    event.clear();
    assert!(first.is_called() && second.is_called() && event.was_set_since(turn));
    assert!(!socket.drain().is_empty());
    for ticket in [first, second] {
        ticket.leave(event.events(), true);
    }
    assert_eq!(site.waiters().count(), 0);
}

#[test]
fn too_few_words_are_refused() {
    let site = site();
    let words = words(&site, Event::WORDS - 1);
    assert_eq!(words.count(), 2);
    assert!(Event::open(site, words).is_err());
}
