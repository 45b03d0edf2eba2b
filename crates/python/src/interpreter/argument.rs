//! What users give, and what they are told when it is no good: which argument, and what it must be.

use std::ops::Deref;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// The name of something that processes share.
pub(crate) struct Name<'a>(&'a str);

impl<'a, 'py> FromPyObject<'a, 'py> for Name<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        object.extract::<&'a str>().map(Self).map_err(|_| {
            if !object.is_instance_of::<PyString>() {
                let kind = object.get_type();
                return PyTypeError::new_err(format!("a name must be a str or None, not {}", name_of(&kind)));
            }
            // A file name that is no UTF-8, for one.
            let shown = object.repr().map_or_else(|_| "this one".to_owned(), |text| text.to_string());
            PyValueError::new_err(format!("a name must be text that UTF-8 can encode, not {shown}"))
        })
    }
}

impl Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

/// How long to wait, in seconds.
pub(crate) struct Seconds(pub(crate) f64);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.extract::<f64>().map(Self).map_err(|error| {
            let py = object.py();
            if error.is_instance_of::<PyOverflowError>(py) {
                return too_long();
            }
            match (error.is_instance_of::<PyTypeError>(py), object.get_type().name()) {
                (true, Ok(kind)) => {
                    PyTypeError::new_err(format!("timeout must be a number of seconds or None, not {kind}"))
                }
                _ => error,
            }
        })
    }
}

impl Seconds {
    /// The number, if it is one.
    ///
    /// # Errors
    /// ValueError for NaN.
    pub(crate) fn number(&self) -> PyResult<f64> {
        match self.0.is_nan() {
            true => Err(PyValueError::new_err("timeout must be a number of seconds or None, not NaN")),
            false => Ok(self.0),
        }
    }
}

/// For more seconds than a wait can be given.
pub(crate) fn too_long() -> PyErr {
    PyOverflowError::new_err("timeout value is too large")
}

/// The integer that the argument `what` must be.
///
/// # Errors
/// TypeError, OverflowError.
pub(crate) fn integer(what: &str, number: &Bound<'_, PyAny>) -> PyResult<i64> {
    number.extract::<i64>().map_err(|error| {
        let py = number.py();
        if error.is_instance_of::<PyOverflowError>(py) {
            return PyOverflowError::new_err(format!("{what} must fit in 64 bits"));
        }
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        PyTypeError::new_err(format!("{what} must be an integer, not {}", name_of(&number.get_type())))
    })
}

fn name_of(kind: &Bound<'_, PyType>) -> String {
    kind.name().map_or_else(|_| "this".to_owned(), |name| name.to_string())
}
