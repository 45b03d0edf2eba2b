//! Whose turn it is within this process: forks stand alone, everything else goes on side by side.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use manyhands_os::process;

struct Turn {
    /// Read-locked by a thread that has a claim, or opens what others may close; write-locked by one that forks.
    still: RwLock<()>,
    /// Locked by a thread that looks for a deadlock.
    look: Mutex<()>,
}

/// How many generations of forks have a turn of their own.
pub(crate) const GENERATIONS: usize = 64;

/// A forked child has another one than its parent: a fork without holding still may have left the parent's locked
/// forever.
static TURNS: [Turn; GENERATIONS] =
    [const { Turn { still: RwLock::new(()), look: Mutex::new(()) } }; GENERATIONS];

fn turn() -> &'static Turn {
    &TURNS[process::fork_count() as usize % TURNS.len()]
}

/// Says that nobody makes or opens segments by name or looks for deadlocks in this process, see [`hold_still`].
#[derive(Debug)]
#[must_use]
pub struct Still {
    _guard: RwLockWriteGuard<'static, ()>,
}

/// Keeps this process from making and opening segments by name, and from looking for deadlocks, while the value lives:
/// around a fork, or the child would have a copy of the claim on the name, and nobody could use that name as long as the
/// child lives; or it would keep the segments of others that its parent was just looking at.
pub fn hold_still() -> Still {
    Still { _guard: turn().still.write().unwrap_or_else(PoisonError::into_inner) }
}

/// Keeps this process from forking: while it has a claim, or something open that the child must not have.
#[derive(Debug)]
#[must_use]
pub(crate) struct Moving {
    _guard: RwLockReadGuard<'static, ()>,
}

pub(crate) fn moving() -> Moving {
    Moving { _guard: turn().still.read().unwrap_or_else(PoisonError::into_inner) }
}

/// The only look for a deadlock in this process, and no fork during it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Looking {
    _moving: RwLockReadGuard<'static, ()>,
    _alone: MutexGuard<'static, ()>,
}

/// `None` when another thread looks or forks. It is not waited for: the thread that looks may be granted its lock at
/// any moment.
pub(crate) fn try_looking() -> Option<Looking> {
    let turn = turn();
    let moving = match turn.still.try_read() {
        Err(TryLockError::WouldBlock) => return None,
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(error)) => error.into_inner(),
    };
    let alone = match turn.look.try_lock() {
        Err(TryLockError::WouldBlock) => return None,
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(error)) => error.into_inner(),
    };
    Some(Looking { _moving: moving, _alone: alone })
}
