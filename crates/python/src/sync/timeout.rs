//! How long to wait, as Python says it.

use manyhands_os::clock;
use manyhands_sync::Patience;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::interpreter::argument::{Seconds, too_long};

/// The most seconds a wait may be given: what `threading.TIMEOUT_MAX` is where time counts in nanoseconds.
const LONGEST_S: f64 = 9_223_372_036.0;

/// Whether to wait, as `acquire`, `put` or `get` was told: None is an answer, which nothing is not.
pub(crate) struct Flag<'py>(Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Flag<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

impl Flag<'_> {
    /// Not told.
    pub(crate) const ABSENT: Self = Self(None);

    /// The one that was given, of two names for the same.
    ///
    /// # Errors
    /// TypeError when both were.
    pub(crate) fn or(self, block: Self) -> PyResult<Self> {
        match (&self.0, &block.0) {
            (Some(_), Some(_)) => {
                Err(PyTypeError::new_err("acquire() takes blocking or its synonym block, not both"))
            }
            (None, _) => Ok(block),
            (Some(_), None) => Ok(self),
        }
    }

    /// As Python asks it of anything.
    fn is_true(&self) -> PyResult<bool> {
        self.0.as_ref().map_or(Ok(true), |flag| flag.is_truthy())
    }

    /// As locks of `threading` ask it: before Python 3.12 of whole numbers only.
    fn is_true_number(&self) -> PyResult<bool> {
        match &self.0 {
            Some(flag) if !flag.is_instance_of::<PyBool>() && flag.py().version_info() < (3, 12) => {
                Ok(flag.extract::<i32>()? != 0)
            }
            _ => self.is_true(),
        }
    }
}

/// What `acquire` of a lock was called with, by the rules of `threading`.
///
/// # Errors
/// ValueError for a time limit with a call that does not wait, or a negative one; OverflowError; TypeError.
pub(crate) fn of_lock(blocking: &Flag<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Patience> {
    let seconds =
        timeout.map(|timeout| timeout.extract::<Seconds>()).transpose()?.map_or(-1.0, |seconds| seconds.0);
    let endless = seconds == -1.0;
    if !blocking.is_true_number()? {
        return match endless {
            true => Ok(Patience::Now),
            false => Err(PyValueError::new_err("can't specify a timeout for a non-blocking call")),
        };
    }
    match endless {
        true => Ok(Patience::Forever),
        false if seconds < 0.0 => Err(PyValueError::new_err("timeout value must be a non-negative number")),
        false => after(&Seconds(seconds)),
    }
}

/// What `acquire` of a semaphore was called with, by the rules of `threading`.
///
/// # Errors
/// As [`of_lock`], except that a negative time limit is none at all.
pub(crate) fn of_semaphore(blocking: &Flag<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Patience> {
    if !blocking.is_true()? {
        return match timeout {
            None => Ok(Patience::Now),
            Some(_) => Err(PyValueError::new_err("can't specify timeout for non-blocking acquire")),
        };
    }
    of_wait(timeout)
}

/// What `put` and `get` of a queue were called with, by the rules of `queue`.
///
/// # Errors
/// ValueError for a negative time limit; TypeError, OverflowError.
pub(crate) fn of_queue(block: &Flag<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Patience> {
    if !block.is_true()? {
        return Ok(Patience::Now);
    }
    let Some(timeout) = timeout else { return Ok(Patience::Forever) };
    let seconds = timeout.extract::<Seconds>()?;
    if seconds.0 < 0.0 {
        return Err(PyValueError::new_err("'timeout' must be a non-negative number"));
    }
    after(&seconds)
}

/// What `wait` was called with: seconds or None.
///
/// # Errors
/// TypeError, OverflowError; ValueError for NaN.
pub(crate) fn of_wait(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Patience> {
    match timeout {
        None => Ok(Patience::Forever),
        Some(timeout) => after(&timeout.extract()?),
    }
}

/// What is left of `patience`, as the waits of coroutines take it: seconds, or `None` for no limit.
pub(crate) fn left(patience: Patience) -> Option<f64> {
    patience.deadline().map(|deadline| clock::seconds(clock::until(deadline)))
}

fn after(seconds: &Seconds) -> PyResult<Patience> {
    let seconds = seconds.number()?;
    if seconds > LONGEST_S {
        return Err(too_long());
    }
    if seconds <= 0.0 {
        return Ok(Patience::Now);
    }
    Ok(Patience::of_seconds(seconds))
}
