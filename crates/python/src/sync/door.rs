//! How an event loop waits for a primitive: enlisted there, with a door to be knocked at.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::process::{Identity, identity};
use manyhands_os::socket;
use manyhands_sync::EventCount;
use manyhands_sync::site::{AsyncTicket, Site, WaitKind};
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

use crate::memory::objects::Record;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Door>()?;
    module.add_class::<Enlisted>()
}

/// A place to knock at, with a descriptor that is readable when somebody has.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct Door {
    /// `None` once closed.
    door: Mutex<Option<socket::Door>>,
    number: u32,
    descriptor: RawFd,
    /// Whose it is: a forked child has only a copy.
    owner: Identity,
}

#[pymethods]
impl Door {
    #[new]
    fn new() -> PyResult<Self> {
        let door = socket::Door::open()?;
        let (number, descriptor) = (door.number(), door.as_fd().as_raw_fd());
        Ok(Self { door: Mutex::new(Some(door)), number, descriptor, owner: identity() })
    }

    #[getter]
    fn number(&self) -> u32 {
        self.number
    }

    fn fileno(&self) -> RawFd {
        self.descriptor
    }

    /// Takes note of all knocks: what each was about, and whether there may have been more.
    fn drain(&self) -> (Vec<u64>, bool) {
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let knocks = door.as_ref().map_or_else(Vec::new, socket::Door::drain);
        let more = knocks.len() >= socket::MANY;
        (knocks, more)
    }

    fn close(&self) {
        self.door.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn is_stale(&self) -> bool {
        self.owner != identity()
    }
}

/// A class of primitives that coroutines can wait for.
pub(crate) trait Awaited: PyClass<Frozen = True> + Sync {
    const KIND: WaitKind;

    fn record(&self) -> &Record;
    fn events(&self) -> EventCount<'_>;
}

/// Something that coroutines can wait for.
pub(crate) trait Sleepers: Send + Sync {
    fn site(&self) -> &Arc<Site>;
    fn events(&self) -> EventCount<'_>;
    fn key(&self) -> u64;
    fn kind(&self) -> WaitKind;
}

impl<C: Awaited> Sleepers for Py<C> {
    fn site(&self) -> &Arc<Site> {
        self.get().record().site()
    }

    fn events(&self) -> EventCount<'_> {
        self.get().events()
    }

    fn key(&self) -> u64 {
        self.get().record().key()
    }

    fn kind(&self) -> WaitKind {
        C::KIND
    }
}

/// A coroutine's place among those who wait for a primitive.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct Enlisted {
    of: Box<dyn Sleepers>,
    number: u64,
    /// `None` once it has been left, or where the table of waiters was full: then the loop looks from time to time.
    ticket: Mutex<Option<AsyncTicket>>,
}

impl Enlisted {
    /// A place at `primitive`, to be called at the door of this number.
    pub(crate) fn at<C: Awaited>(primitive: &Bound<'_, C>, door: u32) -> Self {
        Self::among(Box::new(primitive.clone().unbind()), door)
    }

    /// A place among `of`, to be called at the door of this number.
    pub(crate) fn among(of: Box<dyn Sleepers>, door: u32) -> Self {
        let ticket = of.site().enlist_async(of.events(), of.kind(), of.key(), door);
        // Without a ticket nobody ever calls; any number will do that no other place has.
        let other = std::ptr::from_ref(&*of).cast::<()>() as u64 | 1 << 63;
        let number = ticket.as_ref().map_or(other, AsyncTicket::call_number);
        Self { of, number, ticket: Mutex::new(ticket) }
    }

    fn ticket(&self) -> MutexGuard<'_, Option<AsyncTicket>> {
        // Nothing that runs under it panics half-way.
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Enlisted {
    /// What a call for it says.
    #[getter]
    fn call_number(&self) -> u64 {
        self.number
    }

    /// To be called again; look at what is waited for after this.
    fn renew(&self) {
        if let Some(ticket) = &mut *self.ticket()
            && ticket.is_called()
        {
            ticket.rearm(self.of.events());
        }
    }

    /// Waits no more; `satisfied`: got what it waited for.
    fn leave(&self, satisfied: bool) {
        let ticket = self.ticket().take();
        if let Some(ticket) = ticket {
            ticket.leave(self.of.events(), satisfied);
        }
    }
}
