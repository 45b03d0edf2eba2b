//! A class of the Python half that the codec knows by itself.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyType;

/// The class, once its module has said which it is.
pub(super) struct KnownClass(OnceLock<Py<PyType>>);

impl KnownClass {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(super) fn set(&self, class: Bound<'_, PyType>) {
        // It is the same one each time: the module's.
        _ = self.0.set(class.unbind());
    }

    /// Whether a value is of this very class, not of one derived from it.
    pub(super) fn is_of(&self, value: &Bound<'_, PyAny>) -> bool {
        self.0.get().is_some_and(|class| value.get_type_ptr().cast() == class.as_ptr())
    }
}
