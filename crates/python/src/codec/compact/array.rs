//! Where a shared array lies, among the arguments of a task: as pickle says it, in a tenth of the time.
//!
//! Address of the block, its length, where in it the first element lies, whether the array may be written to, its type as one
//! character of the buffer protocol, the number of dimensions, and of each length and stride. An array that needs more words
//! than these - of structures, in another byte order, with a name or an attribute, in a block that it does not lie in - is left
//! to pickle.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::Decoder;
use super::known_class::KnownClass;
use crate::interpreter::imports;
use crate::memory::objects::BlockAddress;
use crate::memory::shared_block::SharedBlock;
use crate::memory::shared_heap::Referenced;

/// The class of shared arrays, once there is one.
static CLASS: KnownClass = KnownClass::new();

/// Types of which NumPy knows all from this character.
const PLAIN: &[u8] = b"?bBhHiIlLqQefdg";

/// An array of more dimensions would hardly fit into a slot.
const MOST_DIMENSIONS: usize = 4;

/// Says what class shared arrays are of.
#[pyfunction]
pub(crate) fn register_shared_array(class: Bound<'_, PyType>) {
    CLASS.set(class);
}

pub(super) fn is_array(value: &Bound<'_, PyAny>) -> bool {
    CLASS.is_of(value)
}

/// Appends where an array lies, and to `references` what keeps it there; `None` when pickle must say it.
pub(super) fn encode(
    value: &Bound<'_, PyAny>,
    bytes: &mut Vec<u8>,
    references: &mut Vec<Referenced>,
) -> Option<()> {
    let py = value.py();
    let block = value.getattr(intern!(py, "_block")).ok()?;
    let block = block.cast::<SharedBlock>().ok()?.get();
    let has_more = value.getattr(intern!(py, "__dict__")).ok()?.len().ok()? > 1;
    let address = block.record().block_address()?;
    let metadata = value.getattr(intern!(py, "dtype")).ok()?.getattr(intern!(py, "metadata")).ok()?;
    let buffer = PyUntypedBuffer::get(value).ok()?;
    let &[kind] = buffer.format().to_bytes() else { return None };
    let dimensions = buffer.dimensions();
    if has_more || !metadata.is_none() || !PLAIN.contains(&kind) || dimensions > MOST_DIMENSIONS {
        return None;
    }
    let offset = offset_in(block, &buffer)?;
    bytes.extend(address.to_bytes());
    bytes.extend((block.length() as u64).to_ne_bytes());
    bytes.extend((offset as u64).to_ne_bytes());
    #[allow(clippy::cast_possible_truncation, reason = "looked at above")]
    bytes.extend([u8::from(!buffer.readonly()), kind, dimensions as u8]);
    for (length, stride) in buffer.shape().iter().zip(buffer.strides()) {
        bytes.extend((*length as u64).to_ne_bytes());
        bytes.extend((*stride as i64).to_ne_bytes());
    }
    references.push(block.record().reference());
    Some(())
}

/// Where in the block the first element lies; `None` when not all of them lie there.
fn offset_in(block: &SharedBlock, buffer: &PyUntypedBuffer) -> Option<usize> {
    let first = (buffer.buf_ptr() as usize).checked_sub(block.start().ok()?)?;
    let (mut low, mut high) = (first, first.checked_add(buffer.item_size())?);
    for (length, stride) in buffer.shape().iter().zip(buffer.strides()) {
        let reach = isize::try_from(length.checked_sub(1)?).ok()?.checked_mul(*stride)?;
        low = low.checked_add_signed(reach.min(0))?;
        high = high.checked_add_signed(reach.max(0))?;
    }
    (high <= block.length()).then_some(first)
}

/// The array; `None` when the bytes are malformed, or with `decoder.error` when it cannot be opened.
pub(super) fn decode<'py>(py: Python<'py>, decoder: &mut Decoder<'_>) -> Option<Bound<'py, PyAny>> {
    let address = BlockAddress::from_bytes(decoder.take(BlockAddress::BYTES)?.try_into().ok()?);
    let length = usize::try_from(decoder.word()?).ok()?;
    let offset = decoder.word()?;
    let (is_writable, kind, dimensions) = (decoder.byte()? != 0, decoder.byte()?, decoder.byte()?);
    if !PLAIN.contains(&kind) {
        return None;
    }
    let mut shape = Vec::with_capacity(dimensions.into());
    let mut strides = Vec::with_capacity(dimensions.into());
    for _ in 0..dimensions {
        shape.push(decoder.word()?);
        strides.push(decoder.word()?.cast_signed());
    }
    let open = || {
        let block = SharedBlock::open(&address, length)?;
        let (shape, strides) = (PyTuple::new(py, shape)?, PyTuple::new(py, strides)?);
        imports::array_over(py)?.call1((block, offset, shape, strides, char::from(kind), is_writable))
    };
    open().map_err(|error: PyErr| decoder.error = Some(error)).ok()
}
