//! The only unsafe code of this crate: what PyO3 offers no safe way for.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use manyhands_channel::arena::Block;
use manyhands_memory::home::Received;
use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::park;
use manyhands_sync::words::Words;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PySystemError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyClass, ffi};

use crate::future::FutureBase;
use crate::hasty;
use crate::home::Record;
use crate::shared_block::SharedBlock;

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

/// Whether the calling thread is attached to the interpreter that the program began with.
pub(crate) fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: we are attached (`_py`).
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: the interpreter that runs us.
    unsafe { ffi::PyInterpreterState_GetID(interpreter) == 0 }
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

/// Makes `view` one of `length` bytes from `start` on, which holds `owner`.
///
/// # Safety
/// `view` is CPython's, to be filled in, and the bytes live as long as `owner`.
unsafe fn fill_view(
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

/// The memory of a shared record, which Python reads, and unless it is read-only writes, in place.
///
/// Holds the record for as long as it lives; a memoryview of it holds *it*.
#[pyclass(frozen, subclass, module = "manyhands._native")]
pub(crate) struct RecordBuffer {
    record: Record,
    length: usize,
    read_only: bool,
}

impl RecordBuffer {
    /// The first `length` bytes of a record; `None` when it has not so many.
    pub(crate) fn new(record: Record, length: usize, read_only: bool) -> Option<Self> {
        (length <= record.words().count() * 8).then_some(Self { record, length, read_only })
    }

    fn pointer(&self) -> NonNull<u8> {
        self.record.site().segment().pointer(self.record.words().offset_of(0), self.length)
    }

    /// Where it begins in the memory of this process.
    pub(crate) fn start(&self) -> usize {
        self.pointer().as_ptr() as usize
    }

    /// Copies `bytes` to its beginning. Panics when they do not fit.
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.length, "{} bytes do not fit in {}", bytes.len(), self.length);
        self.record.site().segment().copy_in(self.record.words().offset_of(0), bytes);
    }
}

#[pymethods]
impl RecordBuffer {
    /// The bytes of a block, for a class that shows them in its own way.
    #[new]
    fn of_block(block: &SharedBlock, read_only: bool) -> PyResult<Self> {
        block.buffer(read_only)
    }

    /// # Safety
    /// Called by CPython with a view to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let start = this.pointer().as_ptr();
        // SAFETY: CPython gave the view; the segment has checked that the memory lies inside it, and lives as long as
        // the record, and the record as long as `slf`.
        unsafe { fill_view(&slf, view, start, this.length, this.read_only, flags) }
    }
}

/// Memory from here on is copied without the interpreter: others may run meanwhile.
const LONG_COPY: usize = 256 * 1024;

/// Copies a buffer into a block, from byte `at` on. Panics when it does not fit.
pub(crate) fn copy_buffer(py: Python<'_>, buffer: &PyBuffer<u8>, block: &Block, at: usize) {
    let length = buffer.len_bytes();
    assert!(buffer.is_c_contiguous(), "buffers out of pickles are contiguous");
    if length == 0 {
        return;
    }
    // SAFETY: a contiguous buffer of that many bytes, which `buffer` holds. That another thread writes to an array while
    // it is being submitted is the same race that it is under pickle: what arrives is some mixture of both.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), length) };
    if length < LONG_COPY {
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
    // For ever as well.
    let ml_doc = Box::leak(documentation::<S>(&class)?.into_boxed_c_str()).as_ptr();
    let definition = ffi::PyMethodDef { ml_name: S::NAME.as_ptr(), ml_meth, ml_flags, ml_doc };
    // The descriptor refers to its definition for as long as the class lives, which is for ever.
    let definition: *mut ffi::PyMethodDef = Box::leak(Box::new(definition));
    // SAFETY: a live class, and a definition that lives for ever; we are attached.
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
        crate::ending::outlast();
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

/// While it lives, the main thread stands aside: it lets go of the interpreter as soon as it can, where it would otherwise
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
