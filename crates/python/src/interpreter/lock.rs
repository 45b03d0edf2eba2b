//! Locks whose holders never leave anything half done: a panic of one of them is nothing to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. Never hold it across Python code, nor where the interpreter is released.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
