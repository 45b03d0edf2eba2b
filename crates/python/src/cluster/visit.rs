//! A short visit to a broker, for `manyhands doctor` and `manyhands dead`.

use std::time::Duration;

use manyhands_cluster::address::Address;
use manyhands_cluster::greeting::Greeting;
use manyhands_cluster::topology::QueueKind;
use manyhands_cluster::visit::{Letter, Visit};
use manyhands_cluster::worker::dead_letters;
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A connection for as long as a visit takes.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct ClusterVisit {
    visit: Visit,
    address: Address,
}

/// What a broker says of itself.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct BrokerGreeting {
    greeting: Greeting,
}

/// A message in a queue of dead letters.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct DeadLetter {
    letter: Letter,
}

#[pymethods]
impl ClusterVisit {
    /// Connect, and log in.
    #[new]
    fn new(py: Python<'_>, url: &str, name: String, connect_within: f64) -> PyResult<Self> {
        let address = address(url)?;
        let within = Duration::from_secs_f64(connect_within);
        let begun = py.detach(|| Visit::begin(address.clone(), name, within));
        Ok(Self { visit: begun.map_err(|why| refused(&address, &why))?, address })
    }

    /// What a broker says of itself to those who have not logged in.
    #[staticmethod]
    fn greeting(py: Python<'_>, url: &str, connect_within: f64) -> PyResult<BrokerGreeting> {
        let address = address(url)?;
        let heard = py.detach(|| Greeting::of(&address, Duration::from_secs_f64(connect_within)));
        let greeting = heard.map_err(|error| refused(&address, &error.to_string()))?;
        Ok(BrokerGreeting { greeting })
    }

    /// The queue of the dead letters of a queue.
    #[staticmethod]
    fn dead_letters(queue: &str) -> String {
        dead_letters(queue)
    }

    /// The address of the broker, without name and password.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many messages wait in a queue, and how many consumers it has.
    fn depth(&self, py: Python<'_>, queue: &str) -> PyResult<(u32, u32)> {
        let depth = py.detach(|| self.visit.depth(queue)).map_err(PyConnectionError::new_err)?;
        Ok((depth.messages, depth.consumers))
    }

    /// Declare a queue as Celery's programs do.
    fn declare(&self, py: Python<'_>, name: &str, is_quorum: bool) -> PyResult<()> {
        let kind = if is_quorum { QueueKind::Quorum } else { QueueKind::Classic };
        py.detach(|| self.visit.declare(name, kind)).map_err(PyConnectionError::new_err)
    }

    /// The next message of a queue, which it has again when the visit ends.
    fn next_letter(&self, py: Python<'_>, queue: &str) -> PyResult<Option<DeadLetter>> {
        let next = py.detach(|| self.visit.next_letter(queue)).map_err(PyConnectionError::new_err)?;
        Ok(next.map(|letter| DeadLetter { letter }))
    }

    /// Publish a letter to a queue, and remove it from its own once that is confirmed.
    fn send_back(&self, py: Python<'_>, letter: &DeadLetter, queue: &str) -> PyResult<()> {
        py.detach(|| self.visit.send_back(&letter.letter, queue)).map_err(PyConnectionError::new_err)
    }

    /// Remove a letter from its queue.
    fn drop_letter(&self, py: Python<'_>, letter: &DeadLetter) -> PyResult<()> {
        py.detach(|| self.visit.drop_letter(letter.letter.number)).map_err(PyConnectionError::new_err)
    }

    /// End the visit.
    fn end(&self, py: Python<'_>) {
        py.detach(|| self.visit.end());
    }
}

#[pymethods]
impl BrokerGreeting {
    /// How long a worker may hold a message, in seconds, unless it was configured otherwise.
    #[getter]
    fn consumer_timeout(&self) -> Option<u32> {
        self.greeting.server.default_consumer_timeout_s()
    }

    /// Whether it takes the queues of answers of old Celery.
    #[getter]
    fn has_transient_queues(&self) -> bool {
        self.greeting.server.has_transient_queues()
    }

    fn __str__(&self) -> String {
        let Greeting { server, platform, cluster } = &self.greeting;
        format!("{} {} on {platform}, cluster {cluster}", server.product, server.version)
    }
}

#[pymethods]
impl DeadLetter {
    /// Why it is one.
    #[getter]
    fn because(&self) -> Option<&str> {
        self.letter.because.as_deref()
    }

    /// The queue that it is from.
    #[getter]
    fn source_queue(&self) -> Option<&str> {
        self.letter.from.as_deref()
    }

    /// A header that is a text, such as `task` or `id`.
    fn header(&self, name: &str) -> Option<String> {
        self.letter.header(name)
    }

    /// The message itself.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.letter.body)
    }
}

fn refused(address: &Address, why: &str) -> PyErr {
    PyConnectionError::new_err(format!("the broker at {address} does not serve us: {why}"))
}

fn address(url: &str) -> PyResult<Address> {
    Address::parse(url)
        .map_err(|why| PyValueError::new_err(format!("the URL of the broker cannot be used: {why}")))
}
