//! Python's buffers as bytes to send, and as places to receive into.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Gives the bytes of an object to `consume`.
///
/// # Errors
/// TypeError when it has none; BufferError when they lie apart.
pub(super) fn with_bytes<T>(data: &Bound<'_, PyAny>, consume: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(consume(bytes.as_bytes()));
    }
    Ok(consume(&Contiguous::of(data)?.to_vec(data.py())))
}

/// A buffer in one piece.
pub(super) struct Contiguous(PyUntypedBuffer);

impl Contiguous {
    /// Asks an object for its bytes.
    ///
    /// # Errors
    /// TypeError when it has none; BufferError when they lie apart.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        match buffer.is_c_contiguous() {
            true => Ok(Self(buffer)),
            false => Err(PyBufferError::new_err("memoryview: underlying buffer is not C-contiguous")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len_bytes()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.0.readonly()
    }

    /// A copy: other threads may write to the buffer while we send.
    pub(super) fn to_vec(&self, _py: Python<'_>) -> Vec<u8> {
        let mut copy = vec![0; self.len()];
        // SAFETY: a live buffer in one piece of that length, and memory of our own of the same length; Python code of other
        // threads that writes there meanwhile does what it does to `socket.send`.
        unsafe { self.0.buf_ptr().cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr(), copy.len()) };
        copy
    }

    /// Writes `bytes` to the beginning of a writable buffer that is at least as long.
    pub(super) fn fill(&self, _py: Python<'_>, bytes: &[u8]) {
        assert!(!self.is_read_only() && bytes.len() <= self.len(), "a place to receive into");
        // SAFETY: a live, writable buffer in one piece of at least that length, and bytes of our own.
        unsafe { self.0.buf_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}
