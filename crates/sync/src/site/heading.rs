//! The first page of a site: what the segment is, and the counters that everybody shares. Every offset of a site stands
//! here and nowhere else.
//!
//! ```text
//! | heading: a page | 512 participant slots of 64 bytes | 8192 entries of 64 bytes | 1024 stacks of 1 KiB | body …
//! ```
//!
//! Only the pages that are in use cost memory: the first of each table at once, later ones when an entry on them is
//! first claimed.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::memory::Segment;
use manyhands_os::process::{Identity, identity};

use crate::site_error::{LIBRARY, SiteError};

/// How many words of parameters a heading has.
pub const PARAMETERS: usize = 16;

/// The most participant slots of a site.
pub const MOST_PARTICIPANTS: usize = 512;

/// The most entries of a site's table of waiters: threads that wait for long, and coroutines.
pub const MOST_WAITERS: usize = 8192;

/// How many of the entries, the first, have room for a stack. Coroutines have none.
const MOST_STACKS: usize = 1024;

/// Where the body begins, in bytes from the start of the segment: what comes before is the site's.
pub const SITE_BYTES: usize = STACKS + MOST_STACKS * STACK_BYTES;

/// Bytes of a record in either table: a cache line.
const RECORD: usize = 64;

/// The unit in which tables grow. Not the machine's page size: the layout is the same everywhere, and committing a part
/// of a page commits all of it.
const PAGE: usize = 4096;

const PARTICIPANTS: usize = PAGE;
const WAITERS: usize = PARTICIPANTS + MOST_PARTICIPANTS * RECORD;
const STACKS: usize = WAITERS + MOST_WAITERS * RECORD;

/// The most bytes of a stack's text.
pub(super) const STACK_BYTES: usize = 1024;

const _: () = assert!(SITE_BYTES.is_multiple_of(PAGE));

/// "mh-site" and a zero byte.
const MAGIC: u64 = u64::from_le_bytes(*b"mh-site\0");

/// Changes with every change of what two processes have to agree on: here, in a body, in the addresses of wake sockets, or
/// in how the bindings write values into one (`crates/python/src/codec/compact.rs`, `crates/python/src/queue/message.rs`;
/// what is pickled names modules of the package). `tests/reports/test_two_versions.py` looks at some of it.
const FORMAT: u32 = 5;

/// Byte offsets of the words.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | magic, format and kind, len, creator, parameters | fixed | the creator, before it is ready |
/// | library | the version of the creator's library, as text; stays where it is in every format | the creator, before it is ready |
/// | ready | [`CREATING`], then [`READY`], then perhaps [`RETIRED`] | the creator; whoever retires it |
/// | tickets | the last ticket given out | who enlists: +1 |
/// | participant slots, waiters | how many records of the table may be in use; they only grow | who claims the next one: +1 |
/// | wake sockets | how many waiters must be woken through their wake sockets; too high after deaths, never too low | whoever enlists one: +1; whoever takes one off: -1 |
const AT_MAGIC: usize = 0;
const AT_KIND: usize = 8;
const AT_READY: usize = 16;
const AT_LEN: usize = 24;
const AT_CREATOR: usize = 32;
const AT_LIBRARY: usize = 40;
pub(super) const AT_TICKETS: usize = 64;
pub(super) const AT_PARTICIPANTS: usize = 72;
pub(super) const AT_WAITERS: usize = 80;
pub(super) const AT_WAKE_SOCKETS: usize = 88;
const AT_PARAMETERS: usize = 128;

const LIBRARY_BYTES: usize = AT_TICKETS - AT_LIBRARY;

const _: () = assert!(LIBRARY.len() <= LIBRARY_BYTES);

const CREATING: u64 = 0;
const READY: u64 = 1;
const RETIRED: u64 = 2;

/// Where the participant slot with this number is.
pub(super) fn participant_slot(number: usize) -> usize {
    debug_assert!(number < MOST_PARTICIPANTS);
    PARTICIPANTS + number * RECORD
}

/// Where the waiter's entry with this index is.
pub(super) fn waiter(index: usize) -> usize {
    debug_assert!(index < MOST_WAITERS);
    WAITERS + index * RECORD
}

/// Where the stack's text for the waiter's entry with this index is; `None` when there is no room for one.
pub(super) fn stack(index: usize) -> Option<usize> {
    (index < MOST_STACKS).then(|| STACKS + index * STACK_BYTES)
}

/// Writes the heading of a new site, not ready yet. The segment is zero as far as the body.
pub(super) fn write(segment: &Segment, kind: u32, parameters: &[u64; PARAMETERS]) -> io::Result<()> {
    assert!(segment.len() >= SITE_BYTES, "a segment too small for a site");
    segment.commit(0..PAGE)?;
    segment.commit(participant_slot(0)..participant_slot(0) + PAGE)?;
    segment.commit(waiter(0)..waiter(0) + PAGE)?;
    let set = |at: usize, value: u64| segment.word64(at).store(value, Ordering::Relaxed);
    set(AT_KIND, u64::from(FORMAT) << 32 | u64::from(kind));
    segment.copy_in(AT_LIBRARY, LIBRARY.as_bytes());
    set(AT_LEN, segment.len() as u64);
    set(AT_CREATOR, identity().to_bits());
    for (index, parameter) in parameters.iter().enumerate() {
        set(AT_PARAMETERS + index * 8, *parameter);
    }
    set(AT_READY, CREATING);
    set(AT_MAGIC, MAGIC);
    Ok(())
}

/// Looks whether the segment begins with a site that is ready.
pub(super) fn check(segment: &Segment) -> Result<(), SiteError> {
    if segment.len() < SITE_BYTES || segment.word64(AT_MAGIC).load(Ordering::Relaxed) != MAGIC {
        return Err(SiteError::NotASite);
    }
    // Acquire: all that the creator wrote. pairs with: publish (Release)
    if segment.word64(AT_READY).load(Ordering::Acquire) == CREATING {
        return Err(SiteError::NotReady);
    }
    let found = (segment.word64(AT_KIND).load(Ordering::Relaxed) >> 32) as u32;
    if found != FORMAT {
        return Err(SiteError::Version { library: library(segment), found, ours: FORMAT });
    }
    let written = segment.word64(AT_LEN).load(Ordering::Relaxed);
    if written != segment.len() as u64 {
        return Err(SiteError::Length { found: segment.len(), written });
    }
    creator(segment).map(|_| ()).ok_or(SiteError::Corrupt("no process can have made it"))
}

/// The version of the creator's library, if it says so.
fn library(segment: &Segment) -> Option<String> {
    let mut bytes = [0; LIBRARY_BYTES];
    segment.copy_out(AT_LIBRARY, &mut bytes);
    let text = bytes.split(|byte| *byte == 0).next().and_then(|text| std::str::from_utf8(text).ok());
    let is_version = |text: &&str| text.starts_with(|first: char| first.is_ascii_digit()) && text.is_ascii();
    text.filter(is_version).map(ToOwned::to_owned)
}

pub(super) fn publish(segment: &Segment) {
    // Release: all that was written to make it. pairs with: check (Acquire)
    let _ = segment.word64(AT_READY).compare_exchange(CREATING, READY, Ordering::Release, Ordering::Relaxed);
}

pub(super) fn is_ready(segment: &Segment) -> bool {
    // pairs with: publish (Release)
    segment.word64(AT_READY).load(Ordering::Acquire) != CREATING
}

pub(super) fn retire(segment: &Segment) {
    segment.word64(AT_READY).store(RETIRED, Ordering::Relaxed);
}

pub(super) fn is_retired(segment: &Segment) -> bool {
    segment.word64(AT_READY).load(Ordering::Relaxed) == RETIRED
}

pub(super) fn kind(segment: &Segment) -> u32 {
    segment.word64(AT_KIND).load(Ordering::Relaxed) as u32
}

pub(super) fn creator(segment: &Segment) -> Option<Identity> {
    Identity::from_bits(segment.word64(AT_CREATOR).load(Ordering::Relaxed))
}

pub(super) fn parameters(segment: &Segment) -> [u64; PARAMETERS] {
    std::array::from_fn(|index| segment.word64(AT_PARAMETERS + index * 8).load(Ordering::Relaxed))
}

/// How many records of a table may be in use: never more than there are, whatever the word says.
pub(super) fn high_water(segment: &Segment, at: usize, most: usize) -> usize {
    // Acquire: the pages that the count covers are committed. pairs with: grow (Release)
    usize::try_from(segment.word64(at).load(Ordering::Acquire)).map_or(most, |count| count.min(most))
}

/// Makes record `next` of a table usable, whose records begin at `record(0)`; somebody else may have done so already.
pub(super) fn grow(segment: &Segment, at: usize, next: usize, record: fn(usize) -> usize) -> io::Result<()> {
    let start = record(next);
    segment.commit(start..start + RECORD)?;
    let count: &AtomicU64 = segment.word64(at);
    // Release: the page is committed. pairs with: high_water (Acquire)
    let _ = count.compare_exchange(next as u64, next as u64 + 1, Ordering::Release, Ordering::Relaxed);
    Ok(())
}
