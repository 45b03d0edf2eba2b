//! Queues: what each operation does, alone and among threads.
// Neither loom nor Miri knows shared memory.
#![cfg(not(any(loom, miri)))]

mod yard;

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_channel::queue::{
    AttachError, Batch, GetError, Kind, Message, Options, PutError, Queue, TaskError, priority_of_float,
    priority_of_int,
};
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_sync::Patience;
use manyhands_sync::waiting::{Patient, Waiting};
use yard::{Yard, get, put, try_get};

const KINDS: [Kind; 3] = [Kind::Fifo, Kind::Lifo, Kind::Priority];

fn plain(kind: Kind) -> Options {
    Options { kind, maxsize: 0, joinable: false }
}

#[test]
fn what_goes_in_comes_out_in_the_order_of_the_kind() {
    for (kind, expected) in [(Kind::Fifo, [3, 1, 2]), (Kind::Lifo, [2, 1, 3]), (Kind::Priority, [1, 2, 3])] {
        let yard = Yard::new(1 << 20, plain(kind));
        for number in [3_u8, 1, 2] {
            let message =
                Message { tag: 40 + u16::from(number), priority: number.into(), parts: &[&[number]] };
            yard.queue.try_put(&message).expect("room");
        }
        assert_eq!(yard.queue.len(), 3);
        let other = yard.attach();
        for number in expected {
            assert_eq!(try_get(&other), Ok((40 + u16::from(number), vec![number])), "{kind:?}");
        }
        assert_eq!(try_get(&other), Err(GetError::Empty));
        assert_eq!(yard.queue.statistics().puts, 3);
        assert_eq!(yard.queue.statistics().gets, 3);
    }
}

#[test]
fn equal_priorities_come_out_as_they_went_in() {
    let yard = Yard::new(1 << 20, plain(Kind::Priority));
    for number in 0..100_u8 {
        let message =
            Message { tag: 0, priority: priority_of_int(i64::from(number % 3)), parts: &[&[number]] };
        yard.queue.try_put(&message).expect("room");
    }
    let mut out: Vec<u8> = (0..100).map(|_| try_get(&yard.queue).expect("there").1[0]).collect();
    out.dedup_by(|next, last| next > last && *next % 3 == *last % 3);
    assert_eq!(out, [0, 1, 2], "three rising runs");
}

#[test]
fn priorities_are_in_the_order_of_the_numbers() {
    let ordered = [
        priority_of_float(f64::NEG_INFINITY),
        Some(priority_of_int(i64::MIN)),
        Some(priority_of_int(i64::MIN + 1)),
        priority_of_float(-1.5),
        Some(priority_of_int(-1)),
        priority_of_float(-0.0),
        priority_of_float(f64::MIN_POSITIVE),
        Some(priority_of_int(1)),
        Some(priority_of_int(i64::MAX - 1)),
        Some(priority_of_int(i64::MAX)),
        priority_of_float(9_223_372_036_854_775_808.0),
        priority_of_float(f64::INFINITY),
    ];
    assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
    assert_eq!(priority_of_float(-0.0), Some(priority_of_int(0)));
    assert_eq!(priority_of_float(f64::NAN), None);
}

#[test]
fn items_of_every_size_keep_their_bytes() {
    for kind in KINDS {
        let yard = Yard::new(4 << 20, plain(kind));
        let sizes: Vec<usize> =
            (0..300).chain([4072, 4080, 4088, 65_527, 65_528, 65_529, 200_000, 1 << 20]).collect();
        for (round, size) in sizes.iter().enumerate() {
            let bytes: Vec<u8> = (0..*size).map(|index| (index * 7 + round) as u8).collect();
            let (head, tail) = bytes.split_at(size / 3);
            let message = Message { tag: round as u16, priority: 5, parts: &[head, b"", tail] };
            yard.queue.try_put(&message).expect("room");
            assert_eq!(try_get(&yard.queue), Ok((round as u16, bytes)), "{kind:?}, {size} bytes");
        }
    }
}

#[test]
fn an_item_can_be_as_large_as_it_says_and_no_larger() {
    for kind in KINDS {
        let yard = Yard::new(Queue::SMALLEST, plain(kind));
        let limit = yard.queue.largest();
        assert!(limit > Queue::SMALLEST / 2, "{limit}");
        // From every position, as what is left of an extent cannot always be used.
        for first in [0, 1, 2000, 4000, 8000] {
            put(&yard.queue, 0, &vec![1; first]);
            assert_eq!(try_get(&yard.queue).map(|(_, bytes)| bytes.len()), Ok(first));
            put(&yard.queue, 1, &vec![2; limit]);
            assert_eq!(try_get(&yard.queue), Ok((1, vec![2; limit])), "{kind:?}");
        }
        let refused = yard.queue.try_put(&Message::new(0, &[&vec![3; limit], b"x"]));
        assert!(
            matches!(refused, Err(PutError::TooLarge { size, limit: l }) if (size, l) == (limit + 1, limit))
        );
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains(&limit.to_string()), "{text}");
        put(&yard.queue, 4, b"still whole");
        assert_eq!(try_get(&yard.queue), Ok((4, b"still whole".to_vec())));
    }
}

#[test]
fn memory_is_a_limit_that_goes_away() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        let item = [7; 5000];
        for _ in 0..3 {
            let mut count = 0;
            while yard.queue.try_put(&Message::new(0, &[&item])).is_ok() {
                count += 1;
            }
            assert!(count * 5000 > 800_000, "{kind:?} took {count}");
            assert!(matches!(yard.queue.try_put(&Message::new(0, &[&item])), Err(PutError::Full)));
            assert_eq!(yard.queue.len(), count);
            for _ in 0..count {
                assert_eq!(try_get(&yard.queue), Ok((0, item.to_vec())));
            }
        }
    }
}

#[test]
fn maxsize_counts_items() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 3, joinable: false });
        let mut batch = Batch::default();
        (0..5_u8).for_each(|number| batch.push(0, &[&[number]]));
        assert_eq!(yard.queue.try_put_batch(&mut batch).expect("room"), 3);
        assert_eq!(batch.len(), 2, "what went in is no longer in the batch");
        assert!(yard.queue.is_full());
        assert!(matches!(yard.queue.try_put_batch(&mut batch), Err(PutError::Full)));
        assert!(matches!(
            yard.queue.put(&Message::new(0, &[]), Patience::Now, &mut Patient),
            Err(PutError::Full)
        ));
        assert_eq!(try_get(&yard.queue).map(|(_, bytes)| bytes.len()), Ok(1));
        assert_eq!(yard.queue.try_put_batch(&mut batch).expect("room"), 1);
        assert_eq!(batch.iter().next(), Some((0, &[4][..])));
        assert_eq!(yard.attach().options().maxsize, 3);
    }
}

#[test]
fn many_at_a_time() {
    for kind in KINDS {
        let yard = Yard::new(4 << 20, plain(kind));
        let contents: Vec<Vec<u8>> = (0..2000_usize).map(|index| vec![index as u8; index % 100]).collect();
        let mut batch = Batch::default();
        contents.iter().enumerate().for_each(|(index, bytes)| batch.push(index as u16, &[bytes]));
        yard.queue.put_batch(&mut batch, Patience::Forever, &mut Patient).expect("room");
        assert!(batch.is_empty());
        let (mut out, mut calls) = (Batch::default(), 0);
        while out.len() < contents.len() {
            let count = yard.queue.try_get_batch(150, 3000, &mut out).expect("there");
            assert!((1..=150).contains(&count));
            calls += 1;
        }
        assert!(calls > 10, "{calls}: a batch is limited");
        let mut items: Vec<(u16, &[u8])> = out.iter().collect();
        if kind == Kind::Lifo {
            items.reverse();
        }
        assert!(items.iter().zip(&contents).all(|((_, bytes), expected)| bytes == expected), "{kind:?}");
        assert_eq!(items.len(), contents.len());
        assert_eq!(yard.queue.try_get_batch(1, 1, &mut out), Err(GetError::Empty));
    }
}

#[test]
fn what_is_refused_stays() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        (1..4_u8).for_each(|number| put(&yard.queue, 0, &[number]));
        assert_eq!(yard.queue.try_get(|_| Err::<(), _>("no memory")), Ok(Err("no memory")));
        let mut shown = 0;
        let refused = yard.queue.try_get_many(3, |_| {
            shown += 1;
            if shown == 3 { Err("no memory") } else { Ok(()) }
        });
        assert_eq!((refused, shown, yard.queue.len()), (Ok(Err("no memory")), 3, 3));
        let mut out = Vec::new();
        let taken = yard.queue.try_get_many(10, |mut item| {
            item.read_to_end(&mut out);
            Ok::<(), Infallible>(())
        });
        assert_eq!(taken, Ok(Ok(3)));
        assert_eq!(out, if kind == Kind::Lifo { [3, 2, 1] } else { [1, 2, 3] }, "{kind:?}");
    }
}

#[test]
fn an_item_can_be_read_in_pieces_or_not_at_all() {
    let yard = Yard::new(1 << 20, plain(Kind::Fifo));
    put(&yard.queue, 9, b"abcdefgh");
    put(&yard.queue, 9, b"next");
    let taken = yard.queue.try_get(|mut item| {
        let mut bytes = [0; 3];
        item.read(&mut bytes);
        assert_eq!((item.remaining(), item.len()), (5, 8));
        Ok::<_, Infallible>(bytes)
    });
    assert_eq!(taken, Ok(Ok(*b"abc")));
    assert_eq!(try_get(&yard.queue), Ok((9, b"next".to_vec())), "whatever was read, it is out");
}

#[test]
fn a_closed_queue_gives_what_it_has() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        put(&yard.queue, 0, b"last");
        yard.queue.try_close(false).expect("closed");
        assert!(yard.attach().is_closed());
        assert!(matches!(yard.queue.try_put(&Message::new(0, &[])), Err(PutError::Closed)));
        assert_eq!(try_get(&yard.queue), Ok((0, b"last".to_vec())));
        assert_eq!(try_get(&yard.queue), Err(GetError::Closed));
        assert_eq!(get(&yard.queue), Err(GetError::Closed), "also who would wait");
    }
}

#[test]
fn closed_at_once_it_gives_nothing() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 0, joinable: true });
        (0..5).for_each(|_| put(&yard.queue, 0, b"dropped"));
        yard.queue.try_close(true).expect("closed");
        assert_eq!((yard.queue.len(), try_get(&yard.queue)), (0, Err(GetError::Closed)));
        assert_eq!(yard.queue.join(Patience::Forever, &mut Patient), Ok(()), "nothing is left to do");
        yard.queue.try_close(true).expect("closed again");
    }
}

#[test]
fn closing_wakes_who_waits() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 1, joinable: false });
        let full = Yard::new(1 << 20, Options { kind, maxsize: 1, joinable: false });
        put(&full.queue, 0, b"one");
        std::thread::scope(|scope| {
            let consumer = scope.spawn(|| get(&yard.queue));
            let producer =
                scope.spawn(|| full.queue.put(&Message::new(0, &[]), Patience::Forever, &mut Patient));
            yard.queue.close(false, &mut Patient).expect("closed");
            full.queue.close(false, &mut Patient).expect("closed");
            assert_eq!(consumer.join().expect("no panic"), Err(GetError::Closed));
            assert!(matches!(producer.join().expect("no panic"), Err(PutError::Closed)));
        });
    }
}

#[test]
fn waits_end_at_their_deadline() {
    let yard = Yard::new(1 << 20, plain(Kind::Fifo));
    let deadline = clock::now() + 3 * MILLISECOND;
    assert_eq!(yard.queue.wait_items(Patience::Until(deadline), &mut Patient), Err(GetError::Empty));
    assert!(clock::now() >= deadline);
    put(&yard.queue, 0, b"");
    assert_eq!(yard.queue.wait_items(Patience::Now, &mut Patient), Ok(()));
    assert!(yard.queue.wait_space(Patience::Now, &mut Patient).is_ok());
}

/// Ends a wait at the first opportunity.
struct Impatient;

impl Waiting for Impatient {
    fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

#[test]
fn waits_can_be_broken_off() {
    let yard = Yard::new(1 << 20, Options { kind: Kind::Fifo, maxsize: 1, joinable: true });
    let nothing = yard.queue.get(Patience::Forever, &mut Impatient, |_| Ok::<(), Infallible>(()));
    assert_eq!(nothing, Err(GetError::Interrupted));
    put(&yard.queue, 0, b"");
    assert!(matches!(
        yard.queue.put(&Message::new(0, &[]), Patience::Forever, &mut Impatient),
        Err(PutError::Interrupted)
    ));
    assert_eq!(yard.queue.join(Patience::Forever, &mut Impatient), Err(TaskError::Interrupted));
    assert_eq!(yard.queue.len(), 1);
}

#[test]
fn tasks_are_counted() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, Options { kind, maxsize: 0, joinable: true });
        assert_eq!(yard.queue.try_task_done(1), Err(TaskError::TooOften));
        assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Ok(()));
        (0..3).for_each(|_| put(&yard.queue, 0, b"work"));
        let other = yard.attach();
        assert!(try_get(&other).is_ok());
        assert_eq!(other.unfinished().map(|left| left.count), Ok(3));
        yard.queue.try_task_done(1).expect("one of three, by whom ever");
        assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Err(TaskError::TimedOut));
        std::thread::scope(|scope| {
            let joiner = scope.spawn(|| yard.queue.join(Patience::Forever, &mut Patient));
            assert!(try_get(&other).is_ok() && try_get(&other).is_ok());
            other.task_done(2, &mut Patient).expect("two are left");
            assert_eq!(joiner.join().expect("no panic"), Ok(()));
        });
        assert_eq!(yard.queue.try_task_done(1), Err(TaskError::TooOften), "{kind:?}");
    }
    let yard = Yard::new(1 << 20, plain(Kind::Fifo));
    assert_eq!(yard.queue.try_task_done(1), Err(TaskError::NotJoinable));
}

#[test]
fn a_queue_that_was_large_gives_memory_back() {
    for kind in KINDS {
        let yard = Yard::new(256 << 20, plain(kind));
        let large = vec![1; 1 << 20];
        (0..100).for_each(|_| put(&yard.queue, 0, &large));
        assert!(yard.queue.statistics().memory > 100 << 20);
        (0..100).for_each(|_| assert_eq!(try_get(&yard.queue).map(|it| it.1.len()), Ok(1 << 20)));
        // A thread that waits for the next item does it.
        for _ in 0..100 {
            let patience = Patience::Until(clock::now() + MILLISECOND);
            assert_eq!(yard.queue.wait_items(patience, &mut Patient), Err(GetError::Empty));
        }
        assert!(yard.queue.statistics().memory <= 17 << 20, "{kind:?}: {:?}", yard.queue.statistics());
        put(&yard.queue, 0, &large);
        assert_eq!(try_get(&yard.queue), Ok((0, large)));
    }
}

#[test]
fn only_a_queue_can_be_attached_to() {
    let yard = Yard::new(1 << 20, plain(Kind::Lifo));
    let attach =
        |from: usize, to: usize| Queue::attach(yard.site.clone(), from..to).map(|queue| queue.options());
    let (start, end) = (yard.region.start, yard.region.end);
    assert_eq!(attach(start, end).expect("there"), plain(Kind::Lifo));
    assert!(matches!(attach(start, end - 4096), Err(AttachError::WrongSize { .. })));
    assert!(matches!(attach(start + 4096, end), Err(AttachError::NotOurs { .. })));
    assert!(matches!(attach(start, end + 4096), Err(AttachError::BadRegion { .. })));
    assert!(matches!(attach(start + 8, end), Err(AttachError::BadRegion { .. })));
    assert!(matches!(attach(start, start + 4096), Err(AttachError::BadRegion { .. })));
    let word = yard.site.segment().word64(start + 8);
    word.fetch_add(6, Ordering::Relaxed);
    let error = attach(start, end).expect_err("another version");
    assert_eq!(error.to_string().matches('7').count(), 1, "{error}");
}

/// Producers and consumers at once; each item comes out once.
fn race(kind: Kind, maxsize: u32, producers: u64, consumers: u64, at_a_time: usize) {
    const ITEMS: u64 = 20_000;
    let yard = Yard::new(1 << 20, Options { kind, maxsize, joinable: true });
    let (taken, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = ITEMS / producers * producers;
    std::thread::scope(|scope| {
        for producer in 0..producers {
            let queue = &yard.queue;
            scope.spawn(move || {
                let mut batch = Batch::default();
                for number in 0..ITEMS / producers {
                    let number = producer * (ITEMS / producers) + number;
                    batch.push(1, &[&number.to_le_bytes(), &vec![0; (number % 50) as usize]]);
                    if batch.len() == at_a_time {
                        queue.put_batch(&mut batch, Patience::Forever, &mut Patient).expect("room");
                    }
                }
                queue.put_batch(&mut batch, Patience::Forever, &mut Patient).expect("room");
            });
        }
        for _ in 0..consumers {
            scope.spawn(|| {
                let mut batch = Batch::default();
                while yard
                    .queue
                    .get_batch(at_a_time, 1 << 20, &mut batch, Patience::Forever, &mut Patient)
                    .is_ok()
                {
                    for (_, bytes) in batch.iter() {
                        let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
                        assert_eq!(bytes.len() as u64, 8 + number % 50);
                        sum.fetch_add(number, Ordering::Relaxed);
                    }
                    yard.queue.task_done(batch.len() as u32, &mut Patient).expect("taken");
                    if taken.fetch_add(batch.len() as u64, Ordering::Relaxed) + batch.len() as u64 == total {
                        yard.queue.close(false, &mut Patient).expect("closed");
                    }
                    batch.clear();
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), total, "{kind:?} {maxsize}");
    assert_eq!(sum.into_inner(), total * (total - 1) / 2);
    assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Ok(()));
}

#[test]
fn each_item_comes_out_once() {
    for kind in KINDS {
        race(kind, 0, 2, 2, 1);
        race(kind, 5, 2, 3, 1);
        race(kind, 0, 1, 1, 16);
        race(kind, 30, 3, 2, 7);
    }
}

#[test]
fn memory_is_given_back() {
    const ITEM: usize = 1 << 20;
    for kind in KINDS {
        let fill = |count| {
            let yard = Yard::new(256 << 20, plain(kind));
            (0..count).for_each(|_| put(&yard.queue, 0, &vec![1; ITEM]));
            assert!(yard.queue.statistics().memory > count * ITEM);
            yard
        };
        let memory = |queue: &Queue| queue.statistics().memory;
        let emptied = fill(100);
        (0..100).for_each(|_| drop(try_get(&emptied.queue).expect("there")));
        assert!(memory(&emptied.queue) <= 17 << 20, "{kind:?}: {}", memory(&emptied.queue));
        put(&emptied.queue, 3, &vec![2; 30 * ITEM]);
        assert_eq!(try_get(&emptied.queue), Ok((3, vec![2; 30 * ITEM])), "goes on");

        let dropped = fill(100);
        dropped.queue.try_close(true).expect("nobody is at it");
        assert!(memory(&dropped.queue) < ITEM, "{kind:?}: {}", memory(&dropped.queue));

        let drained = fill(10);
        put(&drained.queue, 0, b"short");
        drained.queue.try_close(false).expect("nobody is at it");
        (0..11).for_each(|_| drop(try_get(&drained.queue).expect("there")));
        assert!(memory(&drained.queue) < ITEM, "{kind:?}: {}", memory(&drained.queue));
    }
}

#[test]
fn who_only_glances_does_not_wait_for_a_latch() {
    for kind in KINDS {
        let yard = Yard::new(1 << 20, plain(kind));
        let other = yard.attach();
        put(&yard.queue, 0, b"x");
        let glance = || {
            let before = clock::now();
            let got = other.get(Patience::Glance, &mut Patient, |_| Ok::<(), Infallible>(()));
            assert_eq!(got, Err(GetError::Empty), "{kind:?}");
            if kind != Kind::Fifo {
                let put = other.put(&Message::new(0, &[b"y"]), Patience::Glance, &mut Patient);
                assert!(matches!(put, Err(PutError::Full)), "{kind:?}: {put:?}");
            }
            clock::now() - before
        };
        let took = yard.queue.try_get(|_| Ok::<u64, Infallible>(glance())).expect("there");
        assert!(took.is_ok_and(|took| took < 500 * MILLISECOND), "{kind:?}: {took:?} ns");
    }
}
