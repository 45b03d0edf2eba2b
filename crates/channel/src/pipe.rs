//! A pair of ends between which messages go, in shared memory.
//!
//! Each direction is a stream (see [`queue`](crate::queue)). Each end is held by processes: by the one that made the
//! pipe, by children that were forked with it, by those that attached. When no living process holds an end any more, the
//! other end gets what was sent before, and then [`RecvError::EndOfFile`]; a sender gets [`SendError::Broken`].
//! A process that is killed holds nothing any more; a stopped one does.
//!
//! ```
//! use manyhands_channel::pipe::{End, RecvError};
//! use manyhands_os::memory::Segment;
//! use manyhands_sync::Patience;
//! use manyhands_sync::site::{SITE_BYTES, Site};
//! use manyhands_sync::waiting::Patient;
//! use std::sync::Arc;
//!
//! let segment = Arc::new(Segment::create(c"example", SITE_BYTES + (1 << 20))?);
//! let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
//! let (first, second) = End::pair(&site, SITE_BYTES..segment.len(), true)?;
//! site.publish();
//!
//! first.send(7, &[b"hello"], Patience::Forever, &mut Patient)?;
//! let read = |mut item: manyhands_channel::queue::Item<'_>| {
//!     let mut bytes = Vec::new();
//!     item.read_to_end(&mut bytes);
//!     Ok::<_, std::convert::Infallible>(bytes)
//! };
//! assert_eq!(second.recv(Patience::Forever, &mut Patient, read)?, Ok(b"hello".to_vec()));
//! drop(first);
//! assert_eq!(second.recv(Patience::Forever, &mut Patient, read), Err(RecvError::EndOfFile));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_os::memory::page_size;
use manyhands_os::process::Identity;
use manyhands_sync::site::Site;
use manyhands_sync::words::SegmentWords;
use manyhands_sync::{EventCount, SpinPolicy};

mod error;
mod holders;
mod messages;

pub use error::{RecvError, SendError};
pub use holders::Reservation;

use crate::queue::blocking;
use crate::queue::layout;
use crate::queue::stream::Stream;
use crate::queue::{AttachError, Corrupt};
use holders::Holders;

const MAGIC: u64 = u64::from_le_bytes(*b"mhpipe \n");
const VERSION: u32 = 1;

/// Words of the root.
mod root {
    // As a queue's; the high half of MAKE is whether it goes both ways.
    pub(super) use crate::queue::layout::root::{LEN, MAGIC, MAKE};
    pub(super) const WORDS: usize = 8;
    /// Where the tables of holders are, in words from the root.
    pub(super) const HOLDERS: [usize; 2] = [64, 64 + super::holders::WORDS];
}

/// With so many bytes in it a direction is full, so that a sender that is faster than the receiver is slowed down
/// before it has used up all memory. A single message may be longer.
const FULL: usize = 16 << 20;

/// Bytes before the streams.
const HEADING: usize = 8192;

const _: () = assert!((root::HOLDERS[1] + holders::WORDS) * 8 <= HEADING);

/// Which of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that only receives where messages go one way.
    First,
    /// The one that only sends there.
    Second,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// An end, as a process holds it. One is enough for all its threads. Dropping it lets go; in a copy made by fork that
/// has not [adopted](End::adopt) it, dropping does nothing.
pub struct End {
    site: Arc<Site>,
    side: Side,
    /// What the first end receives; what the second one does, if anything.
    streams: [Option<Stream>; 2],
    holders: [Holders; 2],
    /// Byte offset of the root in the segment.
    base: usize,
    /// The place of our hold, plus one; 0: closed.
    place: AtomicUsize,
    spin: SpinPolicy,
}

impl End {
    /// The fewest bytes that a region can have.
    pub const SMALLEST: usize = 2 * layout::SMALLEST + HEADING;

    /// Makes a pipe of the bytes `region` of the site's segment, which must be zero, and takes hold of both ends. With
    /// `duplex` messages go both ways, otherwise from the second end to the first.
    ///
    /// # Errors
    /// `BadRegion` when it does not lie inside the segment, does not begin with a page or is too small or too large;
    /// `Memory` when the system has none.
    pub fn pair(site: &Arc<Site>, region: Range<usize>, duplex: bool) -> Result<(Self, Self), AttachError> {
        let first = Self::over(site, &region, Side::First, duplex)?;
        let segment = site.segment();
        segment.commit(region.start..region.start + HEADING)?;
        for (stream, part) in first.streams.iter().zip(parts(&region, duplex)) {
            if let (Some(stream), Some(part)) = (stream, part) {
                segment.commit(part.start..part.start + layout::HEAD_BYTES)?;
                stream.create()?;
            }
        }
        let word = |index: usize| segment.word64(region.start + index * 8);
        word(root::MAKE).store(u64::from(VERSION) | u64::from(duplex) << 32, Ordering::Relaxed);
        word(root::LEN).store(region.len() as u64, Ordering::Relaxed);
        first.hold()?;
        let second = Self::over(site, &region, Side::Second, duplex)?;
        second.hold()?;
        // Release: everything above. pairs with: layout::open
        word(root::MAGIC).store(MAGIC, Ordering::Release);
        Ok((first, second))
    }

    /// Takes hold of an end of the pipe that somebody made of these bytes.
    ///
    /// # Errors
    /// When there is none, or one that was made for other bytes or by another version, or too many hold this end.
    pub fn attach(site: &Arc<Site>, region: Range<usize>, side: Side) -> Result<Self, AttachError> {
        let end = Self::find(site, region, side)?;
        end.hold()?;
        Ok(end)
    }

    /// Takes over a hold that was [reserved](Self::reserve); if it has expired, takes a new one.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn claim(
        site: &Arc<Site>,
        region: Range<usize>,
        side: Side,
        reservation: Reservation,
    ) -> Result<Self, AttachError> {
        let end = Self::find(site, region, side)?;
        if !end.adopt(reservation) {
            end.hold()?;
        }
        Ok(end)
    }

    fn find(site: &Arc<Site>, region: Range<usize>, side: Side) -> Result<Self, AttachError> {
        let duplex = match layout::open(site.segment(), &region, MAGIC, VERSION, "pipe")? {
            0 => false,
            1 => true,
            _ => return Err(Corrupt { what: "a pipe that goes neither way" }.into()),
        };
        Self::over(site, &region, side, duplex)
    }

    fn over(site: &Arc<Site>, region: &Range<usize>, side: Side, duplex: bool) -> Result<Self, AttachError> {
        let segment = site.segment();
        layout::check(segment, region)?;
        let bad = || AttachError::BadRegion { start: region.start, len: region.len() };
        if region.len() < Self::SMALLEST {
            return Err(bad());
        }
        let mut streams = [None, None];
        for (stream, part) in streams.iter_mut().zip(parts(region, duplex)) {
            if let Some(part) = part {
                *stream = Some(Stream::over(segment, part).ok_or_else(bad)?.with_limit(FULL));
            }
        }
        let root = SegmentWords::new(Arc::clone(segment), region.start, HEADING / 8);
        let holders = root::HOLDERS.map(|first| Holders::over(root.part(first, holders::WORDS)));
        let spin = blocking::spin_policy();
        let site = Arc::clone(site);
        Ok(Self { base: region.start, site, side, streams, holders, place: AtomicUsize::new(0), spin })
    }

    fn hold(&self) -> Result<(), AttachError> {
        let place = self.own().take(&self.site, None).ok_or(AttachError::TooManyHolders)?;
        self.place.store(place + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Those who hold this end.
    fn own(&self) -> &Holders {
        &self.holders[self.side as usize]
    }

    /// Those who hold the other end.
    fn peers(&self) -> &Holders {
        &self.holders[self.side.other() as usize]
    }

    fn incoming(&self) -> Option<&Stream> {
        self.streams[self.side as usize].as_ref()
    }

    fn outgoing(&self) -> Option<&Stream> {
        self.streams[self.side.other() as usize].as_ref()
    }

    /// Which end it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether messages come in here.
    #[must_use]
    pub fn can_recv(&self) -> bool {
        self.incoming().is_some()
    }

    /// Whether messages go out from here.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.outgoing().is_some()
    }

    /// The site of its segment.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The messages that have come and not been received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.incoming().map_or(0, Stream::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // ---------------------------------------------------------------- holds

    /// The living processes that hold the other end, or for which it is reserved; each once.
    #[must_use]
    pub fn peers_alive(&self) -> Vec<Identity> {
        self.peers().all_alive(&self.site)
    }

    /// A hold of this end for a process that will be started, for at most so many seconds; `None` when too many hold
    /// it, and from then on it counts as held forever: nobody could tell any more when it is not.
    #[must_use]
    pub fn reserve(&self, seconds: u32) -> Option<Reservation> {
        self.own().reserve(&self.site, seconds)
    }

    /// Makes a reservation of this end's the hold of this process: in a child that was forked with a copy of it.
    /// Returns whether it was still good. Takes no lock.
    pub fn adopt(&self, reservation: Reservation) -> bool {
        let claimed = self.own().claim(reservation);
        if claimed {
            self.place.store(reservation.place + 1, Ordering::Relaxed);
        }
        claimed
    }

    /// Takes hold of this end in a child that was forked with a copy of it: by the reservation if it is still good,
    /// else as a new one. Where too many hold it, it counts as held forever.
    pub fn inherit(&self, reservation: Option<Reservation>) {
        let adopted = reservation.is_some_and(|reservation| self.adopt(reservation));
        if !adopted && self.hold().is_err() {
            self.own().add_unlisted();
        }
    }

    /// Gives a reservation of this end's up.
    pub fn cancel(&self, reservation: Reservation) {
        self.own().cancel(reservation);
        self.tell_all();
    }

    /// Releases this end. Nothing can be sent or received here any more by right, but that is for the caller to see to.
    pub fn close(&self) {
        let place = self.place.swap(0, Ordering::Relaxed);
        if place > 0 && self.own().release(place - 1) {
            self.tell_all();
        }
    }

    /// Has everybody look who holds the ends.
    fn tell_all(&self) {
        for (index, stream) in self.streams.iter().enumerate() {
            if let Some(stream) = stream {
                self.site.notify(stream.items(), self.key(index, 1), u32::MAX);
                self.site.notify(stream.space(), self.key(index, 2), u32::MAX);
            }
        }
    }

    /// The key of a place to wait at, of the stream that end number `index` receives.
    fn key(&self, index: usize, number: u64) -> u64 {
        self.base as u64 + index as u64 * 8 + number
    }

    /// What those wait at who receive here, and its key; `None` where nothing comes in.
    #[must_use]
    pub fn items(&self) -> Option<(EventCount<'_>, u64)> {
        Some((self.incoming()?.items(), self.key(self.side as usize, 1)))
    }

    /// What those wait at who send here, and its key; `None` where nothing goes out.
    #[must_use]
    pub fn space(&self) -> Option<(EventCount<'_>, u64)> {
        Some((self.outgoing()?.space(), self.key(self.side.other() as usize, 2)))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("End").field("side", &self.side).field("len", &self.len()).finish()
    }
}

/// Which bytes each stream gets.
fn parts(region: &Range<usize>, duplex: bool) -> [Option<Range<usize>>; 2] {
    let start = region.start + HEADING;
    if !duplex {
        return [Some(start..region.end), None];
    }
    let half = region.end.saturating_sub(start) / 2;
    let middle = start + half - half % page_size();
    [Some(start..middle), Some(middle..region.end)]
}

const _: () = assert!(root::WORDS <= root::HOLDERS[0]);
