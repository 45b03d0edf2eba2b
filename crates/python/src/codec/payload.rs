//! Pickles and their buffers in blocks of shared memory.
//!
//! A block holds, in this order: the number of buffers and the length of the pickle (u64 each); for
//! each buffer its offset in the block, its length and whether it is read-only (u64 each); the pickle;
//! the buffers, each at a multiple of 64, large ones in pages of their own. The receiver's objects are
//! made *over* large buffers: an array is a view of the block, and holds it. Small ones are copied,
//! which costs no more than a view does.

use manyhands_channel::arena::{Arena, Block};
use manyhands_memory::mappings::Received;
use manyhands_os::memory::page_size;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};

use crate::codec::compact;
use crate::interpreter::imports;
use crate::memory::ffi::{BlockBuffer, copy_buffer};

const ALIGNMENT: usize = 64;
const WORD: usize = 8;

/// From so many bytes on a buffer is large. A copy of less takes a few microseconds.
const LARGE: usize = 64 << 10;

/// A pickle and the buffers that were kept out of it.
pub(crate) struct Pickled<'py> {
    pub(crate) data: Bound<'py, PyBytes>,
    pub(crate) buffers: Vec<PyBuffer<u8>>,
}

impl<'py> Pickled<'py> {
    /// Takes apart what `pickling.dumps` returned.
    pub(crate) fn from_dumps(pair: &Bound<'py, PyAny>) -> PyResult<Self> {
        let (data, list): (Bound<'py, PyBytes>, Bound<'py, PyList>) = pair.extract()?;
        let mut buffers = Vec::with_capacity(list.len());
        for buffer in list.iter() {
            // raw(): one dimension of bytes, whatever the object's own shape and order.
            let raw = buffer.call_method0(intern!(buffer.py(), "raw"))?;
            buffers.push(PyBuffer::get(&raw)?);
        }
        Ok(Self { data, buffers })
    }

    /// A pickle without buffers.
    pub(crate) fn plain(data: Bound<'py, PyBytes>) -> Self {
        Self { data, buffers: Vec::new() }
    }

    /// Bytes of everything together.
    pub(crate) fn len(&self) -> usize {
        self.data.as_bytes().len() + self.buffers.iter().map(|buffer| buffer.len_bytes()).sum::<usize>()
    }

    /// Whether there is nothing but the pickle, in at most `most` bytes.
    pub(crate) fn fits(&self, most: usize) -> bool {
        self.buffers.is_empty() && self.data.as_bytes().len() <= most
    }

    /// Where the buffers go in a block that begins at byte `start` of its segment, and where the last one ends.
    fn layout(&self, start: usize) -> (Vec<usize>, usize) {
        let head = WORD * (2 + 3 * self.buffers.len());
        let mut end = start + head + self.data.as_bytes().len();
        let mut offsets = Vec::with_capacity(self.buffers.len());
        for buffer in &self.buffers {
            let length = buffer.len_bytes();
            let unit = if length < LARGE { ALIGNMENT } else { page_size() };
            let at = end.next_multiple_of(unit);
            offsets.push(at - start);
            end = if length < LARGE { at + length } else { (at + length).next_multiple_of(unit) };
        }
        (offsets, end - start)
    }

    /// Bytes of the block that [`Pickled::write`] makes.
    pub(crate) fn size(&self) -> usize {
        let least = self.layout(0).1;
        let has_large = self.buffers.iter().any(|buffer| buffer.len_bytes() >= LARGE);
        // The block may begin anywhere in a page.
        if has_large { least + page_size() } else { least }
    }

    /// Copies everything into a new block.
    pub(crate) fn write(&self, py: Python<'_>, arena: &Arena) -> PyResult<Block> {
        let block = allocate(arena, self.size(), self.len())?;
        let (offsets, _) = self.layout(block.offset());
        let data = self.data.as_bytes();
        let mut head = Vec::with_capacity(WORD * (2 + 3 * self.buffers.len()));
        head.extend((self.buffers.len() as u64).to_ne_bytes());
        head.extend((data.len() as u64).to_ne_bytes());
        for (buffer, offset) in self.buffers.iter().zip(&offsets) {
            head.extend((*offset as u64).to_ne_bytes());
            head.extend((buffer.len_bytes() as u64).to_ne_bytes());
            head.extend(u64::from(buffer.readonly()).to_ne_bytes());
        }
        block.write(0, &head);
        block.write(head.len(), data);
        for (buffer, offset) in self.buffers.iter().zip(offsets) {
            copy_buffer(py, buffer, &block, offset);
        }
        Ok(block)
    }
}

/// A new block of `size` bytes, for `wanted` bytes of somebody's.
fn allocate(arena: &Arena, size: usize, wanted: usize) -> PyResult<Block> {
    arena.allocate(size).map_err(|full| {
        PyMemoryError::new_err(format!("cannot allocate {wanted} bytes of shared memory: {full}"))
    })
}

/// What goes into a block.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a, 'py> {
    Compact(&'a [u8]),
    Pickled(&'a Pickled<'py>),
}

impl Content<'_, '_> {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Compact(bytes) => bytes.len(),
            Self::Pickled(pickled) => pickled.size(),
        }
    }

    pub(crate) fn write(self, py: Python<'_>, arena: &Arena) -> PyResult<Block> {
        match self {
            Self::Compact(bytes) => write_compact(arena, bytes),
            Self::Pickled(pickled) => pickled.write(py, arena),
        }
    }
}

/// Copies [compact code](crate::codec::compact) into a new block.
pub(crate) fn write_compact(arena: &Arena, bytes: &[u8]) -> PyResult<Block> {
    let block = allocate(arena, bytes.len(), bytes.len())?;
    block.write(0, bytes);
    Ok(block)
}

/// What [`write_compact`] wrote: a copy, which nobody else can change while it is read.
pub(crate) fn read_compact(block: &Block) -> Vec<u8> {
    let mut bytes = vec![0; block.len().min(compact::LONGEST)];
    block.read(0, &mut bytes);
    bytes
}

/// Loads what [`Pickled::write`] wrote: `loads(data, buffers)` over views of the block.
///
/// `own`: the receiver gets buffers of its own instead of views (the block will be read again).
pub(crate) fn load<'py>(
    py: Python<'py>,
    loads: &Bound<'py, PyAny>,
    block: Block,
    own: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let word = |index: usize| -> PyResult<usize> {
        let mut bytes = [0; WORD];
        let at = index * WORD;
        if at + WORD > block.len() {
            return Err(damaged());
        }
        block.read(at, &mut bytes);
        usize::try_from(u64::from_ne_bytes(bytes)).map_err(|_| damaged())
    };
    let (count, length) = (word(0)?, word(1)?);
    let start = count.checked_mul(3).and_then(|words| words.checked_add(2)).ok_or_else(damaged)?;
    let data = view(py, &block, start.saturating_mul(WORD), length, true, None)?;
    let buffers = PyList::empty(py);
    for index in 0..count {
        let entry = 2 + 3 * index;
        let read_only = word(entry + 2)? != 0;
        let (offset, length) = (word(entry)?, word(entry + 1)?);
        let received = if own || length < LARGE { None } else { Received::keep(&block, offset, length) };
        buffers.append(match received {
            Some(received) => view(py, &block, offset, length, read_only, Some(received))?,
            None => own_copy(py, &block, offset, length, read_only)?,
        })?;
    }
    let loaded = loads.call1((&data, buffers))?;
    // The pickle itself is read: whatever refers to it now would only keep the block.
    data.call_method0(intern!(py, "release"))?;
    Ok(loaded)
}

fn own_copy<'py>(
    py: Python<'py>,
    block: &Block,
    offset: usize,
    length: usize,
    read_only: bool,
) -> PyResult<Bound<'py, PyAny>> {
    if offset.checked_add(length).is_none_or(|end| end > block.len()) {
        return Err(damaged());
    }
    if length >= LARGE {
        // By the view, which spares writing zeros first.
        let view = view(py, block, offset, length, read_only, None)?;
        let class = if read_only { imports::bytes(py)? } else { imports::bytearray(py)? };
        return class.call1((view,));
    }
    let copy = |bytes: &mut [u8]| {
        block.read(offset, bytes);
        Ok(())
    };
    if read_only {
        Ok(PyBytes::new_with(py, length, copy)?.into_any())
    } else {
        Ok(PyByteArray::new_with(py, length, copy)?.into_any())
    }
}

fn damaged() -> PyErr {
    PyValueError::new_err("a block of shared memory has been overwritten by code other than manyhands")
}

/// A memoryview of a part of a block, which holds the block.
fn view<'py>(
    py: Python<'py>,
    block: &Block,
    offset: usize,
    length: usize,
    read_only: bool,
    received: Option<Received>,
) -> PyResult<Bound<'py, PyAny>> {
    let buffer = BlockBuffer::new(block.clone(), offset, length, read_only, received);
    let buffer = buffer.ok_or_else(damaged)?;
    imports::memoryview(py)?.call1((Bound::new(py, buffer)?,))
}
