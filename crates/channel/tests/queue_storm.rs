//! A storm of deaths: processes put in and take out, are killed or stopped at any moment, and every item is accounted
//! for. The environment variable `MANYHANDS_STORM` sets the number of deaths for each kind of queue.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;
mod yard;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use child::{Child, News};
use manyhands_channel::queue::{Batch, GetError, Kind, Message, Options, PutError, Queue};
use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::memory::Segment;
use manyhands_sync::Patience;
use manyhands_sync::waiting::Patient;
use yard::Yard;

const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;

/// What a producer puts in before another one takes its place, and the most that is put in or taken out at a time.
const LIFE: u32 = 4096;
const BATCH: u32 = 8;

fn deaths() -> usize {
    let number = std::env::var("MANYHANDS_STORM").ok().and_then(|text| text.parse().ok());
    number.unwrap_or(40)
}

/// What everybody writes down in memory that outlives him.
struct Ledger {
    segment: Segment,
    lives: usize,
}

impl Ledger {
    const LINE: usize = 64;

    fn new(lives: usize) -> Self {
        let len = Self::LINE * (1 + lives) + lives * LIFE as usize * 4;
        Self { segment: Segment::create(c"ledger", len).expect("a segment"), lives }
    }

    /// Whether the storm is over.
    fn stop(&self) -> &AtomicU64 {
        self.segment.word64(0)
    }

    fn line(&self, life: usize, word: usize) -> &AtomicU64 {
        assert!(life < self.lives, "too many lives");
        self.segment.word64(Self::LINE * (1 + life) + word * 8)
    }

    /// Numbers below this are in the queue, or were.
    fn put(&self, life: usize) -> &AtomicU64 {
        self.line(life, 0)
    }

    /// Numbers below this may be.
    fn about_to_put(&self, life: usize) -> &AtomicU64 {
        self.line(life, 1)
    }

    /// Whether a consumer may have items that it has not written down.
    fn in_hand(&self, life: usize) -> &AtomicU64 {
        self.line(life, 2)
    }

    /// How often an item was taken out.
    fn seen(&self, life: usize, number: u32) -> &AtomicU32 {
        let index = life * LIFE as usize + number as usize;
        self.segment.word32(Self::LINE * (1 + self.lives) + index * 4)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

fn len_of(life: usize, number: u32) -> usize {
    match number % 16 {
        0 => 30_000 + life * 8,
        1..4 => 700,
        _ => 16 + number as usize % 50,
    }
}

fn content(life: usize, number: u32) -> Vec<u8> {
    let mut bytes = vec![number as u8 ^ life as u8; len_of(life, number)];
    bytes[..8].copy_from_slice(&(life as u64).to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn produce(queue: &Queue, ledger: &Ledger, life: usize) {
    let mut next = 0;
    let mut random = Random(life as u64 + 1);
    while next < LIFE - BATCH && ledger.stop().load(Ordering::Relaxed) == 0 {
        let count = 1 + random.below(u64::from(BATCH)) as u32;
        ledger.about_to_put(life).store(u64::from(next + count), Ordering::SeqCst);
        if count == 1 {
            let (bytes, priority) = (content(life, next), u128::from(random.below(3)));
            let message = Message { tag: 1, priority, parts: &[&bytes] };
            match queue.put(&message, Patience::Until(clock::now() + 60 * SECOND), &mut Patient) {
                Ok(()) | Err(PutError::Interrupted) => {}
                Err(error) => panic!("{error}"),
            }
        } else {
            let mut batch = Batch::default();
            (next..next + count).for_each(|number| batch.push(1, &[&content(life, number)]));
            queue
                .put_batch(&mut batch, Patience::Until(clock::now() + 60 * SECOND), &mut Patient)
                .expect("room in time");
        }
        next += count;
        ledger.put(life).store(u64::from(next), Ordering::SeqCst);
    }
}

fn note(ledger: &Ledger, bytes: &[u8]) {
    let life = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let number = u32::from_le_bytes(bytes[8..12].try_into().expect("four"));
    assert!(bytes == content(life, number), "item {number} of {life} is not whole");
    ledger.seen(life, number).fetch_add(1, Ordering::SeqCst);
}

fn consume(queue: &Queue, ledger: &Ledger, life: usize) {
    let mut batch = Batch::default();
    let mut random = Random(life as u64 + 99);
    loop {
        let most = 1 + random.below(u64::from(BATCH)) as usize;
        ledger.in_hand(life).store(1, Ordering::SeqCst);
        match queue.get_batch(
            most,
            1 << 20,
            &mut batch,
            Patience::Until(clock::now() + 60 * SECOND),
            &mut Patient,
        ) {
            Ok(count) => {
                batch.iter().for_each(|(_, bytes)| note(ledger, bytes));
                queue.task_done(count as u32, &mut Patient).expect("taken");
                ledger.in_hand(life).store(0, Ordering::SeqCst);
                batch.clear();
            }
            Err(GetError::Closed) => {
                ledger.in_hand(life).store(0, Ordering::SeqCst);
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

struct Storm {
    yard: Yard,
    ledger: Ledger,
    /// The children, and which life each is.
    children: Vec<(usize, Child)>,
    next_life: usize,
}

impl Storm {
    fn new(kind: Kind, lives: usize) -> Self {
        let yard = Yard::new(2 << 20, Options { kind, maxsize: 200, joinable: true });
        let mut storm = Self { yard, ledger: Ledger::new(lives), children: Vec::new(), next_life: 0 };
        for place in 0..PRODUCERS + CONSUMERS {
            let child = storm.start(place);
            storm.children.push(child);
        }
        storm
    }

    fn start(&mut self, place: usize) -> (usize, Child) {
        let life = self.next_life;
        self.next_life += 1;
        let (yard, ledger) = (&self.yard, &self.ledger);
        let child = Child::run(|| {
            yard.site.enter();
            let queue = yard.attach();
            if place < PRODUCERS { produce(&queue, ledger, life) } else { consume(&queue, ledger, life) }
        });
        (life, child)
    }

    /// Starts another one in the place of one that is gone.
    fn replace(&mut self, place: usize) {
        self.children[place] = self.start(place);
    }

    fn blow(&mut self, random: &mut Random) -> usize {
        let place = random.below(self.children.len() as u64) as usize;
        let pause = clock::now() + random.below(4 * MILLISECOND);
        while clock::now() < pause {
            std::thread::yield_now();
        }
        match self.children[place].1.news() {
            Some(News::Exited(0)) if place < PRODUCERS => {
                // It has lived its life.
                self.replace(place);
                return 0;
            }
            None => {}
            Some(news) => panic!("{news:?} in place {place}"),
        }
        if random.below(3) == 0 {
            // Nothing is taken from one that is only stopped: it would be there twice.
            self.children[place].1.signal(libc::SIGSTOP);
            let pause = clock::now() + random.below(20 * MILLISECOND);
            while clock::now() < pause {
                std::thread::yield_now();
            }
            self.children[place].1.signal(libc::SIGCONT);
            return 0;
        }
        self.children[place].1.kill();
        self.replace(place);
        1
    }

    /// Lets everybody finish.
    fn calm(&mut self) {
        self.ledger.stop().store(1, Ordering::SeqCst);
        for (_, child) in &self.children[..PRODUCERS] {
            assert_eq!(child.wait(), News::Exited(0));
        }
        self.yard.queue.close(false, &mut Patient).expect("closed");
        for (_, child) in &self.children[PRODUCERS..] {
            assert_eq!(child.wait(), News::Exited(0));
        }
    }

    fn account(&self) {
        let Self { yard, ledger, .. } = self;
        assert_eq!(yard.queue.len(), 0, "all was taken out");
        let (mut missing, mut in_hand, mut total) = (0_u64, 0, 0);
        for life in 0..self.next_life {
            let put = ledger.put(life).load(Ordering::SeqCst) as u32;
            let about_to_put = ledger.about_to_put(life).load(Ordering::SeqCst) as u32;
            assert!(put <= about_to_put);
            for number in 0..about_to_put {
                match ledger.seen(life, number).load(Ordering::SeqCst) {
                    0 if number < put => missing += 1,
                    0 | 1 => {}
                    often => panic!("item {number} of {life} was there {often} times"),
                }
            }
            assert!((about_to_put..LIFE).all(|number| ledger.seen(life, number).load(Ordering::SeqCst) == 0));
            total += u64::from(put);
            in_hand += ledger.in_hand(life).load(Ordering::SeqCst);
        }
        let most = in_hand * u64::from(BATCH);
        assert!(missing <= most, "{missing} of {total} are lost, {in_hand} consumers died with items");
        // What is missing was taken by somebody who is known to be dead.
        let left = yard.queue.unfinished().expect("to be known");
        let lost: u64 = left.lost.iter().map(|(_, count)| u64::from(*count)).sum();
        assert!((missing..=most).contains(&left.count), "{missing} are missing, {left:?}");
        assert_eq!(lost, left.count, "{left:?}");
        let statistics = yard.queue.statistics();
        assert_eq!(statistics.puts, statistics.gets);
        assert!(statistics.puts >= total);
    }
}

fn storm(kind: Kind) {
    let deaths = deaths();
    let mut storm = Storm::new(kind, 20 * deaths + 1000);
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ clock::now());
    let mut killed = 0;
    while killed < deaths {
        killed += storm.blow(&mut random);
    }
    storm.calm();
    storm.account();
}

#[test]
fn every_item_of_a_fifo_is_accounted_for() {
    storm(Kind::Fifo);
}

#[test]
fn every_item_of_a_lifo_is_accounted_for() {
    storm(Kind::Lifo);
}

#[test]
fn every_item_of_a_priority_queue_is_accounted_for() {
    storm(Kind::Priority);
}
