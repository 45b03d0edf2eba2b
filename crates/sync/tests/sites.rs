//! Sites: attaching, participant slots and their guards, the table of waiters; and segments that are damaged.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

mod child;
mod ground;

use std::collections::BTreeSet;
use std::sync::Arc;

use child::{Child, News};
use ground::{await_that, site};
use manyhands_os::memory::Segment;
use manyhands_os::process::{Identity, identity};
use manyhands_sync::lock::Lock;
use manyhands_sync::site::{
    MOST_PARTICIPANTS, MOST_WAITERS, PARAMETERS, SITE_BYTES, Site, SiteError, WaitKind,
};
use manyhands_sync::waiting::{Patient, Wait};
use manyhands_sync::words::Words;
use manyhands_sync::{EventCount, Patience, SpinPolicy};

const KEY: u64 = SITE_BYTES as u64;

/// The same segment, mapped once more.
fn again(site: &Site) -> Arc<Segment> {
    let fd = site.segment().fd().try_clone_to_owned().expect("a duplicate");
    Arc::new(Segment::attach(fd).expect("mapped"))
}

#[test]
fn what_is_written_is_read() {
    let segment = Arc::new(Segment::create(c"test", SITE_BYTES).expect("a segment"));
    let parameters: [u64; PARAMETERS] = std::array::from_fn(|index| index as u64 * 3);
    let site = Site::create(segment, 77, parameters).expect("a site");
    assert!(matches!(Site::attach(again(&site)), Err(SiteError::NotReady)));
    assert!(!site.is_ready());
    site.publish();
    let other = Site::attach(again(&site)).expect("ready");
    assert_eq!((other.kind(), other.parameters()), (77, parameters));
    assert_eq!(other.creator(), Some(identity()));
    assert!(other.is_ready() && !other.is_retired());
    site.retire();
    assert!(other.is_retired());
    assert!(Site::attach(again(&site)).is_ok(), "only its name is given up");
    site.publish();
    assert!(other.is_retired(), "for good");
}

#[test]
fn what_is_no_site_is_refused() {
    let attach = |segment: Segment| Site::attach(Arc::new(segment)).map(|_| ());
    let small = Segment::create(c"test", 4096).expect("a segment");
    assert!(matches!(attach(small), Err(SiteError::NotASite)));
    let empty = Segment::create(c"test", SITE_BYTES).expect("a segment");
    assert!(matches!(attach(empty), Err(SiteError::NotASite)));

    let changed = |offset: usize, value: u64| {
        let site = site();
        site.segment().word64(offset).store(value, std::sync::atomic::Ordering::Relaxed);
        Site::attach(again(&site)).map(|_| ())
    };
    assert!(matches!(changed(8, 99 << 32), Err(SiteError::Version { found: 99, .. })));
    assert!(matches!(changed(24, 5), Err(SiteError::Length { written: 5, .. })));
    assert!(matches!(changed(32, 0), Err(SiteError::Corrupt(_))));
    assert!(changed(200, 5).is_ok(), "a parameter");
    let text = std::io::Error::from(SiteError::NotASite).to_string();
    assert!(text.contains("manyhands"), "{text}");
}

/// Whatever a damaged segment says, reading it neither fails nor goes astray.
#[test]
fn a_damaged_site_does_no_harm() {
    let mut random: u64 = 1;
    for round in 0..300 {
        let site = site();
        let segment = site.segment();
        for _ in 0..round {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let tables = [0..256, 4096..4096 + 512, 36864..36864 + 1024, SITE_BYTES..SITE_BYTES + 512];
            let table = tables[(random >> 33) as usize % 4].clone();
            let offset = table.start + (random >> 40) as usize % (table.len() / 8) * 8;
            // The mutex of our own participant slot is the C library's: it may not be changed under its hands.
            if (4096..4096 + 64).contains(&offset) {
                continue;
            }
            let value = [0, 1, u64::MAX, random, identity().to_bits()][(random >> 50) as usize % 5];
            segment.word64(offset).store(value, std::sync::atomic::Ordering::Relaxed);
        }
        for waiter in site.waiters() {
            let _ = (site.stack_of(waiter.index), site.is_dead(waiter.identity));
        }
        for (number, slot) in site.participants() {
            assert!(usize::from(number) < MOST_PARTICIPANTS);
            let _ = site.is_dead(slot.identity);
        }
        let listed = site.enlist(WaitKind::Event, KEY, true);
        site.forget_all_dead();
        drop(listed);
        site.sweep(|_| ());
        let lock = Lock::at(Arc::clone(&site), SITE_BYTES).expect("in the body");
        let _ = (lock.owner(), lock.is_locked(), lock.acquire_now(identity(), 1), lock.release(identity()));
        let _ = (site.parameters(), site.kind(), site.creator(), Site::attach(again(&site)));
    }
}

#[test]
fn slots_are_given_and_taken_back() {
    let site = site();
    assert_eq!(site.participant(), Some(0));
    assert_eq!(site.enter(), Some(0), "has one already");
    let second = Site::attach(again(&site)).expect("ready");
    assert_eq!(second.enter(), Some(1));
    let third = Site::attach(again(&site)).expect("ready");
    assert!(!third.enter_as(1) && third.enter_as(511) && third.enter_as(511));
    assert_eq!(third.participant(), Some(511));
    let numbers = || site.participants().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(), [0, 1, 511]);
    let slot = site.participant_slot(1).expect("entered");
    assert_eq!((slot.identity, slot.reserved), (identity(), false));
    drop((second, third));
    assert_eq!(numbers(), [0]);
    assert!(site.participant_slot(600).is_none());
}

#[test]
fn a_reserved_slot_is_adopted_by_a_child() {
    let site = site();
    let number = site.reserve().expect("room");
    let slot = site.participant_slot(number).expect("reserved");
    assert_eq!((slot.identity, slot.reserved), (identity(), true));
    let child = Child::run(|| {
        assert_eq!(site.participant(), None, "the parent's number is not ours");
        assert!(!site.adopt(0), "not reserved");
        assert!(site.adopt(number) && !site.adopt(number));
        assert_eq!(site.participant(), Some(number));
    });
    let them = Identity::of(child.pid()).expect("not reaped yet");
    assert_eq!(child.wait(), News::Exited(0));
    assert_eq!(site.participant(), Some(0));
    assert_eq!(site.participant_slot(number).expect("nobody swept").identity, them);
    assert!(site.is_dead(them));
    assert!(!site.renew(number, identity()), "not ours");
    assert!(site.renew(number, them));
    assert!(site.participant_slot(number).expect("renewed").reserved);
    site.free(number, identity());
    assert_eq!(site.participant_slot(number), None);
}

#[test]
fn leases_of_the_dead_are_swept() {
    let site = site();
    let children: Vec<Child> = (0..3).map(|_| Child::run(|| assert!(site.enter().is_some()))).collect();
    for child in &children {
        child.wait();
    }
    let mut released = Vec::new();
    site.sweep(|numbers| released.extend_from_slice(numbers));
    // Each may have found the place of one before free or not.
    assert!(!released.is_empty() && !released.contains(&0));
    assert_eq!(site.participants().count(), 1);
}

#[test]
fn where_all_slots_are_taken_the_dead_pass_theirs_on() {
    let site = site();
    let supervised = site.reserve_supervised().expect("room");
    let all: BTreeSet<u16> = std::iter::from_fn(|| site.reserve()).collect();
    assert_eq!(all.len(), MOST_PARTICIPANTS - 4, "all but ours, the supervised one and the two special ones");
    assert_eq!((site.reserve(), site.reserve_supervised()), (None, None), "reserved just now");
    let mut taken = all.iter();
    let die = |number: u16| {
        let child = Child::run(|| assert!(site.adopt(number)));
        let identity = Identity::of(child.pid()).expect("not reaped yet");
        assert_eq!(child.wait(), News::Exited(0));
        identity
    };
    let (dead, worker) = (die(*taken.next().expect("many")), die(supervised));
    let alive = Child::run(|| {
        assert!(site.adopt(*taken.next().expect("many")));
        loop {
            std::thread::park();
        }
    });
    assert!(site.participants().any(|(_, slot)| slot.identity == dead));
    assert_eq!(site.reserve_supervised(), None, "of a number of its own");
    assert!(site.reserve().is_some());
    assert!(site.participants().all(|(_, slot)| slot.identity != dead));
    assert_eq!(site.reserve(), None, "the others live, will come, or are supervised");
    site.sweep(|numbers| panic!("nothing to sweep at {numbers:?}"));
    assert_eq!(site.participant_slot(supervised).expect("supervised").identity, worker);
    assert!(site.renew(supervised, worker));
    die(supervised);
    site.sweep(|numbers| panic!("supervised after it was renewed: {numbers:?}"));
    alive.kill();
}

/// A thread guards the participant slot that another one gives back: it is freed when the first one ends.
#[test]
fn a_slot_guarded_by_another_thread_is_given_back_when_that_ends() {
    let site = site();
    let other = Site::attach(again(&site)).expect("ready");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let guard = scope.spawn(move || {
            other.enter().expect("room");
            tell.send(other).expect("heard");
            let _ = stopped.recv();
        });
        let other = told.recv().expect("told");
        assert_eq!(site.participants().count(), 2);
        drop(other);
        assert_eq!(site.participants().count(), 2, "still guarded, and still mapped");
        drop(stop);
        guard.join().expect("no panic");
    });
    await_that("the slot is free", || site.participants().count() == 1);
}

#[test]
fn a_full_table_of_waiters_says_so() {
    let site = site();
    let enlist = |number: usize| site.enlist(WaitKind::Event, KEY + number as u64 % 2, false);
    let mut listed: Vec<_> = (0..MOST_WAITERS).map(|number| enlist(number).expect("room")).collect();
    assert!(enlist(0).is_none());
    assert_eq!(site.waiters().count(), MOST_WAITERS);
    assert_eq!(site.waiters_of(KEY).count(), MOST_WAITERS / 2);
    let tickets: BTreeSet<u64> = listed.iter().map(|it| it.ticket()).collect();
    assert_eq!(tickets.len(), MOST_WAITERS);
    listed.truncate(MOST_WAITERS - 1);
    assert!(enlist(0).is_some());
    drop(listed);
    assert_eq!(site.waiters().count(), 0);
}

#[test]
fn entries_of_the_dead_make_room() {
    let site = site();
    let child = Child::run(|| {
        let all: Vec<_> = (0..MOST_WAITERS).map(|_| site.enlist(WaitKind::Event, KEY, false)).collect();
        assert!(all.iter().all(Option::is_some));
        // SAFETY: ends the child, with all of them.
        unsafe { libc::_exit(3) };
    });
    assert_eq!(child.wait(), News::Exited(3));
    assert_eq!(site.waiters().count(), MOST_WAITERS);
    let listed = site.enlist(WaitKind::Event, KEY, false).expect("made room");
    assert_eq!(site.waiters().map(|entry| entry.ticket).collect::<Vec<_>>(), [listed.ticket()]);
}

#[test]
fn who_withdraws_is_not_called() {
    let site = site();
    let (first, second) =
        (site.enlist(WaitKind::Condition, KEY, false), site.enlist(WaitKind::Condition, KEY, true));
    let (first, second) = (first.expect("room"), second.expect("room"));
    assert!(first.ticket() < second.ticket());
    assert!(first.withdraw());
    assert!(!site.call(first.index(), first.ticket()));
    assert!(!first.is_called());
    assert!(site.call(second.index(), second.ticket()) && second.is_called());
    assert!(!site.call(second.index(), second.ticket()), "once");
    assert!(!second.withdraw());
}

/// Of two or more that die in their sleep, no notification of one means all; they are forgotten all the same.
#[test]
fn sleepers_that_die_are_not_counted_for_ever() {
    let site = site();
    let all = ground::words(&site, 2);
    let events = EventCount::new(all.futex(0), all.futex(1));
    let spin = SpinPolicy::none();
    let wait = Wait {
        events,
        key: KEY,
        kind: WaitKind::Get,
        patience: Patience::Forever,
        spin: &spin,
        listed: None,
    };
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            Child::run(|| {
                site.enter();
                site.block(wait, &mut Patient, |_| (), |_| None::<()>).expect("nothing to wait for");
            })
        })
        .collect();
    await_that("all sleep", || site.waiters_of(KEY).count() == 3);
    sleepers.iter().for_each(Child::kill);
    assert!(events.has_sleepers(), "counted, as they could not say that they leave");
    assert!(site.notify(events, KEY, 1));
    assert!(!events.has_sleepers());
    assert!(!site.notify(events, KEY, 1), "no system call any more");
}
