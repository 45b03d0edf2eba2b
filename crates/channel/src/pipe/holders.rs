//! The holders of a pipe's end: a table of processes.
//!
//! An end is open as long as a living process holds it. A hold for a process that does not exist yet, or has not come to
//! attach, is a *reservation*: made by a process for another one, it counts while its maker lives and for a limited
//! time. Places are given out under a latch; everything else is one compare-and-swap.
//!
//! There are only so many places. A child that is forked while all are taken holds the end without one: from then on
//! nobody can tell when the last holder is gone, and the end counts as held forever. To wait for nothing is bad; to be
//! told of an end that is none, and lose what is sent afterwards, is worse.
//!
//! | word of a place | bits | meaning | set by | cleared by |
//! |---|---|---|---|---|
//! | 0 | 0-53 | identity of the holder, or of the process that made the reservation | whoever takes the place | the holder, when it releases it; whoever finds it dead |
//! | 0 | 63 | it is a reservation | its maker | who claims it |
//! | 1 | all | a reservation's end, in nanoseconds of the clock | its maker, before word 0 | nobody |
//!
//! The word [`UNLISTED`] is 1 from the moment when somebody holds the end without a place, and 0 before.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::process::{Identity, identity};
use manyhands_sync::EventCount;
use manyhands_sync::atomic::Ordering;
use manyhands_sync::site::Site;
use manyhands_sync::waiting::Owners;
use manyhands_sync::words::{SegmentWords, Words};

use crate::queue::latch::{Attempt, Guard, Latch};

/// How many holds there can be of one end.
pub(super) const MOST: usize = 128;

const PLACE: usize = 2;
const RESERVED: u64 = 1 << 63;

/// How long it is believed that a holder lives, in nanoseconds: asking the system takes some microseconds.
const BELIEVED: u64 = MILLISECOND;

/// Words before the places: latch and its event count.
const LATCH: usize = 0;
const TURN: usize = 1;
const UNLISTED: usize = 3;
const PLACES: usize = 8;

/// Words of a table.
pub(super) const WORDS: usize = PLACES + MOST * PLACE;

/// A hold for somebody who is to [claim](super::End::claim) it. It can be sent as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    pub(super) place: usize,
    /// The low bits of its end: what tells it from later ones of the same place.
    until: u64,
}

impl Reservation {
    const BITS: u32 = 16;

    /// The number.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.until << Self::BITS | self.place as u64
    }

    /// The reservation with this number.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self { place: (bits & ((1 << Self::BITS) - 1)) as usize, until: bits >> Self::BITS }
    }

    fn is_of(self, until: u64) -> bool {
        self.until == until << Self::BITS >> Self::BITS
    }
}

/// The holders of one end.
pub(super) struct Holders {
    words: SegmentWords,
    /// The place of somebody who lived when last looked at.
    hint: AtomicUsize,
    /// When a living holder was last seen by [`Holders::were_alive`].
    seen: AtomicU64,
}

impl Holders {
    pub(super) fn over(words: SegmentWords) -> Self {
        Self { words, hint: AtomicUsize::new(0), seen: AtomicU64::new(0) }
    }

    fn who(&self, place: usize) -> &AtomicU64 {
        self.words.word(PLACES + place * PLACE)
    }

    fn until(&self, place: usize) -> &AtomicU64 {
        self.words.word(PLACES + place * PLACE + 1)
    }

    /// Enters the table's latch; `None` when a process that is stopped, or worse, has it for too long.
    fn enter(&self) -> Option<Guard<'_>> {
        let events = EventCount::new(self.words.futex(TURN), self.words.futex(TURN + 1));
        let latch = Latch::new(self.words.word(LATCH), events);
        let deadline = clock::now() + SECOND;
        let mut attempt = Attempt::Only;
        // What a dead holder left behind is a place that it had not taken yet: nothing to repair.
        loop {
            if let Ok(guard) = latch.enter(attempt) {
                return Some(guard);
            }
            let key = events.prepare();
            attempt = Attempt::Woken;
            if let Ok(guard) = latch.enter(attempt) {
                return Some(guard);
            }
            if clock::now() > deadline {
                return None;
            }
            events.wait(key, Some(clock::now() + 5 * MILLISECOND));
        }
    }

    /// Takes a place: for this process, or reserved until a moment. `None` when all are taken by the living.
    pub(super) fn take(&self, site: &Site, reserved_until: Option<u64>) -> Option<usize> {
        let guard = self.enter()?;
        let free = |place: &usize| self.who(*place).load(Ordering::Relaxed) == 0;
        let place =
            (0..MOST).find(free).or_else(|| (0..MOST).find(|place| self.living(site, *place).is_none()))?;
        let me = identity().to_bits();
        // In this order: a reservation never has an end that is not its own.
        self.until(place).store(reserved_until.unwrap_or(0), Ordering::Relaxed);
        // pairs with: living (Acquire)
        self.who(place).store(me | if reserved_until.is_some() { RESERVED } else { 0 }, Ordering::Release);
        drop(guard);
        Some(place)
    }

    /// Notes that somebody holds the end whom the table has no place for.
    pub(super) fn add_unlisted(&self) {
        // pairs with: has_unlisted
        self.words.word(UNLISTED).store(1, Ordering::Release);
    }

    fn has_unlisted(&self) -> bool {
        // pairs with: add_unlisted
        self.words.word(UNLISTED).load(Ordering::Acquire) != 0
    }

    /// A hold for somebody else, for so many seconds. `None` when all places are taken: whoever comes is unlisted.
    pub(super) fn reserve(&self, site: &Site, seconds: u32) -> Option<Reservation> {
        let until = clock::now() + u64::from(seconds) * SECOND;
        let Some(place) = self.take(site, Some(until)) else {
            self.add_unlisted();
            return None;
        };
        Some(Reservation { place, until: until << Reservation::BITS >> Reservation::BITS })
    }

    /// Makes a reservation this process's hold. Allowed right after a fork.
    pub(super) fn claim(&self, reservation: Reservation) -> bool {
        self.settle(reservation, identity().to_bits())
    }

    /// Gives a reservation up.
    pub(super) fn cancel(&self, reservation: Reservation) {
        self.settle(reservation, 0);
    }

    fn settle(&self, reservation: Reservation, who: u64) -> bool {
        let place = reservation.place;
        if place >= MOST {
            return false;
        }
        let seen = self.who(place).load(Ordering::Acquire);
        seen & RESERVED != 0
            && reservation.is_of(self.until(place).load(Ordering::Relaxed))
            // pairs with: living (Acquire)
            && self.who(place).compare_exchange(seen, who, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Releases a place, if it is this process's.
    pub(super) fn release(&self, place: usize) -> bool {
        let me = identity().to_bits();
        // Release: what was sent. pairs with: living, seem_alive (Acquire)
        self.who(place).compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The living holder of a place.
    fn living(&self, site: &Site, place: usize) -> Option<Identity> {
        // pairs with: take (Release)
        let word = self.who(place).load(Ordering::Acquire);
        let who = Identity::from_bits(word & Identity::MASK)?;
        if word & RESERVED != 0 && self.until(place).load(Ordering::Relaxed) < clock::now() {
            return None;
        }
        if site.is_dead(who) {
            // So that nobody has to ask again. The word is no other one's: no process is again who this was.
            // Release: what it had sent, which its end has ordered before this. pairs with: living, seem_alive (Acquire)
            let _ = self.who(place).compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
            return None;
        }
        Some(who)
    }

    /// Whether somebody seems to hold the end: without asking who is dead.
    #[inline]
    pub(super) fn seem_alive(&self) -> bool {
        let taken = |place: usize| self.who(place).load(Ordering::Acquire) != 0;
        let hint = self.hint.load(Ordering::Relaxed);
        if taken(hint) {
            return true;
        }
        let found = (0..MOST).find(|place| taken(*place));
        found.inspect(|place| self.hint.store(*place, Ordering::Relaxed));
        found.is_some() || self.has_unlisted()
    }

    /// Whether a living process held the end a moment ago.
    #[inline]
    pub(super) fn were_alive(&self, site: &Site) -> bool {
        if !self.seem_alive() {
            return false;
        }
        let now = clock::now();
        if now.saturating_sub(self.seen.load(Ordering::Relaxed)) < BELIEVED {
            return true;
        }
        let alive = self.are_alive(site);
        if alive {
            self.seen.store(now, Ordering::Relaxed);
        }
        alive
    }

    /// Whether a living process holds the end.
    pub(super) fn are_alive(&self, site: &Site) -> bool {
        let hint = self.hint.load(Ordering::Relaxed);
        if self.living(site, hint).is_some() {
            return true;
        }
        let found = (0..MOST).find(|place| self.living(site, *place).is_some());
        found.inspect(|place| self.hint.store(*place, Ordering::Relaxed));
        found.is_some() || self.has_unlisted()
    }

    /// The living processes that hold the end.
    pub(super) fn all_alive(&self, site: &Site) -> Vec<Identity> {
        let mut all = Vec::new();
        for who in (0..MOST).filter_map(|place| self.living(site, place)) {
            if !all.contains(&who) {
                all.push(who);
            }
        }
        all
    }

    /// Names those who seem to hold the end.
    pub(super) fn name(&self, owners: &mut Owners) {
        for place in 0..MOST {
            let word = self.who(place).load(Ordering::Relaxed);
            if let Some(who) = Identity::from_bits(word & Identity::MASK)
                && !owners.push(who)
            {
                return;
            }
        }
    }
}
