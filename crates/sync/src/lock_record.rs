//! The record of a lock in a site: where its words are, and its owner.

use std::io;
use std::sync::Arc;

use manyhands_os::process::Identity;

use crate::lock_word::{LockWord, WORDS};
use crate::site::Site;
use crate::words::SegmentWords;

/// Bytes of a lock's record, at a multiple of 64: a cache line of its own.
pub const LOCK_BYTES: usize = WORDS * 8;

/// The words of a record at byte `offset` of a site's body.
pub(crate) fn words_at(site: &Site, offset: usize) -> io::Result<SegmentWords> {
    let inside = offset.checked_add(LOCK_BYTES).is_some_and(|end| end <= site.segment().len());
    if !inside || offset < crate::site::SITE_BYTES || !offset.is_multiple_of(64) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("there is no lock at byte {offset}")));
    }
    Ok(SegmentWords::new(Arc::clone(site.segment()), offset, WORDS))
}

/// The owner of the lock whose record `key` names, as far as the segment says.
pub(crate) fn owner_in(site: &Site, key: u64) -> Option<(Identity, u32)> {
    let words = words_at(site, usize::try_from(key).ok()?).ok()?;
    LockWord::new(words).owner()
}
