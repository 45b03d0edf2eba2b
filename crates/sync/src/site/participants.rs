//! Participant slots: the places of those who take part.
//!
//! A participant slot names a process, and one thread of it *guards* the participant slot: it keeps the participant
//! slot's robust mutex locked. When the thread ends, the kernel marks the mutex's word and wakes one of those who
//! sleep on it. That is news, not proof: the process may live on without that thread. Proof is [`Identity::is_dead`].
//!
//! A guarding thread that ends in an orderly way unlocks first; the next thread of its process that waits for something
//! takes over. Until then, and where the kernel cannot wait for two words at once, deaths are noticed by looking from
//! time to time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_os::clock;
use manyhands_os::memory::Segment;
use manyhands_os::park;
use manyhands_os::process::{Identity, fork_count, identity, pid, thread_id};
use manyhands_os::robust::{self, RobustGuard};

use super::Site;
use super::heading::{self, AT_PARTICIPANTS, MOST_PARTICIPANTS};

/// Byte offsets in a slot.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | holder | 0-53 | identity; all zero: free | who enters: 0→own; adopts: reserver's→own; takes over or renews: dead→own; frees: →0 |
/// | holder | 62 | [`SUPERVISED`]: whoever reserved it reaps its holder, nobody else does, and its holder never frees it | whoever reserves it so; for a moment, whoever reserves it otherwise, or sweeps |
/// | holder | 63 | [`RESERVED`]: for a process that does not exist yet; the identity is the reserver's | set by reserving or renewing, cleared by adopting |
/// | guard | 0-7 | 0: unguarded; else where the mutex's word is, plus 1 | the guarding thread |
/// | guard | 8-63 | when the holder last changed, nanoseconds of the clock | who changes the holder |
/// | mutex | | the robust mutex | the guarding thread; whoever sleeps on it sets its bit of waiters |
const HOLDER: usize = 0;
const GUARD: usize = 8;
const MUTEX: usize = 16;

const _: () = assert!(MUTEX + robust::LEN <= 64);

const RESERVED: u64 = 1 << 63;
const SUPERVISED: u64 = 1 << 62;
const WORD: u64 = 0xff;
const SINCE_SHIFT: u32 = 8;

/// How long a slot waits for the child it was reserved for, in nanoseconds. A fork that failed leaves one behind.
const BIRTH: u64 = 60 * clock::SECOND;

/// The most slots that a thread guards: the kernel marks the words of a thread that has ended only up to a limit, 2048,
/// and others may use such mutexes, too.
const MOST_GUARDED: usize = 1000;

/// Numbers from here on are given out only by name ([`Site::enter_as`]).
const FIRST_SPECIAL: usize = MOST_PARTICIPANTS - 2;

/// What a participant slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParticipantSlot {
    /// The process that has it, or has reserved it.
    pub identity: Identity,
    /// Whether it waits for a process that does not exist yet.
    pub reserved: bool,
    /// When that became so, in nanoseconds of the clock.
    pub since: u64,
}

/// Whether a holder's word names `who`.
fn holds(held: u64, who: Identity) -> bool {
    held & !(RESERVED | SUPERVISED) == who.to_bits()
}

/// What can be watched of a process in this site.
pub(crate) enum Watch<'a> {
    /// A thread of it guards its slot: the word, and what it held.
    Guarded { word: &'a AtomicU32, value: u32 },
    /// The thread that guarded its slot has ended: the word.
    Died { word: &'a AtomicU32 },
    /// Nothing: it has no slot here, or nobody guards it.
    Nothing,
}

impl Site {
    /// This process's slot, if it has one.
    #[must_use]
    pub fn participant(&self) -> Option<u16> {
        let number = self.own.load(Ordering::Relaxed).checked_sub(1)? as usize;
        // After a fork the number is the parent's.
        let held = self.slot_word(number, HOLDER).load(Ordering::Relaxed);
        (held & !SUPERVISED == identity().to_bits()).then_some(number as u16)
    }

    /// Takes part: gives this process the lowest free slot, guarded by the calling thread, unless it has one already.
    /// Where none is free, that of one who is dead, with all that its number stands for. `None` when all are taken by
    /// the living or memory is short: then everything works, but deaths of this process are noticed later.
    pub fn enter(&self) -> Option<u16> {
        if let Some(number) = self.participant() {
            return Some(number);
        }
        let me = identity().to_bits();
        let number = self.claim(me).or_else(|| self.take_over(me))?;
        self.become_participant(number);
        Some(number as u16)
    }

    /// Takes part with the slot `number`; returns whether it was free (or ours already).
    pub fn enter_as(&self, number: u16) -> bool {
        let number = usize::from(number);
        if self.participant() == Some(number as u16) {
            return true;
        }
        let entered = self.reach(number) && self.change(number, 0, identity().to_bits());
        if entered {
            self.become_participant(number);
        }
        entered
    }

    /// Keeps a slot, as [`enter`](Self::enter) does, for a process that will [`adopt`](Self::adopt) it within a minute;
    /// `None` when all are taken by the living.
    #[must_use]
    pub fn reserve(&self) -> Option<u16> {
        let reserved = identity().to_bits() | RESERVED;
        self.claim(reserved).or_else(|| self.take_over(reserved)).map(|number| number as u16)
    }

    /// Keeps the lowest free slot for a process that will [`adopt`](Self::adopt) it, and for its successors: when one
    /// dies the caller sees to it, and nobody else takes or frees it. `None` when all are taken.
    #[must_use]
    pub fn reserve_supervised(&self) -> Option<u16> {
        self.claim(identity().to_bits() | RESERVED | SUPERVISED).map(|number| number as u16)
    }

    /// Takes part with a reserved slot; returns whether it was reserved. May be called in a child right after a fork.
    pub fn adopt(&self, number: u16) -> bool {
        let number = usize::from(number);
        let Some(held) = self.holder(number).filter(|held| held & RESERVED != 0) else { return false };
        let adopted = self.change(number, held, identity().to_bits() | held & SUPERVISED);
        if adopted {
            self.become_participant(number);
        }
        adopted
    }

    /// Reserves the slot of a process that has died for its successor; returns whether it still was that process's.
    pub fn renew(&self, number: u16, dead: Identity) -> bool {
        let number = usize::from(number);
        self.holder(number).is_some_and(|held| {
            holds(held, dead)
                && self.change(number, held, identity().to_bits() | RESERVED | held & SUPERVISED)
        })
    }

    /// The slot with this number; `None` when it is free.
    #[must_use]
    pub fn participant_slot(&self, number: u16) -> Option<ParticipantSlot> {
        let number = usize::from(number);
        let held = self.holder(number)?;
        let identity = Identity::from_bits(held & !(RESERVED | SUPERVISED))?;
        let since = self.slot_word(number, GUARD).load(Ordering::Relaxed) >> SINCE_SHIFT;
        Some(ParticipantSlot { identity, reserved: held & RESERVED != 0, since })
    }

    /// All slots that are not free, with their numbers.
    pub fn participants(&self) -> impl Iterator<Item = (u16, ParticipantSlot)> + '_ {
        (0..self.slot_count() as u16).filter_map(|number| Some((number, self.participant_slot(number)?)))
    }

    /// Frees the slot `number` if `holder` has it (or has reserved it).
    pub fn free(&self, number: u16, holder: Identity) {
        let number = usize::from(number);
        if let Some(held) = self.holder(number).filter(|held| holds(*held, holder)) {
            self.change(number, held, 0);
        }
    }

    /// Frees the slots of the dead and those that nobody has come to adopt, except for [supervised](Self::reserve_supervised)
    /// ones, and strikes the dead from the table of waiters. If there are any, calls `release` with their numbers before
    /// that, while nobody else can have them.
    pub fn sweep(&self, release: impl FnOnce(&[u16])) {
        let swept = identity().to_bits() | RESERVED | SUPERVISED;
        let seize = |number: &u16| self.seize(usize::from(*number), swept);
        let numbers: Vec<u16> = (0..self.slot_count() as u16).filter(seize).collect();
        if !numbers.is_empty() {
            release(&numbers);
        }
        for number in numbers {
            self.change(usize::from(number), swept, 0);
        }
    }

    /// Has the calling thread guard this process's slot, if it has one and nobody guards it.
    pub fn guard(&self) {
        if self.guarding.has(GUARDED) && LEFT_BEHIND.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(number) = self.participant() {
            self.guard_slot(usize::from(number));
        }
    }

    /// What can be watched to learn of the death of `who`.
    pub(crate) fn watch(&self, who: Identity) -> Watch<'_> {
        let bits = who.to_bits();
        let holder = |number: &usize| self.slot_word(*number, HOLDER).load(Ordering::Relaxed);
        let is_theirs = |number: &usize| holder(number) & !SUPERVISED == bits;
        // A worker that was here before it joined has two, of which one is guarded.
        let mut watches = (0..self.slot_count()).filter(is_theirs).map(|number| self.watch_slot(number));
        watches.find(|watch| !matches!(watch, Watch::Nothing)).unwrap_or(Watch::Nothing)
    }

    /// What can be watched to learn of the death of whoever has the slot `number`.
    fn watch_slot(&self, number: usize) -> Watch<'_> {
        // Acquire: the mutex is locked. pairs with: guard_lease (Release)
        let place = self.slot_word(number, GUARD).load(Ordering::Acquire) & WORD;
        let Some(place) = (place as usize).checked_sub(1) else { return Watch::Nothing };
        if place >= robust::LEN || !place.is_multiple_of(4) {
            return Watch::Nothing;
        }
        let word = self.segment.word32(heading::participant_slot(number) + MUTEX + place);
        let value = word.load(Ordering::Relaxed);
        if value & robust::DIED != 0 {
            Watch::Died { word }
        } else if value & robust::THREAD != 0 {
            Watch::Guarded { word, value }
        } else {
            Watch::Nothing
        }
    }

    /// Gives this process's slot back: at once, or when the thread that guards it comes by.
    pub(super) fn leave(&self) {
        let Some(number) = self.participant() else { return };
        self.own.store(0, Ordering::Relaxed);
        LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
        // Whoever is second of the two, the guard that ends or we who leave, frees the slot.
        if self.guarding.change(|flags| Some(flags | LEFT)) == Some(GUARDED) {
            let _ = GUARDS.try_with(|guards| drop(guards.borrow_mut().take_finished()));
        } else {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
            self.give_back(number);
        }
    }

    /// Frees this process's slot, unless it is supervised: its supervisor may hand out the number again only when this
    /// process is dead.
    fn give_back(&self, number: u16) {
        let mine = identity().to_bits();
        if self.holder(usize::from(number)) == Some(mine) {
            self.change(usize::from(number), mine, 0);
        }
    }

    fn slot_count(&self) -> usize {
        heading::high_water(&self.segment, AT_PARTICIPANTS, MOST_PARTICIPANTS)
    }

    fn slot_word(&self, number: usize, at: usize) -> &AtomicU64 {
        self.segment.word64(heading::participant_slot(number) + at)
    }

    /// The holder of the slot; `None` when it is free or there is none.
    fn holder(&self, number: usize) -> Option<u64> {
        if number >= self.slot_count() {
            return None;
        }
        // pairs with: change (Release)
        let held = self.slot_word(number, HOLDER).load(Ordering::Acquire);
        (held != 0).then_some(held)
    }

    /// Changes who has a slot, if it still is `from`'s.
    fn change(&self, number: usize, from: u64, to: u64) -> bool {
        let holder = self.slot_word(number, HOLDER);
        // Nobody looks since when it has been reserved before that is written.
        let first = if to & RESERVED == 0 { to } else { to | SUPERVISED };
        // Release and Acquire: a later holder sees what those before did. pairs with: holder, change
        if holder.compare_exchange(from, first, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        if to != 0 {
            // Unguarded. A watcher that still sees the mutex of the one before asks whether we are dead, and goes on.
            self.slot_word(number, GUARD).store(clock::now() << SINCE_SHIFT, Ordering::Relaxed);
        }
        // Release: the above. pairs with: holder (Acquire)
        first == to || holder.compare_exchange(first, to, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Whether the slot `number`, which `held` says is taken, can be taken by others: its holder is dead, or did not
    /// come. Asks the system only about those whom nobody guards.
    fn is_over(&self, number: usize, held: u64) -> bool {
        // One that is supervised names nobody here.
        let Some(who) = Identity::from_bits(held & !RESERVED) else { return false };
        if held & RESERVED != 0 {
            let since = self.slot_word(number, GUARD).load(Ordering::Relaxed) >> SINCE_SHIFT;
            return since.saturating_add(BIRTH) < clock::now();
        }
        let guarded = || matches!(self.watch_slot(number), Watch::Guarded { .. });
        who != identity() && !guarded() && who.is_dead()
    }

    /// Changes who has a slot if that one is dead, or did not come; returns whether it was so.
    fn seize(&self, number: usize, to: u64) -> bool {
        let Some(held) = self.holder(number).filter(|held| self.is_over(number, *held)) else { return false };
        let watched = match self.watch_slot(number) {
            Watch::Guarded { word, .. } | Watch::Died { word } => Some(word),
            Watch::Nothing => None,
        };
        if !self.change(number, held, to) {
            return false;
        }
        if let Some(word) = watched {
            // The kernel wakes one of those who watch. The others would sleep on at a word that is the next holder's.
            park::wake(word, u32::MAX);
        }
        if let Some(dead) = Identity::from_bits(held) {
            self.forget(dead);
        }
        true
    }

    /// Gives a slot to `holder` that others have left behind: not the creator's, which stands for more than a process.
    fn take_over(&self, holder: u64) -> Option<usize> {
        (1..self.slot_count().min(FIRST_SPECIAL)).find(|number| self.seize(*number, holder))
    }

    /// Makes the slot `number`, and those before, usable.
    fn reach(&self, number: usize) -> bool {
        number < MOST_PARTICIPANTS
            && (self.slot_count()..=number).all(|next| {
                heading::grow(&self.segment, AT_PARTICIPANTS, next, heading::participant_slot).is_ok()
            })
    }

    fn claim(&self, holder: u64) -> Option<usize> {
        (0..FIRST_SPECIAL).find(|number| {
            self.reach(*number)
                && self.slot_word(*number, HOLDER).load(Ordering::Relaxed) == 0
                && self.change(*number, 0, holder)
        })
    }

    fn become_participant(&self, number: usize) {
        self.own.store(number as u32 + 1, Ordering::Relaxed);
        self.guard_slot(number);
    }

    fn guard_slot(&self, number: usize) {
        let _ = GUARDS.try_with(|guards| {
            drop(guards.borrow_mut().take_finished());
            if guards.borrow().0.len() >= MOST_GUARDED || !self.guarding.claim() {
                return;
            }
            let slot = heading::participant_slot(number);
            match RobustGuard::lock(&self.segment, slot + MUTEX) {
                Ok(mutex) => {
                    let guard = self.slot_word(number, GUARD);
                    let since = guard.load(Ordering::Relaxed) & !WORD;
                    // Release: the mutex is locked. pairs with: watch (Acquire)
                    guard.store(since | (mutex.word_offset() as u64 + 1), Ordering::Release);
                    let (segment, guarding) = (Arc::clone(&self.segment), Arc::clone(&self.guarding));
                    let forks = fork_count();
                    guards.borrow_mut().0.push(Held { segment, guarding, slot, forks, mutex: Some(mutex) });
                }
                // Deaths of this process are noticed by looking from time to time.
                Err(_) if self.guarding.unclaim() => self.give_back(number as u16),
                Err(_) => {}
            }
        });
    }
}

/// How many slots wait for the threads that guard them to give them back: a hint. It may be too high after a fork,
/// which only makes waiters look for nothing.
static LEFT_BEHIND: AtomicU32 = AtomicU32::new(0);

/// The guard of this process's slot of a site, and whether anybody still wants it: shared between the site and the thread
/// that guards, as either may go first.
///
/// | bits | meaning | who changes it |
/// |---|---|---|
/// | 0 | [`GUARDED`]: a thread guards, or is about to | that thread |
/// | 1 | [`LEFT`]: the site is gone in this process; the guard has to go, and free the slot | the site's drop |
/// | 32-63 | the number of forks at which the other bits were true; later they mean nothing | whoever sets one |
#[derive(Default)]
pub(super) struct Guarding(AtomicU64);

const GUARDED: u64 = 1;
const LEFT: u64 = 2;
const FLAGS: u64 = 0xffff_ffff;

impl Guarding {
    /// Makes the flags what `change` says, unless that is `None`; returns what they were if it has.
    fn change(&self, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let now = u64::from(fork_count()) << 32;
        let flags = |seen: u64| if seen & !FLAGS == now { seen & FLAGS } else { 0 };
        let update = |seen| change(flags(seen)).map(|changed| now | changed);
        // pairs with: change itself: whoever is second of two frees the slot, and sees all that the first has done.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).ok().map(flags)
    }

    fn claim(&self) -> bool {
        self.change(|flags| (flags == 0).then_some(GUARDED)).is_some()
    }

    /// Guards no more; returns whether the slot must be freed.
    fn unclaim(&self) -> bool {
        self.change(|flags| Some(flags & !GUARDED)).is_some_and(|flags| flags & LEFT != 0)
    }

    fn has(&self, flag: u64) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        seen >> 32 == u64::from(fork_count()) && seen & flag != 0
    }
}

/// A slot that this thread guards.
struct Held {
    segment: Arc<Segment>,
    guarding: Arc<Guarding>,
    slot: usize,
    forks: u32,
    mutex: Option<RobustGuard>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.forks != fork_count() {
            // The slot is the parent's.
            return;
        }
        let guard = self.segment.word64(self.slot + GUARD);
        guard.fetch_and(!WORD, Ordering::Relaxed);
        // Unlocking wakes one of those who watch. All have to see that nobody guards any more.
        let word = self.mutex.as_ref().map(|mutex| self.slot + MUTEX + mutex.word_offset());
        drop(self.mutex.take());
        if let Some(word) = word {
            park::wake(self.segment.word32(word), u32::MAX);
        }
        if self.guarding.unclaim() {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
            let holder = self.segment.word64(self.slot + HOLDER);
            let mine = identity().to_bits();
            let free = |held: u64| (held == mine).then_some(0);
            // Release: the next holder finds the mutex unlocked. pairs with: change (Acquire)
            let _ = holder.fetch_update(Ordering::Release, Ordering::Relaxed, free);
        }
    }
}

/// The slots that this thread guards.
struct Guards(Vec<Held>);

impl Guards {
    /// Those that nobody wants any more, or that a fork has left here; to be dropped by the caller, when nothing is
    /// borrowed.
    fn take_finished(&mut self) -> Vec<Held> {
        let finished = |held: &mut Held| held.forks != fork_count() || held.guarding.has(LEFT);
        self.0.extract_if(.., finished).collect()
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        // The end of the first thread is the end of the process, as a rule: that is what the guard is there to tell.
        // Unlocking now would be a moment too early, as the process may still own something.
        if i32::try_from(thread_id()) == Ok(pid()) {
            std::mem::forget(std::mem::take(&mut self.0));
        }
    }
}

thread_local! {
    static GUARDS: RefCell<Guards> = const { RefCell::new(Guards(Vec::new())) };
}
