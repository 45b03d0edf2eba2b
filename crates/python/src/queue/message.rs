//! Python values as messages of queues and pipes, and back.
//!
//! | tag | content |
//! |---|---|
//! | [`COMPACT`] | what the [compact code](crate::codec::compact) makes of a small plain value |
//! | [`BYTES`] | the bytes of a bytes object |
//! | [`PICKLE`] | a pickle |
//! | [`APART`] | a pickle and the buffers that were kept out of it: see below |
//! | [`RAW`] | bytes as they were given to `send_bytes`; an object only if they happen to be a pickle |
//!
//! [`APART`] is, in this order: the number of buffers and the length of the pickle; for each buffer its length and whether it
//! is read-only (`u64` each, in the machine's byte order); the pickle; the buffers. Unlike a
//! [block](crate::codec::payload) it is copied as a whole when it arrives, and then the objects are made over that copy.
//!
//! A change needs another `FORMAT` of segments (`crates/sync/src/site/heading.rs`): the other end may be an earlier version.

use std::ops::Range;

use manyhands_channel::queue::{Item, Message};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PySlice};

use crate::codec::compact::{self, Decoder};
use crate::codec::payload::Pickled;
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
/// Bytes of a number in the head of a message with buffers.
const WORD: usize = size_of::<u64>();
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
    Apart { head: Vec<u8>, pickled: Pickled<'py> },
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
    let pickled = Pickled::from_dumps(&imports::dumps(py)?.call1((value, intern!(py, "item")))?)?;
    if pickled.buffers.is_empty() {
        return Ok(Encoded { tag: PICKLE, content: Content::Object(pickled.data) });
    }
    let mut head = Vec::with_capacity(WORD * (2 + 2 * pickled.buffers.len()));
    head.extend((pickled.buffers.len() as u64).to_ne_bytes());
    head.extend((pickled.data.as_bytes().len() as u64).to_ne_bytes());
    for buffer in &pickled.buffers {
        head.extend((buffer.len_bytes() as u64).to_ne_bytes());
        head.extend(u64::from(buffer.readonly()).to_ne_bytes());
    }
    Ok(Encoded { tag: APART, content: Content::Apart { head, pickled } })
}

impl Encoded<'_> {
    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Scalar(_, length) => *length,
            Content::Coded(bytes) => bytes.len(),
            Content::Object(bytes) => bytes.as_bytes().len(),
            Content::Apart { head, pickled } => head.len() + pickled.len(),
        }
    }

    /// Calls `send` with the message, whose parts are where they were.
    pub(super) fn with<R>(&self, priority: u128, send: impl FnOnce(Message<'_>) -> R) -> R {
        let tag = self.tag;
        match &self.content {
            Content::Scalar(bytes, length) => send(Message { tag, priority, parts: &[&bytes[..*length]] }),
            Content::Coded(bytes) => send(Message { tag, priority, parts: &[bytes] }),
            Content::Object(bytes) => send(Message { tag, priority, parts: &[bytes.as_bytes()] }),
            Content::Apart { head, pickled } => {
                let mut parts = vec![head.as_slice(), pickled.data.as_bytes()];
                parts.extend(pickled.buffers.iter().map(bytes_of_buffer));
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
pub(crate) struct PackedItem {
    pub(super) tag: u16,
    pub(super) priority: u128,
    pub(super) bytes: Vec<u8>,
}

impl PackedItem {
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

/// The value of a pickle with buffers, which become parts of the message itself.
fn load_apart<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    let Some((pickle, parts)) = parts_of(&PyBuffer::get(message)?) else { return Err(damaged()) };
    let whole = imports::memoryview(py)?.call1((message,))?;
    let part = |range: &Range<usize>| {
        let [start, end] = [range.start, range.end].map(|at| isize::try_from(at).unwrap_or(isize::MAX));
        whole.get_item(PySlice::new(py, start, end, 1))
    };
    let buffers = PyList::empty(py);
    for (range, is_read_only) in &parts {
        let buffer = part(range)?;
        buffers.append(if *is_read_only {
            buffer.call_method0(intern!(py, "toreadonly"))?
        } else {
            buffer
        })?;
    }
    imports::loads(py)?.call1((part(&pickle)?, buffers))
}

/// Where in a message a buffer is, and whether it is read-only.
type Part = (Range<usize>, bool);

/// Where in a message the pickle is, and its buffers; `None` when the lengths in it are not those of its parts.
fn parts_of(message: &PyBuffer<u8>) -> Option<(Range<usize>, Vec<Part>)> {
    let bytes = bytes_of_buffer(message);
    let word = |index: usize| {
        let start = index.checked_mul(WORD)?;
        let word = bytes.get(start..)?.first_chunk::<WORD>()?;
        usize::try_from(u64::from_ne_bytes(*word)).ok()
    };
    let (count, length) = (word(0)?, word(1)?);
    let mut at = count.checked_add(1)?.checked_mul(2 * WORD)?;
    let mut next = |length: usize| {
        let start = at;
        at = at.checked_add(length).filter(|end| *end <= bytes.len())?;
        Some(start..at)
    };
    let pickle = next(length)?;
    let mut parts = Vec::new();
    for index in 1..=count {
        parts.push((next(word(2 * index)?)?, word(2 * index + 1)? != 0));
    }
    (next(0)?.start == bytes.len()).then_some((pickle, parts))
}

fn damaged() -> PyErr {
    PyValueError::new_err("an item was overwritten in shared memory by code other than manyhands")
}
