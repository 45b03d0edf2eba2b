//! The native half of the ends of pipes.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_channel::pipe::{End, RecvError, SendError, Side};
use manyhands_channel::queue::{GetError, Item, PutError};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{SITE_BYTES, Site, WaitKind};
use manyhands_sync::{EventCount, Patience};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

use super::end::Handle;
use super::errors::{attach_error, get_error, put_error};
use super::message::{self, LONG, Long, PackedItem, RAW, Taken};
use super::readiness_fd::ReadinessFd;
use crate::interpreter::argument::Name;
use crate::interpreter::imports;
use crate::interpreter::system_error::system_error;
use crate::memory::ffi::bytes_of_buffer;
use crate::memory::objects;
use crate::sync::timeout;
use crate::sync::waiting::detached;
use crate::sync::wake_socket::{Enlisted, Sleepers};

/// Addresses that a pipe takes, in bytes: where they are limited, and otherwise. Memory only for what is on the way.
const LENGTHS: (usize, usize) = (1 << 20, 16 << 30);

/// An end of a pipe.
#[pyclass(frozen, subclass, weakref, module = "manyhands._native", name = "Connection")]
pub(crate) struct ConnectionBase {
    handle: Handle,
    /// Made when somebody asks for a descriptor.
    readiness: Mutex<Option<ReadinessFd>>,
}

fn send_error(py: Python<'_>, error: &SendError) -> PyErr {
    match error {
        SendError::Broken => PyBrokenPipeError::new_err((32, "Broken pipe")),
        SendError::WrongWay => PyOSError::new_err("connection is read-only"),
        SendError::Put(PutError::OutOfMemory(error)) => PyMemoryError::new_err(error.to_string()),
        SendError::Put(error) => put_error(py, error),
    }
}

fn recv_error(py: Python<'_>, error: RecvError) -> PyErr {
    match error {
        RecvError::EndOfFile => PyEOFError::new_err(()),
        RecvError::WrongWay => PyOSError::new_err("connection is write-only"),
        RecvError::Get(error) => get_error(py, &error),
    }
}

type Received<T> = Result<Result<T, Long>, RecvError>;

impl ConnectionBase {
    fn over(handle: Handle) -> Self {
        Self { handle, readiness: Mutex::new(None) }
    }

    fn end(&self) -> PyResult<&End> {
        match self.handle.is_closed() {
            true => Err(PyOSError::new_err("handle is closed")),
            false => Ok(self.handle.end()),
        }
    }

    fn incoming(&self) -> PyResult<&End> {
        let end = self.end()?;
        if end.can_recv() { Ok(end) } else { Err(PyOSError::new_err("connection is write-only")) }
    }

    fn outgoing(&self) -> PyResult<&End> {
        let end = self.end()?;
        if end.can_send() { Ok(end) } else { Err(PyOSError::new_err("connection is read-only")) }
    }

    /// False when there is no room in time.
    fn send_parts(&self, py: Python<'_>, tag: u16, parts: &[&[u8]], patience: Patience) -> PyResult<bool> {
        let end = self.outgoing()?;
        if parts.iter().map(|part| part.len()).sum::<usize>() < LONG {
            match end.try_send(tag, parts) {
                Ok(()) => return Ok(true),
                Err(SendError::Put(PutError::Busy(_))) => {}
                Err(SendError::Put(PutError::Full)) if patience.waits() => {}
                Err(SendError::Put(PutError::Full)) => return Ok(false),
                Err(error) => return Err(send_error(py, &error)),
            }
        }
        match detached(py, |waiting| end.send(tag, parts, patience, waiting))? {
            Ok(()) => Ok(true),
            Err(SendError::Put(PutError::Full)) => Ok(false),
            Err(error) => Err(send_error(py, &error)),
        }
    }

    /// The next message, as `take` copies it, or why it does not; `None` when none came in time.
    fn receive<T: Send>(
        &self,
        py: Python<'_>,
        patience: Patience,
        mut take: impl FnMut(Item<'_>) -> Result<T, Long> + Send,
    ) -> PyResult<Option<Result<T, Long>>> {
        let end = self.incoming()?;
        let mut received: Received<T> = end.try_recv(&mut take);
        if match received {
            Err(RecvError::Get(GetError::Busy(_))) => true,
            Err(RecvError::Get(GetError::Empty)) => patience.waits(),
            _ => false,
        } {
            received = detached(py, |waiting| end.recv(patience, waiting, &mut take))?;
        }
        self.tune();
        match received {
            Ok(taken) => Ok(Some(taken)),
            Err(RecvError::Get(GetError::Empty)) => Ok(None),
            Err(error) => Err(recv_error(py, error)),
        }
    }

    /// The next message as an object; `None` when none came in time.
    fn receive_object<'py>(
        &self,
        py: Python<'py>,
        patience: Patience,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let long = match self.receive(py, patience, Taken::copy)? {
                None => return Ok(None),
                Some(Ok(taken)) => return taken.decode(py).map(Some),
                Some(Err(long)) => long,
            };
            let turn = if patience.waits() { Patience::Now } else { patience };
            let filled = message::decode_filled(py, long, |bytes| self.fill(py, long, bytes, turn))?;
            if filled.is_some() {
                return Ok(filled);
            }
        }
    }

    /// Copies the next message into `bytes` if it is the one that was seen.
    fn fill(&self, py: Python<'_>, seen: Long, bytes: &mut [u8], patience: Patience) -> PyResult<bool> {
        let taken = self.receive(py, patience, |mut item| {
            let next = Long::of(&item);
            if next == seen {
                item.read(bytes);
                Ok(())
            } else {
                Err(next)
            }
        })?;
        Ok(matches!(taken, Some(Ok(()))))
    }

    fn readiness(&self) -> MutexGuard<'_, Option<ReadinessFd>> {
        // Nothing that runs under it panics half-way.
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a look at what is there: makes the descriptor, if there is one, say what is left.
    fn tune(&self) {
        if let Some(readiness) = self.readiness().as_mut().filter(|readiness| readiness.is_own()) {
            readiness.tune(self.handle.end());
        }
    }
}

impl Drop for ConnectionBase {
    fn drop(&mut self) {
        self.close();
    }
}

#[pymethods]
impl ConnectionBase {
    #[new]
    fn new(address: &Bound<'_, PyTuple>, side: usize, reservation: u64) -> PyResult<Self> {
        let side = match side {
            0 => Side::First,
            1 => Side::Second,
            _ => return Err(PyValueError::new_err("a pipe has two ends, 0 and 1")),
        };
        let mapped = objects::open_segment(address, Kind::Pipe)?;
        Ok(Self::over(Handle::open(&mapped, side, reservation)?))
    }

    /// The name by which any process of this user can open its pipe, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.handle.mapped().name()
    }

    /// The class with the types of what is sent and received in brackets: for annotations, and nothing else.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        types: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        imports::generic_alias(cls.py())?.call1((cls, types))
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, usize, u64)> {
        self.end()?;
        self.handle.address(py)
    }

    /// What keeps the pipe itself, but not this end of it.
    fn _segment(&self) -> PipeSegment {
        PipeSegment { _mapped: self.handle.mapped().clone() }
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Whether messages can be received.
    #[getter]
    fn readable(&self) -> bool {
        self.handle.end().can_recv()
    }

    /// Whether messages can be sent.
    #[getter]
    fn writable(&self) -> bool {
        self.handle.end().can_send()
    }

    /// Close this end. The other one notices once nobody has this end open any more.
    fn close(&self) {
        let readiness = self.readiness().take();
        if let Some(readiness) = readiness {
            readiness.close(self.handle.end());
        }
        self.handle.close();
    }

    /// Return a descriptor that is readable while there is something to receive.
    ///
    /// Or the end. Not for reading from it.
    fn fileno(&self) -> PyResult<RawFd> {
        let end = self.end()?;
        let mut readiness = self.readiness();
        if let Some(readiness) = readiness.as_mut().filter(|readiness| readiness.is_own()) {
            // The caller is about to wait: for the present holders of the other end.
            readiness.tune(end);
            return Ok(readiness.fd());
        }
        let mut opened =
            ReadinessFd::open(end).map_err(|error| system_error("make a descriptor of a pipe", error))?;
        opened.tune(end);
        Ok(readiness.insert(opened).fd())
    }

    /// Send an object.
    ///
    /// Args:
    ///     obj: anything that can be pickled. If there is no room, this waits.
    ///
    /// Raises:
    ///     BrokenPipeError: nobody has the other end open.
    ///     OSError: closed, or only for receiving.
    ///     TypeError, pickle.PicklingError: the object cannot be pickled. Nothing has been sent.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.outgoing()?;
        let encoded = message::encode(obj)?;
        let py = obj.py();
        encoded.with(0, |message| self.send_parts(py, message.tag, message.parts, Patience::Forever))?;
        Ok(())
    }

    fn _send_bytes(&self, py: Python<'_>, bytes: PyBuffer<u8>) -> PyResult<()> {
        self.send_parts(py, RAW, &[bytes_of_buffer(&bytes)], Patience::Forever)?;
        Ok(())
    }

    /// Sends an item if there is room, and returns None; otherwise the item, pickled.
    fn _send_or_pack(&self, item: &Bound<'_, PyAny>) -> PyResult<Option<PackedItem>> {
        self.outgoing()?;
        let encoded = message::encode(item)?;
        let send = |message: manyhands_channel::queue::Message<'_>| {
            self.send_parts(item.py(), message.tag, message.parts, Patience::Glance)
        };
        Ok((!encoded.with(0, send)?).then(|| PackedItem::new(&encoded, 0)))
    }

    /// Sends what `_send_or_pack` has pickled; false when there is no room.
    fn _send_packed(&self, py: Python<'_>, packed: &Bound<'_, PackedItem>) -> PyResult<bool> {
        let packed = packed.get();
        self.send_parts(py, packed.tag, &[&packed.bytes], Patience::Glance)
    }

    /// Wait for an object, and return it.
    ///
    /// Raises:
    ///     EOFError: nobody has the other end open, and everything has been received.
    ///     OSError: closed, or only for sending.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let received = self.receive_object(py, Patience::Forever)?;
        received.ok_or_else(|| PyEOFError::new_err(()))
    }

    /// A message if there is one, else `default`.
    fn _recv_or<'py>(&self, py: Python<'py>, default: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.receive_object(py, Patience::Glance)?.unwrap_or(default))
    }

    /// The bytes of the next message; None if it is longer than `most`, and then it stays.
    #[pyo3(signature = (most = None))]
    fn _recv_bytes<'py>(&self, py: Python<'py>, most: Option<usize>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let most = most.unwrap_or(usize::MAX);
        let taken = self.receive(py, Patience::Forever, |mut item| {
            if item.tag() == RAW && item.len() > most {
                return Err(Long::of(&item));
            }
            let mut bytes = Vec::with_capacity(item.len());
            let tag = item.tag();
            item.read_to_end(&mut bytes);
            Ok((tag, bytes))
        })?;
        let (tag, bytes) = match taken {
            Some(Ok(taken)) => taken,
            Some(Err(_)) => return Ok(None),
            None => return Err(PyEOFError::new_err(())),
        };
        if tag == RAW || tag == message::PICKLE {
            return Ok(Some(PyBytes::new(py, &bytes).into_any()).filter(|_| bytes.len() <= most));
        }
        // What send() sent, in the only form of bytes that it has.
        let pickle = imports::dumps_in_band(py)?.call1((message::decode(py, tag, &bytes)?,))?;
        Ok((pickle.len()? <= most).then_some(pickle))
    }

    #[pyo3(signature = (timeout = None))]
    fn _poll(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let end = self.incoming()?;
        let patience = timeout::of_wait(timeout)?;
        let there = match end.try_recv(|_: Item<'_>| Err::<(), ()>(())) {
            Ok(_) | Err(RecvError::EndOfFile) => true,
            Err(_) => {
                detached(py, |waiting| end.poll(patience, waiting))?.map_err(|error| recv_error(py, error))?
            }
        };
        if !there {
            self.tune();
        }
        Ok(there)
    }

    fn _enlist_for_messages(slf: &Bound<'_, Self>, socket: u32) -> PyResult<Enlisted> {
        slf.get().incoming()?;
        Ok(Enlisted::among(Box::new(Waiters { connection: slf.clone().unbind(), receives: true }), socket))
    }

    fn _enlist_for_room(slf: &Bound<'_, Self>, socket: u32) -> PyResult<Enlisted> {
        slf.get().outgoing()?;
        Ok(Enlisted::among(Box::new(Waiters { connection: slf.clone().unbind(), receives: false }), socket))
    }
}

/// Keeps a pipe from vanishing while the address of an end is on its way.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct PipeSegment {
    _mapped: objects::Mapped,
}

/// How coroutines wait at an end.
struct Waiters {
    connection: Py<ConnectionBase>,
    receives: bool,
}

impl Waiters {
    fn place(&self) -> (EventCount<'_>, u64) {
        let end = self.connection.get().handle.end();
        let place = if self.receives { end.items() } else { end.space() };
        place.expect("asked for when it was enlisted")
    }
}

impl Sleepers for Waiters {
    fn site(&self) -> &Arc<Site> {
        self.connection.get().handle.end().site()
    }

    fn events(&self) -> EventCount<'_> {
        self.place().0
    }

    fn key(&self) -> u64 {
        self.place().1
    }

    fn kind(&self) -> WaitKind {
        if self.receives { WaitKind::Receive } else { WaitKind::Send }
    }
}

/// Both ends of a new pipe, or of the one of that name, made by `make(address)`.
#[pyfunction]
pub(super) fn make_pipe(
    py: Python<'_>,
    class: &Bound<'_, PyAny>,
    duplex: &Bound<'_, PyAny>,
    name: Option<Name<'_>>,
) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let (duplex, name) = (duplex.is_truthy()?, name.as_deref());
    let mut ends = None;
    let mapped = objects::roomy_segment(Kind::Pipe, name, &[u64::from(duplex)], LENGTHS, |site| {
        let region = SITE_BYTES..site.segment().len();
        ends = Some(End::pair(site, region, duplex).map_err(|error| attach_error(&error))?);
        Ok(())
    })?;
    // Held as long as these live; the objects find them by the address.
    let (first, second) = match ends {
        Some((first, second)) => Handle::pair(&mapped, first, second),
        None => (Handle::open(&mapped, Side::First, 0)?, Handle::open(&mapped, Side::Second, 0)?),
    };
    let make = |handle: &Handle| -> PyResult<Py<PyAny>> {
        let address = handle.mapped().address(py)?;
        Ok(class.call1((address, handle.end().side() as usize, 0))?.unbind())
    };
    Ok((make(&first)?, make(&second)?))
}
