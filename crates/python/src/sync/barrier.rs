//! The barrier.

use std::sync::Arc;

use manyhands_sync::EventCount;
use manyhands_sync::barrier::{Arrival, ArrivalToken, Barrier, NotPassed, Passage};
use manyhands_sync::names::Kind;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::Stopped;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::wake_socket::{Awaited, Enlisted};
use super::{timeout, waiting};
use crate::interpreter::argument::{Name, integer};
use crate::interpreter::imports;
use crate::interpreter::switching::switched_method;
use crate::memory::objects::{self, Record};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("BarrierBase", module.py().get_type::<BarrierBase>())?;
    module.add_class::<BarrierArrival>()
}

/// The native half of `manyhands.Barrier`.
#[pyclass(frozen, subclass, module = "manyhands._native", name = "Barrier")]
pub(crate) struct BarrierBase {
    barrier: Barrier,
    record: Record,
}

/// The place of a coroutine that has arrived.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct BarrierArrival {
    token: ArrivalToken,
}

impl Awaited for BarrierBase {
    const KIND: WaitKind = WaitKind::Barrier;

    fn record(&self) -> &Record {
        &self.record
    }

    fn events(&self) -> EventCount<'_> {
        self.barrier.events()
    }
}

fn broken(py: Python<'_>) -> PyErr {
    imports::error(py, imports::broken_barrier_error, None)
}

impl BarrierBase {
    fn over(record: Record) -> PyResult<Self> {
        let barrier = Barrier::open(Arc::clone(record.site()), record.words().clone())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { barrier, record })
    }

    /// The one that somebody has made with that name.
    fn open_named(name: Option<&str>) -> PyResult<Self> {
        let Some(name) = name else {
            let text = "Barrier() needs its parties, or the name of an existing barrier";
            return Err(PyTypeError::new_err(text));
        };
        let words = |site: &Site| {
            let [parties, ..] = site.parameters();
            let parties = usize::try_from(parties).ok().filter(|parties| *parties <= Barrier::MOST)?;
            Some(Barrier::words_for(parties))
        };
        match objects::named_record(Kind::Barrier, name, &[objects::ANY], words)? {
            Some(record) => Self::over(record),
            None => Err(objects::nothing_named(name, "Barrier", "parties")),
        }
    }
}

#[pymethods]
impl BarrierBase {
    #[new]
    #[pyo3(signature = (parties = None, *_rest, name = None, _address = None, **_more))]
    fn new(
        parties: Option<&Bound<'_, PyAny>>,
        _rest: &Bound<'_, PyTuple>,
        name: Option<Name<'_>>,
        _address: Option<&Bound<'_, PyTuple>>,
        _more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let (name, most) = (name.as_deref(), Barrier::MOST);
        let Some(parties) = parties else {
            return Self::open_named(name);
        };
        let count =
            usize::try_from(integer("parties", parties)?).ok().filter(|count| (1..=most).contains(count));
        let Some(count) = count else {
            // threading's words up to 3.12 and since: parties must be > 0.
            return Err(PyValueError::new_err(format!("parties must be > 0 and at most {most}")));
        };
        let words = Barrier::words_for(count);
        let record =
            objects::record(_address, Kind::Barrier, name, &[count as u64], words, |site, words| {
                drop(Barrier::create(Arc::clone(site), words.clone(), count));
                Ok(())
            })?;
        Self::over(record)
    }

    /// The name by which any process of this user can open it, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.record.name()
    }

    /// How many have to arrive.
    #[getter]
    fn parties(&self) -> usize {
        self.barrier.parties()
    }

    /// How many have arrived and wait for the others.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.barrier.waiting()
    }

    /// Whether it is broken; `reset` makes it whole.
    #[getter]
    fn broken(&self) -> bool {
        self.barrier.is_broken()
    }

    /// Waits for the others; one of all calls `action` before anybody goes on.
    fn _wait(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
        action: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let (py, barrier) = (slf.py(), &slf.get().barrier);
        let patience = timeout::of_wait(timeout)?;
        if let Some(index) = switched_method(slf, intern!(py, "async_wait"), || (timeout::left(patience),))? {
            return index.extract();
        }
        // A thread that is called away by a signal takes its arrival back; the barrier stays as it is.
        let passage = waiting::wait(py, |waiting| match barrier.wait(patience, waiting) {
            Ok(passage) => Ok(Some(passage)),
            Err(NotPassed::Broken) => Ok(None),
            Err(NotPassed::Interrupted) => Err(Stopped::Broken),
        })?
        .flatten();
        match passage {
            Some(Passage::Passed(index)) => Ok(index),
            Some(Passage::Acts(acting)) => {
                if let Some(action) = action {
                    action.call0()?;
                }
                acting.pass().map_err(|_| broken(py))
            }
            None => Err(broken(py)),
        }
    }

    /// A coroutine arrives: what it finds ("waits", "acts", "full"), and its place.
    fn _arrive(&self, py: Python<'_>) -> PyResult<(&'static str, Option<BarrierArrival>)> {
        match self.barrier.arrive() {
            Arrival::Waits(token) => Ok(("waits", Some(BarrierArrival { token }))),
            Arrival::Acts(token) => Ok(("acts", Some(BarrierArrival { token }))),
            Arrival::Full => Ok(("full", None)),
            Arrival::Broken => Err(broken(py)),
        }
    }

    /// The index of a coroutine that has passed; None while it waits.
    fn _outcome(&self, py: Python<'_>, token: &BarrierArrival) -> PyResult<Option<usize>> {
        self.barrier.break_if_dead();
        self.barrier.outcome(token.token).transpose().map_err(|_| broken(py))
    }

    /// Lets all go on, by the coroutine that had to act: its index.
    fn _pass(&self, py: Python<'_>, token: &BarrierArrival) -> PyResult<usize> {
        let passed = self.barrier.pass(token.token);
        if passed { Ok(token.token.index()) } else { Err(broken(py)) }
    }

    /// Breaks the barrier: the action of the coroutine that had to act has failed.
    fn _fail(&self, token: &BarrierArrival) {
        self.barrier.fail(token.token);
    }

    /// A coroutine's time is up; false if all have arrived.
    fn _expire(&self, token: &BarrierArrival) -> bool {
        self.barrier.expire(token.token)
    }

    /// A coroutine takes its arrival back.
    fn _withdraw(&self, token: &BarrierArrival) {
        self.barrier.withdraw(token.token);
    }

    /// Break the barrier: parties that wait, and those that come until it is `reset`, get `threading.BrokenBarrierError`.
    fn abort(&self) {
        self.barrier.abort();
    }

    /// Make the barrier as new, even if it was broken. Parties that wait get `threading.BrokenBarrierError`.
    fn reset(&self) {
        self.barrier.reset();
    }

    /// Return what is known of the barrier.
    ///
    /// Returns:
    ///     a dict of ``name``, ``parties``, ``waiting`` (how many have arrived) and ``broken``.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = PyDict::new(py);
        statistics.set_item("name", self.record.name())?;
        statistics.set_item("parties", self.barrier.parties())?;
        statistics.set_item("waiting", self.barrier.waiting())?;
        statistics.set_item("broken", self.barrier.is_broken())?;
        Ok(statistics)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let barrier = &slf.get().barrier;
        let class = slf.get_type().name()?;
        let name = slf.get().record.label();
        let at = slf.as_ptr() as usize;
        Ok(match barrier.is_broken() {
            true => format!("<manyhands.{class}{name} at {at:#x}: broken>"),
            false => {
                let (waiting, parties) = (barrier.waiting(), barrier.parties());
                format!("<manyhands.{class}{name} at {at:#x}: waiters={waiting}/{parties}>")
            }
        })
    }

    fn _address<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.record.address(py)
    }

    fn _enlist(slf: &Bound<'_, Self>, socket: u32) -> Enlisted {
        Enlisted::at(slf, socket)
    }
}
