//! How fast queues are: `cargo run --release -p manyhands-channel --example queue_speed`.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use manyhands_channel::queue::{Batch, Kind, Message, Options, Queue};
use manyhands_os::clock;
use manyhands_os::memory::Segment;
use manyhands_sync::Patience;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::waiting::Patient;

const MIB: usize = 1 << 20;

fn main() -> io::Result<()> {
    for kind in [Kind::Fifo, Kind::Lifo, Kind::Priority] {
        let queue = queue(kind, 0);
        report(&format!("{kind:?}: put and get of 9 bytes, one thread"), 1, || {
            put(&queue, b"123456789");
            get(&queue);
        })?;
    }
    let queue = queue(Kind::Fifo, 0);
    let mut batch = Batch::default();
    report("Fifo: the same, 100 at a time", 100, || {
        batch.clear();
        (0..100).for_each(|_| batch.push(1, &[b"123456789"]));
        queue.try_put_batch(&mut batch).expect("room");
        let taken = queue.try_get_batch(100, MIB, &mut batch).expect("items");
        assert_eq!(taken, 100);
    })?;
    let large = vec![1; MIB];
    let mut bytes = Vec::new();
    report("Fifo: put and get of 1 MiB, one thread", 1, || {
        put(&queue, &large);
        bytes.clear();
        take(&queue, &mut bytes);
    })?;
    between_threads("one producer, one consumer thread", 1, 0)?;
    between_threads("the same, at most 100 in it", 1, 100)?;
    between_threads("the same, up to 100 at a time", 100, 0)?;
    round_trips()
}

fn queue(kind: Kind, maxsize: u32) -> Queue {
    let segment = Arc::new(Segment::create(c"speed", SITE_BYTES + (256 << 20)).expect("a segment"));
    let site = Site::create(Arc::clone(&segment), 1, [0; 16]).expect("a site");
    let options = Options { kind, maxsize, joinable: false };
    let queue = Queue::create(Arc::clone(&site), SITE_BYTES..segment.len(), options).expect("a queue");
    site.publish();
    queue
}

fn put(queue: &Queue, bytes: &[u8]) {
    queue.put(&Message::new(1, &[bytes]), Patience::Forever, &mut Patient).expect("room");
}

fn get(queue: &Queue) {
    let taken = queue.get(Patience::Forever, &mut Patient, |mut item| {
        let mut bytes = [0; 9];
        item.read(&mut bytes);
        Ok::<_, Infallible>(bytes)
    });
    assert!(matches!(taken, Ok(Ok(_))));
}

fn take(queue: &Queue, bytes: &mut Vec<u8>) {
    let taken = queue.get(Patience::Forever, &mut Patient, |mut item| {
        item.read_to_end(bytes);
        Ok::<_, Infallible>(())
    });
    assert!(matches!(taken, Ok(Ok(()))));
}

fn between_threads(what: &str, at_a_time: usize, maxsize: u32) -> io::Result<()> {
    const ITEMS: usize = 3_000_000;
    let queue = queue(Kind::Fifo, maxsize);
    let start = clock::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = Batch::default();
            for _ in 0..ITEMS / at_a_time {
                if at_a_time == 1 {
                    put(&queue, b"123456789");
                    continue;
                }
                (0..at_a_time).for_each(|_| batch.push(1, &[b"123456789"]));
                queue.put_batch(&mut batch, Patience::Forever, &mut Patient).expect("room");
            }
        });
        let (mut taken, mut batch) = (0, Batch::default());
        while taken < ITEMS / at_a_time * at_a_time {
            if at_a_time == 1 {
                get(&queue);
                taken += 1;
                continue;
            }
            batch.clear();
            taken +=
                queue.get_batch(at_a_time, MIB, &mut batch, Patience::Forever, &mut Patient).expect("items");
        }
    });
    let spent = (clock::now() - start) as f64;
    writeln!(io::stdout(), "{what:48}{:12.2} million/s", ITEMS as f64 / spent * 1e3)
}

fn round_trips() -> io::Result<()> {
    const TURNS: u32 = 100_000;
    let (there, back) = (queue(Kind::Fifo, 0), queue(Kind::Fifo, 0));
    let start = clock::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..TURNS {
                get(&there);
                put(&back, b"123456789");
            }
        });
        for _ in 0..TURNS {
            put(&there, b"123456789");
            get(&back);
        }
    });
    let spent = (clock::now() - start) as f64 / 1e3 / f64::from(TURNS);
    writeln!(io::stdout(), "{:48}{spent:12.2} µs", "round trip between two threads")
}

/// The median time of `act`, which handles `items`, over some rounds of a few milliseconds each.
fn report(what: &str, items: u64, mut act: impl FnMut()) -> io::Result<()> {
    const ROUNDS: usize = 7;
    let mut calls = 1_u64;
    let mut times = Vec::new();
    while times.len() < ROUNDS {
        let start = clock::now();
        (0..calls).for_each(|_| act());
        let spent = clock::now() - start;
        if spent < 3 * clock::MILLISECOND {
            calls *= 2;
        } else {
            times.push(spent as f64 / calls as f64 / items as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    writeln!(io::stdout(), "{what:48}{median:12.1} ns")
}
