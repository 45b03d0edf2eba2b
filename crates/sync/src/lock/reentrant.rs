//! The lock that its owner may acquire again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::process::Identity;

use super::plain::Lock;
use crate::lock_word::{Acquired, Attempt, DEPTH};
use crate::site::{Site, WaitKind};
use crate::waiting::{Stopped, Waiting};
use crate::words::Words;
use crate::{Patience, SpinPolicy};

/// The caller does not own the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwner;

impl std::fmt::Display for NotOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot release un-acquired lock")
    }
}

impl std::error::Error for NotOwner {}

/// A lock that belongs to a thread of a process: only that thread can release it, and it can acquire it again; it is
/// free when it has been released as often.
#[derive(Clone)]
pub struct RLock {
    lock: Lock,
}

impl RLock {
    /// The lock at byte `offset` of the site's segment: zero bytes are a lock that is free.
    ///
    /// # Errors
    /// As [`Lock::at`].
    pub fn at(site: Arc<Site>, offset: usize) -> io::Result<Self> {
        Lock::at(site, offset).map(|lock| Self { lock })
    }

    /// The lock underneath: to look at, not to acquire.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Whether this thread of this process owns it.
    #[inline]
    #[must_use]
    pub fn is_owned(&self, me: Identity, thread: u32) -> bool {
        // Only the thread itself ever writes this pair, and it takes back its number before it releases.
        self.lock.is_owned_by(me, thread)
    }

    /// Acquires it if it is free or owned by the caller.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self, me: Identity, thread: u32) -> bool {
        self.lock.try_acquire(me, thread) || self.enter_again(me, thread)
    }

    #[inline]
    fn enter_again(&self, me: Identity, thread: u32) -> bool {
        let owned = self.is_owned(me, thread);
        if owned {
            let depth = self.depth_word();
            depth.store(depth.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        owned
    }

    /// Acquires it if that is possible without waiting, also from a dead owner.
    pub fn acquire_now(&self, me: Identity, thread: u32) -> Option<Acquired> {
        self.poll(me, thread, Attempt::default())
    }

    /// As [`Lock::poll_acquire`].
    pub fn poll_acquire(&self, me: Identity, thread: u32, slept: bool) -> Option<Acquired> {
        self.poll(me, thread, Attempt { sleeping: true, slept, ..Attempt::default() })
    }

    fn poll(&self, me: Identity, thread: u32, how: Attempt) -> Option<Acquired> {
        if self.enter_again(me, thread) {
            return Some(Acquired::Clean);
        }
        self.lock.attempt(me, thread, how).map(|acquired| self.begin(acquired))
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
        let acquired = self.lock.wait(WaitKind::RLock, me, thread, patience, spin, waiting)?;
        Ok(self.begin(acquired))
    }

    /// Starts counting at one: a dead owner may have left a number.
    fn begin(&self, acquired: Acquired) -> Acquired {
        self.depth_word().store(0, Ordering::Relaxed);
        acquired
    }

    /// Releases it once.
    ///
    /// # Errors
    /// When the caller does not own it.
    #[inline]
    pub fn release(&self, me: Identity, thread: u32) -> Result<(), NotOwner> {
        if !self.is_owned(me, thread) {
            return Err(NotOwner);
        }
        let depth = self.depth_word();
        match depth.load(Ordering::Relaxed) {
            0 => self.release_whole(me),
            more => {
                depth.store(more - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    #[inline]
    fn release_whole(&self, me: Identity) -> Result<(), NotOwner> {
        // Before the release: another thread of this process that acquires next must not find our number.
        self.lock.thread_word().store(0, Ordering::Relaxed);
        self.lock.release(me).map_err(|_| NotOwner)
    }

    /// Releases it however often it has been acquired; returns how often that was, for
    /// [`acquire_restore`](Self::acquire_restore).
    ///
    /// # Errors
    /// When the caller does not own it.
    pub fn release_save(&self, me: Identity, thread: u32) -> Result<u64, NotOwner> {
        if !self.is_owned(me, thread) {
            return Err(NotOwner);
        }
        let depth = self.depth_word().swap(0, Ordering::Relaxed);
        self.release_whole(me)?;
        Ok(depth.saturating_add(1))
    }

    /// Acquires it, and then counts as having acquired it `count` times.
    ///
    /// # Errors
    /// [`Stopped`] when it was not acquired.
    pub fn acquire_restore(
        &self,
        me: Identity,
        thread: u32,
        count: u64,
        spin: &SpinPolicy,
        waiting: &mut dyn Waiting,
    ) -> Result<Acquired, Stopped> {
        let acquired = self.acquire(me, thread, Patience::Forever, spin, waiting)?;
        self.depth_word().store(count.saturating_sub(1), Ordering::Relaxed);
        Ok(acquired)
    }

    /// How often its owner has acquired it; 0 when it is free.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self.lock.owner() {
            Some(_) => self.depth_word().load(Ordering::Relaxed).saturating_add(1),
            None => 0,
        }
    }

    /// As [`Lock::recover`].
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn recover(&self, me: Identity) -> bool {
        self.lock.recover(me)
    }

    fn depth_word(&self) -> &AtomicU64 {
        self.lock.word().words().word(DEPTH)
    }
}
