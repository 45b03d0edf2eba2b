//! The bytes of a shared block in place: what PyO3 offers no safe way for.

use std::ptr::NonNull;

use manyhands_sync::words::Words;
use pyo3::ffi;
use pyo3::prelude::*;

use super::SharedBlock;
use crate::memory::ffi::fill_view;
use crate::memory::objects::Record;

/// The memory of a shared record, which Python reads, and unless it is read-only writes, in place.
///
/// Holds the record for as long as it lives; a memoryview of it holds *it*.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct SharedBuffer {
    record: Record,
    length: usize,
    read_only: bool,
}

impl SharedBuffer {
    /// The first `length` bytes of a record; `None` when it has not so many.
    pub(crate) fn new(record: Record, length: usize, read_only: bool) -> Option<Self> {
        (length <= record.words().count() * 8).then_some(Self { record, length, read_only })
    }

    fn pointer(&self) -> NonNull<u8> {
        self.record.site().segment().pointer(self.record.words().offset_of(0), self.length)
    }

    /// Where it begins in the memory of this process.
    pub(crate) fn start(&self) -> usize {
        self.pointer().as_ptr() as usize
    }

    /// Copies `bytes` to its beginning. Panics when they do not fit.
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "{} bytes do not fit in {}", bytes.len(), self.length);
        self.record.site().segment().copy_in(self.record.words().offset_of(0), bytes);
    }
}

#[pymethods]
impl SharedBuffer {
    /// The bytes of a block, for a class that shows them in its own way.
    #[new]
    fn of_block(block: &SharedBlock, read_only: bool) -> PyResult<Self> {
        block.buffer(read_only)
    }

    /// # Safety
    /// Called by CPython with a view to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let start = this.pointer().as_ptr();
        // SAFETY: CPython gave the view; the segment has checked that the memory lies inside it, and lives as long as
        // the record, and the record as long as `slf`.
        unsafe { fill_view(&slf, view, start, this.length, this.read_only, flags) }
    }
}
