//! Messages: taken off a stream here, handled by functions of Python's, as many in a row as have come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_server::framing::{Framer, Framing, TooLong};
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::connection::{Connection, Turn};
use super::ffi::with_bytes;
use crate::interpreter::lock::lock;

/// The framing that users call by this word.
pub(super) fn framing(word: &str) -> PyResult<Framing> {
    match word {
        "lines" => Ok(Framing::Lines),
        "u32" => Ok(Framing::U32),
        "raw" => Ok(Framing::Raw),
        _ => Err(PyValueError::new_err(format!("framing='{word}' must be 'lines', 'u32' or 'raw'"))),
    }
}

fn too_long(TooLong { limit }: TooLong) -> PyErr {
    PyValueError::new_err(format!("a message is longer than limit={limit} bytes"))
}

/// What a handler has returned, as it is sent; nothing if that is no reply.
fn framed(framing: Framing, reply: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut output = Vec::new();
    if reply.is_none() {
        return Ok(output);
    }
    let framed = with_bytes(reply, |bytes| framing.frame(bytes, &mut output));
    let Ok(framed) = framed else {
        let kind = reply.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a handler of messages returns bytes or None, not {kind}")));
    };
    framed.map_err(too_long)?;
    Ok(output)
}

/// Takes a stream apart, for whoever reads it: an iterator of the messages that are whole.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct MessageFramer {
    framing: Framing,
    framer: Mutex<Framer>,
    /// Whether the stream has ended. Set by whoever feeds.
    ended: AtomicBool,
}

#[pymethods]
impl MessageFramer {
    #[new]
    fn new(word: &str, limit: usize) -> PyResult<Self> {
        let framing = framing(word)?;
        Ok(Self { framing, framer: Mutex::new(Framer::new(framing, limit)), ended: AtomicBool::new(false) })
    }

    /// Takes bytes as they come; none are the end of the stream. Itself, to be asked for messages.
    fn feed<'py>(slf: Bound<'py, Self>, data: &Bound<'py, PyBytes>) -> Bound<'py, Self> {
        slf.get().feed_bytes(data.as_bytes());
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut framer = lock(&self.framer);
        if let Some(message) = framer.next_message().map_err(too_long)? {
            return Ok(Some(PyBytes::new(py, message)));
        }
        let last = if self.ended.load(Ordering::Relaxed) { framer.last_message() } else { None };
        Ok(last.map(|message| PyBytes::new(py, message)))
    }

    /// A reply, or none, as it is sent.
    fn frame<'py>(&self, reply: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(reply.py(), &framed(self.framing, reply)?))
    }
}

impl MessageFramer {
    fn feed_bytes(&self, bytes: &[u8]) {
        lock(&self.framer).feed(bytes);
        self.ended.store(bytes.is_empty(), Ordering::Relaxed);
    }
}

/// Serves the messages of one connection of an event loop, each with a call of a function.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct MessageTurn {
    connection: Arc<Connection>,
    framer: MessageFramer,
    handler: Py<PyAny>,
    /// Called with what went wrong, if anything did.
    on_error: Py<PyAny>,
    /// Called once, when the connection is closed.
    on_closed: Py<PyAny>,
    /// Whether there is no more to handle: set once, in the loop's thread.
    is_over: AtomicBool,
    /// The `contextvars.Context` in which the handler runs.
    context: Py<PyAny>,
}

impl MessageTurn {
    pub(super) fn new(
        connection: &Arc<Connection>,
        word: &str,
        handler: Py<PyAny>,
        on_error: Py<PyAny>,
        on_closed: Py<PyAny>,
        context: Py<PyAny>,
    ) -> PyResult<Self> {
        let framer = MessageFramer::new(word, connection.limit)?;
        let (connection, is_over) = (Arc::clone(connection), AtomicBool::new(false));
        Ok(Self { connection, framer, handler, on_error, on_closed, is_over, context })
    }

    /// Itself, for its connection.
    pub(super) fn shared(self, py: Python<'_>) -> PyResult<Arc<dyn Turn>> {
        Ok(Arc::new(Py::new(py, self)?))
    }
}

impl Turn for Py<MessageTurn> {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let turn = self.get();
        if turn.is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        let outcome = turn.context.call_method1(py, pyo3::intern!(py, "run"), (self,));
        let (error, fatal) = match outcome {
            Ok(is_over) if !is_over.is_truthy(py)? => return Ok(()),
            Ok(_) => (None, None),
            Err(error) if error.is_instance_of::<PyException>(py) => (Some(error), None),
            Err(error) => (None, Some(error)),
        };
        turn.is_over.store(true, Ordering::Relaxed);
        turn.connection.close(py)?;
        if let Some(error) = error {
            turn.on_error.call1(py, (error,))?;
        }
        fatal.map_or(Ok(()), Err)
    }

    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.get().on_closed.call0(py).map(drop)
    }
}

#[pymethods]
impl MessageTurn {
    /// Calls the handler with each message that is whole, as long as the client takes the replies. Whether that was all.
    fn __call__(&self, py: Python<'_>) -> PyResult<bool> {
        loop {
            let state = self.connection.lock();
            if state.is_full() || state.is_closed() {
                return Ok(false);
            }
            drop(state);
            if let Some(message) = self.framer.__next__(py)? {
                self.connection.exchange.heard();
                let reply = self.handler.bind(py).call1((message,))?;
                self.reply(&reply)?;
                continue;
            }
            if self.framer.ended.load(Ordering::Relaxed) {
                return Ok(true);
            }
            let mut fed = false;
            let has_ended = self.connection.take_input(|bytes| {
                fed = true;
                self.framer.feed_bytes(bytes);
            })?;
            match (fed, has_ended) {
                (true, _) => {}
                (false, true) => self.framer.feed_bytes(&[]),
                (false, false) => {
                    // The handler may have replied to the message before this one, or have nothing to reply.
                    if lock(&self.framer.framer).is_amid_message() {
                        self.connection.exchange.heard();
                    } else {
                        self.connection.exchange.answered();
                    }
                    return Ok(false);
                }
            }
        }
    }
}

impl MessageTurn {
    fn reply(&self, reply: &Bound<'_, PyAny>) -> PyResult<()> {
        if reply.is_none() {
            return Ok(());
        }
        self.connection.write(reply.py(), &framed(self.framer.framing, reply)?)
    }
}
