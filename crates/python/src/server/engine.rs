//! The engine of a server, as Python sees it: one for each run of `serve_forever`. Its workers are threads.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use manyhands_os::clock;
use manyhands_server::front::{Front, Task};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::calls::StreamCalls;
use super::hall::{Accepted, Arrival, Beat, Desk, Entrance, address, limits};
use super::ledger::ServerLedger;
use super::seat::{Arrivals, Seat, Sleeper};
use crate::interpreter::parker::Expect;

/// What a worker takes: a descriptor or a datagram, the address of the client, and the calls of a descriptor's socket.
type Taken<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Bound<'py, StreamCalls>>);

/// One worker of a server: a thread that serves connections one after the other.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct ServerWorker {
    seat: Arc<Seat>,
    /// Whether it has been sent for and has not come.
    comes: AtomicBool,
    /// Whether it has been told to leave.
    left: AtomicBool,
}

impl Drop for ServerWorker {
    fn drop(&mut self) {
        self.leave();
    }
}

#[pymethods]
impl ServerWorker {
    /// Since when the handler has neither ended nor waited for its client, as `time.monotonic` has it; None while it does.
    fn busy_since(&self) -> Option<f64> {
        let since = self.seat.busy.load(Ordering::Relaxed);
        (since != 0).then(|| clock::seconds(since))
    }

    /// Says that the thread ends, if it was not told to: another may take its place.
    fn leave(&self) {
        self.seat.finish();
        if !self.left.swap(true, Ordering::Relaxed) {
            if self.comes.swap(false, Ordering::Relaxed) {
                self.seat.hall.queue.not_started(1);
            } else {
                self.seat.hall.queue.lose();
            }
        }
    }

    /// Says that the connection before has ended, and waits for another: its descriptor, the address of the client, and the
    /// calls of its socket; or for a datagram: its bytes, and the address. None when there will be no more.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Taken<'py>>> {
        let seat = &self.seat;
        seat.sit_down();
        seat.finish();
        seat.hall.queue.host().pass();
        loop {
            seat.parker.reset();
            let came = self.comes.swap(false, Ordering::Relaxed);
            match seat.hall.queue.take(|| Sleeper(Arc::clone(&seat.parker)), came) {
                Task::Serve(arrival) => {
                    let now = clock::now();
                    seat.began.store(now, Ordering::Relaxed);
                    seat.busy.store(now, Ordering::Relaxed);
                    return Ok(Some(match arrival {
                        Arrival::Connection(Accepted { fd, peer }) => {
                            let address = address(py, &peer)?;
                            let calls = Bound::new(py, StreamCalls::served(fd.as_raw_fd(), seat))?;
                            (fd.into_raw_fd().into_pyobject(py)?.into_any(), address, Some(calls))
                        }
                        Arrival::Datagram { bytes, peer } => {
                            (PyBytes::new(py, &bytes).into_any(), address(py, &peer)?, None)
                        }
                    }));
                }
                Task::Leave => {
                    self.left.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                Task::Sleep => {
                    while !seat.parker.is_unparked() {
                        seat.parker.wait(py, None, Expect::Nothing)?;
                    }
                    self.comes.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// A listener or a socket of datagrams, an acceptor, a queue and the workers that serve it.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct ServerEngine {
    entrance: Entrance<Arrivals>,
}

#[pymethods]
impl ServerEngine {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they are named")]
    #[pyo3(signature = (*, ledger, connections, active, queued, workers, reject, tells, shared, longest, lent, beat_ms, manager))]
    fn new(
        ledger: &ServerLedger,
        connections: usize,
        active: usize,
        queued: usize,
        workers: usize,
        reject: bool,
        tells: bool,
        shared: bool,
        longest: Option<usize>,
        lent: bool,
        beat_ms: Option<u64>,
        manager: Option<OsString>,
    ) -> PyResult<Self> {
        let limits = limits(connections, active.min(workers), queued, reject);
        let front = Front::new(limits, workers, Desk::new(Arc::clone(&ledger.0))?).lent(lent);
        let beat = Beat::every(beat_ms, manager);
        Ok(Self { entrance: Entrance::new(front, tells, shared, longest, beat) })
    }

    /// Starts to accept connections of a listener, or to receive datagrams of a socket, of which it makes a duplicate.
    fn accept(&self, listener: i32) -> PyResult<()> {
        self.entrance.accept(listener)
    }

    /// A worker, for a thread that was asked for.
    fn worker(&self) -> ServerWorker {
        let seat = Seat {
            hall: Arc::clone(self.entrance.hall()),
            parker: Arc::default(),
            began: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        };
        ServerWorker { seat: Arc::new(seat), comes: AtomicBool::new(true), left: AtomicBool::new(false) }
    }

    /// Waits until there is something to do, or for `timeout` seconds: how many workers to start, which clients were refused (descriptors and
    /// addresses), what is wrong with accepting, and whether nobody is inside any more.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyTuple>> {
        self.entrance.wait(py, timeout)
    }

    /// Has [`Self::wait`] return.
    fn ask(&self) {
        self.entrance.ask();
    }

    /// So many workers could not be started.
    fn not_started(&self, count: usize) {
        self.entrance.hall().queue.not_started(count);
    }

    /// Accepts nothing more. What is queued is served if `drain`, and closed otherwise; how many were closed.
    fn end(&self, py: Python<'_>, drain: bool) -> usize {
        self.entrance.end(py, drain)
    }

    /// Refuses to be pickled: a process of its own has none of the threads.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a server cannot be pickled: make it in the process that runs it"))
    }
}
