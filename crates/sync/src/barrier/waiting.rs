//! Waiting for the other parties.

use std::sync::Arc;

use manyhands_os::process::{Identity, identity};

use super::{Arrival, ArrivalToken, BrokenBarrier, Party, Rounds};
use crate::site::{Site, WaitKind};
use crate::site_error::SiteError;
use crate::waiting::{Look, Owners, Stopped, Wait, Waiting};
use crate::watchlist::Watchlist;
use crate::words::SegmentWords;
use crate::{EventCount, Patience, SpinPolicy};

static SPIN: SpinPolicy = SpinPolicy::new();

/// A barrier in a segment, between threads and processes.
///
/// When the last party has arrived, one of them acts (it may run something while the others still wait), then all pass.
/// A barrier breaks when a party's time is over, when acting fails, when somebody aborts it, and when a process dies of
/// which a thread had arrived. It stays broken until it is reset.
///
/// ```
/// use std::sync::Arc;
///
/// use manyhands_os::memory::Segment;
/// use manyhands_sync::Patience;
/// use manyhands_sync::barrier::{Barrier, Passage};
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use manyhands_sync::waiting::Patient;
/// use manyhands_sync::words::SegmentWords;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + 4096)?);
/// let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
/// segment.commit(SITE_BYTES..SITE_BYTES + 4096)?;
/// let words = SegmentWords::new(segment, SITE_BYTES, Barrier::words_for(2));
/// let barrier = Barrier::create(Arc::clone(&site), words, 2);
/// site.publish();
///
/// let party = || match barrier.wait(Patience::Forever, &mut Patient).expect("nobody breaks it") {
///     Passage::Passed(index) => index,
///     Passage::Acts(acting) => acting.pass().expect("nobody breaks it"),
/// };
/// let (other, mine) = std::thread::scope(|scope| {
///     let other = scope.spawn(party);
///     let mine = party();
///     (other.join().expect("no panic"), mine)
/// });
/// assert_eq!(other + mine, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Barrier {
    site: Arc<Site>,
    spin: &'static SpinPolicy,
    rounds: Rounds<SegmentWords>,
    key: u64,
    watchlist: Watchlist,
}

/// How a wait ended well.
#[derive(Debug)]
pub enum Passage<'a> {
    /// All parties have arrived, and the one who acts has let them pass. With the caller's index, below the number of
    /// parties; everybody has another one.
    Passed(usize),
    /// All parties have arrived, and it is the caller who acts.
    Acts(Acting<'a>),
}

/// Why a party did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPassed {
    /// The barrier is broken, or was reset.
    Broken,
    /// [`Waiting::pause`] said to stop. The caller has not arrived; the barrier is not broken by that.
    Interrupted,
}

/// The right to let all parties pass. Dropping it breaks the barrier: the action has failed. A copy made by fork is no
/// right, and nothing is broken when it is dropped.
#[derive(Debug)]
pub struct Acting<'a> {
    barrier: &'a Barrier,
    token: ArrivalToken,
    done: bool,
}

impl Acting<'_> {
    /// Lets all pass; returns the caller's index.
    ///
    /// # Errors
    /// When the barrier was broken or reset while the caller acted.
    pub fn pass(mut self) -> Result<usize, BrokenBarrier> {
        self.done = true;
        if self.barrier.pass(self.token) { Ok(self.token.index()) } else { Err(BrokenBarrier) }
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.barrier.fail(self.token);
        }
    }
}

impl Barrier {
    /// The most parties.
    pub const MOST: usize = Rounds::<SegmentWords>::MOST;

    /// How many words a barrier of `parties` takes.
    #[must_use]
    pub fn words_for(parties: usize) -> usize {
        Rounds::<SegmentWords>::words_for(parties)
    }

    /// Makes a barrier of words that are zero and that nobody else knows yet.
    ///
    /// # Panics
    /// When there are too few words, no party, or more than [`MOST`](Self::MOST).
    #[must_use]
    pub fn create(site: Arc<Site>, words: SegmentWords, parties: usize) -> Self {
        let key = words.offset_of(0) as u64;
        Self {
            site,
            spin: &SPIN,
            key,
            rounds: Rounds::create(words, parties),
            watchlist: Watchlist::default(),
        }
    }

    /// The barrier that somebody has made of these words.
    ///
    /// # Errors
    /// When what is in the words is none.
    pub fn open(site: Arc<Site>, words: SegmentWords) -> Result<Self, SiteError> {
        let key = words.offset_of(0) as u64;
        let rounds = Rounds::open(words).ok_or(SiteError::Corrupt("a barrier of impossible parties"))?;
        Ok(Self { site, spin: &SPIN, key, rounds, watchlist: Watchlist::default() })
    }

    /// Has threads of this process spin as long as `spin` finds it worthwhile before they sleep, instead of by what all
    /// barriers of this process have learned.
    #[must_use]
    pub fn with_spin(self, spin: &'static SpinPolicy) -> Self {
        Self { spin, ..self }
    }

    /// Arrives, and waits for the others as long as `patience` lasts. While somebody acts, no time counts.
    ///
    /// # Errors
    /// [`NotPassed`].
    pub fn wait(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<Passage<'_>, NotPassed> {
        let token = match self.arrive_and_wait(waiting)? {
            Arrival::Acts(token) => return Ok(Passage::Acts(Acting { barrier: self, token, done: false })),
            Arrival::Waits(token) => token,
            Arrival::Full | Arrival::Broken => return Err(NotPassed::Broken),
        };
        let mut ended = self.wait_for_outcome(token, patience, waiting);
        if matches!(ended, Err(Stopped::TimedOut)) && !self.expire(token) {
            // All have arrived, or it is over.
            ended = self.wait_for_outcome(token, Patience::Forever, waiting);
        }
        match ended {
            Ok(outcome) => outcome.map(Passage::Passed).map_err(|BrokenBarrier| NotPassed::Broken),
            Err(Stopped::Broken) => {
                self.withdraw(token);
                Err(NotPassed::Interrupted)
            }
            Err(Stopped::TimedOut | Stopped::Deadlock(_)) => Err(NotPassed::Broken),
        }
    }

    /// Arrives as soon as nobody acts any more.
    fn arrive_and_wait(&self, waiting: &mut dyn Waiting) -> Result<Arrival, NotPassed> {
        let first = self.arrive();
        if first != Arrival::Full {
            return Ok(first);
        }
        let attempt = |look: Look| {
            self.notice(look);
            Some(self.arrive()).filter(|arrival| *arrival != Arrival::Full)
        };
        self.site
            .block(self.how_to_wait(Patience::Forever), waiting, |owners| self.watch(owners), attempt)
            .map_err(|_| NotPassed::Interrupted)
    }

    fn wait_for_outcome(
        &self,
        token: ArrivalToken,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<Result<usize, BrokenBarrier>, Stopped> {
        let attempt = |look: Look| {
            self.notice(look);
            self.outcome(token)
        };
        self.site.block(self.how_to_wait(patience), waiting, |owners| self.watch(owners), attempt)
    }

    fn how_to_wait(&self, patience: Patience) -> Wait<'_> {
        let (events, kind) = (self.events(), WaitKind::Barrier);
        Wait { events, key: self.key, kind, patience, spin: self.spin, listed: None }
    }

    fn watch(&self, owners: &mut Owners) {
        let parties = self.rounds.relied_on().map(|party| identity_of(party).map_or(0, Identity::to_bits));
        if !self.watchlist.name(parties, owners) {
            self.break_if(|party| identity_of(party).is_none());
        }
    }

    /// Breaks the barrier if what woke us was the death of a party.
    fn notice(&self, look: Look) {
        if let Some(dead) = look.dead {
            self.break_if(|party| identity_of(party).is_none_or(|who| who == dead));
        }
    }

    fn break_if(&self, is_dead: impl FnMut(Party) -> bool) -> bool {
        let broken = self.rounds.break_if_dead(is_dead);
        if broken {
            self.wake_all();
        }
        broken
    }

    fn is_dead(&self, party: Party) -> bool {
        identity_of(party).is_none_or(|who| self.site.is_dead(who))
    }

    fn wake_all(&self) {
        self.site.notify(self.events(), self.key, u32::MAX);
    }

    /// Arrives without waiting. The caller then waits with a wake socket ([`Site::enlist_async`]; enlist first) and
    /// looks at [`outcome`](Self::outcome), or after [`Arrival::Full`] tries again; and now and then calls
    /// [`break_if_dead`](Self::break_if_dead).
    #[must_use]
    pub fn arrive(&self) -> Arrival {
        let arrival = self.rounds.arrive(identity().to_bits(), |who| self.is_dead(who));
        if arrival == Arrival::Broken {
            // It may have been broken just now: by the death of one who had arrived.
            self.wake_all();
        }
        arrival
    }

    /// How the round of `token` ended, with the index if it was passed; `None` while it lasts.
    ///
    /// # Errors
    /// When it was broken or reset.
    pub fn outcome(&self, token: ArrivalToken) -> Option<Result<usize, BrokenBarrier>> {
        self.rounds.outcome(token)
    }

    /// Lets all pass; called by the party that acts. False when the barrier has been broken or reset.
    #[must_use]
    pub fn pass(&self, token: ArrivalToken) -> bool {
        let passed = is_own(token) && self.rounds.pass(token);
        if passed {
            self.wake_all();
        }
        passed
    }

    /// Breaks the barrier, by the one who acts: the action has failed.
    pub fn fail(&self, token: ArrivalToken) {
        if is_own(token) && self.rounds.fail(token) {
            self.wake_all();
        }
    }

    /// Breaks the barrier because the time of the one with `token` is over; false when all have arrived, or the round
    /// is over. In a forked child, where the place is its parent's, it breaks nothing and returns true.
    #[must_use]
    pub fn expire(&self, token: ArrivalToken) -> bool {
        if !is_own(token) {
            return true;
        }
        let expired = self.rounds.expire(token);
        if expired {
            self.wake_all();
        }
        expired
    }

    /// Takes an arrival back, without breaking the barrier.
    pub fn withdraw(&self, token: ArrivalToken) {
        if is_own(token) {
            self.rounds.withdraw(token);
        }
    }

    /// Breaks the barrier if one of those who have arrived has died; returns whether it did. Threads that wait do this by
    /// themselves.
    pub fn break_if_dead(&self) -> bool {
        self.break_if(|who| self.is_dead(who))
    }

    /// Breaks the barrier.
    pub fn abort(&self) {
        if self.rounds.abort() {
            self.wake_all();
        }
    }

    /// Makes the barrier as new. For those who wait now it is broken.
    pub fn reset(&self) {
        self.rounds.reset();
        self.wake_all();
    }

    /// How many have to arrive.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.rounds.parties()
    }

    /// How many have arrived and wait for others.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rounds.waiting()
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.rounds.is_broken()
    }

    /// Where waiters sleep.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        self.rounds.events()
    }

    /// What waiters wait for.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }
}

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (parties, waiting) = (self.parties(), self.waiting());
        f.debug_struct("Barrier").field("parties", &parties).field("waiting", &waiting).finish()
    }
}

/// Whether it is this process that has arrived. A forked child has a copy of its parent's place: what the parent waits for
/// is not for the child to end.
fn is_own(token: ArrivalToken) -> bool {
    token.is_of(identity().to_bits())
}

/// Its identity; `None` when that is nobody any more: the process has gone, or nobody can have written that.
fn identity_of(party: Party) -> Option<Identity> {
    match party {
        Party::Known(bits) => Identity::from_bits(bits),
        Party::Process(number) => match Identity::of(number) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // Where there is no telling, it lives.
            found => Some(found.unwrap_or_else(|_| identity())),
        },
    }
}
