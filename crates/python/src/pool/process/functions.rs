//! Functions on their way to workers: pickled once, sent as an id from then on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_channel::arena::Arena;
use manyhands_pool::task::Function;
use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::interpreter::imports;

/// More functions than this are not kept; a program that makes a new lambda per task never reuses one.
const MOST: usize = 512;

/// Grows when all pools must pickle their functions again.
static AGE: AtomicU64 = AtomicU64::new(0);

/// Has all pools pickle their functions again.
#[pyfunction]
pub(crate) fn forget_functions() {
    // Only a number: whoever submits afterwards is told by the interpreter, or by whatever else orders the two.
    AGE.fetch_add(1, Ordering::Relaxed);
}

struct Known {
    // Holds the object, so that its address stays its own.
    _callable: Py<PyAny>,
    function: Arc<Function>,
    // None: the pickle holds forever. Else what `holds` checks.
    guard: Option<Py<PyTuple>>,
    // The age when it was pickled.
    age: u64,
}

/// The functions that a pool has met.
#[derive(Default)]
pub(crate) struct Functions {
    known: Mutex<HashMap<usize, Known>>,
    next: AtomicU64,
}

impl Functions {
    /// The pickled form of `callable`, from before if that still holds; `None` if it has to be pickled for each task,
    /// among the arguments.
    ///
    /// # Errors
    /// TypeError when it is not callable, what pickling raises, MemoryError.
    pub(crate) fn get(&self, callable: &Bound<'_, PyAny>, arena: &Arena) -> PyResult<Option<Arc<Function>>> {
        let address = callable.as_ptr() as usize;
        let py = callable.py();
        let (function, guard) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(&address).filter(|known| known.age == AGE.load(Ordering::Relaxed)) {
                Some(known) => {
                    (Some(Arc::clone(&known.function)), known.guard.as_ref().map(|guard| guard.clone_ref(py)))
                }
                None => (None, None),
            }
        };
        match (function, guard) {
            (Some(function), None) => Ok(Some(function)),
            (Some(function), Some(guard)) if holds(guard.bind(py))? => Ok(Some(function)),
            _ => self.add(callable, address, arena),
        }
    }

    fn add(
        &self,
        callable: &Bound<'_, PyAny>,
        address: usize,
        arena: &Arena,
    ) -> PyResult<Option<Arc<Function>>> {
        let py = callable.py();
        if !callable.is_callable() {
            let kind = callable.get_type().qualname()?;
            return Err(PyTypeError::new_err(format!("a task needs a callable, not {kind}: {callable}")));
        }
        let age = AGE.load(Ordering::Relaxed);
        let (data, guard): (Option<Bound<'_, PyBytes>>, Bound<'_, PyAny>) =
            imports::function_key(py)?.call1((callable,))?.extract()?;
        let Some(data) = data else { return Ok(None) };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let block = arena.allocate(data.as_bytes().len().max(1)).map_err(|full| {
            PyMemoryError::new_err(format!("cannot allocate shared memory for a function: {full}"))
        })?;
        block.write(0, data.as_bytes());
        let function =
            Arc::new(Function { id, block, length: data.as_bytes().len(), name: name_of(callable) });
        let known = Known {
            _callable: callable.clone().unbind(),
            function: Arc::clone(&function),
            guard: guard.cast_into::<PyTuple>().ok().map(Bound::unbind),
            age,
        };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = if all.len() >= MOST { std::mem::take(&mut *all) } else { HashMap::new() };
        let replaced = all.insert(address, known);
        drop(all);
        // Dropping runs Python code, which may come back here.
        drop((forgotten, replaced));
        Ok(Some(function))
    }
}

/// Whether everything that a function carries along, as `function_key` has found it, is still what it was when it was
/// pickled: asked at every submit.
#[pyfunction]
#[pyo3(name = "guard_holds")]
pub(crate) fn holds(guard: &Bound<'_, PyTuple>) -> PyResult<bool> {
    let absent = imports::absent(guard.py())?;
    for entry in guard.iter_borrowed() {
        let entry = entry.cast::<PyTuple>()?;
        let (container, name) = (entry.get_borrowed_item(0)?, entry.get_borrowed_item(1)?);
        let expected = entry.get_borrowed_item(2)?;
        let same = if let Ok(names) = container.cast_exact::<PyDict>() {
            match names.get_item(name)? {
                Some(value) => value.is(expected),
                None => expected.is(absent),
            }
        } else {
            // An error here: the cell has been emptied, the attribute has gone.
            container.getattr(name.cast::<PyString>()?).is_ok_and(|value| value.is(expected))
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a task of `callable` is called.
pub(crate) fn name_of(callable: &Bound<'_, PyAny>) -> String {
    let py = callable.py();
    let name = callable
        .getattr(intern!(py, "__qualname__"))
        .or_else(|_| callable.get_type().qualname().map(Bound::into_any));
    name.map_or_else(|_| "?".to_owned(), |name| name.to_string())
}
