//! Pipes: messages, ends, and their holders, also through forks and deaths.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use child::stepping::kill_at_every_store;
use child::{Child, News, stop_for_tracing};
use manyhands_channel::pipe::{End, RecvError, Reservation, SendError, Side};
use manyhands_channel::queue::{AttachError, GetError, Item, PutError};
use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::memory::Segment;
use manyhands_sync::Patience;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::waiting::Patient;

struct Yard {
    site: Arc<Site>,
    region: Range<usize>,
}

impl Yard {
    fn new(duplex: bool) -> (Self, End, End) {
        let segment = Arc::new(Segment::create(c"test", SITE_BYTES + (1 << 20)).expect("a segment"));
        let site = Site::create(Arc::clone(&segment), 1, [0; 16]).expect("a site");
        let region = SITE_BYTES..segment.len();
        let (first, second) = End::pair(&site, region.clone(), duplex).expect("a pipe");
        site.publish();
        (Self { site, region }, first, second)
    }

    fn attach(&self, side: Side) -> End {
        End::attach(&self.site, self.region.clone(), side).expect("attached")
    }
}

fn text(mut item: Item<'_>) -> Result<String, Infallible> {
    let mut bytes = Vec::new();
    item.read_to_end(&mut bytes);
    Ok(String::from_utf8(bytes).expect("text"))
}

fn recv(end: &End) -> Result<String, RecvError> {
    let deadline = clock::now() + 60 * SECOND;
    end.recv(Patience::Until(deadline), &mut Patient, text).map(|Ok(text)| text)
}

fn send(end: &End, text: &str) -> Result<(), SendError> {
    end.send(0, &[text.as_bytes()], Patience::Until(clock::now() + 60 * SECOND), &mut Patient)
}

#[test]
fn messages_go_both_ways() {
    let (_yard, first, second) = Yard::new(true);
    for round in 0..1000 {
        send(&first, &format!("there {round}")).expect("room");
        send(&second, &format!("back {round}")).expect("room");
        assert_eq!(recv(&second), Ok(format!("there {round}")));
        assert_eq!(recv(&first), Ok(format!("back {round}")));
    }
    assert!(first.is_empty() && second.is_empty());
    let large = "x".repeat(300_000);
    send(&first, &large).expect("room");
    assert_eq!(recv(&second).map(|text| text.len()), Ok(300_000));
}

#[test]
fn one_way_is_from_the_second_end_to_the_first() {
    let (_yard, first, second) = Yard::new(false);
    assert!(first.can_recv() && !first.can_send() && second.can_send() && !second.can_recv());
    assert!(matches!(send(&first, ""), Err(SendError::WrongWay)));
    assert_eq!(recv(&second), Err(RecvError::WrongWay));
    assert_eq!(second.poll(Patience::Now, &mut Patient), Err(RecvError::WrongWay));
    send(&second, "down").expect("room");
    assert_eq!(recv(&first), Ok("down".into()));
}

#[test]
fn polling_takes_nothing() {
    let (_yard, first, second) = Yard::new(true);
    assert_eq!(second.poll(Patience::Now, &mut Patient), Ok(false));
    assert_eq!(second.poll(Patience::Until(clock::now() + MILLISECOND), &mut Patient), Ok(false));
    send(&first, "one").expect("room");
    assert_eq!(second.poll(Patience::Now, &mut Patient), Ok(true));
    assert_eq!(second.poll(Patience::Forever, &mut Patient), Ok(true));
    assert_eq!(second.try_recv(|item| Err::<(), _>(item.len())), Ok(Err(3)), "too long for somebody");
    assert_eq!(recv(&second), Ok("one".into()));
    drop(first);
    assert_eq!(second.poll(Patience::Now, &mut Patient), Ok(true), "the end, too, is something to receive");
}

#[test]
fn what_was_sent_before_the_end_arrives() {
    let (_yard, first, second) = Yard::new(true);
    send(&first, "last").expect("room");
    assert_eq!(second.try_recv(text), Ok(Ok("last".into())));
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "somebody could send");
    send(&first, "words").expect("room");
    drop(first);
    assert_eq!(recv(&second), Ok("words".into()));
    assert_eq!(recv(&second), Err(RecvError::EndOfFile));
    assert!(matches!(send(&second, "nobody"), Err(SendError::Broken)));
}

#[test]
fn an_end_is_open_as_long_as_somebody_holds_it() {
    let (yard, first, second) = Yard::new(true);
    let again = yard.attach(Side::First);
    drop(first);
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)));
    send(&again, "still here").expect("room");
    assert_eq!(recv(&second), Ok("still here".into()));
    again.close();
    again.close();
    assert_eq!(recv(&second), Err(RecvError::EndOfFile));
}

#[test]
fn closing_wakes_who_waits() {
    let (_yard, first, second) = Yard::new(true);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| recv(&second));
        drop(first);
        assert_eq!(reader.join().expect("no panic"), Err(RecvError::EndOfFile));
    });
    let (_yard, first, second) = Yard::new(true);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let text = "x".repeat(10_000);
            loop {
                if let Err(error) = send(&second, &text) {
                    return error;
                }
            }
        });
        while first.len() < 20 {
            std::thread::yield_now();
        }
        drop(first);
        assert!(matches!(writer.join().expect("no panic"), SendError::Broken));
    });
}

#[test]
fn a_full_pipe_waits_and_says_so() {
    let (_yard, first, second) = Yard::new(true);
    let text = "x".repeat(50_000);
    let mut count = 0;
    while first.try_send(0, &[text.as_bytes()]).is_ok() {
        count += 1;
    }
    assert!(count >= 8, "{count}");
    let patience = Patience::Until(clock::now() + MILLISECOND);
    assert!(matches!(
        first.send(0, &[text.as_bytes()], patience, &mut Patient),
        Err(SendError::Put(PutError::Full))
    ));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| send(&first, &text));
        (0..count + 1).for_each(|_| assert_eq!(recv(&second).map(|text| text.len()), Ok(50_000)));
        writer.join().expect("no panic").expect("sent");
    });
    let huge = vec![0; 1 << 20];
    assert!(matches!(first.try_send(0, &[&huge]), Err(SendError::Put(PutError::TooLarge { .. }))));
}

#[test]
fn a_sender_is_slowed_down_long_before_memory_is_used_up() {
    let segment = Arc::new(Segment::create(c"test", SITE_BYTES + (256 << 20)).expect("a segment"));
    let site = Site::create(Arc::clone(&segment), 1, [0; 16]).expect("a site");
    let (first, second) = End::pair(&site, SITE_BYTES..segment.len(), true).expect("a pipe");
    site.publish();
    let text = "x".repeat(1 << 20);
    let mut count = 0;
    while first.try_send(0, &[text.as_bytes()]).is_ok() {
        count += 1;
    }
    assert!((14..=17).contains(&count), "{count}");
    (0..count).for_each(|_| assert_eq!(recv(&second).map(|text| text.len()), Ok(1 << 20)));
    // A long message waits until it is alone.
    send(&first, "short").expect("room");
    let long = "x".repeat(50 << 20);
    assert!(matches!(first.try_send(0, &[long.as_bytes()]), Err(SendError::Put(PutError::Full))));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&first, &long));
        assert_eq!(recv(&second), Ok("short".into()));
        assert_eq!(recv(&second).map(|text| text.len()), Ok(50 << 20));
        sender.join().expect("no panic").expect("sent");
    });
    // What it took is given back by the receiver that finds nothing more.
    let before = in_use(&segment);
    assert!(before > 50 << 20, "{before}");
    (0..100).for_each(|_| assert_eq!(second.poll(Patience::Now, &mut Patient), Ok(false)));
    assert!(in_use(&segment) < 20 << 20, "{}", in_use(&segment));
}

/// Memory that a segment takes, in bytes.
fn in_use(segment: &Segment) -> u64 {
    let file = std::fs::File::from(segment.fd().try_clone_to_owned().expect("a duplicate"));
    std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("known")) * 512
}

#[test]
fn a_killed_process_holds_nothing() {
    let (yard, first, second) = Yard::new(true);
    let child = Child::run(|| {
        let end = yard.attach(Side::First);
        send(&end, "before").expect("room");
        stop_for_tracing();
        drop(end);
    });
    assert_eq!(child.wait(), News::Stopped);
    drop(first);
    assert_eq!(recv(&second), Ok("before".into()));
    let patience = Patience::Until(clock::now() + 20 * MILLISECOND);
    let nothing = second.recv(patience, &mut Patient, text);
    assert_eq!(nothing, Err(RecvError::Get(GetError::Empty)), "a stopped one does");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| recv(&second));
        child.kill();
        assert_eq!(reader.join().expect("no panic"), Err(RecvError::EndOfFile));
    });
}

#[test]
fn who_sends_to_a_killed_process_is_told_soon() {
    let (yard, first, second) = Yard::new(true);
    let child = Child::run(|| {
        std::mem::forget(yard.attach(Side::First));
        stop_for_tracing();
    });
    assert_eq!(child.wait(), News::Stopped);
    drop(first);
    send(&second, "to a stopped process").expect("room");
    child.kill();
    let told = (0..100).any(|_| {
        let before = clock::now();
        let sent = send(&second, "to nobody");
        while clock::now() < before + MILLISECOND {
            std::thread::yield_now();
        }
        matches!(sent, Err(SendError::Broken))
    });
    assert!(told, "there is room for much more");
    assert!(matches!(second.try_send(0, &[b"again"]), Err(SendError::Broken)));
    assert_eq!(second.peers_alive(), []);
}

#[test]
fn killed_while_it_receives_it_leaves_the_message() {
    let (yard, first, second) = Yard::new(true);
    send(&first, "once").expect("room");
    let child = Child::run(|| {
        let end = yard.attach(Side::Second);
        let _ = end.try_recv(|_| {
            stop_for_tracing();
            Ok::<_, Infallible>(())
        });
    });
    assert_eq!(child.wait(), News::Stopped);
    assert!(matches!(second.try_recv(text), Err(RecvError::Get(GetError::Busy(_)))));
    child.kill();
    assert_eq!(recv(&second), Ok("once".into()));
}

#[test]
fn a_reserved_hold_becomes_the_childs() {
    let (_yard, first, second) = Yard::new(true);
    let reservation = first.reserve(60).expect("room");
    // After the fork each process has its own cell, and what it takes out of it the other still has.
    let first = std::cell::RefCell::new(Some(first));
    let child = Child::run(|| {
        let first = first.take().expect("an end");
        assert!(first.adopt(reservation));
        assert!(!first.adopt(reservation), "only once");
        stop_for_tracing();
        send(&first, "from the child").expect("room");
        std::mem::forget(first);
    });
    assert_eq!(child.wait(), News::Stopped);
    drop(first.take());
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "the child holds it");
    while child.step() == News::Stopped {}
    assert_eq!(recv(&second), Ok("from the child".into()));
    assert_eq!(recv(&second), Err(RecvError::EndOfFile), "and is dead by now");
}

#[test]
fn a_child_that_comes_late_holds_the_end_all_the_same() {
    for seconds in [Some(0), None] {
        let (_yard, first, second) = Yard::new(true);
        let reservation = seconds.and_then(|seconds| first.reserve(seconds));
        let first = std::cell::RefCell::new(Some(first));
        let child = Child::run(|| {
            let first = first.take().expect("an end");
            first.inherit(reservation);
            stop_for_tracing();
            send(&first, "from the child").expect("room");
            drop(first);
        });
        assert_eq!(child.wait(), News::Stopped);
        drop(first.take());
        assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "the child holds it");
        while child.step() == News::Stopped {}
        assert_eq!(recv(&second), Ok("from the child".into()));
        assert_eq!(recv(&second), Err(RecvError::EndOfFile), "and has released it");
    }
}

#[test]
fn where_too_many_hold_an_end_nobody_is_told_that_it_is_closed() {
    let (yard, first, second) = Yard::new(true);
    let mut ends = Vec::new();
    while let Ok(end) = End::attach(&yard.site, yard.region.clone(), Side::First) {
        ends.push(end);
        assert!(ends.len() < 1000);
    }
    assert_eq!(first.reserve(60), None);
    let first = std::cell::RefCell::new(Some(first));
    let child = Child::run(|| {
        let first = first.take().expect("an end");
        first.inherit(None);
        stop_for_tracing();
        send(&first, "from the last one").expect("room");
    });
    assert_eq!(child.wait(), News::Stopped);
    drop((ends, first.take()));
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "the child holds it");
    send(&second, "to the last one").expect("not broken");
    while child.step() == News::Stopped {}
    assert_eq!(recv(&second), Ok("from the last one".into()));
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "nobody can tell any more");
}

#[test]
fn a_copy_made_by_fork_lets_go_of_nothing() {
    let (_yard, first, second) = Yard::new(true);
    let ends = std::cell::RefCell::new(Some(first));
    let child = Child::run(|| drop(ends.take()));
    assert_eq!(child.wait(), News::Exited(0));
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "the parent holds it");
    drop(ends.take());
    assert_eq!(recv(&second), Err(RecvError::EndOfFile));
}

#[test]
fn reservations_can_be_sent_expire_and_be_given_up() {
    let (yard, first, second) = Yard::new(true);
    let sent = first.reserve(60).expect("room").to_bits();
    drop(first);
    assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "somebody will come");
    let reservation = Reservation::from_bits(sent);
    let claimed = End::claim(&yard.site, yard.region.clone(), Side::First, reservation).expect("a hold");
    drop(claimed);
    assert_eq!(recv(&second), Err(RecvError::EndOfFile));
    // Somebody who comes late takes a hold all the same.
    let late = End::claim(&yard.site, yard.region.clone(), Side::First, reservation).expect("a hold");
    assert!(!late.adopt(Reservation::from_bits(u64::MAX)) && !late.adopt(Reservation::from_bits(0)));
    let (given_up, expired) = (late.reserve(60).expect("room"), late.reserve(0).expect("room"));
    late.cancel(given_up);
    assert_ne!(given_up, expired);
    drop(late);
    assert_eq!(recv(&second), Err(RecvError::EndOfFile));
}

#[test]
fn places_of_the_dead_are_used_again() {
    let (yard, _first, _second) = Yard::new(true);
    for round in 0..300 {
        let child = Child::run(|| std::mem::forget(yard.attach(Side::First)));
        assert_eq!(child.wait(), News::Exited(0), "round {round}");
    }
    let ends: Vec<End> = (0..100).map(|_| yard.attach(Side::First)).collect();
    drop(ends);
    let mut ends = Vec::new();
    let refused = loop {
        match End::attach(&yard.site, yard.region.clone(), Side::Second) {
            Ok(end) => ends.push(end),
            Err(error) => break error,
        }
        assert!(ends.len() < 1000);
    };
    assert!(matches!(refused, AttachError::TooManyHolders), "{refused}");
}

#[test]
fn only_a_pipe_can_be_attached_to() {
    let (yard, _first, _second) = Yard::new(true);
    let attach = |region: Range<usize>| End::attach(&yard.site, region, Side::First).map(|end| end.side());
    let Range { start, end } = yard.region;
    assert!(matches!(attach(start..end - 4096), Err(AttachError::WrongSize { .. })));
    assert!(matches!(attach(start + 4096..end), Err(AttachError::NotOurs { .. })));
    assert!(matches!(attach(start..end + 4096), Err(AttachError::BadRegion { .. })));
    yard.site.segment().copy_in(start + 8, &[9]);
    assert!(matches!(attach(start..end), Err(AttachError::WrongVersion { found: 9, .. })));
}

#[test]
fn killed_at_every_store_it_holds_nothing() {
    let memory = |(yard, ..): &(Yard, End, End)| {
        let mut bytes = vec![0; 8192];
        yard.site.segment().copy_out(yard.region.start, &mut bytes);
        bytes
    };
    kill_at_every_store(
        || Yard::new(true),
        memory,
        |_| {
            let _ = manyhands_os::process::identity();
        },
        |(yard, _, second)| {
            let end = yard.attach(Side::First);
            let reservation = end.reserve(60).expect("room");
            assert!(end.adopt(reservation));
            end.cancel(end.reserve(60).expect("room"));
            end.close();
            drop(yard.attach(Side::Second));
            second.cancel(second.reserve(60).expect("room"));
        },
        |(yard, first, second), what| {
            send(first, "still").expect("room");
            assert_eq!(recv(second), Ok("still".into()), "{what}");
            first.close();
            assert_eq!(recv(second), Err(RecvError::EndOfFile), "{what}");
            let again = yard.attach(Side::First);
            assert_eq!(second.try_recv(text), Err(RecvError::Get(GetError::Empty)), "{what}");
            drop(again);
            assert_eq!(recv(second), Err(RecvError::EndOfFile), "{what}");
        },
    );
}
