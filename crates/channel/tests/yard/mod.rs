//! A queue in a segment of its own, and the plainest ways to use it.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use manyhands_channel::queue::{GetError, Message, Options, Queue};
use manyhands_os::memory::Segment;
use manyhands_sync::Patience;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::waiting::Patient;

pub(crate) struct Yard {
    pub(crate) site: Arc<Site>,
    pub(crate) region: Range<usize>,
    pub(crate) queue: Queue,
}

impl Yard {
    /// A queue of `len` bytes.
    pub(crate) fn new(len: usize, options: Options) -> Self {
        let segment = Arc::new(Segment::create(c"test", SITE_BYTES + len).expect("a segment"));
        let site = Site::create(Arc::clone(&segment), 1, [0; 16]).expect("a site");
        let region = SITE_BYTES..segment.len();
        let queue = Queue::create(Arc::clone(&site), region.clone(), options).expect("a queue");
        site.publish();
        Self { site, region, queue }
    }

    /// All bytes of the queue.
    pub(crate) fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.region.len()];
        self.site.segment().copy_out(self.region.start, &mut bytes);
        bytes
    }

    /// Makes these the bytes of the queue.
    pub(crate) fn remember(&self, bytes: &[u8]) {
        self.site.segment().commit(self.region.clone()).expect("memory");
        self.site.segment().copy_in(self.region.start, bytes);
    }

    /// The queue, as another process would come to it.
    pub(crate) fn attach(&self) -> Queue {
        Queue::attach(Arc::clone(&self.site), self.region.clone()).expect("attached")
    }
}

pub(crate) fn put(queue: &Queue, tag: u16, bytes: &[u8]) {
    queue.put(&Message::new(tag, &[bytes]), Patience::Forever, &mut Patient).expect("room");
}

fn read(mut item: manyhands_channel::queue::Item<'_>) -> Result<(u16, Vec<u8>), Infallible> {
    let mut bytes = Vec::new();
    item.read_to_end(&mut bytes);
    Ok((item.tag(), bytes))
}

pub(crate) fn try_get(queue: &Queue) -> Result<(u16, Vec<u8>), GetError> {
    queue.try_get(read).map(|Ok(item)| item)
}

pub(crate) fn get(queue: &Queue) -> Result<(u16, Vec<u8>), GetError> {
    queue.get(Patience::Forever, &mut Patient, read).map(|Ok(item)| item)
}
