//! A queue that has been opened: one item in, one item out.

use manyhands_channel::queue::{self, GetError, Message, PutError, Queue};
use manyhands_sync::Patience;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyTuple};

use super::errors::{get_error, put_error};
use super::message::{self, Encoded, Long, Taken};
use crate::memory::objects::Mapped;
use crate::sync::waiting::detached;

/// A queue, and the segment that it lies in.
pub(super) struct Open {
    pub(super) mapped: Mapped,
    pub(super) queue: Queue,
    pub(super) kind: queue::Kind,
}

impl Open {
    pub(super) fn new(mapped: Mapped, queue: Queue) -> Self {
        let kind = queue.options().kind;
        Self { mapped, queue, kind }
    }

    /// Where in a priority queue the item belongs; nothing in particular in others.
    #[inline]
    pub(super) fn priority(&self, item: &Bound<'_, PyAny>) -> PyResult<u128> {
        if self.kind == queue::Kind::Priority { priority(item) } else { Ok(0) }
    }

    pub(super) fn put(
        &self,
        py: Python<'_>,
        priority: u128,
        item: &Encoded<'_>,
        patience: Patience,
    ) -> PyResult<()> {
        if item.len() < message::LONG {
            match item.with(priority, |message| self.queue.try_put(&message)) {
                Ok(()) => return Ok(()),
                Err(PutError::Busy(_)) => {}
                Err(PutError::Full) if patience.waits() => {}
                Err(error) => return Err(put_error(py, &error)),
            }
        }
        let queue = &self.queue;
        item.with(priority, |message| detached(py, |waiting| queue.put(&message, patience, waiting)))?
            .map_err(|error| put_error(py, &error))
    }

    /// Puts if there is room and nobody else is at it; false when not.
    pub(super) fn put_or_full(&self, py: Python<'_>, message: Message<'_>) -> PyResult<bool> {
        let queue = &self.queue;
        let outcome = match queue.try_put(&message) {
            Err(PutError::Busy(_)) => detached(py, |waiting| queue.put(&message, Patience::Glance, waiting))?,
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(PutError::Full) => Ok(false),
            Err(error) => Err(put_error(py, &error)),
        }
    }

    /// `None` when there is nothing and the time is up.
    pub(super) fn get<'py>(
        &self,
        py: Python<'py>,
        patience: Patience,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let queue = &self.queue;
        loop {
            let taken = match queue.try_get(Taken::copy) {
                Err(GetError::Empty) if !patience.waits() => return Ok(None),
                Err(GetError::Empty | GetError::Busy(_)) => {
                    detached(py, |waiting| queue.get(patience, waiting, Taken::copy))?
                }
                taken => taken,
            };
            let long = match taken {
                Ok(Ok(taken)) => return taken.decode(py).map(Some),
                Ok(Err(long)) => long,
                Err(GetError::Empty) => return Ok(None),
                Err(error) => return Err(get_error(py, &error)),
            };
            let turn = if patience.waits() { Patience::Now } else { patience };
            let filled = message::decode_filled(py, long, |bytes| {
                let taken = detached(py, |waiting| {
                    queue.get(turn, waiting, |mut item| {
                        let same = Long::of(&item) == long;
                        same.then(|| item.read(bytes)).ok_or(())
                    })
                })?;
                match taken {
                    Ok(taken) => Ok(taken.is_ok()),
                    Err(GetError::Empty) => Ok(false),
                    Err(error) => Err(get_error(py, &error)),
                }
            })?;
            // Another has taken the item that was seen: look again.
            if filled.is_some() {
                return Ok(filled);
            }
        }
    }
}

/// Where in a priority queue an item belongs.
fn priority(item: &Bound<'_, PyAny>) -> PyResult<u128> {
    let refused = || {
        let text = item.repr().map_or_else(|_| "an object".to_owned(), |text| text.to_string());
        PyTypeError::new_err(format!(
            "a PriorityQueue takes (number, item) pairs, the smallest number first, not {text:.200}"
        ))
    };
    let pair = item.cast::<PyTuple>().map_err(|_| refused())?;
    if pair.len() != 2 {
        return Err(refused());
    }
    let mut number = pair.get_item(0)?;
    let is_ours = number.is_instance_of::<PyInt>() || number.is_instance_of::<PyFloat>();
    if !is_ours && number.hasattr(intern!(item.py(), "__index__"))? {
        // As one of NumPy's.
        number = number.call_method0(intern!(item.py(), "__index__"))?;
    }
    if let Ok(number) = number.cast::<PyInt>() {
        let Ok(number) = number.extract::<i64>() else {
            return Err(PyValueError::new_err(format!(
                "the number of an item must be less than 2**63, not {number}"
            )));
        };
        return Ok(queue::priority_of_int(number));
    }
    if number.is_instance_of::<PyFloat>() || number.hasattr(intern!(item.py(), "__float__"))? {
        return queue::priority_of_float(number.extract()?).ok_or_else(|| {
            PyValueError::new_err("the number of an item must not be NaN, which cannot be ordered")
        });
    }
    Err(refused())
}
