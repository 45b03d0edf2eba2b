//! The rounds of a barrier, in words: which parties have arrived, and how each round ended. Nothing here waits.
//!
//! A round *fills* until every party has arrived; one of them then *acts* (runs the action) and lets all pass, which
//! begins the next round. Or it *breaks*, and stays broken until somebody resets the barrier.
//!
//! # Why a death breaks the barrier, and nothing else
//!
//! Arriving takes the first free cell by one compare-and-swap, which writes the number of the party's process and
//! the round into it. Nobody counts. So whoever dies has either not arrived, or can be seen among the arrived, and the
//! others break the round. (The rest of the identity, when the process was started, does not fit. It is written right
//! afterwards, marked with the round; where it is missing, the number alone has to do.) When the round is over, all cells are free at once, because they bear the number of another round:
//! nobody who has passed need say so.
//!
//! # Why one party acts, and the others know how it ended
//!
//! Everything else is in one word: the round, its phase, which cell acts, and how the last rounds ended. Several parties
//! may find the cells full, one exchanges the word. A party that was not looking for a few rounds reads there whether
//! its own was passed. After more rounds than that, it was passed if nobody has reset the barrier since; and if
//! somebody has, the party is told that it was broken, to be on the safe side. (Only where more threads use a barrier
//! than it has parties can rounds pass without one that waits.)
//!
//! # Why a late party is not taken for one of a round that is over
//!
//! A party looks at the round, then at a cell, then exchanges it. When the round has been passed in between, each of its
//! cells was taken, so none holds what the party saw, and the exchange fails: rounds are counted, in the cells, too, up
//! to a number that no barrier reaches. Cells are never made empty for the same reason; a party that withdraws leaves a
//! mark that the cell never held before.

use crate::EventCount;
use crate::atomic::{AtomicU64, Ordering, fence};
use crate::words::Words;

/// Word of the number of parties. Written once, before anybody else can see it.
const PARTIES: usize = 0;
/// Word of the round.
const STATE: usize = 1;
/// Futex: the sequence of the event count.
const SEQUENCE: usize = 2;
/// Futex: the sleepers of the event count.
const SLEEPERS: usize = 3;
/// Word of the number of withdrawals.
const WITHDRAWALS: usize = 4;
/// Word of the last round that was reset, or should have been.
const RESET: usize = 5;
/// The first cell.
const CELLS: usize = 6;

/// The most parties.
const MOST: u64 = 1 << 16;

/// How many rounds the history knows.
const HISTORY: u64 = 6;

/// A cell: the low bits are the number of the process, those above the round.
const CELL_ROUND: u32 = 22;
const PROCESS: u64 = (1 << CELL_ROUND) - 1;

/// The word after a cell: the low half is the rest of the identity, the high half the low bits of the round.
const START_ROUND: u32 = 32;
const START: u64 = (1 << START_ROUND) - 1;

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Filling,
    Acting,
    Broken,
}

/// The word of the round. Kept as it was read, so that an exchange also replaces what nobody should have written.
///
/// | bits | meaning | who changes it |
/// |---|---|---|
/// | 0-39 | round | the acting party, or reset: +1 |
/// | 40-41 | phase: 0 filling, 1 acting, 2 broken | the party that finds all cells taken: 1; abort, timeouts, deaths, a failed action: 2; the next round: 0 |
/// | 42-57 | the cell of the acting party | that party |
/// | 58-63 | the last 6 rounds, the newest in bit 58: 1 passed, 0 reset | with each new round |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

const ROUND: u64 = (1 << 40) - 1;
const PHASE: u32 = 40;
const ACTOR: u32 = 42;
const ROUNDS_BEFORE: u32 = 58;

impl State {
    fn new(round: u64, phase: Phase, actor: usize, history: u64) -> Self {
        let actor = (actor as u64 & (MOST - 1)) << ACTOR;
        Self(round & ROUND | (phase as u64) << PHASE | actor | history << ROUNDS_BEFORE)
    }

    fn round(self) -> u64 {
        self.0 & ROUND
    }

    fn phase(self) -> Phase {
        match self.0 >> PHASE & 3 {
            0 => Phase::Filling,
            1 => Phase::Acting,
            _ => Phase::Broken,
        }
    }

    fn actor(self) -> usize {
        (self.0 >> ACTOR & (MOST - 1)) as usize
    }

    fn history(self) -> u64 {
        self.0 >> ROUNDS_BEFORE
    }

    fn acting(self, actor: usize) -> Self {
        Self::new(self.round(), Phase::Acting, actor, self.history())
    }

    fn broken(self) -> Self {
        Self::new(self.round(), Phase::Broken, 0, self.history())
    }

    /// The round after this one. The oldest round drops out of the history.
    fn next(self, passed: bool) -> Self {
        Self::new(self.round() + 1, Phase::Filling, 0, self.history() << 1 | u64::from(passed))
    }

    /// What the cell of somebody who arrived in this round holds.
    fn cell(self, identity: u64) -> u64 {
        identity & PROCESS | self.round() << CELL_ROUND
    }

    /// What the word after that cell holds.
    fn start(self, identity: u64) -> u64 {
        identity >> CELL_ROUND & START | self.round() << START_ROUND
    }

    fn has_taken(self, cell: u64) -> bool {
        cell >> CELL_ROUND == self.round()
    }

    /// The party that has a cell of this round, with the word after it.
    fn party(self, cell: u64, start: u64) -> Party {
        let process = cell & PROCESS;
        if start >> START_ROUND == self.start(0) >> START_ROUND {
            Party::Known(process | (start & START) << CELL_ROUND)
        } else {
            Party::Process(process as i32)
        }
    }
}

/// A party that has arrived, as shared memory says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The process with this identity.
    Known(u64),
    /// The process with this number: it is about to write down the rest of its identity, or has died before.
    Process(i32),
}

/// A party's place in a round, from [`Rounds::arrive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrivalToken {
    round: u64,
    index: usize,
    cell: u64,
}

impl ArrivalToken {
    /// The number of the place, below the number of parties; everybody in a round has another one.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it is the place of `me`, an identity: a forked child has only a copy of its parent's.
    #[must_use]
    pub fn is_of(&self, me: u64) -> bool {
        self.cell & PROCESS == me & PROCESS
    }
}

/// What [`Rounds::arrive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Others are missing: wait until [`Rounds::outcome`] says something.
    Waits(ArrivalToken),
    /// All have arrived, and the caller must act and then [`pass`](Rounds::pass) or [`fail`](Rounds::fail).
    Acts(ArrivalToken),
    /// All have arrived and somebody acts: try again in the next round.
    Full,
    /// The barrier is broken.
    Broken,
}

/// How a wait ends when the barrier is broken or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier;

impl std::fmt::Display for BrokenBarrier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the barrier is broken")
    }
}

impl std::error::Error for BrokenBarrier {}

/// The rounds of one barrier, as a view of [`words_for`](Self::words_for) words.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | 0 | parties | nobody after `create` |
/// | 1 | the round (bits: see `State`) | whoever ends a phase |
/// | 2, 3 | event count (futexes) | waiters, and whoever ends a phase |
/// | 4 | how often a party has withdrawn, wraps | `withdraw`: +1 |
/// | 5 | the last round that was reset, or should have been | `reset`, before it is |
/// | 6, 8, .. | a cell each: bits 0-21 the number of the process, 22-63 in which round; free when of another round | the arriving party, by exchange; `withdraw`: the number of withdrawals, and round 0 |
/// | 7, 9, .. | bits 0-31 when that process was started (bits 22-53 of its identity), 32-63 the low bits of the round | the party that has taken the cell |
#[derive(Debug)]
pub struct Rounds<W> {
    words: W,
    /// Kept here, out of the reach of others.
    parties: usize,
}

impl<W: Words> Rounds<W> {
    /// The most parties: 65,536.
    pub const MOST: usize = MOST as usize;

    /// How many words a barrier of `parties` takes: two for each, and six.
    #[must_use]
    pub fn words_for(parties: usize) -> usize {
        CELLS + 2 * parties
    }

    /// Makes a barrier of words that are all zero and that nobody else knows yet.
    ///
    /// # Panics
    /// When there are too few words, no party, or more than [`MOST`](Self::MOST).
    #[must_use]
    pub fn create(words: W, parties: usize) -> Self {
        assert!((1..=Self::MOST).contains(&parties), "a barrier of {parties} parties");
        assert!(words.count() >= Self::words_for(parties), "too few words for {parties} parties");
        words.word(PARTIES).store(parties as u64, Ordering::Relaxed);
        // Not 0: cells of zero must not be taken for those of this round.
        let first = State::new(1, Phase::Filling, 0, 0);
        words.word(STATE).store(first.0, Ordering::Relaxed);
        Self { words, parties }
    }

    /// A view of a barrier that somebody has made; `None` when what is in the words cannot be one.
    #[must_use]
    pub fn open(words: W) -> Option<Self> {
        if words.count() < CELLS {
            return None;
        }
        let parties = words.word(PARTIES).load(Ordering::Relaxed);
        if !(1..=MOST).contains(&parties) || words.count() < Self::words_for(parties as usize) {
            return None;
        }
        Some(Self { words, parties: parties as usize })
    }

    /// How many have to arrive.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// Where waiters sleep. Each method here that returns whether something changed wants all of them woken if so.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        EventCount::new(self.words.futex(SEQUENCE), self.words.futex(SLEEPERS))
    }

    /// How many wait in this round; none in one that is broken or passing.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let state = self.state();
        if state.phase() == Phase::Filling { self.parties_in(state).count() } else { 0 }
    }

    /// Whether the barrier is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state().phase() == Phase::Broken
    }

    /// Arrives in the name of `me`, an identity. When that makes the round complete, `is_dead` is asked about the others: a round
    /// with a dead party breaks instead (wake all, then).
    pub fn arrive(&self, me: u64, is_dead: impl FnMut(Party) -> bool) -> Arrival {
        let state = self.state();
        match state.phase() {
            Phase::Broken => return Arrival::Broken,
            Phase::Acting => return Arrival::Full,
            Phase::Filling => {}
        }
        let Some(index) = self.take_cell(state, me) else {
            // Full: the last to arrive has not said so yet. Or the round has ended just now.
            return Arrival::Full;
        };
        let token = ArrivalToken { round: state.round(), index, cell: state.cell(me) };
        self.start_word(index).store(state.start(me), Ordering::Relaxed);
        // Two who take the last two cells: at least one of them sees both.
        fence(Ordering::SeqCst);
        if self.parties_in(state).count() < self.parties {
            return Arrival::Waits(token);
        }
        if self.parties_in(state).any(is_dead) && self.exchange(state, state.broken()) {
            return Arrival::Broken;
        }
        // Whoever it was instead: the outcome will tell.
        if self.exchange(state, state.acting(index)) { Arrival::Acts(token) } else { Arrival::Waits(token) }
    }

    /// Takes the first cell that is free in the round of `state`; none when that round is over.
    fn take_cell(&self, state: State, me: u64) -> Option<usize> {
        for index in 0..self.parties {
            let cell = self.cell(index);
            // Acquire pairs with the Release below: a party that took it for a later round had seen that round.
            let mut seen = cell.load(Ordering::Acquire);
            while !state.has_taken(seen) {
                // What is of a later round than there is, nobody has written who is in his right mind.
                if seen >> CELL_ROUND > state.round() && self.state().round() != state.round() {
                    return None;
                }
                let mine = state.cell(me);
                // What the party did before it came is for all others. pairs with: `party`.
                match cell.compare_exchange(seen, mine, Ordering::Release, Ordering::Acquire) {
                    Ok(_) => return Some(index),
                    Err(changed) => seen = changed,
                }
            }
        }
        None
    }

    /// Lets all pass: the next round begins. False when the round has been broken or reset; so is the caller then.
    #[must_use]
    pub fn pass(&self, token: ArrivalToken) -> bool {
        let state = self.state();
        self.acts(state, token) && self.exchange(state, state.next(true))
    }

    /// Breaks the barrier because acting failed. Returns whether it was not broken or reset before.
    pub fn fail(&self, token: ArrivalToken) -> bool {
        let state = self.state();
        self.acts(state, token) && self.exchange(state, state.broken())
    }

    fn acts(&self, state: State, token: ArrivalToken) -> bool {
        state.phase() == Phase::Acting && (state.round(), state.actor()) == (token.round, token.index)
    }

    /// How the round of `token` ended; `None` while it lasts. With the index if it was passed.
    ///
    /// # Errors
    /// When it was broken or reset.
    pub fn outcome(&self, token: ArrivalToken) -> Option<Result<usize, BrokenBarrier>> {
        let state = self.state();
        let later = state.round().wrapping_sub(token.round) & ROUND;
        if later == 0 {
            return (state.phase() == Phase::Broken).then_some(Err(BrokenBarrier));
        }
        let passed = if later <= HISTORY {
            state.history() >> (later - 1) & 1 == 1
        } else {
            self.words.word(RESET).load(Ordering::Relaxed) < token.round
        };
        Some(if passed { Ok(token.index) } else { Err(BrokenBarrier) })
    }

    /// Gives the place back without breaking the barrier, as after an interrupt. When all had arrived already, the
    /// round goes on without the caller.
    pub fn withdraw(&self, token: ArrivalToken) {
        let number = self.words.word(WITHDRAWALS).fetch_add(1, Ordering::Relaxed);
        // Of no round, as there is no round 0.
        let left = number & PROCESS;
        let cell = self.cell(token.index);
        // It may be another's by now. Nothing is told to anybody by this.
        let _ = cell.compare_exchange(token.cell, left, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Breaks the round of `token` because its time is over, unless it has ended, or all have arrived and it is about
    /// to. Returns whether it did.
    pub fn expire(&self, token: ArrivalToken) -> bool {
        let state = self.state();
        let mine = state.round() == token.round && state.phase() == Phase::Filling;
        mine && self.exchange(state, state.broken())
    }

    /// Breaks the barrier, whatever goes on. Returns whether it was not broken before.
    pub fn abort(&self) -> bool {
        loop {
            let state = self.state();
            if state.phase() == Phase::Broken {
                return false;
            }
            if self.exchange(state, state.broken()) {
                return true;
            }
        }
    }

    /// Begins a new round: for those who wait in this one it is broken.
    pub fn reset(&self) {
        loop {
            let state = self.state();
            // Before the round changes: a thread that sees the new round sees this.
            self.words.word(RESET).fetch_max(state.round(), Ordering::Relaxed);
            if self.exchange(state, state.next(false)) {
                return;
            }
        }
    }

    /// Breaks the round if one of the arrived has died, or the one who acts. Returns whether it did.
    pub fn break_if_dead(&self, is_dead: impl FnMut(Party) -> bool) -> bool {
        let state = self.state();
        self.relied_on_in(state).any(is_dead) && self.exchange(state, state.broken())
    }

    /// Whose death would break this round.
    pub fn relied_on(&self) -> impl Iterator<Item = Party> {
        self.relied_on_in(self.state())
    }

    fn relied_on_in(&self, state: State) -> impl Iterator<Item = Party> {
        let indices = match state.phase() {
            Phase::Filling => 0..self.parties,
            Phase::Acting if state.actor() < self.parties => state.actor()..state.actor() + 1,
            Phase::Acting | Phase::Broken => 0..0,
        };
        indices.filter_map(move |index| self.party(state, index))
    }

    /// The parties that have arrived in the round of `state`.
    fn parties_in(&self, state: State) -> impl Iterator<Item = Party> {
        (0..self.parties).filter_map(move |index| self.party(state, index))
    }

    fn party(&self, state: State, index: usize) -> Option<Party> {
        // Acquire pairs with the Release in `take_cell`.
        let cell = self.cell(index).load(Ordering::Acquire);
        let start = || self.start_word(index).load(Ordering::Relaxed);
        state.has_taken(cell).then(|| state.party(cell, start()))
    }

    fn cell(&self, index: usize) -> &AtomicU64 {
        self.words.word(CELLS + 2 * index)
    }

    fn start_word(&self, index: usize) -> &AtomicU64 {
        self.words.word(CELLS + 2 * index + 1)
    }

    fn state(&self) -> State {
        // Acquire pairs with the SeqCst in `exchange`.
        State(self.words.word(STATE).load(Ordering::Acquire))
    }

    fn exchange(&self, old: State, new: State) -> bool {
        // pairs with: `state`; and, for the sleepers, the fence in `EventCount::prepare`.
        self.words.word(STATE).compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::words::HeapWords;

    const ME: u64 = 5 | 77 << 22;
    const OTHER: u64 = 6 | 78 << 22;

    fn rounds(parties: usize) -> Rounds<HeapWords> {
        Rounds::create(HeapWords::new(Rounds::<HeapWords>::words_for(parties)), parties)
    }

    fn nobody(_: Party) -> bool {
        false
    }

    fn wait(rounds: &Rounds<HeapWords>, who: u64) -> ArrivalToken {
        match rounds.arrive(who, nobody) {
            Arrival::Waits(token) => token,
            other => panic!("{other:?}"),
        }
    }

    fn act(rounds: &Rounds<HeapWords>, who: u64) -> ArrivalToken {
        match rounds.arrive(who, nobody) {
            Arrival::Acts(token) => token,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_pass_together() {
        let rounds = rounds(3);
        for _ in 0..3000 {
            let first = wait(&rounds, ME);
            let second = wait(&rounds, ME);
            assert_eq!((rounds.waiting(), rounds.outcome(first)), (2, None));
            let third = act(&rounds, OTHER);
            assert_eq!((rounds.waiting(), rounds.outcome(first)), (0, None));
            assert_eq!(rounds.arrive(ME, nobody), Arrival::Full);
            assert!(!rounds.expire(first), "too late for that");
            assert!(rounds.pass(third));
            let outcomes = [first, second, third].map(|token| rounds.outcome(token));
            assert_eq!(outcomes, [Some(Ok(0)), Some(Ok(1)), Some(Ok(2))]);
        }
        assert_eq!((rounds.waiting(), rounds.is_broken()), (0, false));
    }

    #[test]
    fn one_party_always_passes() {
        let rounds = rounds(1);
        for _ in 0..3 {
            let token = act(&rounds, ME);
            assert!(rounds.pass(token));
            assert_eq!(rounds.outcome(token), Some(Ok(0)));
        }
    }

    #[test]
    fn broken_until_reset() {
        let rounds = rounds(2);
        let token = wait(&rounds, ME);
        assert!(rounds.abort());
        assert!(!rounds.abort());
        assert_eq!(rounds.outcome(token), Some(Err(BrokenBarrier)));
        assert_eq!(rounds.arrive(OTHER, nobody), Arrival::Broken);
        rounds.reset();
        assert_eq!(rounds.outcome(token), Some(Err(BrokenBarrier)));
        let (token, other) = (wait(&rounds, ME), act(&rounds, OTHER));
        assert!(rounds.pass(other));
        assert_eq!(rounds.outcome(token), Some(Ok(0)));
    }

    #[test]
    fn a_reset_breaks_for_those_who_wait() {
        let rounds = rounds(3);
        let token = wait(&rounds, ME);
        rounds.reset();
        assert_eq!(rounds.outcome(token), Some(Err(BrokenBarrier)));
        assert_eq!((rounds.waiting(), rounds.is_broken()), (0, false));
        rounds.withdraw(token);
        let _ = (wait(&rounds, ME), wait(&rounds, ME));
        let acting = act(&rounds, ME);
        rounds.reset();
        assert!(!rounds.pass(acting));
        assert_eq!(rounds.outcome(acting), Some(Err(BrokenBarrier)));
    }

    #[test]
    fn resets_without_end_leave_no_marks() {
        let rounds = rounds(2);
        let _ = wait(&rounds, ME);
        for round in 0..5000 {
            rounds.reset();
            assert_eq!(rounds.waiting(), 0, "{round}");
        }
    }

    #[test]
    fn who_died_before_it_wrote_all_of_its_identity_is_found_by_number() {
        let rounds = rounds(3);
        let (first, second) = (wait(&rounds, ME), wait(&rounds, OTHER));
        rounds.start_word(second.index()).store(0, Ordering::Relaxed);
        assert_eq!(rounds.relied_on().collect::<Vec<_>>(), [Party::Known(ME), Party::Process(6)]);
        assert!(rounds.break_if_dead(|who| who == Party::Process(6)));
        assert_eq!(rounds.outcome(first), Some(Err(BrokenBarrier)));
    }

    #[test]
    fn an_action_that_fails_breaks() {
        let rounds = rounds(2);
        let (first, second) = (wait(&rounds, ME), act(&rounds, ME));
        assert!(rounds.fail(second));
        assert_eq!(rounds.outcome(first), Some(Err(BrokenBarrier)));
        assert!(!rounds.fail(second) && !rounds.pass(second));
    }

    #[test]
    fn time_over_breaks() {
        let rounds = rounds(2);
        let token = wait(&rounds, ME);
        assert!(rounds.expire(token));
        assert!(!rounds.expire(token) && rounds.is_broken());
    }

    #[test]
    fn a_place_given_back_is_taken_by_the_next() {
        let rounds = rounds(3);
        let (first, second) = (wait(&rounds, ME), wait(&rounds, ME));
        rounds.withdraw(first);
        assert_eq!(rounds.waiting(), 1);
        let again = wait(&rounds, OTHER);
        assert_eq!((first.index(), again.index()), (0, 0));
        let last = act(&rounds, OTHER);
        assert!(rounds.pass(last));
        rounds.withdraw(first);
        assert_eq!(rounds.outcome(second), Some(Ok(1)));
    }

    #[test]
    fn the_dead_break_it() {
        let dead = |who| who == Party::Known(OTHER);
        let rounds = rounds(3);
        let token = wait(&rounds, ME);
        assert!(!rounds.break_if_dead(dead));
        let _ = wait(&rounds, OTHER);
        assert_eq!(rounds.relied_on().collect::<Vec<_>>(), [Party::Known(ME), Party::Known(OTHER)]);
        assert!(rounds.break_if_dead(dead));
        assert_eq!(rounds.outcome(token), Some(Err(BrokenBarrier)));
        rounds.reset();
        let _ = (wait(&rounds, OTHER), wait(&rounds, ME));
        assert_eq!(rounds.arrive(ME, dead), Arrival::Broken);
        rounds.reset();
        let _ = (wait(&rounds, ME), wait(&rounds, ME), act(&rounds, OTHER));
        assert_eq!(rounds.relied_on().collect::<Vec<_>>(), [Party::Known(OTHER)]);
        assert!(rounds.break_if_dead(dead) && rounds.is_broken());
        assert_eq!(rounds.relied_on().count(), 0);
    }

    #[test]
    fn who_looks_late_knows_how_it_ended() {
        let rounds = rounds(1);
        let pass = || {
            let token = act(&rounds, ME);
            assert!(rounds.pass(token));
            token
        };
        let reset = || {
            let token = act(&rounds, ME);
            rounds.reset();
            token
        };
        let before = pass();
        let (broken, mixed) = (reset(), [pass(), reset(), pass(), pass(), reset()]);
        let outcomes = mixed.map(|token| rounds.outcome(token).expect("ended").is_ok());
        assert_eq!(outcomes, [true, false, true, true, false]);
        let later: Vec<_> = (0..100).map(|_| pass()).collect();
        assert!(later.into_iter().all(|token| rounds.outcome(token) == Some(Ok(0))));
        assert_eq!(rounds.outcome(broken), Some(Err(BrokenBarrier)));
        assert_eq!(rounds.outcome(before), Some(Err(BrokenBarrier)), "nobody knows any more");
    }

    #[test]
    fn nonsense_is_refused() {
        for (parties, count) in [(0, 16), (6, 16), (MOST + 1, 16), (u64::MAX, 16), (1, 7)] {
            let words = HeapWords::new(count);
            words.word(PARTIES).store(parties, Ordering::Relaxed);
            assert!(Rounds::open(words).is_none(), "{parties} of {count}");
        }
        let words = HeapWords::new(16);
        words.word(PARTIES).store(5, Ordering::Relaxed);
        words.word(STATE).store(u64::MAX, Ordering::Relaxed);
        let rounds = Rounds::open(words).expect("five parties");
        assert!(rounds.is_broken());
        rounds.reset();
        assert!(!rounds.is_broken());
        // An acting cell that is none.
        rounds.words.word(STATE).store(1 << PHASE | 0xffff << ACTOR, Ordering::Relaxed);
        assert!(!rounds.break_if_dead(|_| true));
        assert_eq!(rounds.relied_on().count(), 0);
    }
}
