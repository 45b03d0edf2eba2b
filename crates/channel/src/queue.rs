//! Queues between threads and processes, in shared memory.
//!
//! One type for the three orders ([`Kind`]), over a region of a segment that begins with a [`Site`]. Items are bytes
//! with a small number, the *tag*, that says how to read them. Any number of processes put in and take out; any of them
//! may be killed anywhere: what it had not put in completely is not there, what it had not taken out completely still
//! is, and the next user goes on. A stopped process is waited for.
//!
//! * `stream`: first in, first out; two latches, so that producers and consumers do not meet;
//! * `heap`: the other two orders; one latch;
//! * `extents`: the memory of a stream, `latch`: the locks, `consumers`: which consumer has taken what and not
//!   finished it.
//!
//! ```
//! use manyhands_channel::queue::{Kind, Message, Options, Queue};
//! use manyhands_os::memory::Segment;
//! use manyhands_sync::Patience;
//! use manyhands_sync::site::{SITE_BYTES, Site};
//! use manyhands_sync::waiting::Patient;
//! use std::sync::Arc;
//!
//! let segment = Arc::new(Segment::create(c"example", SITE_BYTES + (1 << 20))?);
//! let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
//! let options = Options { kind: Kind::Fifo, maxsize: 0, joinable: false };
//! let queue = Queue::create(Arc::clone(&site), SITE_BYTES..segment.len(), options)?;
//! site.publish(); // from here on others can attach
//!
//! std::thread::scope(|scope| {
//!     scope.spawn(|| queue.put(&Message::new(1, &[b"hello, ", b"world"]), Patience::Forever, &mut Patient));
//!     let text = queue.get(Patience::Forever, &mut Patient, |mut item| {
//!         let mut text = vec![0; item.len()];
//!         item.read(&mut text);
//!         Ok::<_, std::convert::Infallible>(text)
//!     });
//!     assert_eq!(text, Ok(Ok(b"hello, world".to_vec())));
//! });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use manyhands_os::memory::Segment;
use manyhands_os::process::Identity;
use manyhands_sync::EventCount;
use manyhands_sync::SpinPolicy;
use manyhands_sync::atomic::Ordering;
use manyhands_sync::site::Site;
use manyhands_sync::words::{SegmentWords, Words};

mod batch;
pub(crate) mod blocking;
mod consumers;
mod error;
mod extents;
mod heap;
mod item;
pub(crate) mod latch;
pub(crate) mod layout;
mod once;
mod priority;
pub(crate) mod stream;
mod tasks;

pub use batch::Batch;
pub use error::{AttachError, Corrupt, GetError, PutError, TaskError};
pub use item::{Item, Message};
pub use latch::Busy;
pub use priority::{priority_of_float, priority_of_int};
pub use tasks::Unfinished;

use consumers::Consumers;
use heap::Heap;
use layout::{BODY, CONSUMERS, LINE, head, root};
use stream::Stream;

/// "mhqueue" and the end of a line.
const MAGIC: u64 = u64::from_le_bytes(*b"mhqueue\n");

/// Changes with everything in `layout` and in the meaning of a word.
const VERSION: u32 = 1;

const CLOSED: u64 = 1;
const IMMEDIATE: u64 = 2;

/// In which order items come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// As they went in.
    Fifo = 1,
    /// The last one first.
    Lifo = 2,
    /// The one with the smallest priority first, among equals as they went in.
    Priority = 3,
}

/// What a queue is like; the same for all who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The order.
    pub kind: Kind,
    /// The most items; 0: any number.
    pub maxsize: u32,
    /// Whether it counts items as taken and as done for each consumer, so that one can wait for all to be done.
    pub joinable: bool,
}

/// What has happened in a queue so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Items put in.
    pub puts: u64,
    /// Items taken out or dropped.
    pub gets: u64,
    /// Bytes put in; in a `Fifo` with what goes with them.
    pub bytes_put: u64,
    /// Bytes taken out, likewise.
    pub bytes_got: u64,
    /// Items in it.
    pub len: usize,
    /// Memory committed for items, in bytes.
    pub memory: usize,
    /// How often a process died in the middle of an operation and another one repaired it.
    pub deaths: u64,
}

enum Body {
    Stream(Stream),
    Heap(Heap),
}

/// A queue, seen from any process. All methods can be called from any thread, also in copies of the process that fork
/// makes.
pub struct Queue {
    site: Arc<Site>,
    base: usize,
    root: SegmentWords,
    body: Body,
    consumers: Consumers,
    options: Options,
    spin: SpinPolicy,
    /// Whether a consumer of this process has left memory behind it since it last was looked through.
    passed: AtomicBool,
}

impl Queue {
    /// The fewest bytes that a region can have.
    pub const SMALLEST: usize = layout::SMALLEST;
    /// The most.
    pub const LARGEST: usize = layout::LARGEST;

    /// Makes a queue of the bytes `region` of the site's segment, which must be zero. Memory is committed as items need
    /// it: the region's length is a limit and costs nothing.
    ///
    /// # Errors
    /// `BadRegion` when it does not lie inside the segment, does not begin with a page or is too small or too large;
    /// `Memory` when the system has none.
    pub fn create(site: Arc<Site>, region: Range<usize>, options: Options) -> Result<Self, AttachError> {
        let queue = Self::over(site, &region, options)?;
        let segment = queue.site.segment();
        segment.commit(region.start..region.start + BODY + layout::HEAD_BYTES)?;
        if let Body::Stream(stream) = &queue.body {
            stream.create()?;
        }
        queue.root.word(root::MAKE).store(make(options), Ordering::Relaxed);
        queue.root.word(root::LEN).store(region.len() as u64, Ordering::Relaxed);
        queue.root.word(root::MAXSIZE).store(u64::from(options.maxsize), Ordering::Relaxed);
        // Release: everything above. pairs with: layout::open
        queue.root.word(root::MAGIC).store(MAGIC, Ordering::Release);
        Ok(queue)
    }

    /// The queue that somebody made of these bytes. Changes nothing.
    ///
    /// # Errors
    /// When there is none, or one that was made for other bytes or by another version.
    pub fn attach(site: Arc<Site>, region: Range<usize>) -> Result<Self, AttachError> {
        let chosen = layout::open(site.segment(), &region, MAGIC, VERSION, "queue")?;
        let maxsize = site.segment().word64(region.start + root::MAXSIZE * 8).load(Ordering::Relaxed);
        let options = unmake(chosen, maxsize).ok_or(Corrupt { what: "its kind is unknown" })?;
        Self::over(site, &region, options)
    }

    fn over(site: Arc<Site>, region: &Range<usize>, options: Options) -> Result<Self, AttachError> {
        let segment: &Arc<Segment> = site.segment();
        layout::check(segment, region)?;
        let bad = || AttachError::BadRegion { start: region.start, len: region.len() };
        let inside = region.start + BODY..region.end;
        let body = match options.kind {
            Kind::Fifo => Body::Stream(Stream::over(segment, inside).ok_or_else(bad)?),
            kind => Body::Heap(Heap::over(segment, inside, kind == Kind::Lifo).ok_or_else(bad)?),
        };
        let part =
            |offset: usize, count| SegmentWords::new(Arc::clone(segment), region.start + offset, count);
        let (root, consumers) = (part(0, root::WORDS), part(CONSUMERS, Consumers::WORDS));
        let consumers = Consumers::over(consumers);
        let spin = blocking::spin_policy();
        let passed = AtomicBool::new(false);
        Ok(Self { base: region.start, root, body, consumers, options, spin, site, passed })
    }

    /// What it is like.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// The site of its segment.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// How many items are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.state() & IMMEDIATE != 0 {
            // Whoever closed it may not have come to drop them.
            return 0;
        }
        match &self.body {
            Body::Stream(stream) => stream.len(),
            Body::Heap(heap) => heap.len(),
        }
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are as many items as there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.options.maxsize > 0 && self.len() >= self.options.maxsize as usize
    }

    /// The most bytes that an item can have.
    #[must_use]
    pub fn largest(&self) -> usize {
        match &self.body {
            Body::Stream(stream) => stream.largest(),
            Body::Heap(heap) => heap.largest(),
        }
    }

    /// Whether it was closed: nothing can be put in any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() & CLOSED != 0
    }

    #[inline]
    fn state(&self) -> u64 {
        // pairs with: close. A reader that sees that it is closed sees all that was put in before.
        self.root.word(root::STATE).load(Ordering::Acquire)
    }

    // ---------------------------------------------------------------- event counts and keys

    /// What those wait at who want to take something out.
    #[must_use]
    #[inline]
    pub fn items(&self) -> EventCount<'_> {
        match &self.body {
            Body::Stream(stream) => stream.items(),
            Body::Heap(heap) => heap.items(),
        }
    }

    /// What those wait at who want to put something in.
    #[must_use]
    #[inline]
    pub fn space(&self) -> EventCount<'_> {
        match &self.body {
            Body::Stream(stream) => stream.space(),
            Body::Heap(heap) => heap.space(),
        }
    }

    /// What those wait at who want to know that all is done.
    #[must_use]
    pub fn joined(&self) -> EventCount<'_> {
        EventCount::new(self.root.futex(root::JOINED), self.root.futex(root::JOINED + 1))
    }

    /// The key that goes with [`items`](Self::items).
    #[must_use]
    pub fn items_key(&self) -> u64 {
        self.base as u64 + 1
    }

    /// The key that goes with [`space`](Self::space).
    #[must_use]
    pub fn space_key(&self) -> u64 {
        self.base as u64 + 2
    }

    /// The key that goes with [`joined`](Self::joined).
    #[must_use]
    pub fn joined_key(&self) -> u64 {
        self.base as u64 + 3
    }

    #[inline]
    fn tell_consumers(&self, items: usize) {
        self.site.notify(self.items(), self.items_key(), u32::try_from(items).unwrap_or(u32::MAX));
    }

    fn tell_producers(&self, items: usize) {
        self.site.notify(self.space(), self.space_key(), u32::try_from(items).unwrap_or(u32::MAX));
    }

    /// What has happened so far; of several numbers each is right, but they may be of slightly different moments.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let words = |index: usize| match &self.body {
            Body::Stream(stream) => stream.head_word(index).load(Ordering::Relaxed),
            Body::Heap(heap) => heap.head_word(index).load(Ordering::Relaxed),
        };
        let len = self.len();
        let (puts, gets, memory) = match &self.body {
            Body::Stream(stream) => (
                stream.total(head::PUTS, head::PUT_COMMIT),
                stream.total(head::GETS, head::GOT_COMMIT),
                stream.memory(),
            ),
            Body::Heap(heap) => {
                let puts = words(head::PUT_COMMIT);
                (puts, puts.saturating_sub(len as u64), heap.memory())
            }
        };
        let (bytes_put, bytes_got) = (words(head::BYTES_PUT), words(head::BYTES_GOT));
        let deaths = words(head::PUT_DEATHS).wrapping_add(words(head::GET_DEATHS));
        Statistics { puts, gets, bytes_put, bytes_got, len, memory, deaths }
    }

    /// Gives back some of the memory that was needed when there were more items, if nobody is at it. Returns whether
    /// there may be more to give back.
    pub fn trim(&self) -> bool {
        match &self.body {
            Body::Stream(stream) => stream.trim().unwrap_or(false),
            Body::Heap(_) => false,
        }
    }

    /// Gives back, if the queue is empty, all memory but what makes the next items cheap; of a closed one, all.
    #[cold]
    fn give_back(&self) {
        if !self.is_empty() {
            return;
        }
        match &self.body {
            Body::Stream(stream) => stream.trim_all(if self.is_closed() { 0 } else { layout::KEEP }),
            Body::Heap(heap) => {
                if self.is_closed() && heap.memory() > 0 {
                    // Only a saving: whoever has the latch may leave it undone.
                    let _ =
                        self.enter_put_closed(latch::Attempt::Only).map(|guard| heap.reset_if_empty(&guard));
                }
            }
        }
    }

    /// What those sleep at who wait for the latch of the consumers (`true`) or that of the producers.
    fn turn(&self, of_consumers: bool) -> EventCount<'_> {
        match &self.body {
            Body::Stream(stream) if of_consumers => stream.get_latch().events(),
            Body::Stream(stream) => stream.put_latch().events(),
            Body::Heap(heap) => heap.latch().events(),
        }
    }

    /// The holder of the consumers' latch (`true`) or that of the producers.
    fn holder(&self, of_consumers: bool) -> Option<Identity> {
        match &self.body {
            Body::Stream(stream) if of_consumers => stream.get_latch().holder(),
            Body::Stream(stream) => stream.put_latch().holder(),
            Body::Heap(heap) => heap.latch().holder(),
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").field("options", &self.options).field("len", &self.len()).finish()
    }
}

/// The word that says what a queue is.
fn make(options: Options) -> u64 {
    u64::from(VERSION) | u64::from(options.kind as u8) << 32 | u64::from(options.joinable) << 40
}

/// What the high half of a make, and the most items, say.
fn unmake(chosen: u32, maxsize: u64) -> Option<Options> {
    let kind =
        [Kind::Fifo, Kind::Lifo, Kind::Priority].into_iter().find(|kind| *kind as u32 == chosen & 0xff)?;
    let joinable = match chosen >> 8 {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Options { kind, maxsize: u32::try_from(maxsize).ok()?, joinable })
}

const _: () = assert!(BODY.is_multiple_of(LINE) && root::WORDS * 8 <= CONSUMERS);
