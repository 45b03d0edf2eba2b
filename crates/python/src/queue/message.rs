//! Python values as messages of queues and pipes, and back.
//!
//! | tag | content |
//! |---|---|
//! | [`COMPACT`] | what the [compact code](crate::codec::compact) makes of a small plain value |
//! | [`BYTES`] | the bytes of a bytes object |
//! | [`PICKLE`] | a pickle |
//! | [`APART`] | a pickle and the buffers that were kept out of it; see `python/manyhands/_queue/message.py` |
//! | [`RAW`] | bytes as they were given to `send_bytes`; an object only if they happen to be a pickle |
//!
//! A change needs another `FORMAT` of segments (`crates/sync/src/site/heading.rs`): the other end may be an earlier version.

use manyhands_channel::queue::{Item, Message};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};

use crate::codec::compact::{self, Decoder};
use crate::interpreter::imports;
use crate::memory::ffi::bytes_of_buffer;

pub(super) const COMPACT: u16 = 0;
pub(super) const BYTES: u16 = 1;
pub(super) const PICKLE: u16 = 2;
pub(super) const APART: u16 = 3;
pub(super) const RAW: u16 = 4;

/// The compact code is used up to this many bytes: beyond, a bytes object is better sent as it is.
const COMPACT_MOST: usize = 2048;
/// From here on, copying into the queue is done without the interpreter.
pub(super) const LONG: usize = 64 * 1024;
/// What is shorter needs no memory of its own while it is taken out.
const SHORT: usize = 56;

/// A value on its way into a queue.
pub(super) struct Encoded<'py> {
    pub(super) tag: u16,
    content: Content<'py>,
}

enum Content<'py> {
    Scalar([u8; compact::SCALAR], usize),
    Coded(Vec<u8>),
    Object(Bound<'py, PyBytes>),
    Apart { head: Vec<u8>, pickle: Bound<'py, PyBytes>, buffers: Vec<PyBuffer<u8>> },
}

/// Encodes a value.
///
/// # Errors
/// What pickle raises.
pub(super) fn encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'py>> {
    let mut scalar = [0; compact::SCALAR];
    if let Some(length) = compact::encode_scalar(value, &mut scalar) {
        return Ok(Encoded { tag: COMPACT, content: Content::Scalar(scalar, length) });
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Encoded { tag: BYTES, content: Content::Object(bytes.clone()) });
    }
    let mut coded = Vec::new();
    if compact::encode(value, &mut coded, COMPACT_MOST, COMPACT_MOST) {
        return Ok(Encoded { tag: COMPACT, content: Content::Coded(coded) });
    }
    pickled(value)
}

fn pickled<'py>(value: &Bound<'py, PyAny>) -> PyResult<Encoded<'py>> {
    let py = value.py();
    let pair = imports::dumps(py)?.call1((value, intern!(py, "item")))?;
    let (pickle, list): (Bound<'py, PyBytes>, Bound<'py, PyList>) = pair.extract()?;
    if list.is_empty() {
        return Ok(Encoded { tag: PICKLE, content: Content::Object(pickle) });
    }
    let mut buffers = Vec::with_capacity(list.len());
    for buffer in list.iter() {
        // raw(): one dimension of bytes, whatever the object's own shape and order.
        buffers.push(PyBuffer::get(&buffer.call_method0(intern!(py, "raw"))?)?);
    }
    let mut head = Vec::with_capacity(8 * (2 + 2 * buffers.len()));
    head.extend((buffers.len() as u64).to_ne_bytes());
    head.extend((pickle.as_bytes().len() as u64).to_ne_bytes());
    for buffer in &buffers {
        head.extend((buffer.len_bytes() as u64).to_ne_bytes());
        head.extend(u64::from(buffer.readonly()).to_ne_bytes());
    }
    Ok(Encoded { tag: APART, content: Content::Apart { head, pickle, buffers } })
}

impl Encoded<'_> {
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Scalar(_, length) => *length,
            Content::Coded(bytes) => bytes.len(),
            Content::Object(bytes) => bytes.as_bytes().len(),
            Content::Apart { head, pickle, buffers } => {
                head.len()
                    + pickle.as_bytes().len()
                    + buffers.iter().map(|buffer| buffer.len_bytes()).sum::<usize>()
            }
        }
    }

    /// Calls `send` with the message, whose parts are where they were.
    pub(super) fn with<R>(&self, priority: u128, send: impl FnOnce(Message<'_>) -> R) -> R {
        let tag = self.tag;
        match &self.content {
            Content::Scalar(bytes, length) => send(Message { tag, priority, parts: &[&bytes[..*length]] }),
            Content::Coded(bytes) => send(Message { tag, priority, parts: &[bytes] }),
            Content::Object(bytes) => send(Message { tag, priority, parts: &[bytes.as_bytes()] }),
            Content::Apart { head, pickle, buffers } => {
                let mut parts = vec![head.as_slice(), pickle.as_bytes()];
                parts.extend(buffers.iter().map(bytes_of_buffer));
                send(Message { tag, priority, parts: &parts })
            }
        }
    }

    /// Its bytes, in one piece, after those that `bytes` holds.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>) {
        self.with(0, |message| message.parts.iter().for_each(|part| bytes.extend_from_slice(part)));
    }
}

/// An item that has been pickled and waits for room.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct Parcel {
    pub(super) tag: u16,
    pub(super) priority: u128,
    pub(super) bytes: Vec<u8>,
}

impl Parcel {
    pub(super) fn new(item: &Encoded<'_>, priority: u128) -> Self {
        let mut bytes = Vec::with_capacity(item.len());
        item.append_to(&mut bytes);
        Self { tag: item.tag, priority, bytes }
    }
}

/// What came out of a queue, before it is a Python value again.
pub(super) enum Taken {
    Short { tag: u16, length: usize, bytes: [u8; SHORT] },
    Whole { tag: u16, bytes: Vec<u8> },
}

/// An item that is better copied straight into a Python object; it stays in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Long {
    pub(super) tag: u16,
    pub(super) length: usize,
}

impl Long {
    pub(super) fn of(item: &Item<'_>) -> Self {
        Self { tag: item.tag(), length: item.len() }
    }
}

impl Taken {
    /// Copies an item that is not long.
    pub(super) fn copy(mut item: Item<'_>) -> Result<Self, Long> {
        let (tag, length) = (item.tag(), item.len());
        if length <= SHORT {
            let mut bytes = [0; SHORT];
            item.read(&mut bytes[..length]);
            return Ok(Self::Short { tag, length, bytes });
        }
        if length >= LONG {
            return Err(Long::of(&item));
        }
        let mut bytes = Vec::with_capacity(length);
        item.read_to_end(&mut bytes);
        Ok(Self::Whole { tag, bytes })
    }

    /// The value.
    ///
    /// # Errors
    /// What the value's own code raises when it is unpickled.
    pub(super) fn decode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Short { tag, length, bytes } => decode(py, *tag, &bytes[..*length]),
            Self::Whole { tag, bytes } => decode(py, *tag, bytes),
        }
    }
}

/// The value that these bytes are.
///
/// # Errors
/// What the value's own code raises when it is unpickled; ValueError for malformed bytes.
pub(super) fn decode<'py>(py: Python<'py>, tag: u16, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match tag {
        COMPACT => Decoder::new(bytes).value(py).ok_or_else(damaged),
        BYTES => Ok(PyBytes::new(py, bytes).into_any()),
        PICKLE | RAW => load(PyBytes::new(py, bytes).as_any()),
        APART => load_apart(PyByteArray::new(py, bytes).as_any()),
        _ => Err(damaged()),
    }
}

/// The value of a long item, which `fill` copies into a Python object; `None` when it could not.
///
/// # Errors
/// As [`decode`]; what `fill` returns.
pub(super) fn decode_filled<'py>(
    py: Python<'py>,
    long: Long,
    mut fill: impl FnMut(&mut [u8]) -> PyResult<bool>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut filled = false;
    let mut fill = |bytes: &mut [u8]| {
        filled = fill(bytes)?;
        Ok(())
    };
    let object = if long.tag == APART {
        PyByteArray::new_with(py, long.length, &mut fill)?.into_any()
    } else {
        PyBytes::new_with(py, long.length, &mut fill)?.into_any()
    };
    if !filled {
        return Ok(None);
    }
    match long.tag {
        BYTES => Ok(object),
        PICKLE | RAW => load(&object),
        APART => load_apart(&object),
        COMPACT => decode(py, COMPACT, object.cast::<PyBytes>()?.as_bytes()),
        _ => Err(damaged()),
    }
    .map(Some)
}

fn load<'py>(pickle: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    imports::loads(pickle.py())?.call1((pickle,))
}

fn load_apart<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    imports::load_apart(message.py())?.call1((message,))
}

fn damaged() -> PyErr {
    PyValueError::new_err("an item was overwritten in shared memory by code other than manyhands")
}
