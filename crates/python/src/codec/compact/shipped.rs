//! The function of a map, as each chunk brings it: its key and its pickle.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

use super::Decoder;
use super::known_class::KnownClass;
use crate::interpreter::imports;

/// `manyhands._task.chunk.ShippedFunction`, once there is one.
static CLASS: KnownClass = KnownClass::new();

/// Bytes of the key, which stands before the pickle.
const KEY: usize = size_of::<u64>();

/// Says what class the functions of maps are of.
#[pyfunction]
pub(crate) fn register_shipped_function(class: Bound<'_, PyType>) {
    CLASS.set(class);
}

pub(super) fn is_shipped(value: &Bound<'_, PyAny>) -> bool {
    CLASS.is_of(value)
}

/// Key and pickle; `None` when something comes apart from these.
pub(super) fn content(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let py = value.py();
    let key = value.getattr(intern!(py, "key")).ok()?;
    let data = value.getattr(intern!(py, "data")).ok()?;
    let (key, data) = (key.extract::<u64>().ok()?.to_le_bytes(), data.cast_exact::<PyBytes>().ok()?);
    let is_whole = value.getattr(intern!(py, "buffers")).ok()?.is_empty().ok()?;
    is_whole.then(|| [&key, data.as_bytes()].concat())
}

/// The function; `None` when the bytes are malformed, or with `decoder.error` when it cannot be taken in.
pub(super) fn decode<'py>(py: Python<'py>, decoder: &mut Decoder<'_>) -> Option<Bound<'py, PyAny>> {
    let (key, data) = decoder.content()?.split_first_chunk::<KEY>()?;
    let parts = (u64::from_le_bytes(*key), PyBytes::new(py, data), PyTuple::empty(py));
    let arrive = || imports::arrive(py)?.call1(parts);
    arrive().map_err(|error: PyErr| decoder.error = Some(error)).ok()
}
