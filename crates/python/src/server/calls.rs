//! `recv`, `send` and their like of one connected socket.
//!
//! Python's own release the interpreter around each call, and ask for it again afterwards, behind whoever has taken it
//! meanwhile. Here the call is first made without waiting, which takes a microsecond, and the interpreter is released only
//! where something has to be waited for.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use manyhands_os::clock::{self, Deadline};
use manyhands_os::poll::{self, Interest};
use manyhands_os::stream;
use manyhands_server::proxy_header::HeaderReader;
use manyhands_server::proxy_socket;
use pyo3::exceptions::{PyBlockingIOError, PyOSError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::exchange::Exchange;
use super::ffi::{Contiguous, with_bytes};
use super::hall::address;
use super::seat::Seat;
use crate::interpreter::ffi::borrow_descriptor;
use crate::interpreter::parker::count_detachment;

/// The most bytes that one `recv` returns, whatever it is asked for: what is copied with the interpreter held.
const SCRATCH: usize = 64 << 10;
/// Up to here bytes are given to the kernel with the interpreter held.
const AT_ONCE: usize = 32 << 10;
/// No limit of time.
const FOREVER: i64 = -1;
/// MSG_WAITALL: the only flag that asks for more than what is there.
const WAIT_ALL: u32 = 0x100;

thread_local! {
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The calls of one socket.
#[pyclass(frozen, module = "manyhands._native", weakref)]
pub(super) struct StreamCalls {
    /// -1 once the socket is closed: its number may be another file's by then.
    fd: AtomicI32,
    /// In nanoseconds; [`FOREVER`], and 0 for a socket that does not wait.
    timeout: AtomicI64,
    /// The worker that serves it: it is told when it waits for the client.
    seat: Option<Arc<Seat>>,
    /// How many calls wait for the client to say something.
    listening: AtomicI32,
    exchange: Exchange,
}

impl StreamCalls {
    /// Those of a connection that `seat` serves.
    pub(super) fn served(fd: i32, seat: &Arc<Seat>) -> Self {
        Self::of(fd, Some(Arc::clone(seat)))
    }

    fn of(fd: i32, seat: Option<Arc<Seat>>) -> Self {
        Self {
            fd: AtomicI32::new(fd),
            timeout: AtomicI64::new(FOREVER),
            seat,
            listening: AtomicI32::new(0),
            exchange: Exchange::new(),
        }
    }

    fn fd(&self) -> PyResult<std::os::fd::BorrowedFd<'static>> {
        match self.fd.load(Ordering::Relaxed) {
            -1 => Err(PyOSError::new_err((9, "Bad file descriptor"))),
            fd => Ok(borrow_descriptor(fd)),
        }
    }

    /// When a call that begins now has to be over; `None`: never.
    fn deadline(&self) -> Option<Deadline> {
        u64::try_from(self.timeout.load(Ordering::Relaxed)).ok().map(|timeout| clock::now() + timeout)
    }

    /// Repeats `attempt` until it need not wait any more, with the interpreter released.
    fn wait<T>(
        &self,
        py: Python<'_>,
        interest: Interest,
        mut attempt: impl FnMut(Option<Deadline>) -> io::Result<T> + Send,
    ) -> PyResult<T>
    where
        T: Send,
    {
        let fd = self.fd()?;
        let deadline = self.deadline();
        let seat = self.seat.as_ref().filter(|seat| seat.is_ours());
        loop {
            let done = py.detach(|| {
                count_detachment();
                let _waits = seat.map(|seat| seat.waits());
                loop {
                    match attempt(deadline) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return Some(done),
                    }
                    match poll::wait_for(fd, interest, deadline) {
                        Ok(true) => {}
                        Ok(false) => return None,
                        Err(error) => return Some(Err(error)),
                    }
                }
            });
            match done {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
                Some(done) => return Ok(done?),
                None => {
                    py.check_signals()?;
                    if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                        return Err(PyTimeoutError::new_err("timed out"));
                    }
                }
            }
        }
    }

    /// Waits for what the client says.
    fn listen<T: Send>(
        &self,
        py: Python<'_>,
        attempt: impl FnMut(Option<Deadline>) -> io::Result<T> + Send,
    ) -> PyResult<T> {
        self.listening.fetch_add(1, Ordering::Relaxed);
        let heard = self.wait(py, Interest::Readable, attempt);
        self.listening.fetch_sub(1, Ordering::Relaxed);
        heard
    }

    /// What a call does that would have to wait.
    fn may_wait(&self) -> PyResult<()> {
        match self.timeout.load(Ordering::Relaxed) {
            0 => Err(PyBlockingIOError::new_err((11, "Resource temporarily unavailable"))),
            _ => Ok(()),
        }
    }

    /// Whether to release the interpreter before a read, be there something to read or not: a client that answers at once would
    /// otherwise keep everybody else waiting until Python's switch interval is over.
    fn gives_way(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| !seat.is_ours() || seat.others_run())
    }

    /// Receives into this thread's buffer, and hands that to `consume`.
    fn receive<T>(
        &self,
        py: Python<'_>,
        size: usize,
        flags: u32,
        consume: impl FnOnce(&[u8]) -> PyResult<T>,
    ) -> PyResult<T> {
        let fd = self.fd()?;
        let whole = flags & WAIT_ALL != 0;
        let size = if whole { size } else { size.min(SCRATCH) };
        // Taken out of its place: a signal handler may call us meanwhile.
        let mut bytes = BYTES.take();
        if bytes.len() < size {
            bytes.resize(size, 0);
        }
        let buffer = &mut bytes[..size];
        let mut received = Err(io::ErrorKind::WouldBlock.into());
        if self.may_wait().is_err() || !(whole || self.gives_way()) {
            received = stream::receive(fd, buffer, flags);
        }
        let received = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_wait()?;
                self.listen(py, |deadline| {
                    let received = match deadline {
                        None => stream::receive_waiting(fd, buffer, flags),
                        Some(_) => stream::receive(fd, buffer, flags),
                    };
                    // Now: it may be long until we have the interpreter again.
                    received.inspect(|_| self.exchange.heard())
                })?
            }
            received => received?,
        };
        self.exchange.heard();
        let result = consume(&bytes[..received]);
        if bytes.len() <= SCRATCH {
            BYTES.set(bytes);
        }
        result
    }

    /// Sends from `bytes` on what there is room for, or waits until some of it has gone.
    fn send_some(&self, py: Python<'_>, bytes: &[u8], flags: u32) -> PyResult<usize> {
        let fd = self.fd()?;
        self.exchange.answered();
        let sent = match bytes.len() <= AT_ONCE {
            true => stream::send(fd, bytes, flags),
            false => py.detach(|| {
                count_detachment();
                stream::send(fd, bytes, flags)
            }),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_wait()?;
                self.wait(py, Interest::Writable, |_| stream::send(fd, bytes, flags))
            }
            sent => Ok(sent?),
        }
    }
}

#[pymethods]
impl StreamCalls {
    #[new]
    fn new(fd: i32, timeout: Option<f64>) -> PyResult<Self> {
        let calls = Self::of(fd, None);
        calls.settimeout(timeout)?;
        Ok(calls)
    }

    /// `socket.recv`, of at most 64 KiB.
    #[pyo3(signature = (size, flags = 0, /))]
    fn recv<'py>(&self, py: Python<'py>, size: isize, flags: u32) -> PyResult<Bound<'py, PyBytes>> {
        let size = usize::try_from(size).map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        self.receive(py, size, flags, |bytes| Ok(PyBytes::new(py, bytes)))
    }

    /// `socket.recv_into`, of at most 64 KiB.
    #[pyo3(signature = (buffer, nbytes = 0, flags = 0))]
    fn recv_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        nbytes: isize,
        flags: u32,
    ) -> PyResult<usize> {
        let buffer = Contiguous::of(buffer)?;
        if buffer.is_read_only() {
            return Err(PyTypeError::new_err("recv_into() needs a buffer that can be written to"));
        }
        let size = match usize::try_from(nbytes) {
            Err(_) => return Err(PyValueError::new_err("negative buffersize in recv_into")),
            Ok(0) => buffer.len(),
            Ok(size) if size > buffer.len() => {
                return Err(PyValueError::new_err("buffer too small for requested bytes"));
            }
            Ok(size) => size,
        };
        self.receive(py, size, flags, |bytes| {
            buffer.fill(py, bytes);
            Ok(bytes.len())
        })
    }

    /// `socket.send`.
    #[pyo3(signature = (data, flags = 0, /))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, flags: u32) -> PyResult<usize> {
        with_bytes(data, |bytes| self.send_some(py, bytes, flags))?
    }

    /// `socket.sendall`. The time-out is for all of it, as in Python.
    #[pyo3(signature = (data, flags = 0, /))]
    fn sendall(&self, py: Python<'_>, data: &Bound<'_, PyAny>, flags: u32) -> PyResult<()> {
        let deadline = self.deadline();
        with_bytes(data, |bytes| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let sent = self.send_some(py, rest, flags)?;
                rest = &rest[sent..];
                let late = deadline.is_some_and(|deadline| clock::now() >= deadline);
                if late && !rest.is_empty() {
                    return Err(PyTimeoutError::new_err("timed out"));
                }
            }
            Ok(())
        })?
    }

    /// Reads the PROXY header that comes first, and nothing behind it, within the time-out: the address of the proxy's client, or None when the proxy
    /// has connected for itself.
    fn read_proxy_header<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let fd = self.fd()?;
        let mut reader = HeaderReader::default();
        let endpoints = self.listen(py, |_| proxy_socket::receive(fd, &mut reader))?;
        endpoints.map(|endpoints| address(py, &endpoints.client)).transpose()
    }

    /// Notes what `socket.settimeout` was told, in seconds.
    fn settimeout(&self, timeout: Option<f64>) -> PyResult<()> {
        let nanoseconds = match timeout {
            None => FOREVER,
            Some(seconds) if seconds >= 0.0 => {
                let longest = i64::MAX / 4;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a float beyond the range becomes its end"
                )]
                let nanoseconds = (seconds * 1e9).ceil() as i64;
                nanoseconds.min(longest)
            }
            Some(_) => return Err(PyValueError::new_err("Timeout value out of range")),
        };
        self.timeout.store(nanoseconds, Ordering::Relaxed);
        Ok(())
    }

    /// Whether somebody waits for the client to ask for something, or for something else.
    fn is_idle(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0 && self.fd().is_ok_and(|fd| self.exchange.is_over(fd))
    }

    /// Notes that the socket is closed, or somebody else's.
    fn close(&self) {
        self.fd.store(-1, Ordering::Relaxed);
    }
}
