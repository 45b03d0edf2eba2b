//! The permits of a semaphore: which process has which, in words. Nothing here waits.
//!
//! # Why a death loses no permit, and makes none
//!
//! A permit of the initial value is a *cell*: free, or it bears the identity of the process that has the permit. Taking
//! and giving back are one compare-and-swap each, so that a process killed before or after any store has either not
//! begun or finished. Nobody counts: the value is how many cells are free, and what frees the cells of the dead
//! cannot make more of them than there are.
//!
//! Permits released beyond the initial value, as in `Semaphore(0)` used for signalling, are a plain number (`extra`):
//! who takes one has consumed it, and his death does not bring it back.
//!
//! # Why no wake-up is lost
//!
//! Giving back is a sequentially consistent swap of the cell, followed by a sequentially consistent look at the number
//! of sleepers; a waiter counts itself in, and looks at the cells after the fence of
//! [`EventCount::prepare`]. One of the two sees what the other did. No fence is needed between swap and look.

use crate::EventCount;
use crate::atomic::Ordering;
use crate::words::Words;

/// Word of the initial value, with [`BOUNDED`]. Written once, before anybody else can see it.
const INITIAL: usize = 0;
/// Word of the permits beyond those that have cells.
const EXTRA: usize = 1;
/// Word of the cell that was touched last: where to look first. Only a guess.
const HINT: usize = 2;
/// Futex: the sequence of the event count.
const SEQUENCE: usize = 3;
/// Futex: the sleepers of the event count.
const SLEEPERS: usize = 4;
/// The first cell.
const CELLS: usize = 5;

/// The most permits that have cells; what is above is extra from the start, and not given back at a death.
const MOST_CELLS: u64 = 1 << 16;

/// The largest value.
const MOST: u64 = (1 << 48) - 1;

/// In the word of the initial value: releasing beyond it is an error.
const BOUNDED: u64 = 1 << 63;

const FREE: u64 = 0;

/// The permits of one semaphore, as a view of [`words_for`](Self::words_for) words.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | 0 | bits 0-47 the initial value, bit 63 bounded | nobody after `create` |
/// | 1 | extra: permits beyond those of the cells | release +1, acquire -1, when no cell will do |
/// | 2 | the cell touched last | acquire, release |
/// | 3, 4 | event count (futexes) | waiters and releases |
/// | 5.. | a cell each: 0 free, else the identity of the process that has the permit | acquire 0 → own identity; release own, else any → 0; recovery dead → 0 |
#[derive(Debug)]
pub struct Permits<W> {
    words: W,
    /// Kept here, out of the reach of others.
    initial: u64,
    bounded: bool,
    cells: usize,
}

/// Why permits could not be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften;

impl std::fmt::Display for ReleasedTooOften {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("semaphore released too many times")
    }
}

impl std::error::Error for ReleasedTooOften {}

fn cells_for(initial: u64) -> usize {
    initial.min(MOST_CELLS) as usize
}

impl<W: Words> Permits<W> {
    /// The largest initial value.
    pub const MOST: u64 = MOST;

    /// How many words a semaphore of this initial value takes: one per permit, up to 65,536 of them, and five.
    #[must_use]
    pub fn words_for(initial: u64) -> usize {
        CELLS + cells_for(initial)
    }

    /// Makes `initial` permits of words that are all zero and that nobody else knows yet.
    ///
    /// # Panics
    /// When there are too few words, or `initial` is above [`MOST`](Self::MOST).
    #[must_use]
    pub fn create(words: W, initial: u64, bounded: bool) -> Self {
        assert!(initial <= MOST, "a semaphore of {initial} permits");
        assert!(words.count() >= Self::words_for(initial), "too few words for {initial} permits");
        let cells = cells_for(initial);
        words.word(EXTRA).store(initial - cells as u64, Ordering::Relaxed);
        let bound = if bounded { BOUNDED } else { 0 };
        words.word(INITIAL).store(initial | bound, Ordering::Relaxed);
        Self { words, initial, bounded, cells }
    }

    /// A view of permits that somebody has made; `None` when what is in the words cannot be that.
    #[must_use]
    pub fn open(words: W) -> Option<Self> {
        if words.count() < CELLS {
            return None;
        }
        let word = words.word(INITIAL).load(Ordering::Relaxed);
        let (initial, bounded) = (word & !BOUNDED, word & BOUNDED != 0);
        if initial > MOST || words.count() < Self::words_for(initial) {
            return None;
        }
        Some(Self { words, initial, bounded, cells: cells_for(initial) })
    }

    /// The value it began with.
    #[must_use]
    pub fn initial(&self) -> u64 {
        self.initial
    }

    /// Whether releasing beyond the initial value is an error.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Where waiters sleep.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        EventCount::new(self.words.futex(SEQUENCE), self.words.futex(SLEEPERS))
    }

    /// Whether somebody may wait for a permit: to be asked after one has been given back.
    #[must_use]
    pub fn are_awaited(&self) -> bool {
        self.events().has_sleepers()
    }

    /// Takes a permit in the name of `me`, if one is free.
    ///
    /// While permits change hands it may miss one. A waiter does not care, as each release makes it look again; a caller that
    /// does not wait calls [`acquire_surely`](Self::acquire_surely).
    pub fn acquire(&self, me: u64) -> bool {
        let hint = self.hint();
        let cells = (hint..self.cells).chain(0..hint);
        for index in cells {
            let cell = self.words.word(CELLS + index);
            if cell.load(Ordering::Relaxed) == FREE
                // Acquire pairs with the SeqCst in `release` and `free_the_dead`.
                && cell.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                self.keep_hint(hint, index);
                return true;
            }
        }
        self.acquire_extra()
    }

    fn acquire_extra(&self) -> bool {
        let extra = self.words.word(EXTRA);
        let mut seen = extra.load(Ordering::Relaxed);
        while seen & MOST != 0 {
            // Acquire pairs with the SeqCst in `release_extra`.
            match extra.compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(changed) => seen = changed,
            }
        }
        false
    }

    /// As [`acquire`](Self::acquire), but says no only if there was a moment without a free permit.
    pub fn acquire_surely(&self, me: u64) -> bool {
        if self.acquire(me) {
            return true;
        }
        if self.cells < 2 {
            return false;
        }
        loop {
            // Counted in, every release that ends from here on is seen in the sequence.
            let sequence = self.words.futex(SEQUENCE);
            let key = self.events().prepare();
            let before = sequence.load(Ordering::Relaxed);
            if self.acquire(me) {
                return true;
            }
            if sequence.load(Ordering::Relaxed) == before {
                return false;
            }
            drop(key);
        }
    }

    /// Gives back `count` permits: those of `me` first, then anybody's, then (unless bounded) new ones.
    ///
    /// # Errors
    /// When that would be more than the initial value of a bounded semaphore, or than [`MOST`](Self::MOST). Nothing is
    /// given back then, except when others do the same at the same moment: then maybe some.
    pub fn release(&self, me: u64, count: u64) -> Result<(), ReleasedTooOften> {
        if count > 1 && self.bounded && count > self.initial.saturating_sub(self.value()) {
            return Err(ReleasedTooOften);
        }
        for released in 0..count {
            if !self.release_cell(|holder| holder == me) && !self.release_cell(|_| true) {
                // No cell is taken: the rest is nobody's.
                return self.release_extra(count - released);
            }
        }
        Ok(())
    }

    /// Frees the cell that was taken last among those whose holder `fits`.
    fn release_cell(&self, fits: impl Fn(u64) -> bool) -> bool {
        let hint = self.hint();
        // Downwards: the hint is the cell taken last, or the one below those given back recently.
        let after = (hint + 1).min(self.cells);
        for index in (0..after).rev().chain((after..self.cells).rev()) {
            let cell = self.words.word(CELLS + index);
            let holder = cell.load(Ordering::Relaxed);
            if holder != FREE
                && fits(holder)
                // pairs with: `acquire`; and, for the sleepers, the fence in `EventCount::prepare`.
                && cell.compare_exchange(holder, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                self.keep_hint(hint, index);
                return true;
            }
        }
        false
    }

    fn release_extra(&self, count: u64) -> Result<(), ReleasedTooOften> {
        let most = if self.bounded { self.initial - self.cells as u64 } else { MOST };
        let more = |extra: u64| {
            let room = most.saturating_sub(extra & MOST);
            (count <= room).then(|| extra + count)
        };
        // pairs with: `acquire_extra`; and, for the sleepers, the fence in `EventCount::prepare`.
        let released = self.words.word(EXTRA).fetch_update(Ordering::SeqCst, Ordering::Relaxed, more);
        released.map(|_| ()).map_err(|_| ReleasedTooOften)
    }

    /// How many permits are free.
    #[must_use]
    pub fn value(&self) -> u64 {
        let free = (0..self.cells).filter(|index| self.holder(*index) == FREE).count();
        free as u64 + (self.words.word(EXTRA).load(Ordering::Relaxed) & MOST)
    }

    /// The holders of permits, once for each: identities as they stand in shared memory.
    pub fn holders(&self) -> impl Iterator<Item = u64> {
        (0..self.cells).map(|index| self.holder(index)).filter(|holder| *holder != FREE)
    }

    /// Takes the permits of the dead from them; returns how many. `is_dead` is asked once for each of some holders
    /// in a row.
    pub fn free_the_dead(&self, mut is_dead: impl FnMut(u64) -> bool) -> u32 {
        let (mut known, mut freed) = ((FREE, false), 0);
        for index in 0..self.cells {
            let holder = self.holder(index);
            if holder == FREE {
                continue;
            }
            if known.0 != holder {
                known = (holder, is_dead(holder));
            }
            let cell = self.words.word(CELLS + index);
            // The identity of a dead process never comes back: what is exchanged here is still the dead one's.
            // pairs with: `acquire`; and, for the sleepers, the fence in `EventCount::prepare`.
            if known.1 && cell.compare_exchange(holder, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                freed += 1;
            }
        }
        freed
    }

    fn holder(&self, index: usize) -> u64 {
        self.words.word(CELLS + index).load(Ordering::Relaxed)
    }

    fn hint(&self) -> usize {
        if self.cells < 2 {
            return 0;
        }
        (self.words.word(HINT).load(Ordering::Relaxed) as usize).min(self.cells - 1)
    }

    fn keep_hint(&self, old: usize, new: usize) {
        if old != new {
            self.words.word(HINT).store(new as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::words::HeapWords;

    const ME: u64 = 7;
    const OTHER: u64 = 8;

    fn permits(initial: u64, bounded: bool) -> Permits<HeapWords> {
        let words = HeapWords::new(Permits::<HeapWords>::words_for(initial));
        Permits::create(words, initial, bounded)
    }

    #[test]
    fn as_many_as_there_are() {
        for initial in [0, 1, 2, 3, 70] {
            let permits = permits(initial, false);
            assert_eq!(permits.value(), initial);
            for left in (0..initial).rev() {
                assert!(permits.acquire_surely(ME));
                assert_eq!(permits.value(), left);
            }
            assert!(!permits.acquire_surely(ME), "{initial}");
            for value in 1..=initial + 3 {
                permits.release(OTHER, 1).expect("not bounded");
                assert_eq!(permits.value(), value);
            }
            for _ in 0..initial + 3 {
                assert!(permits.acquire_surely(OTHER));
            }
            assert!(!permits.acquire_surely(OTHER));
        }
    }

    #[test]
    fn what_is_bounded_stays_so() {
        let permits = permits(2, true);
        assert_eq!(permits.release(ME, 1), Err(ReleasedTooOften));
        assert!(permits.acquire(ME));
        assert_eq!(permits.release(ME, 2), Err(ReleasedTooOften));
        assert_eq!(permits.value(), 1, "nothing was given back");
        assert!(permits.acquire(ME));
        assert_eq!(permits.release(OTHER, 2), Ok(()));
        assert_eq!(permits.release(OTHER, 1), Err(ReleasedTooOften));
        assert_eq!(permits.value(), 2);
    }

    #[test]
    fn beyond_the_cells_it_is_a_number() {
        let permits = permits(MOST_CELLS + 10, true);
        assert_eq!(permits.value(), MOST_CELLS + 10);
        for _ in 0..MOST_CELLS + 10 {
            assert!(permits.acquire(ME));
        }
        assert!(!permits.acquire_surely(ME));
        assert_eq!(permits.free_the_dead(|_| true), 1 << 16);
        assert_eq!(permits.release(ME, 10), Ok(()));
        assert_eq!(permits.release(ME, 1), Err(ReleasedTooOften));
        assert_eq!(permits.value(), MOST_CELLS + 10);
    }

    #[test]
    fn the_own_permit_goes_back_first() {
        let permits = permits(3, false);
        for who in [ME, OTHER, ME] {
            assert!(permits.acquire(who));
        }
        permits.release(OTHER, 1).expect("not bounded");
        assert_eq!(permits.holders().collect::<Vec<_>>(), [ME, ME]);
        permits.release(OTHER, 1).expect("anybody may");
        assert_eq!(permits.holders().count(), 1);
    }

    #[test]
    fn the_dead_give_back_what_they_had() {
        let permits = permits(3, true);
        for who in [ME, OTHER, OTHER] {
            assert!(permits.acquire(who));
        }
        assert_eq!(permits.free_the_dead(|who| who == OTHER), 2);
        assert_eq!(permits.free_the_dead(|who| who == OTHER), 0);
        assert_eq!(permits.value(), 2);
        assert_eq!(permits.holders().collect::<Vec<_>>(), [ME]);
    }

    #[test]
    fn what_was_released_for_the_dead_comes_back_once() {
        let permits = permits(1, false);
        assert!(permits.acquire(OTHER));
        permits.release(ME, 1).expect("anybody may");
        assert_eq!(permits.free_the_dead(|_| true), 0);
        assert_eq!(permits.value(), 1);
    }

    #[test]
    fn a_value_too_large_for_its_words_is_refused() {
        let words = Arc::new(HeapWords::new(Permits::<HeapWords>::words_for(2)));
        words.word(INITIAL).store(3, Ordering::Relaxed);
        assert!(Permits::open(Arc::clone(&words)).is_none());
        words.word(INITIAL).store(2 | BOUNDED, Ordering::Relaxed);
        let permits = Permits::open(Arc::clone(&words)).expect("two permits");
        assert_eq!((permits.initial(), permits.is_bounded()), (2, true));
        words.word(HINT).store(u64::MAX, Ordering::Relaxed);
        words.word(EXTRA).store(u64::MAX, Ordering::Relaxed);
        assert!(permits.acquire(ME));
        assert!(permits.release(ME, 1).is_ok());
        assert!(Permits::open(HeapWords::new(3)).is_none());
    }

    #[test]
    fn threads_that_do_not_wait_always_find_theirs() {
        const THREADS: u64 = 3;
        let permits = permits(THREADS, true);
        std::thread::scope(|scope| {
            for me in 1..=THREADS {
                let permits = &permits;
                scope.spawn(move || {
                    for _ in 0..if cfg!(miri) { 50 } else { 20_000 } {
                        assert!(permits.acquire_surely(me), "there are as many as threads");
                        permits.release(me, 1).expect("what was acquired");
                        if permits.are_awaited() {
                            permits.events().notify(1);
                        }
                    }
                });
            }
        });
        assert_eq!(permits.value(), THREADS);
        assert!(!permits.events().has_sleepers());
    }
}
