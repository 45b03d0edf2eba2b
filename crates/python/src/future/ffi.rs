//! The class of futures, and what the garbage collector knows of them: what PyO3 offers no safe way for.

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::FutureBase;

/// A Python class that extends [`FutureBase`], ready to be instantiated without a call through Python.
pub(crate) struct FutureClass {
    class: Py<PyType>,
    new: ffi::newfunc,
    no_arguments: Py<PyTuple>,
}

static FUTURE_CLASS: PyOnceLock<FutureClass> = PyOnceLock::new();

impl FutureClass {
    /// Takes `class`, once per process, as the class of all futures that Rust makes.
    pub(crate) fn register(class: &Bound<'_, PyType>) -> PyResult<()> {
        let py = class.py();
        if !class.is_subclass_of::<FutureBase>()? {
            return Err(PySystemError::new_err("the class of futures must extend FutureBase"));
        }
        // SAFETY: `class` is a live type object; the slot of that number holds a `newfunc` or nothing.
        let slot = unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_new) };
        if slot.is_null() {
            return Err(PySystemError::new_err("the class of futures cannot be instantiated"));
        }
        // SAFETY: CPython stores a `newfunc` in `tp_new` and nothing else; it is not null.
        let new = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::newfunc>(slot) };
        let no_arguments = PyTuple::empty(py).unbind();
        _ = FUTURE_CLASS.set(py, Self { class: class.clone().unbind(), new, no_arguments });
        Ok(())
    }

    /// A new, pending future.
    ///
    /// `__init__` is not called: the class has nothing to do there, and the detour through `type.__call__` costs as
    /// much as all the rest.
    pub(crate) fn instantiate(py: Python<'_>) -> PyResult<Bound<'_, FutureBase>> {
        let Some(this) = FUTURE_CLASS.get(py) else {
            return Err(PySystemError::new_err("manyhands.Future has not been imported"));
        };
        let (class, arguments) = (this.class.as_ptr().cast(), this.no_arguments.as_ptr());
        // SAFETY: `new` came from the `tp_new` slot of `class`, which lives as long as the process, as the empty tuple
        // does; a null for keyword arguments means that there are none. We are attached (`py`).
        let instance = unsafe { (this.new)(class, arguments, std::ptr::null_mut()) };
        // SAFETY: `tp_new` returns a new reference, or null with an exception set.
        let instance = unsafe { Bound::from_owned_ptr_or_err(py, instance) }?;
        // SAFETY: `class` extends FutureBase (checked when it was registered), and so its instances are FutureBases.
        let future = unsafe { instance.cast_into_unchecked::<FutureBase>() };
        hide_from_collector(&future);
        Ok(future)
    }
}

/// Takes a future out of the garbage collector's lists, for as long as it refers to nothing that could refer back.
///
/// A program may wait for a million of them, and the collector would visit each again and again.
fn hide_from_collector(future: &Bound<'_, FutureBase>) {
    // SAFETY: a live object whose type has the flag Py_TPFLAGS_HAVE_GC (it has a `__traverse__`); we are attached.
    unsafe { ffi::PyObject_GC_UnTrack(future.as_ptr().cast()) }
}

/// Puts a future back into the garbage collector's lists, if it is not there.
///
/// Two threads must not do this to one future at the same time.
pub(crate) fn show_to_collector(future: &Bound<'_, FutureBase>) {
    let object = future.as_ptr();
    // SAFETY: a live object; we are attached.
    if unsafe { ffi::PyObject_GC_IsTracked(object) } == 0 {
        // SAFETY: a live, completely initialised object whose type has the flag, and which is not tracked.
        unsafe { ffi::PyObject_GC_Track(object.cast()) }
    }
}

/// Whether the garbage collector knows objects of this one's kind: others refer to nothing.
pub(crate) fn is_collectable_kind(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the type of a live object; we are attached.
    let flags = unsafe { ffi::PyType_GetFlags(object.get_type_ptr()) };
    flags & ffi::Py_TPFLAGS_HAVE_GC != 0
}

/// Sets or deletes an attribute as `object` itself would.
pub(crate) fn set_plain_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: live objects; a null value means deletion; we are attached.
    let status = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) };
    if status == 0 { Ok(()) } else { Err(PyErr::fetch(object.py())) }
}
