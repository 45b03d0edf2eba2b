//! The lock that any thread may release.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::process::Identity;

use crate::lock_record::words_at;
use crate::lock_word::{Acquired, Attempt, LockWord, NotLocked, OWNER, RESERVED_AT, STATE, THREAD};
use crate::site::{Site, WaitKind};
use crate::waiting::{Stopped, Wait, Waiting};
use crate::words::{SegmentWords, Words};
use crate::{Patience, SpinPolicy};

/// How long a waiter that has slept lets others go first, in nanoseconds.
const PATIENCE: u64 = MILLISECOND;

/// How long a lock is kept for one who has been woken for it, in nanoseconds.
const RESERVATION: u64 = 10 * MILLISECOND;

/// A lock in a segment with a [`Site`].
///
/// The caller says who it is at every call: [`identity`](manyhands_os::process::identity) and
/// [`thread_id`](manyhands_os::process::thread_id) are what to say.
///
/// ```
/// use manyhands_os::memory::Segment;
/// use manyhands_os::process::{identity, thread_id};
/// use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock};
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use manyhands_sync::waiting::Patient;
/// use manyhands_sync::{Patience, SpinPolicy};
/// use std::sync::Arc;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + LOCK_BYTES)?);
/// segment.commit(SITE_BYTES..SITE_BYTES + LOCK_BYTES)?;
/// let site = Site::create(segment, 0, [0; 16])?;
/// site.enter();
/// site.publish();
///
/// let lock = Lock::at(site, SITE_BYTES)?;
/// assert!(lock.try_acquire(identity(), thread_id()));
/// assert!(!lock.try_acquire(identity(), thread_id()));
/// lock.release(identity())?;
/// let acquired = lock.acquire(identity(), thread_id(), Patience::Forever, &SpinPolicy::none(), &mut Patient);
/// assert_eq!(acquired.expect("nothing stops a patient waiter"), Acquired::Clean);
/// # lock.release(identity())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    word: LockWord<SegmentWords>,
    site: Arc<Site>,
    key: u64,
}

impl Lock {
    /// The lock at byte `offset` of the site's segment: zero bytes are a lock that is free.
    ///
    /// # Errors
    /// `InvalidData` when there is no room for one, or `offset` is not a multiple of 64 in the body.
    pub fn at(site: Arc<Site>, offset: usize) -> io::Result<Self> {
        let word = LockWord::new(words_at(&site, offset)?);
        Ok(Self { word, site, key: offset as u64 })
    }

    /// The site it belongs to.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// What its waiters wait for, in the table of waiters.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The lock itself.
    #[must_use]
    pub fn word(&self) -> &LockWord<SegmentWords> {
        &self.word
    }

    /// Acquires it if it is free, clean and not promised to somebody who waits.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self, me: Identity, thread: u32) -> bool {
        self.word.try_acquire(me, thread)
    }

    /// Acquires it if that is possible without waiting, also from a dead owner.
    pub fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired> {
        self.attempt(me, thread, Attempt::default())
    }

    /// One attempt of a waiter that will be woken: it has enlisted at [`key`](Self::key) and
    /// [`LockWord::events`] before, and must be woken for if this fails. `slept`: it has been woken for.
    pub fn poll_acquire(&self, me: Identity, thread: u32, slept: bool) -> Option<Acquired> {
        self.attempt(me, thread, Attempt { sleeping: true, slept, ..Attempt::default() })
    }

    /// Acquires it, and waits for that as long as `patience` lasts.
    ///
    /// # Errors
    /// [`Stopped`] when it was not acquired.
    pub fn acquire(
        &self,
        me: Identity,
        thread: u32,
        patience: Patience,
        spin: &SpinPolicy,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped> {
        if self.try_acquire(me, thread) {
            return Ok(Acquired::Clean);
        }
        self.wait(WaitKind::Lock, me, thread, patience, spin, waiting)
    }

    /// Releases it, whoever has it.
    ///
    /// # Errors
    /// When nobody has it.
    #[inline]
    pub fn release(&self, me: Identity) -> Result<(), NotLocked> {
        if self.word.try_release(me) { Ok(()) } else { self.release_slowly() }
    }

    #[cold]
    fn release_slowly(&self) -> Result<(), NotLocked> {
        if self.word.is_starving() {
            self.word.words().word(RESERVED_AT).store(clock::now(), Ordering::Relaxed);
        }
        if self.word.release()? && !self.site.notify(self.word.events(), self.key, 1) {
            let _ = self.word.stop_waiting();
        }
        Ok(())
    }

    /// Whether it is reserved for somebody who does not come: killed or stopped, or it was counted as waiting only.
    fn is_left(&self) -> bool {
        self.word.is_reserved() && {
            let since = self.word.words().word(RESERVED_AT).load(Ordering::Relaxed);
            clock::now().wrapping_sub(since) > RESERVATION
        }
    }

    /// Says that what it protects is right again after [`Acquired::Abandoned`] or [`Acquired::Poisoned`]; returns
    /// whether this process has it and there was something to recover.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn recover(&self, me: Identity) -> bool {
        self.word.recover(me)
    }

    /// Its owner: the process, and as a hint its thread.
    #[must_use]
    pub fn owner(&self) -> Option<(Identity, u32)> {
        self.word.owner()
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.word.is_locked()
    }

    pub(super) fn attempt(&self, me: Identity, thread: u32, how: Attempt) -> Option<Acquired> {
        let how = Attempt { slept: how.slept || self.is_left(), ..how };
        self.word.attempt(me, thread, how).or_else(|| {
            let (owner, _) = self.word.owner().filter(|(owner, _)| self.site.is_dead(*owner))?;
            self.word.attempt(me, thread, Attempt { dead: Some(owner), ..how })
        })
    }

    #[cold]
    pub(super) fn wait(
        &self,
        kind: WaitKind,
        me: Identity,
        thread: u32,
        patience: Patience,
        spin: &SpinPolicy,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped> {
        let wait = Wait { events: self.word.events(), key: self.key, kind, patience, spin, listed: None };
        let mut patient_until = None;
        let attempt = |look: crate::waiting::Look| {
            let starving = look.sleeping && {
                let now = clock::now();
                now > *patient_until.get_or_insert(now + PATIENCE)
            };
            let (sleeping, dead) = (look.sleeping, look.dead);
            let slept = look.slept || self.is_left();
            self.word.attempt(me, thread, Attempt { sleeping, slept, starving, dead })
        };
        let owners = |owners: &mut crate::waiting::Owners| {
            if let Some((owner, _)) = self.word.owner() {
                owners.push(owner);
            }
        };
        let outcome = self.site.block(wait, waiting, owners, attempt);
        if outcome.is_err() && self.word.stop_waiting() {
            self.site.notify(self.word.events(), self.key, 1);
        }
        outcome
    }

    /// The owner's thread, and how many more times it has acquired.
    pub(super) fn thread_word(&self) -> &std::sync::atomic::AtomicU64 {
        self.word.words().word(THREAD)
    }

    pub(super) fn is_owned_by(&self, me: Identity, thread: u32) -> bool {
        let owner = self.word.words().word(STATE).load(Ordering::Relaxed) & OWNER;
        owner == me.to_bits() && self.thread_word().load(Ordering::Relaxed) == u64::from(thread)
    }
}
