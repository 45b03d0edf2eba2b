//! Blocks of shared memory that Python uses in place: behind `share`, `SharedArray`, `Value` and `Array`.

use manyhands_sync::names::Kind;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ffi::{self, RecordBuffer};
use crate::home::{self, Record};
use crate::imports;

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
    fn length(&self) -> usize {
        self.length
    }

    /// Where it begins in the memory of this process.
    #[getter]
    fn start(&self) -> PyResult<usize> {
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

    /// A memoryview of the block.
    fn view<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        imports::memoryview(py)?.call1((Bound::new(py, self.buffer(!writable)?)?,))
    }
}

impl SharedBlock {
    /// Its bytes, as CPython's buffer protocol has them.
    pub(crate) fn buffer(&self, read_only: bool) -> PyResult<RecordBuffer> {
        RecordBuffer::new(self.record.clone(), self.length, read_only)
            .ok_or_else(|| PyRuntimeError::new_err("a shared block shrank"))
    }
}

/// Rounded up, and at least one: there is no block without bytes.
fn words(length: usize) -> usize {
    length.div_ceil(WORD).max(1)
}

/// A new block of `length` bytes, all zero. With a name it is the one of that name, which must be as long.
#[pyfunction]
#[pyo3(signature = (length, name = None, layout = 0))]
fn new_shared(length: usize, name: Option<&str>, layout: u64) -> PyResult<SharedBlock> {
    let words = words(length);
    let record = home::record(None, Kind::Array, name, &[length as u64, layout], words, |_, _| Ok(()))?;
    Ok(SharedBlock { record, length })
}

/// Copies a buffer into a new block.
#[pyfunction]
fn share_buffer(py: Python<'_>, buffer: PyBuffer<u8>) -> PyResult<SharedBlock> {
    let length = buffer.len_bytes();
    let block = SharedBlock { record: home::new_record(Kind::Array, words(length))?, length };
    let target = block.buffer(false)?;
    let bytes = ffi::bytes_of_buffer(&buffer);
    py.detach(|| target.write(bytes));
    Ok(block)
}

/// Opens a block of `length` bytes by its address.
#[pyfunction]
fn open_shared(address: &Bound<'_, PyTuple>, length: usize) -> PyResult<SharedBlock> {
    if length > isize::MAX as usize {
        return Err(PyValueError::new_err("a shared block cannot be so long"));
    }
    Ok(SharedBlock { record: home::open_record(address, Kind::Array, words(length))?, length })
}

/// Adds shared blocks to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SharedBlock>()?;
    module.add_class::<RecordBuffer>()?;
    module.add_function(wrap_pyfunction!(new_shared, module)?)?;
    module.add_function(wrap_pyfunction!(share_buffer, module)?)?;
    module.add_function(wrap_pyfunction!(open_shared, module)?)
}
