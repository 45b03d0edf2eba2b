//! Who has taken items and not yet said that they are done.
//!
//! One line for each process, as long as there are lines; all of it is changed under the latch of the consumers. A process's word has its open items
//! in the high half and, in the low one, the number of the item it took last. It is written right *before* the items
//! are out of the queue. So when a process dies with the latch, the number tells whether what it counted did happen
//! ([`Consumers::undo`]).
//!
//! | word | meaning |
//! |---|---|
//! | 0 | the process's identity; 0: nobody's. Line 0 is nobody's for ever: it counts for those who found no line |
//! | 1 | bits 32-63: items taken and not done, negative for who finishes what others took; bits 0-31: the last number |

use std::sync::atomic::{AtomicU64, AtomicUsize};

use manyhands_os::process::{Identity, identity};
use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::{SegmentWords, Words};

use super::layout::MOST_CONSUMERS;

const WHO: usize = 0;
const OPEN: usize = 1;
const LINE: usize = super::layout::CONSUMER / 8;

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
}

impl Consumers {
    /// Words of the table.
    pub(super) const WORDS: usize = MOST_CONSUMERS * LINE;

    pub(super) fn over(words: SegmentWords) -> Self {
        Self { words, mine: AtomicUsize::new(0) }
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
        let lines = || 1..MOST_CONSUMERS;
        let holds = |line: usize, bits: u64| self.who(line).load(Ordering::Relaxed) == bits;
        let line = lines().find(|line| holds(*line, me)).or_else(|| {
            let free = lines()
                .find(|line| holds(*line, 0))
                .or_else(|| lines().find(|line| self.account(*line).open == 0 && self.dead(*line).is_some()));
            free.inspect(|line| {
                self.set(*line, Account { open: 0, last: NO_NUMBER });
                self.who(*line).store(me, Ordering::Relaxed);
            })
        });
        let line = line.unwrap_or(0);
        self.mine.store(line, Ordering::Relaxed);
        line
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
        for line in 0..MOST_CONSUMERS {
            let Account { open, last } = self.account(line);
            if let Some((count, last)) = untaken(last) {
                // One store, so that who dies here has either done it or not, and nobody does it twice.
                self.set(line, Account { open: open.wrapping_sub_unsigned(count), last });
            }
        }
    }

    /// Items taken and not finished, by all together.
    pub(super) fn open(&self) -> i64 {
        (0..MOST_CONSUMERS).map(|line| i64::from(self.account(line).open)).sum()
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
