//! The shared memory of this process: as the root of its pools, as a zygote, as a worker.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use manyhands_channel::arena::{Arena, BlockRef};
use manyhands_memory::layout::region;
use manyhands_memory::mappings::Mapping;
use manyhands_memory::shared_heap::{SMALLEST_LIMIT, SharedHeap, ZYGOTE};
use manyhands_os::memory::Segment;
use manyhands_os::process::{self, Pidfd};
use manyhands_sync::site::Site;
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::interpreter::ffi;
use crate::interpreter::system_error::system_error;

/// The shared heap that this process has created for its own pools, and the fork it was created in.
static OWN: Mutex<Option<(u32, Arc<SharedHeap>)>> = Mutex::new(None);
/// Bytes; 0 until somebody sets it.
static LIMIT: AtomicUsize = AtomicUsize::new(0);
/// The segment of the parent, in a zygote and its workers.
static PARENT: OnceLock<Arc<Segment>> = OnceLock::new();
/// The parent's arena as this worker sees it, and the mapping that it belongs to.
static PARENT_ARENA: OnceLock<(Arc<Arena>, Arc<Mapping>)> = OnceLock::new();

/// The shared heap of this process, created when first needed. A forked child creates its own.
pub(crate) fn own() -> PyResult<Arc<SharedHeap>> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::fork_count();
    if let Some((fork, heap)) = &*own
        && *fork == here
    {
        return Ok(Arc::clone(heap));
    }
    let limit = match LIMIT.load(Ordering::Relaxed) {
        0 => limit_from_environment()?,
        limit => Some(limit),
    };
    let heap = Arc::new(limit.map_or_else(SharedHeap::create_default, SharedHeap::create).map_err(refusal)?);
    // The one of before a fork belongs to the parent: neither used nor released here.
    std::mem::forget(own.replace((here, Arc::clone(&heap))));
    Ok(heap)
}

fn refusal(error: io::Error) -> PyErr {
    match error.kind() {
        io::ErrorKind::OutOfMemory => PyMemoryError::new_err(format!(
            "cannot allocate shared memory: {error}; MANYHANDS_SHARED_MEMORY limits its size (in bytes)"
        )),
        _ => system_error("allocate shared memory", error),
    }
}

fn limit_from_environment() -> PyResult<Option<usize>> {
    let Some(text) = std::env::var_os("MANYHANDS_SHARED_MEMORY") else { return Ok(None) };
    let limit =
        text.to_str().and_then(|text| text.trim().parse().ok()).filter(|&bytes| bytes >= SMALLEST_LIMIT);
    limit.map(Some).ok_or_else(|| {
        PyValueError::new_err(format!(
            "MANYHANDS_SHARED_MEMORY must be a number of bytes, at least {SMALLEST_LIMIT}, not {}",
            text.to_string_lossy()
        ))
    })
}

/// Sets the most bytes of shared memory that this process and its workers use; before the first pool.
#[pyfunction]
pub(crate) fn set_shared_memory_limit(limit: usize) -> PyResult<()> {
    if limit < SMALLEST_LIMIT {
        return Err(PyValueError::new_err(format!(
            "a limit of {limit} bytes of shared memory is too small: at least {SMALLEST_LIMIT} are needed"
        )));
    }
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if own.as_ref().is_some_and(|(fork, _)| *fork == process::fork_count()) {
        return Err(PyRuntimeError::new_err(
            "shared memory is already in use: set its limit before the first process pool or share()",
        ));
    }
    LIMIT.store(limit, Ordering::Relaxed);
    Ok(())
}

/// (bytes in use, limit in bytes) of this process's shared memory.
#[pyfunction]
pub(crate) fn shared_memory() -> PyResult<(usize, usize)> {
    let heap = own()?;
    Ok((heap.arena().in_use(), heap.arena().limit()))
}

/// Zygote: maps the parent's segment.
#[pyfunction]
pub(crate) fn attach(segment_fd: RawFd) -> PyResult<()> {
    let segment = Segment::attach(ffi::take_descriptor(segment_fd)).map_err(PyErr::from)?;
    PARENT.set(Arc::new(segment)).map_err(|_| PyRuntimeError::new_err("attached already"))
}

pub(crate) fn parent_segment() -> PyResult<&'static Arc<Segment>> {
    PARENT.get().ok_or_else(|| PyRuntimeError::new_err("this process is not attached to a segment"))
}

/// Worker: takes part in the parent's arena.
pub(crate) fn join_parent(participant: u16) -> PyResult<Arc<Arena>> {
    let segment = parent_segment()?;
    let arena = Arena::attach(Arc::clone(segment), region(segment), participant.into())?;
    let arena = Arc::new(arena);
    let site = Site::attach(Arc::clone(segment)).map_err(std::io::Error::from)?;
    let mapping = Mapping::register_as(participant, site, Arc::clone(&arena))?;
    Ok(Arc::clone(&PARENT_ARENA.get_or_init(|| (arena, mapping)).0))
}

/// Zygote: the content of a block.
#[pyfunction]
pub(crate) fn read_block(py: Python<'_>, reference: u64) -> PyResult<Bound<'_, PyBytes>> {
    let segment = parent_segment()?;
    let arena = Arena::attach(Arc::clone(segment), region(segment), ZYGOTE.into())?;
    let block = arena.open(BlockRef::from_bits(reference)).map_err(bad_block)?;
    PyBytes::new_with(py, block.len(), |bytes| {
        block.read(0, bytes);
        Ok(())
    })
}

pub(crate) fn bad_block(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("a reference to shared memory is invalid: {error}"))
}

/// Worker: dies with the zygote.
#[pyfunction]
pub(crate) fn set_parent_death_signal() -> PyResult<()> {
    const SIGKILL: i32 = 9;
    process::parent_death_signal(SIGKILL).map_err(PyErr::from)
}

/// Kills children of this process that it has not reaped, and tells all that they have started to end.
#[pyfunction]
pub(crate) fn kill_with_descendants(pids: Vec<i32>) {
    let children: Vec<Pidfd> = pids.into_iter().filter_map(|pid| Pidfd::open(pid).ok()).collect();
    process::kill_with_descendants(&children.iter().collect::<Vec<_>>());
}

/// Something shared whose address was pickled.
pub(crate) type Referenced = Arc<dyn Any + Send + Sync>;

thread_local! {
    /// What this thread has pickled the addresses of, while somebody wants to know.
    static REFERENCED: RefCell<Option<Vec<Referenced>>> = const { RefCell::new(None) };
}

/// Does `pickle`, and returns also what shared things were pickled by their addresses: a task keeps them until it has
/// ended.
pub(crate) fn with_references<T>(pickle: impl FnOnce() -> T) -> (T, Vec<Referenced>) {
    let outer = REFERENCED.replace(Some(Vec::new()));
    let pickled = pickle();
    (pickled, REFERENCED.replace(outer).unwrap_or_default())
}

/// Notes that the address of `thing` is being pickled; returns whether somebody keeps it therefore.
pub(crate) fn refer_to(thing: Referenced) -> bool {
    REFERENCED.with_borrow_mut(|references| {
        let Some(references) = references else { return false };
        references.push(thing);
        true
    })
}

/// Descriptors that Python gave by number, duplicated to be ours.
pub(crate) fn duplicate(descriptors: &[RawFd]) -> PyResult<Vec<OwnedFd>> {
    descriptors
        .iter()
        .map(|&fd| ffi::duplicate_descriptor(fd).map_err(|error| system_error("hand on a descriptor", error)))
        .collect()
}
