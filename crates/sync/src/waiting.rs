//! The one way in which a thread waits for anything: look, spin a little, sleep, and while asleep notice signals,
//! deaths and deadlocks.
//!
//! Whatever may go wrong with a wake-up (the woken one is killed before it acts on it), every waiter looks again after
//! [`BACKSTOP`] at the latest.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

use manyhands_os::clock::{self, Deadline, MILLISECOND};
use manyhands_os::park;
use manyhands_os::process::{Identity, identity};
use manyhands_os::robust;

use crate::deadlock::{Member, Search};
use crate::site::{Listed, Site, WaitKind, Watch};
use crate::{EventCount, Patience, SpinPolicy};

/// The longest sleep without a look, in nanoseconds.
pub const BACKSTOP: u64 = 200 * MILLISECOND;

/// From this long on a wait is worth writing down.
const WORTH_LISTING: u64 = 20 * MILLISECOND;

/// How long to sleep between looks at a process that seems to be dying: its threads end one after the other.
const DYING_STEP: u64 = 50_000;

/// How many such looks; a process whose guard has ended and that lives on is looked at from time to time only.
const DYING_LOOKS: u32 = 100;

/// The first sleep where deaths can only be noticed by looking; each next one is twice as long.
const FIRST_SLICE: u64 = 5 * MILLISECOND;

/// The longest of those sleeps.
const LAST_SLICE: u64 = 150 * MILLISECOND;

/// The most owners whose deaths the kernel reports at once.
const MOST_WATCHED: usize = park::MOST_WORDS - 1;

/// As many owners as most waits have, and some more.
pub(crate) const FEW_OWNERS: usize = 15;

/// The most owners that are looked after at all.
const MOST_OWNERS: usize = 1024;

/// What the waiting thread has to do from time to time.
pub trait Waiting {
    /// Called when a signal handler may have to run: after a signal, and between sleeps. No lock of ours is held.
    /// `Break` ends the wait.
    fn pause(&mut self) -> ControlFlow<()>;

    /// The text of this thread's stack, for those who are told of a deadlock. Called at most once in a wait, and only
    /// when that has lasted for a while.
    fn stack(&mut self) -> String {
        String::new()
    }

    /// Whether it goes on waiting, whatever happens: it comes back with what it waits for, or when its time is up. Such
    /// a wait is not told of a deadlock; another one of the circle is.
    fn is_steadfast(&self) -> bool {
        false
    }
}

/// Has nothing to do while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patient;

impl Waiting for Patient {
    fn pause(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Debug)]
pub enum Stopped {
    /// The deadline has passed.
    TimedOut,
    /// [`Waiting::pause`] said so.
    Broken,
    /// Each of these waits for something that the next one has, the last for the first's. The first is the caller.
    Deadlock(Vec<Member>),
}

/// What to wait for, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// Where to sleep.
    pub events: EventCount<'a>,
    /// What is waited for: byte offset of its record in the segment, plus a small number for the condition within it.
    pub key: u64,
    /// What kind of thing that is.
    pub kind: WaitKind,
    /// When to give up.
    pub patience: Patience,
    /// How long to look before sleeping.
    pub spin: &'a SpinPolicy,
    /// The caller's entry in the table of waiters, if it has made one; otherwise it gets one when the wait is long.
    pub listed: Option<&'a Listed>,
}

/// What an attempt may want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Whether the caller goes to sleep when this attempt returns nothing: it is counted in at the event count already,
    /// and what wakes it has to be announced now.
    pub sleeping: bool,
    /// Whether this wait has slept before.
    pub slept: bool,
    /// An owner that is certainly dead. Said once for each death noticed.
    pub dead: Option<Identity>,
}

/// Those whose death would end a wait, or make another attempt worthwhile.
#[derive(Clone, Debug)]
pub struct Owners {
    few: [Option<Identity>; FEW_OWNERS],
    count: usize,
    /// Those beyond the few.
    more: Vec<Identity>,
}

impl Owners {
    fn none() -> Self {
        Self { few: [None; FEW_OWNERS], count: 0, more: Vec::new() }
    }

    /// Adds one, if there is room; returns whether there is room for more.
    pub fn push(&mut self, owner: Identity) -> bool {
        if !self.iter().any(|known| known == owner) && self.has_room() {
            self.add(owner);
        }
        self.has_room()
    }

    /// Adds as many of `owners` as there is room for. All of them are new, and different.
    pub(crate) fn extend(&mut self, owners: &[Identity]) {
        for owner in owners {
            if self.has_room() {
                self.add(*owner);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.count + self.more.len() < MOST_OWNERS
    }

    fn add(&mut self, owner: Identity) {
        if let Some(place) = self.few.get_mut(self.count) {
            *place = Some(owner);
            self.count += 1;
        } else {
            self.more.push(owner);
        }
    }

    fn few(&self) -> impl Iterator<Item = Identity> + '_ {
        self.few[..self.count].iter().filter_map(|owner| *owner)
    }

    fn iter(&self) -> impl Iterator<Item = Identity> + '_ {
        self.few().chain(self.more.iter().copied())
    }
}

impl Site {
    /// Waits until `attempt` returns something.
    ///
    /// `owners` names those whose deaths must be noticed; it is asked before every sleep. `attempt` is called often
    /// and must not wait.
    ///
    /// # Errors
    /// [`Stopped`] when it ended otherwise; `attempt` returned nothing right before that, except after
    /// [`Stopped::Broken`].
    pub fn block<T>(
        &self,
        wait: Wait<'_>,
        waiting: &mut dyn Waiting,
        mut owners: impl FnMut(&mut Owners),
        mut attempt: impl FnMut(Look) -> Option<T>,
    ) -> Result<T, Stopped> {
        let mut look = Look::default();
        let spent = match wait.spin.look(|| attempt(look)) {
            Ok(value) => return Ok(value),
            Err(spent) => spent,
        };
        let mut sleeper = Sleeper::new(self, wait);
        loop {
            let key = wait.events.prepare();
            if let Some(value) = attempt(Look { sleeping: true, ..look }) {
                spent.end();
                return Ok(value);
            }
            let mut watched = Owners::none();
            owners(&mut watched);
            let outcome = sleeper.sleep(key, &watched);
            look.slept = true;
            match outcome {
                Outcome::Look => {}
                Outcome::Dead(dead) => {
                    if let Some(value) = attempt(Look { dead: Some(dead), ..look }) {
                        return Ok(value);
                    }
                }
                Outcome::TimedOut => {
                    spent.end();
                    let dead = watched.iter().find(|owner| self.is_dead(*owner));
                    return attempt(Look { dead, ..look }).ok_or(Stopped::TimedOut);
                }
                Outcome::Pause { woken } => {
                    if waiting.pause().is_break() {
                        // A wake-up that was meant for one who would act on it.
                        if woken {
                            self.notify(wait.events, wait.key, 1);
                        }
                        return Err(Stopped::Broken);
                    }
                    sleeper.next_pause = clock::now() + BACKSTOP;
                    if let Some(members) = sleeper.write_down(waiting) {
                        return attempt(look).ok_or(Stopped::Deadlock(members));
                    }
                }
            }
        }
    }
}

/// Why a sleep ended.
enum Outcome {
    Look,
    Pause { woken: bool },
    TimedOut,
    Dead(Identity),
}

/// A waiter between its looks.
struct Sleeper<'a> {
    site: &'a Site,
    wait: Wait<'a>,
    deadline: Option<Deadline>,
    since: Deadline,
    /// Until when at most to sleep the next time where deaths can only be noticed by looking.
    slice: u64,
    dying_looks: u32,
    /// Before this, a short sleep that ended says nothing about deaths.
    next_death_look: u64,
    /// When to pause although there was no reason to stop sleeping.
    next_pause: u64,
    /// Our entry in the table of waiters, and whether it is ours to strike.
    entry: Option<(usize, u64)>,
    strike: bool,
    written: bool,
    search: Search,
}

impl<'a> Sleeper<'a> {
    fn new(site: &'a Site, wait: Wait<'a>) -> Self {
        site.guard();
        let entry = wait.listed.map(|listed| (listed.index(), listed.ticket()));
        let search = Search::new(wait.kind.is_lock() && wait.patience == Patience::Forever);
        let since = clock::now();
        Self {
            site,
            wait,
            deadline: wait.patience.deadline(),
            since,
            slice: FIRST_SLICE,
            dying_looks: 0,
            next_death_look: since + FIRST_SLICE,
            next_pause: since + WORTH_LISTING,
            entry,
            strike: false,
            written: false,
            search,
        }
    }

    /// Sleeps until there is a reason to look.
    fn sleep(&mut self, key: crate::Key<'_>, owners: &Owners) -> Outcome {
        let now = clock::now();
        let mut words = self.wait.events.words(&key);
        let mut until = now + self.until_next_look(now);
        let me = identity();
        for owner in owners.iter().filter(|owner| *owner != me).take(MOST_WATCHED) {
            match self.site.watch(owner) {
                Watch::Guarded { word, value } if park::can_wait_any() => {
                    if let Some(value) = ask_to_be_woken(word, value) {
                        words.push(word, value);
                    } else {
                        until = now;
                    }
                }
                Watch::Died { word } if self.dying_looks < DYING_LOOKS => {
                    // The kernel wakes one of those who watch; this passes it on.
                    park::wake(word, u32::MAX);
                    if owner.is_dead() {
                        return self.note_death(owner);
                    }
                    self.dying_looks += 1;
                    until = until.min(now + DYING_STEP);
                }
                _ => {
                    until = until.min(now + self.slice);
                    self.slice = (self.slice * 2).min(LAST_SLICE);
                }
            }
        }
        let until = self.deadline.map_or(until, |deadline| until.min(deadline));
        let slept = words.wait(Some(until));
        drop(key);
        match slept {
            // A thread that is woken all the time must look after signals, too.
            park::Wait::Woken if now >= self.next_pause => Outcome::Pause { woken: true },
            park::Wait::Woken | park::Wait::Changed => Outcome::Look,
            park::Wait::Interrupted => Outcome::Pause { woken: false },
            park::Wait::TimedOut if self.deadline == Some(until) => Outcome::TimedOut,
            park::Wait::TimedOut => self.look_for_deaths(owners),
        }
    }

    /// How long to sleep until this waiter has to do something for itself.
    fn until_next_look(&self, now: u64) -> u64 {
        if self.written {
            self.search.pause().min(BACKSTOP)
        } else {
            (self.since + WORTH_LISTING).saturating_sub(now).max(MILLISECOND)
        }
    }

    /// Nobody woke us for as long as we meant to sleep.
    fn look_for_deaths(&mut self, owners: &Owners) -> Outcome {
        let now = clock::now();
        if now < self.next_pause && now < self.next_death_look {
            return Outcome::Look;
        }
        self.next_death_look = now + FIRST_SLICE;
        // Each time the system is asked of others; of the rest what it has marked says it, as a rule.
        let few = owners.few().find(|owner| *owner != identity() && owner.is_dead());
        match few.or_else(|| owners.iter().find(|owner| self.site.is_dead(*owner))) {
            Some(dead) => self.note_death(dead),
            None => Outcome::Pause { woken: false },
        }
    }

    fn note_death(&mut self, dead: Identity) -> Outcome {
        self.dying_looks = 0;
        self.site.forget(dead);
        Outcome::Dead(dead)
    }

    /// Writes a wait that has lasted for a while into the table of waiters, and looks for a deadlock: its members, when
    /// this thread is the one to be told.
    fn write_down(&mut self, waiting: &mut dyn Waiting) -> Option<Vec<Member>> {
        if let Some((index, ticket)) = self.entry
            && self.strike
            && !self.site.is_own(index, ticket)
        {
            // A forked child that goes on in this wait: the entry is its parent's.
            (self.entry, self.written) = (None, false);
        }
        if !self.written && clock::now() >= self.since + WORTH_LISTING {
            self.written = true;
            if self.entry.is_none() {
                let (kind, key) = (self.wait.kind, self.wait.key);
                let (timed, steadfast) = (self.deadline.is_some(), waiting.is_steadfast());
                self.entry = self.site.enlist_at(kind, key, self.since, timed, steadfast);
                self.strike = self.entry.is_some();
            }
            if let Some((index, _)) = self.entry
                && self.search.is_on()
            {
                self.site.publish_stack(index, &waiting.stack());
            }
        }
        let (index, _) = self.entry.filter(|_| self.written && !waiting.is_steadfast())?;
        self.search.look(self.site, index)
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if let Some((index, ticket)) = self.entry
            && self.strike
        {
            self.site.strike(index, ticket);
        }
    }
}

/// Sets the bit of waiters in a participant slot's word, without which the kernel wakes nobody: the value to sleep on,
/// or `None` when the word has changed.
fn ask_to_be_woken(word: &AtomicU32, value: u32) -> Option<u32> {
    let asked = value | robust::WAITERS;
    let set = || word.compare_exchange(value, asked, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    (value == asked || set()).then_some(asked)
}
