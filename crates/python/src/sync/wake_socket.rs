//! How an event loop waits for a primitive: enlisted there, with a socket through which it is woken.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::process::{Identity, identity};
use manyhands_os::socket;
use manyhands_sync::EventCount;
use manyhands_sync::site::{AsyncTicket, Site, WaitKind};
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;

use crate::interpreter::system_error::system_error;
use crate::memory::objects::Record;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WakeSocket>()?;
    module.add_class::<Enlisted>()
}

/// A socket to send wake-ups to, with a descriptor that is readable when somebody has.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct WakeSocket {
    /// `None` once closed.
    socket: Mutex<Option<socket::WakeSocket>>,
    number: u32,
    descriptor: RawFd,
    /// Whose it is: a forked child has only a copy.
    owner: Identity,
}

#[pymethods]
impl WakeSocket {
    #[new]
    fn new() -> PyResult<Self> {
        let socket =
            socket::WakeSocket::open().map_err(|error| system_error("wait in a coroutine", error))?;
        let (number, descriptor) = (socket.number(), socket.as_fd().as_raw_fd());
        Ok(Self { socket: Mutex::new(Some(socket)), number, descriptor, owner: identity() })
    }

    #[getter]
    fn number(&self) -> u32 {
        self.number
    }

    fn fileno(&self) -> RawFd {
        self.descriptor
    }

    /// Takes note of all wake-ups: what each was about, and whether there may have been more.
    fn drain(&self) -> (Vec<u64>, bool) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let wakes = socket.as_ref().map_or_else(Vec::new, socket::WakeSocket::drain);
        let more = wakes.len() >= socket::MANY;
        (wakes, more)
    }

    fn close(&self) {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    /// A place at `primitive`, to be called at the wake socket of this number.
    pub(crate) fn at<C: Awaited>(primitive: &Bound<'_, C>, socket: u32) -> Self {
        Self::among(Box::new(primitive.clone().unbind()), socket)
    }

    /// A place among `of`, to be called at the wake socket of this number.
    pub(crate) fn among(of: Box<dyn Sleepers>, socket: u32) -> Self {
        let ticket = of.site().enlist_async(of.events(), of.kind(), of.key(), socket);
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
