//! Latecomers: processes that found every participant slot of a shared heap taken by the living. They have no number of
//! their own among the participants of its arena; all of them are [`LATECOMERS`] together.
//!
//! What one of them releases stays, as another may hold it. So there is a list of them: when everybody on it is dead,
//! whoever made the shared heap closes the list, releases all that they held, and opens it again. A process that finds it
//! closed waits for that.
//!
//! A process that does not even find room on the list is not waited for: from then on nothing is released.

use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_channel::arena::Arena;
use manyhands_os::clock;
use manyhands_os::memory::Segment;
use manyhands_os::process::{Identity, identity};
use manyhands_sync::site::Site;

use crate::layout::LIST;

/// As whom they take part.
pub(crate) const LATECOMERS: u16 = 510;

/// A word of the list: a latecomer, or a process that keeps the place for a child. The first word is 1 once somebody
/// has found no room, and 0 before.
///
/// | bits | meaning | set by | cleared by |
/// |---|---|---|---|
/// | 0-53 | identity; all zero: nobody | who takes the place, or keeps it for a child; the child, when it adopts it | who closes the list and finds that one dead |
/// | 54-62 | while it is kept: since when, in [`AGES`] | who keeps it | who adopts it |
/// | 63 | [`KEPT`]; without an identity: [`CLOSED`] | whoever keeps it, or closes the list | whoever adopts it, or opens the list |
const KEPT: u64 = 1 << 63;
const CLOSED: u64 = KEPT;

const AGE_SHIFT: u32 = 54;
const AGE: u64 = 0x1ff;

/// Nanoseconds in the unit of time, as a shift: some 17 seconds.
const AGES: u32 = 34;

/// How old a place can be that is kept for a child. A fork that failed leaves one behind.
const BIRTH: u64 = 4;

/// The list in a shared heap's segment; nothing where there is no room for one.
fn list(segment: &Segment) -> impl Iterator<Item = &AtomicU64> {
    let words = if segment.len() < LIST.end { 0 } else { LIST.len() / 8 };
    (0..words).map(|index| segment.word64(LIST.start + 8 * index))
}

fn places(segment: &Segment) -> impl Iterator<Item = &AtomicU64> {
    list(segment).skip(1)
}

fn age() -> u64 {
    clock::now() >> AGES & AGE
}

/// Puts this process on the list.
pub(crate) fn join(site: &Site) {
    take(site, identity().to_bits());
}

/// Keeps a place on the list for a child that is about to be forked, which is to [`adopt`] it.
pub(crate) fn keep(site: &Site) -> Option<usize> {
    take(site, identity().to_bits() | age() << AGE_SHIFT | KEPT)
}

/// Makes the place that the parent has kept this process's.
pub(crate) fn adopt(site: &Site, place: Option<usize>) {
    let word = place.and_then(|place| places(site.segment()).nth(place));
    let mine = |seen: u64| (seen & KEPT != 0 && seen != CLOSED).then(|| identity().to_bits());
    // Release: what the parent has left to us. pairs with: close
    let adopt = |word: &AtomicU64| word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, mine).is_ok();
    let adopted = word.is_some_and(adopt);
    if !adopted {
        note_missing(site);
    }
}

fn take(site: &Site, who: u64) -> Option<usize> {
    let place = loop {
        let mut is_closed = false;
        let free = |word: &AtomicU64| {
            // Acquire and Release: holds are set after this, and released before. pairs with: close, open
            let seen = word.compare_exchange(0, who, Ordering::AcqRel, Ordering::Relaxed);
            is_closed |= seen == Err(CLOSED);
            seen.is_ok()
        };
        let place = places(site.segment()).position(free);
        // Whoever was closing it may be dead; then nothing is released any more.
        if place.is_some() || !is_closed || site.creator().is_none_or(|creator| site.is_dead(creator)) {
            break place;
        }
        std::thread::yield_now();
    };
    if place.is_none() {
        note_missing(site);
    }
    place
}

/// Notes that somebody takes part as a latecomer who is not on the list.
fn note_missing(site: &Site) {
    if let Some(word) = list(site.segment()).next() {
        // pairs with: sweep (Acquire)
        word.store(1, Ordering::Release);
    }
}

/// Releases what the latecomers held, if they are all dead. Called by the process that has made the shared heap, whose
/// arena this is.
pub(crate) fn sweep(site: &Site, arena: &Arena) {
    let segment = site.segment();
    // pairs with: note_missing (Release)
    let is_missing = list(segment).next().is_none_or(|word| word.load(Ordering::Acquire) != 0);
    let is_empty = || places(segment).all(|word| word.load(Ordering::Relaxed) == 0);
    if is_missing || is_empty() || places(segment).any(|word| is_somebody(site, word.load(Ordering::Relaxed)))
    {
        return;
    }
    let closed = places(segment).take_while(|word| close(site, word)).count();
    if closed == places(segment).count() {
        arena.reclaim(LATECOMERS.into());
    }
    for word in places(segment).take(closed) {
        // Release: nothing is released any more. pairs with: take
        word.store(0, Ordering::Release);
    }
}

/// Closes a place of the list, unless somebody has it or another thread is closing it.
fn close(site: &Site, word: &AtomicU64) -> bool {
    let seen = word.load(Ordering::Relaxed);
    // Acquire: what whoever had it holds. pairs with: take, adopt
    seen != CLOSED
        && !is_somebody(site, seen)
        && word.compare_exchange(seen, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Whether a word of the list names somebody who lives or may come.
fn is_somebody(site: &Site, word: u64) -> bool {
    match Identity::from_bits(word & Identity::MASK) {
        Some(_) if word & KEPT != 0 => (age().wrapping_sub(word >> AGE_SHIFT) & AGE) < BIRTH,
        Some(who) => !site.is_dead(who),
        None => false,
    }
}
