//! Many items at once: one lock and one commit for each batch of them.

use manyhands_channel::queue::{self, Batch, GetError, Message, PutError, Queue};
use manyhands_sync::Patience;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyIterator, PyList, PyRange, PySet, PyString, PyTuple};

use super::errors::{get_error, put_error};
use super::message::{self, Encoded, LONG};
use super::open::Open;
use crate::sync::waiting::detached;

/// Items of a batch: enough for what a batch costs to be nothing per item, few enough for their bytes to stay in cache.
const BATCH: usize = 512;
/// A batch of no more than these is copied without releasing the interpreter.
const FEW: usize = 32;
/// Bytes after which a batch that is taken out is long enough.
const ENOUGH: usize = 256 * 1024;

/// Items to put.
#[derive(Default)]
struct Load {
    batch: Batch,
    /// Of each item; in priority queues only.
    priorities: Vec<u128>,
}

impl Load {
    fn clear(&mut self) {
        self.batch.clear();
        self.priorities.clear();
    }

    /// Puts all, and counts what went in in `put`, also when there is an error.
    fn put(&mut self, py: Python<'_>, open: &Open, patience: Patience, put: &mut usize) -> PyResult<()> {
        match open.kind {
            queue::Kind::Priority => self.put_by_priority(py, &open.queue, patience, put),
            queue::Kind::Fifo | queue::Kind::Lifo => self.put_in_order(py, &open.queue, patience, put),
        }
    }

    fn put_in_order(
        &mut self,
        py: Python<'_>,
        queue: &Queue,
        patience: Patience,
        put: &mut usize,
    ) -> PyResult<()> {
        let batch = &mut self.batch;
        if batch.len() <= FEW {
            *put += at_once(py, queue.try_put_batch(batch))?;
        }
        let left = batch.len();
        if left == 0 {
            return Ok(());
        }
        let outcome = detached(py, |waiting| queue.put_batch(batch, patience, waiting));
        *put += left - batch.len();
        outcome?.map_err(|error| put_error(py, &error))
    }

    fn put_by_priority(
        &self,
        py: Python<'_>,
        queue: &Queue,
        patience: Patience,
        put: &mut usize,
    ) -> PyResult<()> {
        let contents: Vec<_> = self.batch.iter().map(|(tag, bytes)| (tag, [bytes])).collect();
        let messages: Vec<_> = contents
            .iter()
            .zip(&self.priorities)
            .map(|((tag, parts), priority)| Message { tag: *tag, priority: *priority, parts })
            .collect();
        let few = messages.len() <= FEW;
        let mut done = if few { at_once(py, queue.try_put_many(&messages))? } else { 0 };
        let left = &messages[done..];
        let outcome = match left {
            [] => Ok(Ok(())),
            _ => detached(py, |waiting| {
                let outcome = queue.put_many(left, patience, waiting);
                done += outcome.as_ref().map_or_else(|(count, _)| *count, |()| left.len());
                outcome
            }),
        };
        *put += done;
        outcome?.map_err(|(_, error)| put_error(py, &error))
    }
}

/// How many of a few items went in; none where that takes waiting.
fn at_once(py: Python<'_>, put: Result<usize, PutError>) -> PyResult<usize> {
    match put {
        Ok(count) => Ok(count),
        Err(PutError::Full | PutError::Busy(_)) => Ok(0),
        Err(error) => Err(put_error(py, &error)),
    }
}

/// Why a batch is not longer.
enum End<'py> {
    Full,
    /// This item is better put by itself.
    Long(u128, Encoded<'py>),
    Exhausted,
    Failed(PyErr),
}

fn collect<'py>(open: &Open, items: &mut Bound<'py, PyIterator>, load: &mut Load) -> End<'py> {
    while load.batch.len() < BATCH && load.batch.size() < LONG {
        let item = match items.next() {
            None => return End::Exhausted,
            Some(Ok(item)) => item,
            Some(Err(error)) => return End::Failed(error),
        };
        let encoded = open.priority(&item).and_then(|priority| Ok((priority, message::encode(&item)?)));
        let (priority, encoded) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return End::Failed(error),
        };
        if encoded.len() >= LONG {
            return End::Long(priority, encoded);
        }
        load.batch.push_with(encoded.tag, |bytes| encoded.append_to(bytes));
        if open.kind == queue::Kind::Priority {
            load.priorities.push(priority);
        }
    }
    End::Full
}

/// Whether all items are there already: iterating runs no code that takes time, or waits for what becomes of an item.
fn is_complete(items: &Bound<'_, PyAny>) -> bool {
    items.is_exact_instance_of::<PyList>()
        || items.is_exact_instance_of::<PyTuple>()
        || items.is_exact_instance_of::<PyRange>()
        || items.is_exact_instance_of::<PyString>()
        || items.is_exact_instance_of::<PyBytes>()
        || items.is_exact_instance_of::<PyDict>()
        || items.is_exact_instance_of::<PySet>()
        || items.is_exact_instance_of::<PyFrozenSet>()
}

/// Puts all items of an iterable, in order: those of a complete collection in batches, otherwise each before the next is
/// asked for.
///
/// # Errors
/// As for one item, and what the iterable raises; the items before it have been put, and the error's attribute
/// `items_put` says how many these are.
pub(super) fn put_many(
    py: Python<'_>,
    open: &Open,
    items: &Bound<'_, PyAny>,
    patience: Patience,
) -> PyResult<()> {
    let batches = is_complete(items);
    let items = items.try_iter()?;
    let mut put = 0;
    let outcome = if batches {
        put_batches(py, open, items, patience, &mut put)
    } else {
        put_each(py, open, items, patience, &mut put)
    };
    outcome.inspect_err(|error| {
        // An exception that takes no attributes is told as it is.
        _ = error.value(py).setattr(intern!(py, "items_put"), put);
    })
}

/// Puts one after the other, and counts them in `put`.
fn put_each(
    py: Python<'_>,
    open: &Open,
    items: Bound<'_, PyIterator>,
    patience: Patience,
    put: &mut usize,
) -> PyResult<()> {
    for item in items {
        let item = item?;
        open.put(py, open.priority(&item)?, &message::encode(&item)?, patience)?;
        *put += 1;
        py.check_signals()?;
        if put.is_multiple_of(BATCH) {
            // An endless iterator that is not written in Python would let nobody else run.
            detached(py, |_| ())?;
        }
    }
    Ok(())
}

/// Puts many at a time, and counts them in `put`.
fn put_batches(
    py: Python<'_>,
    open: &Open,
    mut items: Bound<'_, PyIterator>,
    patience: Patience,
    put: &mut usize,
) -> PyResult<()> {
    let mut load = Load::default();
    loop {
        load.clear();
        let end = collect(open, &mut items, &mut load);
        if !load.batch.is_empty() {
            load.put(py, open, patience, put)?;
        }
        match end {
            End::Full => py.check_signals()?,
            End::Long(priority, item) => {
                open.put(py, priority, &item, patience)?;
                *put += 1;
            }
            End::Exhausted => return Ok(()),
            End::Failed(error) => return Err(error),
        }
    }
}

/// Takes up to `count` items: waits for the first, takes what is there. Empty when there was none in time.
///
/// # Errors
/// As for one item. When an item cannot be unpickled, the error's attribute `items_taken` has the others that were
/// taken with it.
pub(super) fn get_many<'py>(
    py: Python<'py>,
    open: &Open,
    count: usize,
    patience: Patience,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut batch = Batch::default();
    let mut patience = patience;
    while list.len() < count {
        batch.clear();
        let most = (count - list.len()).min(BATCH);
        let taken = take_batch(py, open, most, patience, &mut batch);
        match taken.map_err(|error| with_taken(error, &list))? {
            Ok(_) => append_decoded(py, &batch, &list)?,
            Err(GetError::Empty) => return Ok(list),
            Err(GetError::Closed) if !list.is_empty() => return Ok(list),
            Err(error) => return Err(with_taken(get_error(py, &error), &list)),
        }
        if patience.waits() {
            patience = Patience::Now;
        }
    }
    Ok(list)
}

fn take_batch(
    py: Python<'_>,
    open: &Open,
    most: usize,
    patience: Patience,
    batch: &mut Batch,
) -> PyResult<Result<usize, GetError>> {
    let queue = &open.queue;
    if most <= FEW {
        match queue.try_get_batch(most, LONG, batch) {
            Err(GetError::Busy(_)) => {}
            Err(GetError::Empty) if patience.waits() => {}
            taken => return Ok(taken),
        }
    }
    detached(py, |waiting| queue.get_batch(most, ENOUGH, batch, patience, waiting))
}

fn append_decoded<'py>(py: Python<'py>, batch: &Batch, list: &Bound<'py, PyList>) -> PyResult<()> {
    let mut failed = None;
    for (tag, bytes) in batch.iter() {
        match message::decode(py, tag, bytes) {
            Ok(item) => list.append(item)?,
            Err(error) => _ = failed.get_or_insert(error),
        }
    }
    failed.map_or(Ok(()), |error| Err(with_taken(error, list)))
}

/// Hands out, with an error, what was taken from the queue before it.
fn with_taken(error: PyErr, list: &Bound<'_, PyList>) -> PyErr {
    let py = list.py();
    if !list.is_empty() {
        // An exception that takes no attributes is told as it is.
        _ = error.value(py).setattr(intern!(py, "items_taken"), list);
    }
    error
}
