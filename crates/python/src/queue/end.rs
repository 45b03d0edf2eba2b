//! The ends of pipes that this process holds.
//!
//! A process holds an end once, however many objects it has for it. A child that is forked holds what its parent did:
//! before the fork a hold is reserved for it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use manyhands_channel::pipe::{End, Reservation, Side};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::errors::attach_error;
use crate::memory::objects::Mapped;
use crate::memory::shared_heap;

/// How long a hold is kept for a child that is being forked, in seconds: should it be killed before it takes the hold,
/// the other end notices after this time. One that is slower takes a new hold.
const FORKED_S: u32 = 2;

/// How long a hold is kept for whoever unpickles an end, in seconds.
const PICKLED_S: u32 = 60;

/// The ends that this process holds. Locked for moments, and never while others wait for the interpreter.
static HELD: Mutex<Vec<Weak<Held>>> = Mutex::new(Vec::new());

fn held() -> MutexGuard<'static, Vec<Weak<Held>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An end, and its users in this process.
pub(super) struct Held {
    pub(super) end: End,
    mapped: Mapped,
    handles: AtomicUsize,
    /// While this process forks: the reservation of the child; 0 for none.
    heir: AtomicU64,
}

/// The use of an end by one object. Dropping the last one releases the end.
pub(super) struct Handle {
    held: Arc<Held>,
    /// 1; 0 once it has been closed.
    open: AtomicUsize,
}

impl Held {
    /// The first use of an end.
    fn first(end: End, mapped: Mapped) -> Handle {
        let this = Arc::new(Self { end, mapped, handles: AtomicUsize::new(1), heir: AtomicU64::new(0) });
        let mut all = held();
        all.retain(|held| held.strong_count() > 0);
        all.push(Arc::downgrade(&this));
        Handle { held: this, open: AtomicUsize::new(1) }
    }

    /// Another use of an end that is still held.
    fn again(self: &Arc<Self>) -> Option<Handle> {
        let more = |handles: usize| (handles > 0).then_some(handles + 1);
        self.handles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Handle { held: Arc::clone(self), open: AtomicUsize::new(1) })
    }
}

impl Handle {
    /// Both ends of a new pipe.
    pub(super) fn pair(mapped: &Mapped, first: End, second: End) -> (Self, Self) {
        (Held::first(first, mapped.clone()), Held::first(second, mapped.clone()))
    }

    /// The end that has been pickled.
    ///
    /// # Errors
    /// When there is none, or too many hold it.
    pub(super) fn open(mapped: &Mapped, side: Side, reservation: u64) -> PyResult<Self> {
        let same = |held: &Arc<Held>| {
            held.end.side() == side && Arc::ptr_eq(held.mapped.segment(), mapped.segment())
        };
        let known = held().iter().filter_map(Weak::upgrade).find(same);
        if let Some(handle) = known.and_then(|held| held.again()) {
            // The reservation is not needed: this process holds the end already.
            if reservation != 0 {
                handle.held.end.cancel(Reservation::from_bits(reservation));
            }
            return Ok(handle);
        }
        let end = match reservation {
            0 => End::attach(mapped.site(), mapped.body(), side),
            bits => End::claim(mapped.site(), mapped.body(), side, Reservation::from_bits(bits)),
        };
        Ok(Held::first(end.map_err(|error| attach_error(&error))?, mapped.clone()))
    }

    pub(super) fn end(&self) -> &End {
        &self.held.end
    }

    pub(super) fn mapped(&self) -> &Mapped {
        &self.held.mapped
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Releases the end, unless other objects of this process use it.
    pub(super) fn close(&self) {
        if self.open.swap(0, Ordering::Relaxed) == 1 && self.held.handles.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.held.end.close();
        }
    }

    /// What [`Handle::open`] needs elsewhere: (address of the segment, side, reservation or 0).
    pub(super) fn address<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, usize, u64)> {
        let address = self.held.mapped.address(py)?;
        let kept = self.held.again().is_some_and(|handle| shared_heap::refer_to(Arc::new(handle)));
        // A task holds the end until it has ended; anybody else has to come soon.
        let reservation = match kept {
            true => None,
            false => self.held.end.reserve(PICKLED_S),
        };
        let bits = reservation.map_or(0, Reservation::to_bits);
        Ok((address, self.held.end.side() as usize, bits))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// To be called right before the process forks.
#[pyfunction]
pub(super) fn reserve_ends_for_child() {
    for held in held().iter().filter_map(Weak::upgrade) {
        if held.handles.load(Ordering::Relaxed) > 0 {
            let reservation = held.end.reserve(FORKED_S);
            held.heir.store(reservation.map_or(0, Reservation::to_bits), Ordering::Relaxed);
        }
    }
}

/// To be called in the parent right after the fork, also when it failed: a reservation is the child's alone, and one
/// that nobody takes expires.
#[pyfunction]
pub(super) fn forget_heirs_in_parent() {
    for held in held().iter().filter_map(Weak::upgrade) {
        held.heir.store(0, Ordering::Relaxed);
    }
}

/// To be called in a child right after the fork.
#[pyfunction]
pub(super) fn adopt_ends_in_child() {
    for held in held().iter().filter_map(Weak::upgrade) {
        let heir = held.heir.swap(0, Ordering::Relaxed);
        let reservation = (heir != 0).then(|| Reservation::from_bits(heir));
        if held.handles.load(Ordering::Relaxed) > 0 {
            held.end.inherit(reservation);
        } else if let Some(reservation) = reservation {
            // Closed by another thread of the parent right before the fork.
            held.end.cancel(reservation);
        }
    }
}
