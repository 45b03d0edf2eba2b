//! TLS of a connection of an event loop: Python's `ssl` does it, between two buffers in memory.
//!
//! All calls are made in the loop's thread, and none with a lock held: a context may call functions of the user's.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PySlice, PyType};

/// How many bytes one record has at most.
const RECORD: usize = 16 << 10;

/// What `ssl` has of one connection.
pub(super) struct Session {
    /// An `ssl.SSLObject`.
    pub(super) object: Py<PyAny>,
    /// An `ssl.MemoryBIO` with what the client has sent.
    incoming: Py<PyAny>,
    /// One with what it must be sent.
    outgoing: Py<PyAny>,
    /// Whether both have shaken hands. Set once, by whoever has done that.
    is_open: AtomicBool,
}

impl Session {
    /// That of a server's connection.
    ///
    /// # Errors
    /// What `context.wrap_bio` raises.
    pub(super) fn new(context: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = context.py();
        let ssl = py.import(intern!(py, "ssl"))?;
        let (incoming, outgoing) = (ssl.call_method0("MemoryBIO")?, ssl.call_method0("MemoryBIO")?);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "server_side"), true)?;
        let object = context.call_method("wrap_bio", (&incoming, &outgoing), Some(&keywords))?;
        let (object, incoming, outgoing) = (object.unbind(), incoming.unbind(), outgoing.unbind());
        Ok(Self { object, incoming, outgoing, is_open: AtomicBool::new(false) })
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Has bytes of the client's be there for what follows.
    pub(super) fn take(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        self.incoming.call_method1(py, intern!(py, "write"), (PyBytes::new(py, bytes),))?;
        Ok(())
    }

    /// Goes on to shake hands; whether that is done.
    ///
    /// # Errors
    /// The client and this side do not agree.
    pub(super) fn shake_hands(&self, py: Python<'_>) -> PyResult<bool> {
        let done = unless_it_waits(py, self.object.call_method0(py, intern!(py, "do_handshake")))?.is_some();
        self.is_open.store(done, Ordering::Relaxed);
        Ok(done)
    }

    /// Adds what the client has said, as far as it is here; whether it has said that this is all.
    ///
    /// # Errors
    /// It is not what it seems to be.
    pub(super) fn decrypt(&self, py: Python<'_>, bytes: &mut Vec<u8>) -> PyResult<bool> {
        // An exception for each time it has nothing would cost more than these questions.
        while self.has_input(py)? {
            let read = self.object.call_method1(py, intern!(py, "read"), (RECORD,));
            let Some(read) = unless_it_waits(py, read)? else { break };
            let piece = read.bind(py).cast::<PyBytes>()?.as_bytes();
            bytes.extend_from_slice(piece);
            if piece.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_input(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = intern!(py, "pending");
        Ok(self.incoming.getattr(py, pending)?.is_truthy(py)?
            || self.object.call_method0(py, pending)?.is_truthy(py)?)
    }

    /// Encrypts what the handler says; of how many bytes it has, which are fewer while the client wants other keys.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(super) fn encrypt(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<usize> {
        let view = PyMemoryView::from(&PyBytes::new(py, bytes))?;
        let mut done = 0;
        while done < bytes.len() {
            let rest = view.get_item(PySlice::new(py, done as isize, bytes.len() as isize, 1))?;
            let written = self.object.call_method1(py, intern!(py, "write"), (rest,));
            let Some(written) = unless_it_waits(py, written)? else { break };
            done += written.extract::<usize>(py)?;
        }
        Ok(done)
    }

    /// Says that nothing more will come. Whether the client says so, too, is not waited for.
    pub(super) fn say_goodbye(&self, py: Python<'_>) {
        // It raises, since it would wait for that.
        _ = self.object.call_method0(py, intern!(py, "unwrap"));
    }

    /// What must be sent: alerts as well, of what has raised.
    pub(super) fn sealed(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        let sealed = self.outgoing.call_method0(py, intern!(py, "read"))?;
        Ok(sealed.extract(py)?)
    }
}

/// The result of a call, or None if that needs more of the client.
fn unless_it_waits(py: Python<'_>, outcome: PyResult<Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    static WANT_READ: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match outcome {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_instance_of::<PyOSError>(py) => {
            let want_read = WANT_READ.import(py, "ssl", "SSLWantReadError")?;
            if error.is_instance(py, want_read) { Ok(None) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}
