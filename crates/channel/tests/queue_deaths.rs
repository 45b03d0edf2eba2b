//! Producers and consumers that die: at every instruction of what they do, and of repairing what others left behind.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;
mod yard;

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use child::stepping::look_at_every_store;
use child::{Child, News, stop_for_tracing};
use manyhands_channel::queue::{Batch, Kind, Message, Options, Queue, TaskError};
use manyhands_os::clock::{self, SECOND};
use manyhands_os::process::{Identity, identity};
use manyhands_sync::Patience;
use manyhands_sync::waiting::Patient;
use yard::{Yard, put};

const KINDS: [Kind; 3] = [Kind::Fifo, Kind::Lifo, Kind::Priority];

/// Three items that stay, each of another length; the last does not fit into one extent, or cell.
fn sizes(kind: Kind) -> [usize; 3] {
    [5, 300, if kind == Kind::Fifo { 9000 } else { 100 }]
}

/// Bytes before the extents of a stream.
const CONTROL: usize = 8192;

fn joinable(kind: Kind) -> Options {
    Options { kind, maxsize: 0, joinable: true }
}

fn filled(kind: Kind) -> Yard {
    let yard = Yard::new(Queue::SMALLEST, joinable(kind));
    for (index, size) in sizes(kind).iter().enumerate() {
        put(&yard.queue, index as u16, &content(index as u16, *size));
    }
    yard
}

fn content(tag: u16, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7) as u8 ^ tag as u8).collect()
}

/// Takes everything out and looks at every byte: the tags, in the order of the queue.
fn drain(queue: &Queue) -> Vec<u16> {
    let mut tags = Vec::new();
    let mut bytes = Vec::new();
    loop {
        // Waits for a process that has died with a latch, if need be, but not for items.
        let taken = queue.get(Patience::Now, &mut Patient, |mut item| {
            bytes.clear();
            item.read_to_end(&mut bytes);
            Ok::<_, Infallible>(item.tag())
        });
        let Ok(Ok(tag)) = taken else { return tags };
        assert!(bytes == content(tag, bytes.len()), "item {tag} has other bytes");
        tags.push(tag);
    }
}

/// What must hold whenever somebody has died: `before` and `after` are what may be in the queue, by tags.
fn survives(yard: &Yard, what: &str, allowed: &[Vec<u16>], open: impl Fn(usize) -> u64) {
    // Both sides go on, and nothing is lost or half there.
    put(&yard.queue, 77, &content(77, 20_000));
    let len = yard.queue.len();
    let mut tags = drain(&yard.queue);
    assert_eq!(tags.len(), len, "{what}: counted wrongly");
    tags.retain(|tag| *tag != 77);
    tags.sort_unstable();
    assert!(allowed.contains(&tags), "{what}: {tags:?} is left");
    // All of these are ours to finish; the rest is the dead one's.
    yard.queue.task_done(len as u32, &mut Patient).expect("taken");
    let left = yard.queue.unfinished().expect("to be known");
    assert_eq!(left.count, open(tags.len()), "{what}: with {tags:?} left");
    let lost: u64 = left.lost.iter().map(|(_, count)| u64::from(*count)).sum();
    assert_eq!(lost, left.count, "{what}: {left:?}");
    // All memory can be used, again and again.
    for _ in 0..2 {
        let (mut count, bytes) = (0, content(9, 3000));
        while yard.queue.try_put(&Message::new(9, &[&bytes])).is_ok() {
            count += 1;
        }
        assert!(count * 3000 > Queue::SMALLEST * 2 / 3, "{what}: room for {count}");
        assert_eq!(drain(&yard.queue).len(), count);
    }
}

/// What a process that does `act` leaves behind if it is killed: the memory of the queue after each single store that it
/// makes, and before the first.
fn deaths(yard: &Yard, act: impl Fn(&Queue)) -> Vec<Vec<u8>> {
    let queue = yard.attach();
    let mut states = Vec::<Vec<u8>>::new();
    let mut last = Vec::new();
    let mut skipped = 0;
    look_at_every_store(
        // So that what is traced is the operation, and not finding out who we are.
        || {
            let _ = manyhands_os::process::identity();
        },
        || act(&queue),
        || {
            let now = yard.memory();
            if now == last {
                return;
            }
            // Bytes of an item are written one by one, and in a stream nobody looks at them before the commit.
            let in_stream = yard.queue.options().kind == Kind::Fifo && !last.is_empty();
            let only_bytes = in_stream && now[..CONTROL] == last[..CONTROL];
            skipped = if only_bytes { skipped + 1 } else { 0 };
            if skipped % 100 == 0 {
                states.push(now.clone());
            }
            last = now;
        },
    );
    assert!(states.len() > 2, "nothing was stored");
    states
}

/// Has a process do `act` and be killed after every single store, and looks what is left.
fn kill_at_every_store(prepare: impl Fn() -> Yard, act: impl Fn(&Queue), check: impl Fn(&Yard, &str)) {
    let states = deaths(&prepare(), act);
    for (stores, state) in states.iter().enumerate() {
        let yard = prepare();
        yard.remember(state);
        check(&yard, &format!("killed after {stores} of {} stores", states.len() - 1));
    }
}

/// Has a process do `act` and be killed after every single store (or every so many), then another one do `next` and be
/// killed after every single store, also of those with which it repairs what the first one left.
fn kill_twice(
    prepare: impl Fn() -> Yard,
    act: impl Fn(&Queue),
    every: usize,
    next: impl Fn(&Queue),
    check: impl Fn(&Yard, &str),
) {
    let states = deaths(&prepare(), act);
    for (stores, state) in states.iter().enumerate().step_by(every) {
        let yard = prepare();
        yard.remember(state);
        for (more, state) in deaths(&yard, &next).iter().enumerate() {
            let yard = prepare();
            yard.remember(state);
            check(&yard, &format!("killed after {stores} stores, the next one after {more}"));
        }
    }
}

/// All three items, and none of those of the dead one.
fn original() -> Vec<u16> {
    vec![0, 1, 2]
}

#[test]
fn killed_while_it_puts_in() {
    for kind in KINDS {
        // The second one needs another extent, or cell.
        for size in [12, if kind == Kind::Fifo { 7000 } else { 100 }] {
            let bytes = content(5, size);
            kill_at_every_store(
                || filled(kind),
                |queue| queue.try_put(&Message::new(5, &[&bytes])).expect("room"),
                |yard, what| survives(yard, what, &[original(), vec![0, 1, 2, 5]], |_| 0),
            );
        }
    }
}

#[test]
fn killed_while_it_puts_in_many() {
    for kind in KINDS {
        kill_at_every_store(
            || filled(kind),
            |queue| {
                let mut batch = Batch::default();
                [(5, 10), (6, 90), (7, 0)]
                    .iter()
                    .for_each(|(tag, len)| batch.push(*tag, &[&content(*tag, *len)]));
                assert_eq!(queue.try_put_batch(&mut batch).expect("room"), 3);
            },
            // All of them or none.
            |yard, what| survives(yard, what, &[original(), vec![0, 1, 2, 5, 6, 7]], |_| 0),
        );
    }
}

#[test]
fn killed_while_it_takes_out() {
    for kind in KINDS {
        let rest = if kind == Kind::Lifo { vec![0, 1] } else { vec![1, 2] };
        kill_at_every_store(
            || filled(kind),
            |queue| {
                let mut bytes = Vec::new();
                let taken = queue.try_get(|mut item| {
                    item.read_to_end(&mut bytes);
                    Ok::<_, Infallible>(())
                });
                assert_eq!(taken, Ok(Ok(())));
            },
            // What is not there has been taken, and is counted as taken.
            |yard, what| survives(yard, what, &[original(), rest.clone()], |left| 3 - left as u64),
        );
    }
}

#[test]
fn killed_while_it_takes_out_many() {
    for kind in KINDS {
        let one_gone = if kind == Kind::Lifo { vec![0, 1] } else { vec![1, 2] };
        // From a stream they are taken all at once.
        let allowed = match kind {
            Kind::Fifo => vec![original(), vec![2]],
            Kind::Lifo => vec![original(), one_gone, vec![0]],
            Kind::Priority => vec![original(), one_gone, vec![2]],
        };
        kill_at_every_store(
            || filled(kind),
            |queue| {
                let taken = queue.try_get_many(2, |_| Ok::<_, Infallible>(()));
                assert_eq!(taken, Ok(Ok(2)));
            },
            |yard, what| survives(yard, what, &allowed, |left| 3 - left as u64),
        );
    }
}

#[test]
fn killed_while_it_says_that_it_is_done() {
    for kind in KINDS {
        kill_at_every_store(
            || filled(kind),
            |queue| {
                let _ = queue.try_get(|_| Ok::<_, Infallible>(()));
                queue.try_task_done(1).expect("one");
            },
            |yard, what| {
                put(&yard.queue, 77, &content(77, 10));
                let taken = drain(&yard.queue).len();
                yard.queue.task_done(taken as u32, &mut Patient).expect("taken");
                let left = yard.queue.unfinished().expect("to be known");
                assert!(left.count <= 4 - taken as u64, "{what}: {left:?}");
                assert_eq!(
                    left.count,
                    left.lost.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(),
                    "{what}"
                );
            },
        );
    }
}

#[test]
fn killed_while_it_closes() {
    for kind in KINDS {
        for immediate in [false, true] {
            kill_at_every_store(
                || filled(kind),
                |queue| queue.try_close(immediate).expect("closed"),
                |yard, what| {
                    // Whoever closes it next does all of it.
                    yard.queue.close(immediate, &mut Patient).expect("closed");
                    assert!(yard.queue.is_closed());
                    assert_eq!(yard.queue.len(), if immediate { 0 } else { 3 }, "{what}");
                    assert_eq!(drain(&yard.queue).len(), if immediate { 0 } else { 3 }, "{what}");
                },
            );
        }
    }
}

#[test]
fn killed_while_it_puts_right_what_a_producer_left() {
    // Long enough to need another extent, or cell.
    let len = |kind| if kind == Kind::Fifo { 7000 } else { 100 };
    for kind in KINDS {
        kill_twice(
            || filled(kind),
            |queue| queue.try_put(&Message::new(5, &[&content(5, len(kind))])).expect("room"),
            if kind == Kind::Fifo { 4 } else { 15 },
            |queue| queue.try_put(&Message::new(6, &[&content(6, 50)])).expect("room"),
            |yard, what| {
                let allowed = [original(), vec![0, 1, 2, 6], vec![0, 1, 2, 5], vec![0, 1, 2, 5, 6]];
                survives(yard, what, &allowed, |_| 0);
            },
        );
    }
}

#[test]
fn killed_while_it_puts_right_what_a_consumer_left() {
    for kind in KINDS {
        let take = |queue: &Queue| assert_eq!(queue.try_get(|_| Ok::<_, Infallible>(())), Ok(Ok(())));
        let allowed = if kind == Kind::Lifo {
            [original(), vec![0, 1], vec![0]]
        } else {
            [original(), vec![1, 2], vec![2]]
        };
        let every = if kind == Kind::Fifo { 1 } else { 3 };
        kill_twice(
            || filled(kind),
            take,
            every,
            take,
            |yard, what| {
                survives(yard, what, &allowed, |left| 3 - left as u64);
            },
        );
    }
}

#[test]
fn who_waits_for_a_latch_gets_it_when_its_holder_dies() {
    for kind in KINDS {
        let yard = filled(kind);
        let child = Child::run(|| {
            let queue = yard.attach();
            let _ = queue.try_get(|_| {
                stop_for_tracing();
                Ok::<_, Infallible>(())
            });
        });
        assert_eq!(child.wait(), News::Stopped, "it has the latch");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drain(&yard.queue).len());
            // A stopped process keeps what it has; `drain` gives up after a while.
            assert_eq!(waiting.join().expect("no panic"), 0, "{kind:?}");
            let waiting = scope.spawn(|| {
                yard.queue.get(Patience::Until(clock::now() + 60 * SECOND), &mut Patient, |_| {
                    Ok::<_, Infallible>(())
                })
            });
            child.kill();
            assert_eq!(waiting.join().expect("no panic"), Ok(Ok(())));
        });
        assert_eq!(drain(&yard.queue).len(), 2);
        assert_eq!(yard.queue.statistics().deaths, 1);
    }
}

#[test]
fn who_waits_for_the_end_learns_of_dead_consumers() {
    for kind in KINDS {
        let yard = filled(kind);
        let child = Child::run(|| {
            let queue = yard.attach();
            let taken = queue.try_get_many(2, |_| Ok::<_, Infallible>(()));
            assert_eq!(taken, Ok(Ok(2)));
            stop_for_tracing();
        });
        assert_eq!(child.wait(), News::Stopped);
        assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Err(TaskError::TimedOut), "it lives");
        std::thread::scope(|scope| {
            let joiner = scope.spawn(|| yard.queue.join(Patience::Forever, &mut Patient));
            child.kill();
            let Err(TaskError::Lost(lost)) = joiner.join().expect("no panic") else { panic!("{kind:?}") };
            let [(who, 2)] = lost[..] else { panic!("{lost:?}") };
            let text = TaskError::Lost(lost).to_string();
            assert!(text.contains(&format!("process {} died with 2", who.pid())), "{text}");
        });
        assert_eq!(drain(&yard.queue).len(), 1);
        yard.queue.task_done(1, &mut Patient).expect("one");
        assert_eq!(yard.queue.write_off(&mut Patient), Ok(2));
        assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Ok(()));
    }
}

#[test]
fn a_fork_while_another_thread_is_at_work_stops_nobody() {
    let yard = Yard::new(1 << 20, joinable(Kind::Fifo));
    let (entered, forked) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            put(&yard.queue, 1, &content(1, 10));
            let taken = yard.queue.try_get(|_| {
                entered.wait();
                forked.wait();
                Ok::<_, Infallible>(())
            });
            assert_eq!(taken, Ok(Ok(())));
        });
        entered.wait();
        let child = Child::run(|| {
            put(&yard.queue, 2, &content(2, 10));
            let taken =
                yard.queue.get(Patience::Forever, &mut Patient, |item| Ok::<_, Infallible>(item.tag()));
            assert_eq!(taken, Ok(Ok(2)), "once the parent's thread is done");
        });
        forked.wait();
        assert_eq!(child.wait(), News::Exited(0));
    });
}

/// Writes into the table of consumers that the process `who` has taken and not finished `open` items.
fn set_line(yard: &Yard, line: usize, who: u64, open: i32) {
    set_line_at(yard, line, who, open, 0);
}

/// The same, and which item it took last.
fn set_line_at(yard: &Yard, line: usize, who: u64, open: i32, last: u32) {
    let at = yard.region.start + 512 + line * 16;
    let sum = yard.region.start + 512 + 256 * 16 + 21 * 8;
    let segment = yard.site.segment();
    segment.word64(at).store(who, Ordering::Relaxed);
    segment.word64(at + 8).store(u64::from(open as u32) << 32 | u64::from(last), Ordering::Relaxed);
    segment.word64(sum).fetch_add(i64::from(open) as u64, Ordering::Relaxed);
}

/// The process that had this one's number before it, in some dozen ticks of the kernel's clock.
fn dead(number: u64) -> u64 {
    let dead = identity().to_bits() ^ (1 + number) << 22;
    assert!(Identity::from_bits(dead).is_some_and(Identity::is_dead));
    dead
}

/// Lines that a process can have for itself.
const LINES: std::ops::RangeInclusive<usize> = 1..=253;

#[test]
fn more_consumers_die_than_there_are_lines() {
    for kind in KINDS {
        let yard = filled(kind);
        LINES.for_each(|line| set_line(&yard, line, dead(line as u64), 2));
        for _ in 0..2 {
            let child = Child::run(|| {
                assert_eq!(yard.attach().try_get(|_| Ok::<_, Infallible>(())), Ok(Ok(())));
            });
            assert_eq!(child.wait(), News::Exited(0));
        }
        assert_eq!(drain(&yard.queue).len(), 1);
        let count = 2 * LINES.count() as u64 + 2;
        let left = yard.queue.unfinished().expect("to be known");
        let lost = |left: &[(Identity, u32)]| left.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        assert_eq!((left.count, lost(&left.lost)), (count + 1, count));
        let joined = yard.queue.join(Patience::Forever, &mut Patient);
        assert!(matches!(joined, Err(TaskError::Lost(left)) if lost(&left) == count));
        yard.queue.task_done(1, &mut Patient).expect("one");
        assert_eq!(yard.queue.write_off(&mut Patient), Ok(count));
        assert_eq!(yard.queue.join(Patience::Now, &mut Patient), Ok(()));
    }
}

#[test]
fn killed_while_it_adds_up_the_dead() {
    for kind in KINDS {
        let prepare = || {
            let yard = filled(kind);
            // All lines are in use, most of them by live processes.
            LINES.for_each(|line| set_line(&yard, line, identity().to_bits(), 0));
            for (line, open) in [(3, 2), (4, 0), (77, 4)] {
                set_line(&yard, line, dead(line as u64), open);
            }
            yard
        };
        let allowed = [original(), if kind == Kind::Lifo { vec![0, 1] } else { vec![1, 2] }];
        kill_at_every_store(
            prepare,
            |queue| assert_eq!(queue.try_get(|_| Ok::<_, Infallible>(())), Ok(Ok(()))),
            |yard, what| survives(yard, what, &allowed, |left| 6 + 3 - left as u64),
        );
    }
}

/// More consumers live than there are lines: those who have none are counted all the same.
#[test]
fn without_a_line_a_consumer_is_counted_too() {
    for kind in KINDS {
        let yard = filled(kind);
        LINES.for_each(|line| set_line(&yard, line, identity().to_bits(), 0));
        let child = Child::run(|| {
            let queue = yard.attach();
            let taken = queue.try_get_many(2, |_| Ok::<_, Infallible>(()));
            assert_eq!(taken, Ok(Ok(2)));
            queue.try_task_done(1).expect("two");
        });
        assert_eq!(child.wait(), News::Exited(0));
        assert_eq!(yard.queue.unfinished().expect("to be known").count, 2);
    }
}

/// A consumer that has finished more than it took, or counted further than a line can, is added up like any other.
#[test]
fn what_the_dead_finished_for_others_counts() {
    let yard = filled(Kind::Fifo);
    LINES.for_each(|line| set_line(&yard, line, dead(line as u64), 0));
    for (line, open) in [(1, i32::MAX), (2, 7), (3, -4), (4, i32::MIN + 6), (5, 1)] {
        set_line(&yard, line, dead(line as u64), open);
    }
    let child = Child::run(|| {
        assert_eq!(yard.attach().try_get(|_| Ok::<_, Infallible>(())), Ok(Ok(())));
        // Dies with the latch: everything is counted again.
        let _ = yard.attach().try_get(|_| -> Result<(), Infallible> {
            stop_for_tracing();
            Ok(())
        });
    });
    assert_eq!(child.wait(), News::Stopped);
    child.kill();
    let count = 3 + i64::from(i32::MAX) + 7 - 4 + i64::from(i32::MIN) + 6 + 1;
    assert_eq!(yard.queue.unfinished().expect("to be known").count, count as u64);
}

/// Numbers of items wrap after 2³² of them: those of an idle consumer may then look as if it were about to take.
#[test]
fn the_death_of_another_takes_nothing_back_of_the_living() {
    let yard = filled(Kind::Fifo);
    set_line_at(&yard, 9, identity().to_bits(), 5, 2);
    let child = Child::run(|| {
        let _ = yard.attach().try_get(|_| -> Result<(), Infallible> {
            stop_for_tracing();
            Ok(())
        });
    });
    assert_eq!(child.wait(), News::Stopped);
    child.kill();
    assert_eq!(yard.queue.unfinished().expect("to be known").count, 3 + 5);
}
