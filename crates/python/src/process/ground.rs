//! The shared memory of this process: as the root of its pools, as a zygote, as a worker.

use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use manyhands_channel::arena::{Arena, Block, BlockRef};
use manyhands_os::memory::Segment;
use manyhands_os::process;
use manyhands_pool::ground::{Ground, ZYGOTE};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ffi::{self, BlockBuffer};
use crate::imports;

const SMALLEST_LIMIT: usize = 16 << 20;

/// The ground that this process has laid for its own pools, and the fork it was laid in.
static OWN: Mutex<Option<(u32, Arc<Ground>)>> = Mutex::new(None);
/// Bytes; 0 until somebody sets it.
static LIMIT: AtomicUsize = AtomicUsize::new(0);
/// The process that started this zygote; its workers inherit the number.
static ROOT: AtomicI32 = AtomicI32::new(0);
/// The segment of the parent, in a zygote and its workers.
static PARENT: OnceLock<Arc<Segment>> = OnceLock::new();
/// The parent's arena as this worker sees it.
static PARENT_ARENA: OnceLock<Arc<Arena>> = OnceLock::new();

/// The ground of this process, laid when first needed. A forked child lays its own.
pub(super) fn own() -> PyResult<Arc<Ground>> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::fork_count();
    if let Some((fork, ground)) = &*own
        && *fork == here
    {
        return Ok(Arc::clone(ground));
    }
    let limit = match LIMIT.load(Ordering::Relaxed) {
        0 => limit_from_environment()?.unwrap_or_else(Ground::default_limit),
        limit => limit,
    };
    let ground = Arc::new(Ground::create(limit).map_err(|error| {
        PyOSError::new_err(format!("no shared memory of {limit} bytes can be made: {error}"))
    })?);
    // The one of before a fork belongs to the parent: neither used nor released here.
    std::mem::forget(own.replace((here, Arc::clone(&ground))));
    Ok(ground)
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
pub(super) fn set_shared_memory_limit(limit: usize) -> PyResult<()> {
    if limit < SMALLEST_LIMIT {
        return Err(PyValueError::new_err(format!(
            "a limit of {limit} bytes of shared memory is too small: at least {SMALLEST_LIMIT} are needed"
        )));
    }
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if own.as_ref().is_some_and(|(fork, _)| *fork == process::fork_count()) {
        return Err(PyRuntimeError::new_err(
            "shared memory is in use already: set its limit before the first process pool or share()",
        ));
    }
    LIMIT.store(limit, Ordering::Relaxed);
    Ok(())
}

/// (bytes in use, limit in bytes) of this process's shared memory.
#[pyfunction]
pub(super) fn shared_memory() -> PyResult<(usize, usize)> {
    let ground = own()?;
    Ok((ground.arena().in_use(), ground.arena().limit()))
}

/// Zygote: maps the parent's segment.
#[pyfunction]
pub(super) fn attach(segment_fd: RawFd) -> PyResult<()> {
    let segment = Segment::attach(ffi::take_descriptor(segment_fd)).map_err(PyErr::from)?;
    ROOT.store(process::parent_pid(), Ordering::Relaxed);
    PARENT.set(Arc::new(segment)).map_err(|_| PyRuntimeError::new_err("attached already"))
}

pub(super) fn parent_segment() -> PyResult<&'static Arc<Segment>> {
    PARENT.get().ok_or_else(|| PyRuntimeError::new_err("this process has attached to no segment"))
}

/// Worker: takes part in the parent's arena.
pub(super) fn join_parent(participant: u16) -> PyResult<Arc<Arena>> {
    let segment = parent_segment()?;
    let arena = Arena::attach(Arc::clone(segment), 0..segment.len(), participant.into())?;
    // The zygote was started by the root, and we are the zygote's.
    _ = HOME.set(ROOT.load(Ordering::Relaxed));
    Ok(Arc::clone(PARENT_ARENA.get_or_init(|| Arc::new(arena))))
}

/// Zygote: the content of a block.
#[pyfunction]
pub(super) fn read_block(py: Python<'_>, reference: u64) -> PyResult<Bound<'_, PyBytes>> {
    let segment = parent_segment()?;
    let arena = Arena::attach(Arc::clone(segment), 0..segment.len(), ZYGOTE.into())?;
    let block = arena.open(BlockRef::from_bits(reference)).map_err(bad_block)?;
    PyBytes::new_with(py, block.len(), |bytes| {
        block.read(0, bytes);
        Ok(())
    })
}

pub(super) fn bad_block(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("a reference to shared memory does not hold: {error}"))
}

/// Worker: dies with the zygote.
#[pyfunction]
pub(super) fn set_parent_death_signal() -> PyResult<()> {
    const SIGKILL: i32 = 9;
    process::parent_death_signal(SIGKILL).map_err(PyErr::from)
}

thread_local! {
    /// Blocks whose addresses were pickled by this thread: a task keeps them until it has ended.
    static REFERENCED: std::cell::RefCell<Vec<Block>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Takes the blocks whose addresses this thread has pickled since the last call.
pub(super) fn take_referenced() -> Vec<Block> {
    REFERENCED.take()
}

/// A block that several tasks may use at the same time; lives as long as anyone holds it.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct SharedBlock {
    block: Block,
    length: usize,
    home: i32,
}

#[pymethods]
impl SharedBlock {
    /// What a worker needs to open it: (process that owns the segment, reference, length in bytes).
    #[getter]
    fn address(&self) -> (i32, u64, usize) {
        REFERENCED.with_borrow_mut(|blocks| blocks.push(self.block.clone()));
        (self.home, self.block.reference().to_bits(), self.length)
    }

    /// Bytes.
    #[getter]
    fn length(&self) -> usize {
        self.length
    }

    /// Where it begins in the memory of this process.
    #[getter]
    fn start(&self) -> usize {
        self.block.pointer().as_ptr() as usize
    }

    /// A memoryview of the block.
    fn view<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        let buffer = BlockBuffer::new(self.block.clone(), 0, self.length, !writable)
            .ok_or_else(|| PyRuntimeError::new_err("a shared block shrank"))?;
        imports::memoryview(py)?.call1((Bound::new(py, buffer)?,))
    }
}

/// Copies a buffer into a shared block.
#[pyfunction]
pub(super) fn share_buffer(py: Python<'_>, buffer: PyBuffer<u8>) -> PyResult<SharedBlock> {
    let ground = own()?;
    let length = buffer.len_bytes();
    let block = ground
        .arena()
        .allocate(length.max(1))
        .map_err(|full| PyMemoryError::new_err(format!("no shared memory for {length} bytes: {full}")))?;
    ffi::copy_buffer(py, &buffer, &block, 0);
    Ok(SharedBlock { block, length, home: process::pid() })
}

/// Opens a shared block by its address: in the process that made it or in one of its workers.
#[pyfunction]
pub(super) fn open_shared(home: i32, reference: u64, length: usize) -> PyResult<SharedBlock> {
    let arena = if home == process::pid() {
        Arc::clone(own()?.arena())
    } else {
        let arena = PARENT_ARENA.get().filter(|_| HOME.get() == Some(&home));
        Arc::clone(arena.ok_or_else(|| {
            PyValueError::new_err(format!(
                "this shared array lives in process {home}; only that process and its workers can use it"
            ))
        })?)
    };
    let block = arena.open(BlockRef::from_bits(reference)).map_err(bad_block)?;
    Ok(SharedBlock { block, length, home })
}

/// Worker: the process whose segment this is.
pub(super) static HOME: OnceLock<i32> = OnceLock::new();

/// Descriptors that Python gave by number, duplicated to be ours.
pub(super) fn duplicate(descriptors: &[RawFd]) -> PyResult<Vec<OwnedFd>> {
    descriptors.iter().map(|&fd| ffi::duplicate_descriptor(fd).map_err(PyErr::from)).collect()
}
