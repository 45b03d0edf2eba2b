//! Shared memory as Python's buffers, and buffers as bytes: what PyO3 offers no safe way for.

use manyhands_channel::arena::Block;
use manyhands_memory::mappings::Received;
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;

/// Makes `view` one of `length` bytes from `start` on, which holds `owner`.
///
/// # Safety
/// `view` is CPython's, to be filled in, and the bytes live as long as `owner`.
pub(crate) unsafe fn fill_view(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    start: *mut u8,
    length: usize,
    read_only: bool,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    let length = ffi::Py_ssize_t::try_from(length)?;
    // SAFETY: the caller's promise; a live object, and we are attached.
    let filled = unsafe {
        ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.cast(), length, read_only.into(), flags)
    };
    if filled == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}

/// A part of a block of shared memory that Python reads, and unless it is read-only writes, in place.
///
/// Holds the block for as long as it lives; a memoryview of it holds *it*.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct BlockBuffer {
    block: Block,
    offset: usize,
    length: usize,
    read_only: bool,
    /// What makes it this process's own, if it is.
    _received: Option<Received>,
}

impl BlockBuffer {
    /// `None` when the part does not lie inside the block.
    pub(crate) fn new(
        block: Block,
        offset: usize,
        length: usize,
        read_only: bool,
        received: Option<Received>,
    ) -> Option<Self> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= block.len());
        inside.then_some(Self { block, offset, length, read_only, _received: received })
    }
}

#[pymethods]
impl BlockBuffer {
    /// # Safety
    /// Called by CPython with a view to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: `new` has checked that the part lies inside the block, which `this` holds.
        let start = unsafe { this.block.pointer().as_ptr().add(this.offset) };
        // SAFETY: CPython gave the view; the memory lives as long as the block, and the block as long as `slf`.
        unsafe { fill_view(&slf, view, start, this.length, this.read_only, flags) }
    }
}

/// Memory from here on is copied without the interpreter: others may run at the same time.
const LONG_COPY: usize = 256 * 1024;

/// Copies a buffer into a block, from byte `at` on. Panics when it does not fit.
pub(crate) fn copy_buffer(py: Python<'_>, buffer: &PyBuffer<u8>, block: &Block, at: usize) {
    let bytes = bytes_of_buffer(buffer);
    if bytes.len() < LONG_COPY {
        block.write(at, bytes);
    } else {
        py.detach(|| block.write(at, bytes));
    }
}

/// The bytes of a buffer, where they are.
///
/// That another thread writes to an array while it is being sent is the same race that it is under pickle: what arrives
/// is some mixture of both.
pub(crate) fn bytes_of_buffer(buffer: &PyBuffer<u8>) -> &[u8] {
    assert!(buffer.is_c_contiguous(), "buffers out of pickles are contiguous");
    if buffer.len_bytes() == 0 {
        return &[];
    }
    // SAFETY: a contiguous buffer of that many bytes, which `buffer` holds; about writers see above.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) }
}
