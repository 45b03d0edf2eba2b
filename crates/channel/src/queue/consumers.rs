//! The consumers that have taken items and not yet said that they are done.
//!
//! One line for each process; all of it is changed under the latch of the consumers. A process's word has its open items
//! in the high half and, in the low one, the number of the item it took last. It is written right *before* the items
//! are out of the queue. So when a process dies with the latch, the number tells whether what it counted did happen
//! ([`Consumers::undo`]).
//!
//! When all lines are in use, those of the dead are added up in two lines that are kept for that ([`LOST`] and
//! [`SURPLUS`]), and are free then. Only where more processes live than there are lines some of them have none.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | the process's identity; 0: nobody's |
//! | 1 | bits 32-63: items taken and not done, negative for a consumer that finishes what others took; bits 0-31: the last number |
//!
//! Line 0 counts for those who found no line, and has no identity. Its first word says what is being added up, so that it
//! is done once, whoever dies in between:
//!
//! | bits | meaning |
//! |---|---|
//! | 0-31 | what the other line will have open |
//! | 32-47 | the line of a dead process that is added to it; 0: none |
//! | 48-63 | which line that other one is |

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use manyhands_os::process::{Identity, identity};
use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::{SegmentWords, Words};

use super::layout::MOST_CONSUMERS;

const WHO: usize = 0;
const OPEN: usize = 1;
const LINE: usize = super::layout::CONSUMER / 8;

/// The lines that a process can have for itself.
const OWN: Range<usize> = 1..SURPLUS;

/// The line of all those together who died after they had finished what others took. It is nobody's.
const SURPLUS: usize = MOST_CONSUMERS - 2;

/// The line of all those together who died with items. It bears the name of the one that was added last.
const LOST: usize = MOST_CONSUMERS - 1;

/// How many lines to make free when there is none: to look for the dead takes microseconds for each line.
const AT_ONCE: usize = 16;

/// Where in [`Consumers::vain`] the number is of how often not to look for a line again; and that number at first.
const PAUSES: u32 = 54;
const FIRST_PAUSES: u64 = 1000;

const _: () = assert!(Identity::MASK >> PAUSES == 0 && FIRST_PAUSES << PAUSES >> PAUSES == FIRST_PAUSES);

/// The number of a line that has not taken anything: items count from 1.
pub(super) const NO_NUMBER: u32 = 0;

/// What a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    open: i32,
    last: u32,
}

impl Account {
    fn unpack(word: u64) -> Self {
        Self { open: (word >> 32) as i32, last: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.open as u32) << 32 | u64::from(self.last)
    }
}

/// The table.
pub(super) struct Consumers {
    words: SegmentWords,
    /// This process's line, as far as is known; in a copy made by fork it is the parent's.
    mine: AtomicUsize,
    /// Which process has found no line (bits 0-53), and how often it does not look for one again (bits 54-63).
    vain: AtomicU64,
}

impl Consumers {
    /// Words of the table.
    pub(super) const WORDS: usize = MOST_CONSUMERS * LINE;

    pub(super) fn over(words: SegmentWords) -> Self {
        Self { words, mine: AtomicUsize::new(0), vain: AtomicU64::new(0) }
    }

    fn who(&self, line: usize) -> &AtomicU64 {
        self.words.word(line * LINE + WHO)
    }

    fn word(&self, line: usize) -> &AtomicU64 {
        self.words.word(line * LINE + OPEN)
    }

    fn account(&self, line: usize) -> Account {
        Account::unpack(self.word(line).load(Ordering::Relaxed))
    }

    fn set(&self, line: usize, account: Account) {
        self.word(line).store(account.pack(), Ordering::Relaxed);
    }

    /// This process's line.
    #[inline]
    fn line(&self) -> usize {
        let me = identity().to_bits();
        let line = self.mine.load(Ordering::Relaxed);
        if line != 0 && self.who(line).load(Ordering::Relaxed) == me {
            return line;
        }
        self.find_line(me)
    }

    #[cold]
    fn find_line(&self, me: u64) -> usize {
        let vain = self.vain.load(Ordering::Relaxed);
        if vain & Identity::MASK == me && vain >> PAUSES > 0 {
            self.vain.store(vain - (1 << PAUSES), Ordering::Relaxed);
            return 0;
        }
        let line_of = |who: u64| OWN.clone().find(|line| self.who(*line).load(Ordering::Relaxed) == who);
        let line = line_of(me).or_else(|| {
            let free = line_of(0).or_else(|| {
                self.add_up_the_dead();
                line_of(0)
            });
            free.inspect(|line| {
                self.set(*line, Account { open: 0, last: NO_NUMBER });
                self.who(*line).store(me, Ordering::Relaxed);
            })
        });
        if line.is_none() {
            self.vain.store(me | FIRST_PAUSES << PAUSES, Ordering::Relaxed);
        }
        let line = line.unwrap_or(0);
        self.mine.store(line, Ordering::Relaxed);
        line
    }

    /// Makes some lines of dead processes free.
    fn add_up_the_dead(&self) {
        for line in OWN.filter(|line| self.dead(*line).is_some()).take(AT_ONCE) {
            let open = self.account(line).open;
            if open == 0 {
                self.who(line).store(0, Ordering::Relaxed);
                continue;
            }
            let other = if open < 0 { SURPLUS } else { LOST };
            let sum = self.account(other).open.wrapping_add(open);
            let plan = (other as u64) << 48 | (line as u64) << 32 | u64::from(sum as u32);
            self.who(0).store(plan, Ordering::Relaxed);
            self.finish_adding();
        }
    }

    /// Adds a line to another one as planned, also when somebody died over it: each step may be done again.
    fn finish_adding(&self) {
        let plan = self.who(0).load(Ordering::Relaxed);
        let (line, other) = ((plan >> 32 & 0xffff) as usize, (plan >> 48) as usize);
        if OWN.contains(&line) && (other == LOST || other == SURPLUS) {
            // Release, all of them: a process that dies here has done them in this order. pairs with: Latch::enter
            let store = |word: &AtomicU64, bits| word.store(bits, Ordering::Release);
            store(self.word(other), Account { open: plan as i32, last: NO_NUMBER }.pack());
            let who = self.who(line).load(Ordering::Relaxed);
            if other == LOST && who != 0 {
                store(self.who(other), who);
            }
            store(self.word(line), Account { open: 0, last: NO_NUMBER }.pack());
            store(self.who(line), 0);
        }
        // pairs with: as above
        self.who(0).store(0, Ordering::Release);
    }

    /// Whose line it is, if that process is dead.
    fn dead(&self, line: usize) -> Option<Identity> {
        Identity::from_bits(self.who(line).load(Ordering::Relaxed))
            .filter(|who| *who != identity() && who.is_dead())
    }

    /// This process is about to take `count` items, of which the last has the number `last`.
    #[inline]
    pub(super) fn take(&self, count: u32, last: u32) {
        let line = self.line();
        let open = self.account(line).open.wrapping_add_unsigned(count);
        self.set(line, Account { open, last });
    }

    /// This process has finished `count` items.
    pub(super) fn finish(&self, count: u32) {
        let line = self.line();
        let Account { open, last } = self.account(line);
        self.set(line, Account { open: open.wrapping_sub_unsigned(count), last });
    }

    /// A process died with the latch, or several, one after the other: takes back what they counted and did not take.
    /// `untaken` is told the last number of a line and says how many items up to there are still in the queue, and which
    /// number the line has without them.
    pub(super) fn undo(&self, untaken: impl Fn(u32) -> Option<(u32, u32)>) {
        self.finish_adding();
        for line in 0..MOST_CONSUMERS {
            let Account { open, last } = self.account(line);
            // Of those who live, a number may just be so old that it seems to be ahead.
            if let Some((count, last)) = untaken(last)
                && (line == 0 || self.dead(line).is_some())
            {
                // One store, so that a process that dies here has either done it or not, and nobody does it twice.
                self.set(line, Account { open: open.wrapping_sub_unsigned(count), last });
            }
        }
    }

    /// Items taken and not finished, by all together.
    pub(super) fn open(&self) -> i64 {
        // Those of one line may be more than it can count, taken or finished; all together are not.
        let opens = (0..MOST_CONSUMERS).map(|line| self.account(line).open);
        i64::from(opens.fold(0, i32::wrapping_add))
    }

    /// Dead processes that took items which nobody finished. Takes no latch: what it says is right once those items can
    /// be finished by nobody else.
    pub(super) fn lost(&self) -> Vec<(Identity, u32)> {
        let opens = || (1..MOST_CONSUMERS).map(|line| (line, self.account(line).open));
        let surplus: i64 = opens().map(|(_, open)| i64::from(open.min(0))).sum();
        let lost: Vec<_> = opens()
            .filter(|(_, open)| *open > 0)
            .filter_map(|(line, open)| Some((self.dead(line)?, open.unsigned_abs())))
            .collect();
        let all: i64 = lost.iter().map(|(_, count)| i64::from(*count)).sum();
        if all + surplus > 0 { lost } else { Vec::new() }
    }

    /// Counts what dead processes left open as finished.
    pub(super) fn write_off(&self) -> u64 {
        let mut count = 0;
        for line in 1..MOST_CONSUMERS {
            let Account { open, last } = self.account(line);
            if open > 0 && self.dead(line).is_some() {
                self.set(line, Account { open: 0, last });
                count += u64::from(open.unsigned_abs());
            }
        }
        count
    }
}
