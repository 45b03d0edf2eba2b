//! The native half of all queues.

mod waiters;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use manyhands_channel::queue::{self, Message, Options, Queue, TaskError};
use manyhands_os::procfs;
use manyhands_sync::Patience;
use manyhands_sync::names::Kind;
use manyhands_sync::site::SITE_BYTES;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use self::waiters::{Point, enlist};
use super::batch;
use super::errors::attach_error;
use super::message::{self, PackedItem};
use super::open::Open;
use crate::interpreter::argument::{Name, integer};
use crate::interpreter::imports;
use crate::interpreter::switching::switched_method;
use crate::memory::objects::{self, Mapped};
use crate::sync::timeout::{self, Flag};
use crate::sync::waiting::detached;
use crate::sync::wake_socket::Enlisted;

/// The most bytes of a queue that was given no limit; addresses only, until they are used.
const LARGEST: usize = 4 << 30;

/// What it has at least, where addresses are limited.
const LEAST: usize = 1 << 20;

/// A process that died, and how many items it had taken and not finished.
type Lost = Option<(i32, u32)>;

/// A queue of any kind; opened by the Python class's `__init__`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Queue")]
pub(crate) struct QueueBase {
    open: OnceLock<Open>,
    /// Whether this object has been closed: it alone, not the queue.
    closed: AtomicBool,
}

/// The kinds of queue, by the name of the Python class.
fn kinds(class: &str) -> Option<(Kind, queue::Kind, bool)> {
    Some(match class {
        "Queue" => (Kind::Queue, queue::Kind::Fifo, true),
        "JoinableQueue" => (Kind::JoinableQueue, queue::Kind::Fifo, true),
        "SimpleQueue" => (Kind::SimpleQueue, queue::Kind::Fifo, false),
        "LifoQueue" => (Kind::LifoQueue, queue::Kind::Lifo, true),
        "PriorityQueue" => (Kind::PriorityQueue, queue::Kind::Priority, true),
        _ => return None,
    })
}

impl QueueBase {
    /// The queue, closed or not.
    pub(super) fn any(&self) -> PyResult<&Open> {
        self.open.get().ok_or_else(|| PyRuntimeError::new_err("the queue's __init__() has not been called"))
    }

    /// The queue, if it is open and this object not closed.
    #[inline]
    pub(super) fn ready(&self) -> Option<&Open> {
        self.open.get().filter(|_| !self.closed.load(Ordering::Relaxed))
    }

    /// The queue, if this object is not closed.
    #[inline]
    fn usable<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Open> {
        let this = slf.get();
        match this.open.get() {
            Some(open) if !this.closed.load(Ordering::Relaxed) => Ok(open),
            Some(_) => Err(PyValueError::new_err(format!("Queue {} is closed", slf.repr()?))),
            None => this.any(),
        }
    }
}

#[pymethods]
impl QueueBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { open: OnceLock::new(), closed: AtomicBool::new(false) }
    }

    /// The class with the type of its items in brackets: for annotations, and nothing else.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        types: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        imports::generic_alias(cls.py())?.call1((cls, types))
    }

    /// Makes the queue, or opens the one of that name.
    /// Without a `maxsize`, the one of that name is taken as it is; a new one holds any number of items.
    fn _open(
        &self,
        class: &str,
        maxsize: Option<&Bound<'_, PyAny>>,
        name: Option<Name<'_>>,
        memory: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let memory = memory.map(|memory| enough(integer("memory", memory)?)).transpose()?;
        let maxsize = maxsize.map(|maxsize| integer("maxsize", maxsize)).transpose()?;
        let name = name.as_deref();
        let (segment_kind, kind, joinable) =
            kinds(class).ok_or_else(|| PyTypeError::new_err(format!("unknown class of queue: {class}")))?;
        let most = maxsize.unwrap_or(0).max(0);
        let Ok(most) = u32::try_from(most) else {
            return Err(PyValueError::new_err(format!("maxsize {most} is too large: at most {}", u32::MAX)));
        };
        let largest = LARGEST.min(usize::try_from(procfs::memory_limit() / 2).unwrap_or(LARGEST));
        let sizes = match memory {
            Some(memory) => (memory, memory),
            None => (LEAST, largest.max(LEAST)),
        };
        let options = Options { kind, maxsize: most, joinable };
        let make = || {
            objects::roomy_segment(segment_kind, name, &[u64::from(most)], sizes, |site| {
                let region = SITE_BYTES..site.segment().len();
                Queue::create(Arc::clone(site), region, options).map_err(|error| attach_error(&error))?;
                Ok(())
            })
        };
        self.attach_to(match (name, maxsize) {
            (Some(name), None) => {
                objects::open_or_make(|| objects::named_segment(segment_kind, name, &[objects::ANY]), make)?
            }
            _ => make()?,
        })
    }

    /// Opens the queue that has been pickled.
    fn _attach(&self, class: &str, address: &Bound<'_, PyTuple>) -> PyResult<()> {
        let (segment_kind, ..) =
            kinds(class).ok_or_else(|| PyTypeError::new_err(format!("unknown class of queue: {class}")))?;
        self.attach_to(objects::open_segment(address, segment_kind)?)
    }

    /// For pickling: where the queue is.
    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.any()?.mapped.address(py)
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> PyResult<Option<String>> {
        Ok(self.any()?.mapped.name().map(str::to_owned))
    }

    /// The most items it holds; 0 for any number.
    #[getter]
    fn maxsize(&self) -> PyResult<u32> {
        Ok(self.any()?.queue.options().maxsize)
    }

    /// Put an item.
    ///
    /// Args:
    ///     item: anything that can be pickled.
    ///     block: whether to wait for room.
    ///     timeout: seconds to wait for it; None means no limit.
    ///
    /// Raises:
    ///     queue.Full: there is no room (in time).
    ///     queue.ShutDown: the queue has been shut down.
    ///     ValueError: `close` was called; a negative timeout; the item would never fit.
    ///     TypeError, pickle.PicklingError: the item cannot be pickled. The queue is as before.
    ///     MemoryError: the system has no memory left.
    #[pyo3(
        name = "put",
        signature = (item, block = Flag::ABSENT, timeout = None),
        text_signature = "($self, item, block=True, timeout=None)"
    )]
    fn _put(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        block: Flag<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let open = Self::usable(slf)?;
        let patience = timeout::of_queue(&block, timeout)?;
        if patience.waits()
            && switched_method(slf, intern!(slf.py(), "async_put"), || (item, timeout::left(patience)))?
                .is_some()
        {
            return Ok(());
        }
        open.put(slf.py(), open.priority(item)?, &message::encode(item)?, patience)
    }

    /// Put an item if there is room now, as ``put(item, block=False)``.
    fn put_nowait(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = Self::usable(slf)?;
        open.put(slf.py(), open.priority(item)?, &message::encode(item)?, Patience::Now)
    }

    /// Remove an item and return it.
    ///
    /// Args:
    ///     block: whether to wait for one.
    ///     timeout: seconds to wait; None means no limit.
    ///
    /// Raises:
    ///     queue.Empty: there is none (in time).
    ///     queue.ShutDown: the queue has been shut down and there is nothing left.
    ///     ValueError: `close` was called; a negative timeout.
    ///     Exception: whatever the item raises when it is unpickled; it is lost then.
    #[pyo3(
        name = "get",
        signature = (block = Flag::ABSENT, timeout = None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn _get<'py>(
        slf: &Bound<'py, Self>,
        block: Flag<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let patience = timeout::of_queue(&block, timeout)?;
        let open = Self::usable(slf)?;
        if patience.waits()
            && let Some(item) =
                switched_method(slf, intern!(slf.py(), "async_get"), || (timeout::left(patience),))?
        {
            return Ok(item);
        }
        let got = open.get(slf.py(), patience)?;
        got.ok_or_else(|| imports::error(slf.py(), imports::empty, None))
    }

    /// Remove an item if there is one now, as ``get(block=False)``.
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let got = Self::usable(slf)?.get(slf.py(), Patience::Now)?;
        got.ok_or_else(|| imports::error(slf.py(), imports::empty, None))
    }

    /// An item if there is one, else `default`.
    fn _get_or<'py>(slf: &Bound<'py, Self>, default: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let got = Self::usable(slf)?.get(slf.py(), Patience::Glance)?;
        Ok(got.unwrap_or(default))
    }

    /// Return how many items there are at this moment: exact, but old news if others use the queue.
    fn qsize(&self) -> PyResult<usize> {
        Ok(self.any()?.queue.len())
    }

    /// Return whether there is no room at this moment.
    fn full(&self) -> PyResult<bool> {
        Ok(self.any()?.queue.is_full())
    }

    /// Whether close() was called on this object.
    #[getter]
    fn _is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Say that this object will not be used any more; the queue goes on for others.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Shut the queue down, for everybody: nothing can be put any more, what is left can be got.
    ///
    /// Everybody who waits is woken. Where nothing can be put or got any more, `queue.ShutDown` is raised.
    ///
    /// Args:
    ///     immediate: drop what is left, and count it as done.
    #[pyo3(signature = (immediate = false))]
    fn shutdown(&self, py: Python<'_>, immediate: bool) -> PyResult<()> {
        let queue = &self.any()?.queue;
        detached(py, |waiting| queue.close(immediate, waiting))?
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Whether the queue has been shut down.
    #[getter]
    fn is_shutdown(&self) -> PyResult<bool> {
        Ok(self.any()?.queue.is_closed())
    }

    /// Say that an item that was got is done.
    ///
    /// Raises:
    ///     ValueError: called more often than items were put.
    fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        let queue = &self.any()?.queue;
        detached(py, |waiting| queue.task_done(1, waiting))?.map_err(|error| match error {
            TaskError::TooOften => PyValueError::new_err("task_done() called too many times"),
            error => PyRuntimeError::new_err(error.to_string()),
        })
    }

    /// Waits until all work is done; if it never will be, the process that died with some, and with how much.
    fn _join(&self, py: Python<'_>) -> PyResult<Lost> {
        let lost = self.join(py, Patience::Forever)?;
        lost.ok_or_else(|| PyRuntimeError::new_err("a wait without a timeout has ended"))
    }

    /// As `_join`, in a tuple; None when it is not done yet.
    fn _join_or_none(&self, py: Python<'_>) -> PyResult<Option<(Lost,)>> {
        Ok(self.join(py, Patience::Glance)?.map(|lost| (lost,)))
    }

    /// Count as done the items of processes that died before they were; return how many.
    fn recover(&self, py: Python<'_>) -> PyResult<u64> {
        let queue = &self.any()?.queue;
        detached(py, |waiting| queue.write_off(waiting))?
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Put all items of an iterable, in order, as if one by one.
    ///
    /// A list, tuple, range, set, dict, str or bytes is put at a fraction of the cost. What any other iterable yields
    /// is in the queue before it is asked for the next: it may be slow, endless, or wait for an answer.
    ///
    /// Args:
    ///     items: any iterable.
    ///     timeout: seconds to wait for room, in all; None means no limit.
    ///
    /// Raises:
    ///     Exception: as `put`, and what the iterable raises. The items before have been put: the error's attribute
    ///         ``items_put`` is their number, also that of a KeyboardInterrupt.
    #[pyo3(signature = (items, timeout = None))]
    fn put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (open, patience) = (Self::usable(slf)?, timeout::of_queue(&Flag::ABSENT, timeout)?);
        match switched_method(slf, intern!(slf.py(), "async_put_many"), || (items, timeout::left(patience)))?
        {
            Some(_) => Ok(()),
            None => batch::put_many(slf.py(), open, items, patience),
        }
    }

    /// Remove up to ``count`` items: wait for the first, take what is there.
    ///
    /// Args:
    ///     count: the most items.
    ///     timeout: seconds to wait for the first; None means no limit.
    ///
    /// Returns:
    ///     a list of at least one item.
    ///
    /// Raises:
    ///     ValueError: ``count`` is negative.
    ///     Exception: as `get`. If an item cannot be unpickled, the others are in the error's attribute
    ///         ``items_taken``.
    #[pyo3(signature = (count, timeout = None))]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        count: i64,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (open, count) = (Self::usable(slf)?, not_negative("count", count)?);
        let patience = timeout::of_queue(&Flag::ABSENT, timeout)?;
        if let Some(list) =
            switched_method(slf, intern!(slf.py(), "async_get_many"), || (count, timeout::left(patience)))?
        {
            return Ok(list.cast_into()?);
        }
        let list = batch::get_many(slf.py(), open, count, patience)?;
        if list.is_empty() && count > 0 {
            return Err(imports::error(slf.py(), imports::empty, None));
        }
        Ok(list)
    }

    /// As `get_many`, without waiting; None when there is nothing.
    fn _get_many_or_none<'py>(slf: &Bound<'py, Self>, count: i64) -> PyResult<Option<Bound<'py, PyList>>> {
        let (open, count) = (Self::usable(slf)?, not_negative("count", count)?);
        let list = batch::get_many(slf.py(), open, count, Patience::Glance)?;
        Ok((count == 0 || !list.is_empty()).then_some(list))
    }

    /// Puts an item if there is room, and returns None; otherwise the item, pickled.
    fn _put_or_pack(slf: &Bound<'_, Self>, item: &Bound<'_, PyAny>) -> PyResult<Option<PackedItem>> {
        let open = Self::usable(slf)?;
        let priority = open.priority(item)?;
        let encoded = message::encode(item)?;
        if encoded.with(priority, |message| open.put_or_full(slf.py(), message))? {
            return Ok(None);
        }
        Ok(Some(PackedItem::new(&encoded, priority)))
    }

    /// Puts what `_put_or_pack` has pickled; false when there is no room.
    fn _put_packed(slf: &Bound<'_, Self>, packed: &Bound<'_, PackedItem>) -> PyResult<bool> {
        let packed = packed.get();
        let parts = [packed.bytes.as_slice()];
        let message = Message { tag: packed.tag, priority: packed.priority, parts: &parts };
        Self::usable(slf)?.put_or_full(slf.py(), message)
    }

    fn _enlist_for_items(slf: &Bound<'_, Self>, socket: u32) -> PyResult<Enlisted> {
        enlist(slf, Point::Items, socket)
    }

    fn _enlist_for_room(slf: &Bound<'_, Self>, socket: u32) -> PyResult<Enlisted> {
        enlist(slf, Point::Room, socket)
    }

    fn _enlist_for_join(slf: &Bound<'_, Self>, socket: u32) -> PyResult<Enlisted> {
        enlist(slf, Point::Done, socket)
    }

    /// Return what has happened in the queue so far.
    ///
    /// Returns:
    ///     a dict of ``size``, ``maxsize``, ``puts``, ``gets`` (items), ``bytes_put``, ``bytes_got``,
    ///     ``memory_bytes`` (of shared memory), ``unfinished`` (items not yet done; None where nobody counts),
    ///     ``is_shutdown``, and ``deaths`` (processes killed in the middle of something that others repaired).
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queue = &self.any()?.queue;
        let found = queue.statistics();
        let facts = PyDict::new(py);
        facts.set_item("size", found.len)?;
        facts.set_item("maxsize", queue.options().maxsize)?;
        facts.set_item("puts", found.puts)?;
        facts.set_item("gets", found.gets)?;
        facts.set_item("bytes_put", found.bytes_put)?;
        facts.set_item("bytes_got", found.bytes_got)?;
        facts.set_item("memory_bytes", found.memory)?;
        facts.set_item("unfinished", unfinished(queue))?;
        facts.set_item("is_shutdown", queue.is_closed())?;
        facts.set_item("deaths", found.deaths)?;
        Ok(facts)
    }
}

/// A limit of memory that a queue can live with.
fn enough(memory: i64) -> PyResult<usize> {
    let least = Queue::SMALLEST;
    usize::try_from(memory)
        .ok()
        .filter(|memory| *memory >= least)
        .ok_or_else(|| PyValueError::new_err(format!("memory must be at least {least} bytes, not {memory}")))
}

fn not_negative(what: &str, number: i64) -> PyResult<usize> {
    usize::try_from(number)
        .map_err(|_| PyValueError::new_err(format!("{what} must not be negative: {number}")))
}

/// Items that were put and are not done; `None` where nobody counts.
fn unfinished(queue: &Queue) -> Option<u64> {
    /// Others change the count for an instant; one that is stopped while it does leaves it unknown.
    const LOOKS: usize = 10_000;
    let look = |_| match queue.unfinished() {
        Err(TaskError::Busy(_)) => None,
        left => Some(left.ok().map(|left| left.count)),
    };
    (0..LOOKS).find_map(look).flatten()
}

impl QueueBase {
    /// `None` when the time was up first.
    fn join(&self, py: Python<'_>, patience: Patience) -> PyResult<Option<Lost>> {
        let queue = &self.any()?.queue;
        match detached(py, |waiting| queue.join(patience, waiting))? {
            Ok(()) => Ok(Some(None)),
            Err(TaskError::TimedOut) => Ok(None),
            Err(TaskError::Lost(lost)) => Ok(Some(lost.first().map(|(who, count)| (who.pid(), *count)))),
            Err(error) => Err(PyRuntimeError::new_err(error.to_string())),
        }
    }

    fn attach_to(&self, mapped: Mapped) -> PyResult<()> {
        let queue =
            Queue::attach(Arc::clone(mapped.site()), mapped.body()).map_err(|error| attach_error(&error))?;
        self.open
            .set(Open::new(mapped, queue))
            .map_err(|_| PyRuntimeError::new_err("the queue's __init__() was called twice"))
    }
}
