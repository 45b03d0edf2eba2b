//! The flag of an event, in words. Nothing here waits.
//!
//! Setting is one unconditional instruction, so it may interrupt any other operation on the same event, in the same
//! thread, and a death cannot come in the middle of it. Clearing starts a new *turn*; that is how a waiter that
//! did not get to run while the flag was set learns that it was.
//!
//! No wake-up is lost: setting is sequentially consistent and followed by a sequentially consistent look at the number
//! of sleepers; a waiter counts itself in and looks at the flag after the fence of [`EventCount::prepare`].

use crate::EventCount;
use crate::atomic::Ordering;
use crate::words::Words;

/// Word of the flag and the turn.
const STATE: usize = 0;
/// Futex: the sequence of the event count.
const SEQUENCE: usize = 1;
/// Futex: the sleepers of the event count.
const SLEEPERS: usize = 2;

/// The flag.
const SET: u64 = 1;
/// One turn; they are counted in the bits above the flag.
const TURN: u64 = 2;

/// The flag of one event, as a view of [`WORDS`](Self::WORDS) words, all zero at first: not set.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | 0 | 0 | set | `set`: 1, `clear`: 0 |
/// | 0 | 1-63 | turn | `clear` of a flag that was set: +1 |
/// | 1, 2 | | event count (futexes) | waiters and `set` |
///
/// ```
/// use manyhands_sync::event::Flag;
/// use manyhands_sync::words::HeapWords;
///
/// let flag = Flag::new(HeapWords::new(Flag::<HeapWords>::WORDS)).expect("enough words");
/// let turn = flag.turn();
/// assert!(!flag.was_set_since(turn));
/// flag.set();
/// flag.clear();
/// assert!(flag.was_set_since(turn) && !flag.is_set());
/// ```
#[derive(Debug)]
pub struct Flag<W> {
    words: W,
}

/// Which turn of an event it is, from [`Flag::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u64);

impl Turn {
    /// As a number, for callers that keep numbers only.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// What [`to_bits`](Self::to_bits) wrote.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl<W: Words> Flag<W> {
    /// How many words it takes.
    pub const WORDS: usize = 3;

    /// A view of the words; `None` when there are too few.
    #[must_use]
    pub fn new(words: W) -> Option<Self> {
        (words.count() >= Self::WORDS).then_some(Self { words })
    }

    /// Where waiters sleep.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        EventCount::new(self.words.futex(SEQUENCE), self.words.futex(SLEEPERS))
    }

    /// Sets the flag. Wake the waiters then, if [`is_awaited`](Self::is_awaited).
    pub fn set(&self) {
        // pairs with: `was_set_since`, `is_set`; and, for the sleepers, the fence in `EventCount::prepare`.
        self.words.word(STATE).fetch_or(SET, Ordering::SeqCst);
    }

    /// Whether somebody may wait: to be asked after [`set`](Self::set).
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.events().has_sleepers()
    }

    /// Takes the flag back, if it was set.
    pub fn clear(&self) {
        let next = |state: u64| (state & SET != 0).then_some((state & !SET).wrapping_add(TURN));
        // pairs with: `was_set_since`, which has to see what came before the `set` that is ended here: this is part of
        // what that one released.
        let _ = self.words.word(STATE).fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire pairs with the SeqCst in `set`.
        self.words.word(STATE).load(Ordering::Acquire) & SET != 0
    }

    /// The present turn: from here on the caller waits.
    #[must_use]
    pub fn turn(&self) -> Turn {
        Turn(self.words.word(STATE).load(Ordering::Relaxed) & !SET)
    }

    /// Whether the flag is set or has been since `turn`, however short.
    #[must_use]
    pub fn was_set_since(&self, turn: Turn) -> bool {
        // Acquire pairs with the SeqCst in `set` and the Release in `clear`.
        let state = self.words.word(STATE).load(Ordering::Acquire);
        state & SET != 0 || state & !SET != turn.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::words::HeapWords;

    fn flag() -> Flag<HeapWords> {
        Flag::new(HeapWords::new(3)).expect("enough words")
    }

    #[test]
    fn set_and_clear() {
        let flag = flag();
        assert!(!flag.is_set());
        flag.clear();
        let turn = flag.turn();
        assert!(!flag.was_set_since(turn), "nothing was cleared");
        flag.set();
        flag.set();
        assert!(flag.is_set() && flag.was_set_since(turn));
        flag.clear();
        flag.clear();
        assert!(!flag.is_set() && flag.was_set_since(turn));
        assert!(!flag.was_set_since(flag.turn()));
    }

    #[test]
    fn a_turn_taken_while_set_knows_it() {
        let flag = flag();
        flag.set();
        let turn = flag.turn();
        assert!(flag.was_set_since(turn));
        flag.clear();
        assert!(flag.was_set_since(turn), "it was set when the turn was taken");
    }

    #[test]
    fn too_few_words_are_refused() {
        assert!(Flag::new(HeapWords::new(2)).is_none());
    }
}
