//! Blocks of shared memory that Python uses in place: behind `share`, `SharedArray`, `Value` and `Array`.

pub(crate) mod ffi;

use std::sync::atomic::Ordering;

use manyhands_sync::names::Kind;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::words::Words;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use self::ffi::SharedBuffer;
use crate::interpreter::argument::Name;
use crate::interpreter::imports;
use crate::memory::ffi::bytes_of_buffer;
use crate::memory::objects::{self, BlockAddress, Record};

const WORD: usize = 8;

/// A block that any number of processes may use at the same time; lives as long as anyone has it.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct SharedBlock {
    record: Record,
    length: usize,
}

#[pymethods]
impl SharedBlock {
    /// By which `open_shared` finds it in another process.
    #[getter]
    fn address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    /// Bytes.
    #[getter]
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Where it begins in the memory of this process.
    #[getter]
    pub(crate) fn start(&self) -> PyResult<usize> {
        Ok(self.buffer(false)?.start())
    }

    /// The name by which others can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    /// Whether it was made here, rather than opened.
    #[getter]
    fn created(&self) -> bool {
        self.record.created()
    }

    /// What the maker of a named block has said of it.
    fn description<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let shared = self.record.words();
        let at = words(self.length);
        let damaged = || PyValueError::new_err("a named block is damaged");
        if at >= shared.count() {
            return Err(damaged());
        }
        // Written before anybody else could see the block.
        let length = shared.word(at).load(Ordering::Relaxed);
        let room = (shared.count() - at - 1) * WORD;
        let length = usize::try_from(length).ok().filter(|length| *length <= room).ok_or_else(damaged)?;
        PyBytes::new_with(py, length, |bytes| {
            if length > 0 {
                self.record.site().segment().copy_out(shared.offset_of(at + 1), bytes);
            }
            Ok(())
        })
    }

    /// A memoryview of the block.
    fn view<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        imports::memoryview(py)?.call1((Bound::new(py, self.buffer(!writable)?)?,))
    }
}

impl SharedBlock {
    /// The block of `length` bytes at this address.
    pub(crate) fn open(address: &BlockAddress, length: usize) -> PyResult<Self> {
        check_length(length)?;
        Ok(Self { record: address.open(Kind::Array, words(length))?, length })
    }

    /// Where it is.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Its bytes, as CPython's buffer protocol has them.
    pub(crate) fn buffer(&self, read_only: bool) -> PyResult<SharedBuffer> {
        SharedBuffer::new(self.record.clone(), self.length, read_only)
            .ok_or_else(|| PyRuntimeError::new_err("a shared block shrank"))
    }
}

/// Rounded up, and at least one: there is no block without bytes.
fn words(length: usize) -> usize {
    length.div_ceil(WORD).max(1)
}

/// A new block of `length` bytes, all zero.
#[pyfunction]
fn new_shared(length: usize) -> PyResult<SharedBlock> {
    Ok(SharedBlock { record: objects::new_record(Kind::Array, words(length))?, length })
}

/// The block of that name, which must have that length and layout, made or opened. One that is made begins with `content`,
/// and is zero behind it; behind the block stands the `description`.
#[pyfunction]
fn named_shared(
    name: Name<'_>,
    length: usize,
    layout: u64,
    content: &[u8],
    description: &[u8],
) -> PyResult<SharedBlock> {
    if content.len() > length {
        return Err(PyValueError::new_err("the content of a named block is longer than the block"));
    }
    let at = words(length);
    let all = at + 1 + description.len().div_ceil(WORD);
    let parameters = [length as u64, layout];
    let record = objects::record(None, Kind::Array, Some(&name), &parameters, all, |site, shared| {
        let segment = site.segment();
        segment.copy_in(shared.offset_of(0), content);
        shared.word(at).store(description.len() as u64, Ordering::Relaxed);
        if !description.is_empty() {
            segment.copy_in(shared.offset_of(at + 1), description);
        }
        Ok(())
    })?;
    Ok(SharedBlock { record, length })
}

/// The block of that name, as somebody has made it; None when there is none.
#[pyfunction]
fn open_named_shared(name: Name<'_>) -> PyResult<Option<SharedBlock>> {
    let length = |site: &Site| {
        let [length, ..] = site.parameters();
        usize::try_from(length).ok().filter(|length| *length <= site.segment().len())
    };
    let all = |site: &Site| {
        // Whole pages, of which the block and its description are the first part.
        let all = (site.segment().len() - SITE_BYTES) / WORD;
        length(site).map(words).filter(|block| *block < all).map(|_| all)
    };
    let record = objects::named_record(Kind::Array, &name, &[objects::ANY, objects::ANY], all)?;
    Ok(record.and_then(|record| length(record.site()).map(|length| SharedBlock { record, length })))
}

/// Copies a buffer into a new block.
#[pyfunction]
fn share_buffer(py: Python<'_>, buffer: PyBuffer<u8>) -> PyResult<SharedBlock> {
    let length = buffer.len_bytes();
    let block = SharedBlock { record: objects::new_record(Kind::Array, words(length))?, length };
    let target = block.buffer(false)?;
    let bytes = bytes_of_buffer(&buffer);
    py.detach(|| target.write(bytes));
    Ok(block)
}

/// Opens a block of `length` bytes by its address.
#[pyfunction]
fn open_shared(address: &Bound<'_, PyTuple>, length: usize) -> PyResult<SharedBlock> {
    check_length(length)?;
    Ok(SharedBlock { record: objects::open_record(address, Kind::Array, words(length))?, length })
}

fn check_length(length: usize) -> PyResult<()> {
    if length > isize::MAX as usize {
        return Err(PyValueError::new_err("a shared block cannot be so long"));
    }
    Ok(())
}

/// Adds shared blocks to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SharedBlock>()?;
    module.add_class::<SharedBuffer>()?;
    module.add_function(wrap_pyfunction!(new_shared, module)?)?;
    module.add_function(wrap_pyfunction!(named_shared, module)?)?;
    module.add_function(wrap_pyfunction!(open_named_shared, module)?)?;
    module.add_function(wrap_pyfunction!(share_buffer, module)?)?;
    module.add_function(wrap_pyfunction!(open_shared, module)?)
}
