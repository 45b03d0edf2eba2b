//! What PyO3 offers no safe way for: descriptors by number, methods without a wrapper, haste.
//!
//! Unsafe code of this crate is in files of this name and nowhere else: the memory's and the future's are beside them.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::park;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyClass, ffi};

use crate::interpreter::hasty;

/// Whether the calling thread is attached to the interpreter that the program began with.
pub(crate) fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: we are attached (`_py`).
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: the interpreter that runs us.
    unsafe { ffi::PyInterpreterState_GetID(interpreter) == 0 }
}

/// Takes over a descriptor that another program part opened for us and will not close.
pub(crate) fn take_descriptor(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller was told this number as its own: by exec, from the parent's spawn.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A duplicate of a descriptor that Python knows by number.
pub(crate) fn duplicate_descriptor(fd: RawFd) -> std::io::Result<OwnedFd> {
    borrow_descriptor(fd).try_clone_to_owned()
}

/// A descriptor that stays open while the worker lives.
pub(crate) fn borrow_descriptor(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for one call at a time; should the number be closed behind our back, that call fails with EBADF or
    // goes to a file of the same process, as any write by number in Python would.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A method whose common case is answered without the wrapper that PyO3 puts around methods: that wrapper costs as much
/// as acquiring and releasing a lock does.
///
/// Whatever the common case does not cover goes to an ordinary method of the same class, with the same arguments.
pub(crate) trait Shortcut {
    /// The class that has the method.
    type Class: PyClass<Frozen = True> + Sync;
    /// What Python calls it.
    const NAME: &'static CStr;
    /// The ordinary method, once the shortcut has its name.
    const ORDINARY: &'static str;

    /// The common case; `None` (and nothing done) when this is not it.
    fn attempt<'py>(
        py: Python<'py>,
        object: &Self::Class,
        arguments: Arguments<'_, 'py>,
    ) -> Option<Bound<'py, PyAny>>;
}

/// The arguments of a call.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a, 'py> {
    positional: &'a [*mut ffi::PyObject],
    /// Those by name follow those by position; only their values, so meaningless where there are none.
    first: *const *mut ffi::PyObject,
    /// A tuple, or null.
    names: *mut ffi::PyObject,
    py: Python<'py>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// How many there are by position; `None` when there are some by name.
    #[inline]
    pub(crate) fn count(&self) -> Option<usize> {
        self.names.is_null().then_some(self.positional.len())
    }

    /// The one at `index`, if there are so many.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
        let object = *self.positional.get(index)?;
        // SAFETY: CPython keeps the arguments of a call alive until it returns.
        Some(unsafe { Borrowed::from_ptr(self.py, object) })
    }
}

/// Adds a shortcut to its class. The ordinary method, which bears the same name in messages, makes way.
pub(crate) fn add_shortcut<S: Shortcut>(py: Python<'_>) -> PyResult<()> {
    type Function = unsafe extern "C" fn(
        *mut ffi::PyObject,
        *const *mut ffi::PyObject,
        ffi::Py_ssize_t,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    let class = py.get_type::<S::Class>();
    let name = S::NAME.to_string_lossy();
    if let Some(ordinary) = class.getattr_opt(&*name)? {
        class.setattr(S::ORDINARY, ordinary)?;
    }
    let function: Function = shortcut::<S>;
    let ml_meth = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
    let ml_flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    // Forever as well.
    let ml_doc = Box::leak(documentation::<S>(&class)?.into_boxed_c_str()).as_ptr();
    let definition = ffi::PyMethodDef { ml_name: S::NAME.as_ptr(), ml_meth, ml_flags, ml_doc };
    // The descriptor refers to its definition for as long as the class lives, which is forever.
    let definition: *mut ffi::PyMethodDef = Box::leak(Box::new(definition));
    // SAFETY: a live class, and a definition that lives forever; we are attached.
    let method = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, method) }?;
    class.setattr(name, method)
}

/// Signature and text of the ordinary method, in the form in which CPython takes both from the definition. Empty where
/// a subclass defines that method, in Python.
fn documentation<S: Shortcut>(class: &Bound<'_, PyType>) -> PyResult<CString> {
    let Some(ordinary) = class.getattr_opt(S::ORDINARY)? else { return Ok(CString::default()) };
    let signature: Option<String> = ordinary.getattr("__text_signature__")?.extract()?;
    let text: Option<String> = ordinary.getattr("__doc__")?.extract()?;
    let (signature, text) = (signature.unwrap_or_default(), text.unwrap_or_default());
    let name = S::NAME.to_string_lossy();
    let head = if signature.is_empty() { String::new() } else { format!("{name}{signature}\n--\n\n") };
    Ok(CString::new(head + &text)?)
}

/// # Safety
/// Called by CPython, for a method descriptor of the shortcut's class: it has checked the type of `object`.
unsafe extern "C" fn shortcut<S: Shortcut>(
    object: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls methods attached.
    let py = unsafe { Python::assume_attached() };
    let count = usize::try_from(count).unwrap_or(0);
    let positional = if count == 0 {
        &[]
    } else {
        // SAFETY: as the calling convention has it, that many arguments by position are there (those by name follow).
        unsafe { std::slice::from_raw_parts(arguments, count) }
    };
    let arguments = Arguments { positional, first: arguments, names, py };
    // SAFETY: alive during the call.
    let object = unsafe { Borrowed::from_ptr(py, object) };
    // SAFETY: an instance of the class, see above.
    let instance = unsafe { object.cast_unchecked::<S::Class>() };
    let answer = || match S::attempt(py, instance.get(), arguments) {
        Some(answer) => answer.into_ptr(),
        None => ordinary::<S>(object, arguments),
    };
    catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|_| {
        PanicException::new_err("a panic in manyhands; please report it").restore(py);
        std::ptr::null_mut()
    })
}

/// Calls the method behind a shortcut; null with an exception set when it raises.
#[cold]
fn ordinary<S: Shortcut>(
    object: Borrowed<'_, '_, PyAny>,
    arguments: Arguments<'_, '_>,
) -> *mut ffi::PyObject {
    let call = || {
        let py = object.py();
        let count = arguments.positional.len();
        let positional: Vec<_> = (0..count).filter_map(|index| arguments.get(index)).collect();
        let positional = PyTuple::new(py, positional)?;
        let named = PyDict::new(py);
        if !arguments.names.is_null() {
            // SAFETY: not null, so a tuple that lives until the call returns.
            let names = unsafe { Borrowed::from_ptr(py, arguments.names) };
            for (index, name) in names.try_iter()?.enumerate() {
                // SAFETY: the values of arguments by name follow those by position, one for each name.
                let value = unsafe { arguments.first.add(count + index) };
                // SAFETY: as above.
                let value = unsafe { *value };
                // SAFETY: CPython keeps the arguments of a call alive until it returns.
                named.set_item(name?, unsafe { Borrowed::from_ptr(py, value) })?;
            }
        }
        crate::interpreter::ending::outlast();
        object.getattr(S::ORDINARY)?.call(positional, Some(&named))
    };
    // Attached already; but what is dropped from here on wants PyO3 to know it, too.
    Python::attach(|py| match call() {
        Ok(answer) => answer.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    })
}

/// While it lives, the main thread stands aside: it releases the interpreter as soon as it can, where it would otherwise
/// keep it until the switch interval (5 ms) is over (up to CPython 3.12 the first time all the same: only then does it
/// look). For a thread that needs the interpreter at once, and seldom does.
pub(crate) struct Haste;

/// How long the main thread stands aside at most, in nanoseconds: where CPUs are scarce, the other one is not there at once.
const ASIDE: u64 = 50 * MILLISECOND;
/// And between two looks.
const STEP: u64 = 20_000;

impl Haste {
    /// To be called by a thread that is about to attach. Dropping it says that it needs the interpreter no more.
    pub(crate) fn begin() -> Self {
        hasty::one_more();
        // SAFETY: may be called by any thread, attached or not. Its list may be full: then it is the interval, after all.
        _ = unsafe { ffi::Py_AddPendingCall(Some(stand_aside), std::ptr::null_mut()) };
        Self
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        hasty::one_less();
    }
}

extern "C" fn stand_aside(_: *mut c_void) -> c_int {
    if hasty::is_any() {
        // SAFETY: Python calls this between two instructions of a thread that is attached.
        let thread = unsafe { ffi::PyEval_SaveThread() };
        let end = clock::now() + ASIDE;
        // Whoever attaches again at once, does so before those who have to be woken.
        while hasty::is_any() && clock::now() < end {
            park::sleep_until(clock::now() + STEP);
        }
        // SAFETY: as it was before.
        unsafe { ffi::PyEval_RestoreThread(thread) };
    }
    0
}
