//! Leases: the places of those who take part.
//!
//! A lease names a process, and one thread of it *guards* the lease: it keeps the lease's robust mutex locked. When the
//! thread ends, the kernel marks the mutex's word and wakes one of those who sleep on it. That is news, not proof: the
//! process may live on without that thread. Proof is [`Identity::is_dead`].
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
use super::heading::{self, AT_LEASES, MOST_LEASES};

/// Byte offsets in a lease.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | holder | 0-53 | identity; all zero: free | who enters: 0→own; adopts: reserver's→own; renews: dead→own; frees: →0 |
/// | holder | 63 | [`RESERVED`]: for a process that does not exist yet; the identity is the reserver's | who reserves or renews sets, who adopts clears |
/// | guard | 0-7 | 0: unguarded; else where the mutex's word is, plus 1 | the guarding thread |
/// | guard | 8-63 | when the holder last changed, nanoseconds of the clock | who changes the holder |
/// | mutex | | the robust mutex | the guarding thread; whoever sleeps on it sets its bit of waiters |
const HOLDER: usize = 0;
const GUARD: usize = 8;
const MUTEX: usize = 16;

const _: () = assert!(MUTEX + robust::LEN <= 64);

const RESERVED: u64 = 1 << 63;
const WORD: u64 = 0xff;
const SINCE_SHIFT: u32 = 8;

/// The most leases that a thread guards: the kernel marks the words of a thread that has ended only up to a limit, 2048,
/// and others may use such mutexes, too.
const MOST_GUARDED: usize = 1000;

/// Numbers from here on are given out only by name ([`Site::enter_as`]).
const FIRST_SPECIAL: usize = MOST_LEASES - 2;

/// What a lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process that has it, or has reserved it.
    pub identity: Identity,
    /// Whether it waits for a process that does not exist yet.
    pub reserved: bool,
    /// When that became so, in nanoseconds of the clock.
    pub since: u64,
}

/// What can be watched of a process in this site.
pub(crate) enum Watch<'a> {
    /// A thread of it guards its lease: the word, and what it held.
    Guarded { word: &'a AtomicU32, value: u32 },
    /// The thread that guarded its lease has ended: the word.
    Died { word: &'a AtomicU32 },
    /// Nothing: it has no lease here, or nobody guards it.
    Nothing,
}

impl Site {
    /// This process's lease, if it has one.
    #[must_use]
    pub fn participant(&self) -> Option<u16> {
        let number = self.own.load(Ordering::Relaxed).checked_sub(1)? as usize;
        // After a fork the number is the parent's.
        let mine = self.lease_word(number, HOLDER).load(Ordering::Relaxed) == identity().to_bits();
        mine.then_some(number as u16)
    }

    /// Takes part: gives this process the lowest free lease, guarded by the calling thread, unless it has one already.
    /// `None` when all are taken or memory is short: then everything works, but deaths of this process are noticed
    /// later.
    pub fn enter(&self) -> Option<u16> {
        if let Some(number) = self.participant() {
            return Some(number);
        }
        let number = self.claim(identity().to_bits())?;
        self.become_participant(number);
        Some(number as u16)
    }

    /// Takes part with the lease `number`; returns whether it was free (or ours already).
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

    /// Keeps the lowest free lease for a process that is to [`adopt`](Self::adopt) it; `None` when all are taken.
    #[must_use]
    pub fn reserve(&self) -> Option<u16> {
        self.claim(identity().to_bits() | RESERVED).map(|number| number as u16)
    }

    /// Takes part with a reserved lease; returns whether it was reserved. May be called in a child right after a fork.
    pub fn adopt(&self, number: u16) -> bool {
        let number = usize::from(number);
        let Some(held) = self.holder(number).filter(|held| held & RESERVED != 0) else { return false };
        let adopted = self.change(number, held, identity().to_bits());
        if adopted {
            self.become_participant(number);
        }
        adopted
    }

    /// Reserves the lease of a process that has died for its successor; returns whether it still was that process's.
    pub fn renew(&self, number: u16, dead: Identity) -> bool {
        let number = usize::from(number);
        self.holder(number).is_some_and(|held| {
            held & !RESERVED == dead.to_bits() && self.change(number, held, identity().to_bits() | RESERVED)
        })
    }

    /// The lease with this number; `None` when it is free.
    #[must_use]
    pub fn lease(&self, number: u16) -> Option<Lease> {
        let number = usize::from(number);
        let held = self.holder(number)?;
        let identity = Identity::from_bits(held & !RESERVED)?;
        let since = self.lease_word(number, GUARD).load(Ordering::Relaxed) >> SINCE_SHIFT;
        Some(Lease { identity, reserved: held & RESERVED != 0, since })
    }

    /// All leases that are not free, with their numbers.
    pub fn leases(&self) -> impl Iterator<Item = (u16, Lease)> + '_ {
        (0..self.lease_count() as u16).filter_map(|number| Some((number, self.lease(number)?)))
    }

    /// Frees the lease `number` if `holder` has it (or has reserved it).
    pub fn free(&self, number: u16, holder: Identity) {
        let number = usize::from(number);
        if let Some(held) = self.holder(number).filter(|held| held & !RESERVED == holder.to_bits()) {
            self.change(number, held, 0);
        }
    }

    /// Frees the leases of the dead; before that calls `release` for each, with its number.
    pub fn sweep(&self, mut release: impl FnMut(u16)) {
        for (number, lease) in self.leases() {
            if self.is_dead(lease.identity) {
                release(number);
                self.free(number, lease.identity);
            }
        }
    }

    /// Has the calling thread guard this process's lease, if it has one and nobody guards it.
    pub fn guard(&self) {
        if self.guarding.has(GUARDED) && LEFT_BEHIND.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(number) = self.participant() {
            self.guard_lease(usize::from(number));
        }
    }

    /// What can be watched to learn of the death of `who`.
    pub(crate) fn watch(&self, who: Identity) -> Watch<'_> {
        let bits = who.to_bits();
        let is_theirs = |number: &usize| self.lease_word(*number, HOLDER).load(Ordering::Relaxed) == bits;
        let Some(number) = (0..self.lease_count()).find(is_theirs) else { return Watch::Nothing };
        // Acquire: the mutex is locked. pairs with: guard_lease (Release)
        let place = self.lease_word(number, GUARD).load(Ordering::Acquire) & WORD;
        let Some(place) = (place as usize).checked_sub(1) else { return Watch::Nothing };
        if place >= robust::LEN || !place.is_multiple_of(4) {
            return Watch::Nothing;
        }
        let word = self.segment.word32(heading::lease(number) + MUTEX + place);
        let value = word.load(Ordering::Relaxed);
        if value & robust::DIED != 0 {
            Watch::Died { word }
        } else if value & robust::THREAD != 0 {
            Watch::Guarded { word, value }
        } else {
            Watch::Nothing
        }
    }

    /// Gives this process's lease back: at once, or when the thread that guards it comes by.
    pub(super) fn leave(&self) {
        let Some(number) = self.participant() else { return };
        self.own.store(0, Ordering::Relaxed);
        LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
        // Whoever is second of the two, the guard that ends or we who leave, frees the lease.
        if self.guarding.change(|flags| Some(flags | LEFT)) == Some(GUARDED) {
            let _ = GUARDS.try_with(|guards| drop(guards.borrow_mut().take_finished()));
        } else {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
            self.free(number, identity());
        }
    }

    fn lease_count(&self) -> usize {
        heading::high_water(&self.segment, AT_LEASES, MOST_LEASES)
    }

    fn lease_word(&self, number: usize, at: usize) -> &AtomicU64 {
        self.segment.word64(heading::lease(number) + at)
    }

    /// Who has the lease; `None` when it is free or there is none.
    fn holder(&self, number: usize) -> Option<u64> {
        if number >= self.lease_count() {
            return None;
        }
        // pairs with: change (Release)
        let held = self.lease_word(number, HOLDER).load(Ordering::Acquire);
        (held != 0).then_some(held)
    }

    /// Changes who has a lease, if it still is `from`'s.
    fn change(&self, number: usize, from: u64, to: u64) -> bool {
        let holder = self.lease_word(number, HOLDER);
        // Release and Acquire: who has it later sees what those before did. pairs with: holder, change
        if holder.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        if to != 0 {
            // Unguarded. A watcher that still sees the mutex of the one before asks whether we are dead, and goes on.
            self.lease_word(number, GUARD).store(clock::now() << SINCE_SHIFT, Ordering::Relaxed);
        }
        true
    }

    /// Makes the lease `number`, and those before, usable.
    fn reach(&self, number: usize) -> bool {
        number < MOST_LEASES
            && (self.lease_count()..=number)
                .all(|next| heading::grow(&self.segment, AT_LEASES, next, heading::lease).is_ok())
    }

    fn claim(&self, holder: u64) -> Option<usize> {
        (0..FIRST_SPECIAL).find(|number| {
            self.reach(*number)
                && self.lease_word(*number, HOLDER).load(Ordering::Relaxed) == 0
                && self.change(*number, 0, holder)
        })
    }

    fn become_participant(&self, number: usize) {
        self.own.store(number as u32 + 1, Ordering::Relaxed);
        self.guard_lease(number);
    }

    fn guard_lease(&self, number: usize) {
        let _ = GUARDS.try_with(|guards| {
            drop(guards.borrow_mut().take_finished());
            if guards.borrow().0.len() >= MOST_GUARDED || !self.guarding.claim() {
                return;
            }
            let lease = heading::lease(number);
            match RobustGuard::lock(&self.segment, lease + MUTEX) {
                Ok(mutex) => {
                    let guard = self.lease_word(number, GUARD);
                    let since = guard.load(Ordering::Relaxed) & !WORD;
                    // Release: the mutex is locked. pairs with: watch (Acquire)
                    guard.store(since | (mutex.word_offset() as u64 + 1), Ordering::Release);
                    let (segment, guarding) = (Arc::clone(&self.segment), Arc::clone(&self.guarding));
                    let forks = fork_count();
                    guards.borrow_mut().0.push(Held { segment, guarding, lease, forks, mutex: Some(mutex) });
                }
                // Deaths of this process are noticed by looking from time to time.
                Err(_) if self.guarding.unclaim() => self.free(number as u16, identity()),
                Err(_) => {}
            }
        });
    }
}

/// How many leases wait for the threads that guard them to give them back: a hint. It may be too high after a fork,
/// which only makes waiters look in vain.
static LEFT_BEHIND: AtomicU32 = AtomicU32::new(0);

/// Who guards this process's lease of a site, and whether anybody still wants it: shared between the site and the thread
/// that guards, as either may go first.
///
/// | bits | meaning | who changes it |
/// |---|---|---|
/// | 0 | [`GUARDED`]: a thread guards, or is about to | that thread |
/// | 1 | [`LEFT`]: the site is gone in this process; the guard has to go, and free the lease | the site's drop |
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
        // pairs with: change itself: whoever is second of two frees the lease, and sees all that the first has done.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).ok().map(flags)
    }

    fn claim(&self) -> bool {
        self.change(|flags| (flags == 0).then_some(GUARDED)).is_some()
    }

    /// Guards no more; returns whether the lease is to be freed.
    fn unclaim(&self) -> bool {
        self.change(|flags| Some(flags & !GUARDED)).is_some_and(|flags| flags & LEFT != 0)
    }

    fn has(&self, flag: u64) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        seen >> 32 == u64::from(fork_count()) && seen & flag != 0
    }
}

/// A lease that this thread guards.
struct Held {
    segment: Arc<Segment>,
    guarding: Arc<Guarding>,
    lease: usize,
    forks: u32,
    mutex: Option<RobustGuard>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.forks != fork_count() {
            // The lease is the parent's.
            return;
        }
        let guard = self.segment.word64(self.lease + GUARD);
        guard.fetch_and(!WORD, Ordering::Relaxed);
        // Unlocking wakes one of those who watch. All have to see that nobody guards any more.
        let word = self.mutex.as_ref().map(|mutex| self.lease + MUTEX + mutex.word_offset());
        drop(self.mutex.take());
        if let Some(word) = word {
            park::wake(self.segment.word32(word), u32::MAX);
        }
        if self.guarding.unclaim() {
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
            let holder = self.segment.word64(self.lease + HOLDER);
            let mine = identity().to_bits();
            // Release: the next holder finds the mutex unlocked. pairs with: change (Acquire)
            let _ = holder.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

/// The leases that this thread guards.
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
