//! What a segment that holds primitives begins with: its participants, and its waiters with what they wait for.
//!
//! * The *heading* says what the segment is.
//! * A *participant slot* is a process's place among the participants: it makes a death known at once
//!   ([`ParticipantSlot`]).
//! * An *entry* in the table of waiters says who waits for what, since when ([`Entry`]).
//!
//! None of it is a lock, and nothing in it must be whole for the primitives to be right: the owner of something is
//! written in the primitive's own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::{io, ptr};

use manyhands_os::memory::Segment;
use manyhands_os::process::{Identity, fork_count, identity};

use crate::names::Directory;

mod heading;
mod participants;
pub(crate) mod registry;
mod wait_kind;
mod waiters;
mod wake_sockets;

pub use crate::site_error::SiteError;
pub use heading::{MOST_PARTICIPANTS, MOST_WAITERS, PARAMETERS, SITE_BYTES};
pub use participants::ParticipantSlot;
pub(crate) use participants::Watch;
pub use wait_kind::WaitKind;
pub use waiters::{Entry, Listed};
pub use wake_sockets::AsyncTicket;

/// A segment's site, as this process sees it.
///
/// ```
/// use manyhands_os::memory::Segment;
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use std::sync::Arc;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + 4096)?);
/// let site = Site::create(Arc::clone(&segment), 7, [0; 16])?;
/// segment.commit(SITE_BYTES..SITE_BYTES + 64)?; // the body
/// site.publish();
///
/// let other = Site::attach(Arc::new(Segment::attach(segment.fd().try_clone_to_owned()?)?))?;
/// assert_eq!(other.kind(), 7);
/// assert_eq!(other.creator(), site.creator());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Site {
    segment: Arc<Segment>,
    /// This process's participant slot, plus 1; 0 for none. In a forked child it may still be the parent's: compare
    /// identities.
    own: AtomicU32,
    guarding: Arc<participants::Guarding>,
    /// Where this process is listed as having its name, if it has one.
    directory: AtomicPtr<Directory>,
    /// In which row, and after how many forks that was so.
    ///
    /// | bits | meaning | who changes it |
    /// |---|---|---|
    /// | 0-31 | the row, 0 for none | who lists it |
    /// | 32-63 | the number of forks, plus 1; 0: never | who lists it |
    row: AtomicU64,
}

impl Site {
    /// Makes the site of a new segment, which is zero. It is not ready until [`publish`](Self::publish), so that the
    /// body can be made first.
    ///
    /// # Errors
    /// `StorageFull` or `OutOfMemory` when memory is short.
    ///
    /// # Panics
    /// When the segment is shorter than [`SITE_BYTES`].
    pub fn create(segment: Arc<Segment>, kind: u32, parameters: [u64; PARAMETERS]) -> io::Result<Arc<Self>> {
        heading::write(&segment, kind, &parameters)?;
        Ok(Self::over(segment))
    }

    /// The site of a segment that somebody else made.
    ///
    /// # Errors
    /// When the segment does not begin with a site, or with one that is not ready or not of this version.
    pub fn attach(segment: Arc<Segment>) -> Result<Arc<Self>, SiteError> {
        heading::check(&segment)?;
        Ok(Self::over(segment))
    }

    /// As [`attach`](Self::attach), for a process that only looks: the rest of this process does not learn of it.
    pub(crate) fn look_at(segment: Segment) -> Result<Self, SiteError> {
        heading::check(&segment)?;
        Ok(Self::unknown(Arc::new(segment)))
    }

    fn over(segment: Arc<Segment>) -> Arc<Self> {
        let site = Arc::new(Self::unknown(segment));
        registry::remember(&site);
        site
    }

    fn unknown(segment: Arc<Segment>) -> Self {
        let directory = AtomicPtr::new(ptr::null_mut());
        Self { segment, own: AtomicU32::new(0), guarding: Arc::default(), directory, row: AtomicU64::new(0) }
    }

    /// Whether one could [`attach`](Self::attach) to it now.
    pub(crate) fn check(&self) -> Result<(), SiteError> {
        heading::check(&self.segment)
    }

    /// Where this process, or its parent before a fork, is listed as having its name.
    pub(crate) fn directory(&self) -> Option<&'static Directory> {
        // SAFETY: null, or a reference that lives forever.
        unsafe { self.directory.load(Ordering::Acquire).as_ref() }
    }

    /// Whether this process is listed there, as having its name.
    pub(crate) fn is_listed(&self, directory: &'static Directory) -> bool {
        let here = self.directory.load(Ordering::Acquire).cast_const();
        ptr::eq(here, directory) && self.row.load(Ordering::Relaxed) >> 32 == u64::from(fork_count()) + 1
    }

    /// Notes that it is, in that row.
    pub(crate) fn list(&self, directory: &'static Directory, row: usize) {
        self.row.store((u64::from(fork_count()) + 1) << 32 | row as u64, Ordering::Relaxed);
        // Release: the row. pairs with: directory, is_listed (Acquire)
        self.directory.store(ptr::from_ref(directory).cast_mut(), Ordering::Release);
    }

    /// Lets others attach: the body has been made.
    pub fn publish(&self) {
        heading::publish(&self.segment);
    }

    /// Whether others can attach.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        heading::is_ready(&self.segment)
    }

    /// Says that its name, if it has one, no longer means it. Nothing else changes.
    pub fn retire(&self) {
        heading::retire(&self.segment);
    }

    /// Whether it has been retired.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        heading::is_retired(&self.segment)
    }

    /// What the body is: the number that the creator gave.
    #[must_use]
    pub fn kind(&self) -> u32 {
        heading::kind(&self.segment)
    }

    /// What the creator wrote for those who attach. Whoever can write to the segment can change it: check it.
    #[must_use]
    pub fn parameters(&self) -> [u64; PARAMETERS] {
        heading::parameters(&self.segment)
    }

    /// Its maker; `None` when the heading has been damaged since.
    #[must_use]
    pub fn creator(&self) -> Option<Identity> {
        heading::creator(&self.segment)
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether `who` is certainly dead. Without a system call for this process itself and for those whose participant
    /// slot is guarded, which is the usual case.
    #[must_use]
    pub fn is_dead(&self, who: Identity) -> bool {
        if who == identity() {
            return false;
        }
        match self.watch(who) {
            Watch::Guarded { .. } => false,
            // The number of a process of another namespace cannot be asked about; the kernel's mark is all there is.
            Watch::Died { .. } if who.is_foreign() => true,
            Watch::Died { .. } | Watch::Nothing => who.is_dead(),
        }
    }

    /// Byte offset of a word of the site, as an atomic.
    fn word(&self, offset: usize) -> &std::sync::atomic::AtomicU64 {
        self.segment.word64(offset)
    }

    fn next_ticket(&self) -> u64 {
        self.word(heading::AT_TICKETS).fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("kind", &self.kind()).field("creator", &self.creator()).finish()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(directory) = self.directory().filter(|directory| self.is_listed(directory)) {
            let row = self.row.load(Ordering::Relaxed) & 0xffff_ffff;
            directory.strike(row as usize, self.segment.number());
        }
        self.leave();
    }
}
