//! `acquire`, `release` and the `with` statement where nobody has to wait: see [`Shortcut`].

use std::ffi::CStr;
use std::marker::PhantomData;

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyBool;

use crate::interpreter::ffi::{Arguments, Shortcut, add_shortcut};

/// A class that can be acquired and released. Besides these it has `_acquire` and `_release`, which take all the arguments
/// there may be, and `_enter`.
pub(super) trait Quick: PyClass<Frozen = True> + Sync {
    /// Acquires if that can be done at once and nothing is special about it.
    fn enter(&self) -> bool;

    /// Releases if nobody has to be told and nothing is special about it.
    fn leave(&self) -> bool;
}

/// Adds the four methods to a class.
pub(super) fn add_quick_methods<C: Quick>(py: Python<'_>) -> PyResult<()> {
    add_shortcut::<Acquire<C>>(py)?;
    add_shortcut::<Release<C>>(py)?;
    add_shortcut::<Enter<C>>(py)?;
    add_shortcut::<Exit<C>>(py)
}

fn truth(py: Python<'_>) -> Bound<'_, PyAny> {
    PyBool::new(py, true).to_owned().into_any()
}

struct Acquire<C>(PhantomData<C>);

impl<C: Quick> Shortcut for Acquire<C> {
    type Class = C;
    const NAME: &'static CStr = c"acquire";
    const ORDINARY: &'static str = "_acquire";

    #[inline]
    fn attempt<'py>(py: Python<'py>, object: &C, arguments: Arguments<'_, 'py>) -> Option<Bound<'py, PyAny>> {
        (arguments.count() == Some(0) && object.enter()).then(|| truth(py))
    }
}

struct Release<C>(PhantomData<C>);

impl<C: Quick> Shortcut for Release<C> {
    type Class = C;
    const NAME: &'static CStr = c"release";
    const ORDINARY: &'static str = "_release";

    #[inline]
    fn attempt<'py>(py: Python<'py>, object: &C, arguments: Arguments<'_, 'py>) -> Option<Bound<'py, PyAny>> {
        (arguments.count() == Some(0) && object.leave()).then(|| py.None().into_bound(py))
    }
}

struct Enter<C>(PhantomData<C>);

impl<C: Quick> Shortcut for Enter<C> {
    type Class = C;
    const NAME: &'static CStr = c"__enter__";
    const ORDINARY: &'static str = "_enter";

    #[inline]
    fn attempt<'py>(py: Python<'py>, object: &C, _none: Arguments<'_, 'py>) -> Option<Bound<'py, PyAny>> {
        object.enter().then(|| truth(py))
    }
}

struct Exit<C>(PhantomData<C>);

impl<C: Quick> Shortcut for Exit<C> {
    type Class = C;
    const NAME: &'static CStr = c"__exit__";
    const ORDINARY: &'static str = "_exit";

    #[inline]
    fn attempt<'py>(py: Python<'py>, object: &C, _error: Arguments<'_, 'py>) -> Option<Bound<'py, PyAny>> {
        object.leave().then(|| py.None().into_bound(py))
    }
}
