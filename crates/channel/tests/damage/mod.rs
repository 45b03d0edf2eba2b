//! Queues and pipes in segments written to by somebody that does not keep to the protocol: whatever is done with
//! them ends, with a result or an error. Also the entry of the fuzz target.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use manyhands_channel::pipe::{End, Side};
use manyhands_channel::queue::{Batch, Item, Kind, Message, Options, Queue};
use manyhands_os::memory::Segment;
use manyhands_os::process::identity;
use manyhands_sync::site::{SITE_BYTES, Site};

/// Bytes of the body: the fewest that will do, so that random places hit something.
const BODY: usize = End::SMALLEST;

/// What decides what is done: numbers from a run of bytes, zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn number(&mut self, bytes: usize) -> u64 {
        let (now, later) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = later;
        now.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Does what `script` says. Panics, or does not end, when a protocol trusts what it reads.
pub(crate) fn run(script: &[u8]) {
    let mut script = Script(script);
    let segment = Arc::new(Segment::create(c"damage", SITE_BYTES + BODY).expect("a segment"));
    let site = Site::create(Arc::clone(&segment), 1, [0; 16]).expect("a site");
    let region = SITE_BYTES..segment.len();
    match script.number(1) % 4 {
        3 => pipe(&site, region, &mut script),
        kind => queue(&site, region, [Kind::Fifo, Kind::Lifo, Kind::Priority][kind as usize], &mut script),
    }
}

fn queue(site: &Arc<Site>, region: Range<usize>, kind: Kind, script: &mut Script<'_>) {
    let options = Options { kind, maxsize: script.number(1) as u32 % 20, joinable: true };
    let known = Queue::create(Arc::clone(site), region.clone(), options).expect("a queue");
    site.publish();
    for len in [3, 400, 9000] {
        let _ = known.try_put(&Message::new(1, &[&vec![7; len]]));
    }
    let _ = known.try_get(|_| Ok::<_, Infallible>(()));
    while !script.is_over() {
        write(site, &region, identity().to_bits(), script);
        // Whoever has it open, and whoever comes now.
        operate(&known, script);
        if let Ok(queue) = Queue::attach(Arc::clone(site), region.clone()) {
            operate(&queue, script);
        }
    }
}

/// Writes something to somewhere, now and then `who`.
fn write(site: &Site, region: &Range<usize>, who: u64, script: &mut Script<'_>) {
    let place = script.number(3) as usize;
    // Mostly to where the words are that everything hangs on.
    let at = match place % 4 {
        0 => region.start + (place >> 2) % region.len(),
        1 => region.start + (place >> 2) % 16_384,
        2 => region.start + (place >> 2) % 640,
        _ => region.start + 4608 + (place >> 2) % 640,
    };
    let word = site.segment().word64(at - at % 8);
    let value = match script.number(1) % 8 {
        0 => script.number(8),
        1 => script.number(1),
        2 => script.number(4) << 32 | word.load(std::sync::atomic::Ordering::Relaxed) & 0xffff_ffff,
        3 => u64::MAX - script.number(1),
        4 => who,
        5 => word.load(std::sync::atomic::Ordering::Relaxed).wrapping_add(script.number(1)),
        6 => word.load(std::sync::atomic::Ordering::Relaxed) ^ 1 << (script.number(1) % 64),
        _ => 0,
    };
    word.store(value, std::sync::atomic::Ordering::Relaxed);
}

fn read(mut item: Item<'_>) -> Result<usize, Infallible> {
    let mut bytes = Vec::new();
    item.read_to_end(&mut bytes);
    Ok(bytes.len())
}

/// Does one thing. What comes of it cannot be known, but something must.
fn operate(queue: &Queue, script: &mut Script<'_>) {
    let (what, number) = (script.number(1), script.number(1) as usize);
    match what % 12 {
        0 => drop(queue.try_put(&Message { tag: 2, priority: number as u128, parts: &[&vec![1; number]] })),
        1 => drop(queue.try_put(&Message::new(3, &[&vec![2; number * 600]]))),
        2 => {
            let mut batch = Batch::default();
            (0..number % 30).for_each(|len| batch.push(4, &[&vec![3; len * 10]]));
            drop(queue.try_put_batch(&mut batch));
        }
        3 | 4 => drop(queue.try_get(read)),
        5 => drop(queue.try_get(|_| Err::<(), _>(()))),
        6 => drop(queue.try_get_many(number, |item| read(item).map(drop))),
        7 => {
            let mut batch = Batch::default();
            let _ = queue.try_get_batch(number, 1 << 20, &mut batch);
            assert_eq!(batch.iter().count(), batch.len(), "a batch holds what it says");
        }
        8 => drop(queue.try_task_done(number as u32)),
        9 => drop((queue.unfinished(), queue.try_write_off())),
        10 => drop((queue.statistics(), queue.trim(), queue.len(), format!("{queue:?}"))),
        _ => drop(queue.try_close(number % 2 == 1)),
    }
}

fn pipe(site: &Arc<Site>, region: Range<usize>, script: &mut Script<'_>) {
    let duplex = script.number(1).is_multiple_of(2);
    let (first, second) = End::pair(site, region.clone(), duplex).expect("a pipe");
    site.publish();
    let _ = second.try_send(1, &[b"hello"]);
    let mut ends = vec![first, second];
    while !script.is_over() {
        // Not by this process: what a living one holds is waited for, and here for nothing.
        write(site, &region, u64::MAX >> 10, script);
        for side in [Side::First, Side::Second] {
            if ends.len() < 10
                && let Ok(end) = End::attach(site, region.clone(), side)
            {
                ends.push(end);
            }
        }
        for end in &ends {
            let number = script.number(1) as usize;
            match number % 6 {
                0 => drop(end.try_send(1, &[&vec![1; number * number]])),
                1 | 2 => drop(end.try_recv(read)),
                3 => drop(end.reserve(1).map(|it| end.cancel(it))),
                4 => end.close(),
                _ => drop((end.len(), format!("{end:?}"))),
            }
        }
    }
}
