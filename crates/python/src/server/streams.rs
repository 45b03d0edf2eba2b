//! The two ends of a connection that a coroutine has: as those of asyncio, but faster.

use std::borrow::Cow;
use std::sync::Arc;

use manyhands_os::stream;
use manyhands_server::input::Want;
use pyo3::exceptions::{PyNotImplementedError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::connection::{Connection, Event};
use super::ffi;
use super::greeting::Greeting;
use super::hall::address;
use super::messages::MessageTurn;
use super::reading::{Manner, Passing, Reading};
use super::wait::Wait;
use crate::interpreter::ffi::borrow_descriptor;

/// Reads what the client says; as `asyncio.StreamReader`.
#[pyclass(frozen, weakref, module = "manyhands._native")]
pub(super) struct StreamReader {
    connection: Arc<Connection>,
}

impl StreamReader {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self { connection: Arc::clone(connection) }
    }

    fn readuntil_any(&self, several: &Bound<'_, PyTuple>) -> PyResult<Wait> {
        let mut separators =
            several.iter().map(|each| a_separator(&each)).collect::<PyResult<Vec<Vec<u8>>>>()?;
        if separators.is_empty() {
            return Err(PyValueError::new_err("Separator should contain at least one element"));
        }
        separators.sort_by_key(Vec::len);
        Ok(self.wait(Want::UntilAny(separators)))
    }

    fn wait(&self, want: Want) -> Wait {
        Wait::new(Reading::new(&self.connection, want, Manner::Plain))
    }
}

#[pymethods]
impl StreamReader {
    /// Up to `n` bytes, as soon as there are any; all there will be if it is negative.
    #[pyo3(signature = (n = -1))]
    fn read(&self, n: isize) -> Wait {
        self.wait(usize::try_from(n).map_or(Want::All, Want::Some))
    }

    /// Exactly `n` bytes.
    fn readexactly(&self, n: isize) -> PyResult<Wait> {
        let length = usize::try_from(n)
            .map_err(|_| PyValueError::new_err("readexactly size can not be less than zero"))?;
        Ok(self.wait(Want::Exactly(length)))
    }

    /// Bytes up to the line feed and with it, or what there is at the end.
    fn readline(&self) -> Wait {
        Wait::new(Reading::line(&self.connection, Manner::Line))
    }

    /// Bytes up to the separator and with it; of several, as a tuple, the one that ends first.
    #[pyo3(signature = (separator = None))]
    fn readuntil(&self, separator: Option<&Bound<'_, PyAny>>) -> PyResult<Wait> {
        let separator = match separator {
            None => Cow::Borrowed(&b"\n"[..]),
            Some(separator) => match separator.cast::<PyTuple>() {
                Ok(several) => return self.readuntil_any(several),
                Err(_) => Cow::Owned(a_separator(separator)?),
            },
        };
        Ok(self.wait(Want::Until { separator, or_rest: false }))
    }

    /// Waits until there is something to read, or nothing will come any more.
    fn wait_readable(&self) -> Wait {
        self.wait(Want::Any)
    }

    /// Reads the PROXY header: the address of the proxy's client, whose address the writer gives from then on, or None when the proxy has
    /// connected for itself.
    fn read_proxy_header(&self) -> Wait {
        Wait::new(Greeting::header(&self.connection))
    }

    /// Has a function called with each message that comes, in a context, instead of being read; `on_error` with the exception that has
    /// ended that, if one has; and `on_closed` once the connection is closed.
    fn serve_messages(
        &self,
        py: Python<'_>,
        framing: &str,
        handler: Py<PyAny>,
        on_error: Py<PyAny>,
        on_closed: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let turn = MessageTurn::new(&self.connection, framing, handler, on_error, on_closed, context)?;
        self.connection.set_turn(py, turn.shared(py)?)
    }

    /// Whether the client will say no more, and all has been read.
    fn at_eof(&self) -> bool {
        let state = self.connection.lock();
        state.input.has_ended() && state.input.is_empty()
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(&self) -> Wait {
        Wait::new(Reading::line(&self.connection, Manner::NextLine))
    }
}

/// Says something to the client; as `asyncio.StreamWriter`.
#[pyclass(frozen, weakref, module = "manyhands._native")]
pub(super) struct StreamWriter {
    connection: Arc<Connection>,
    nothing: Py<Wait>,
}

impl StreamWriter {
    pub(super) fn new(connection: &Arc<Connection>, nothing: Py<Wait>) -> Self {
        Self { connection: Arc::clone(connection), nothing }
    }

    pub(super) fn is_of(&self, connection: &Arc<Connection>) -> bool {
        Arc::ptr_eq(&self.connection, connection)
    }

    fn wait(&self, event: Event) -> Wait {
        Wait::new(Passing { connection: Arc::clone(&self.connection), event })
    }
}

#[pymethods]
impl StreamWriter {
    /// Sends bytes, without waiting for the client.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        with_bytes(data, |bytes| self.connection.write(py, bytes))?
    }

    /// As `write`, of several pieces.
    fn writelines(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut whole = Vec::new();
        for piece in data.try_iter()? {
            with_bytes(&piece?, |bytes| whole.extend_from_slice(bytes))?;
        }
        self.connection.write(data.py(), &whole)
    }

    /// Waits until the client has taken most of what was written.
    fn drain(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.connection.lock().needs_no_drain() {
            return Ok(self.nothing.clone_ref(py).into_any());
        }
        Ok(Py::new(py, self.wait(Event::Drained))?.into_any())
    }

    /// Shakes hands by TLS, which all that is said from now on has.
    fn start_tls(&self, sslcontext: &Bound<'_, PyAny>) -> PyResult<Wait> {
        Ok(Wait::new(Greeting::handshake(&self.connection, sslcontext)?))
    }

    /// The number of the socket; -1 once it is closed.
    fn fileno(&self) -> i32 {
        self.connection.lock().fileno()
    }

    /// Whether `write_eof` can be called: TLS has no such thing.
    fn can_write_eof(&self) -> bool {
        self.connection.lock().session.is_none()
    }

    /// Tells the client that nothing more will come.
    fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        if !self.can_write_eof() {
            return Err(PyNotImplementedError::new_err("TLS cannot end what is written and go on to read"));
        }
        self.connection.end_writing(py)
    }

    /// Closes the connection, once what was written has been sent.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.connection.close(py)
    }

    /// Closes the connection now, whatever has not been sent.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.connection.abort(py)
    }

    /// Whether the client has gone, or says no more.
    fn has_lost_client(&self) -> bool {
        self.connection.lock().has_lost_client()
    }

    fn is_closing(&self) -> bool {
        self.connection.lock().is_closing()
    }

    /// Waits until the connection is closed.
    fn wait_closed(&self) -> Wait {
        self.wait(Event::Closed)
    }

    /// What asyncio knows of a connection by these names: `"peername"`, the address of the client; `"sockname"` and `"socket"`; with TLS
    /// `"sslcontext"`, `"ssl_object"`, `"peercert"`, `"cipher"` and `"compression"`.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        static LENT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let (py, connection) = (slf.py(), &slf.get().connection);
        let state = connection.lock();
        let (peer, fd) = (state.peer.clone(), state.fileno());
        let session = state.session.clone().filter(|session| session.is_open());
        drop(state);
        let known = match (name, &session) {
            ("peername", _) => address(py, &peer)?,
            ("sockname", _) if fd >= 0 => address(py, &stream::name_of(borrow_descriptor(fd))?)?,
            ("socket", _) => LENT.import(py, "manyhands._server.lent_socket", "LentSocket")?.call1((slf,))?,
            ("sslcontext", Some(session)) => session.object.bind(py).getattr("context")?,
            ("ssl_object", Some(session)) => session.object.bind(py).clone(),
            ("peercert", Some(session)) => session.object.bind(py).call_method0("getpeercert")?,
            ("cipher" | "compression", Some(session)) => session.object.bind(py).call_method0(name)?,
            _ => return Ok(default),
        };
        Ok(Some(known))
    }
}

fn a_separator(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let separator = with_bytes(object, <[u8]>::to_vec)?;
    match separator.is_empty() {
        true => Err(PyValueError::new_err("Separator should be at least one-byte string")),
        false => Ok(separator),
    }
}

/// As [`ffi::with_bytes`], with asyncio's words for what has none.
fn with_bytes<T>(data: &Bound<'_, PyAny>, consume: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    ffi::with_bytes(data, consume).or_else(|_| {
        let kind = data.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "data argument must be a bytes, bytearray, or memoryview object, not '{kind}'"
        )))
    })
}
