//! The engine of a server, as Python sees it: one for each run of `serve_forever`.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::clock;
use manyhands_os::stream::{Peer, SocketAddr};
use manyhands_server::acceptor::{Acceptor, Bell};
use manyhands_server::admission::{Limits, Overflow};
use manyhands_server::front::{Front, Task};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::calls::StreamCalls;
use super::seat::{Accepted, Desk, Hall, Seat, Sleeper};
use crate::interpreter::ffi::duplicate_descriptor;
use crate::interpreter::lock::lock;
use crate::interpreter::parker::Expect;

/// What a worker takes: a descriptor, the address of the client, and the calls of its socket.
type Taken<'py> = (i32, Bound<'py, PyAny>, Bound<'py, StreamCalls>);

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
                self.seat.hall.front.not_started(1);
            } else {
                self.seat.hall.front.lose();
            }
        }
    }

    /// Says that the connection before has ended, and waits for another: its descriptor, the address of the client, and the
    /// calls of its socket. None when there will be no more.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Taken<'py>>> {
        let seat = &self.seat;
        seat.sit_down();
        seat.finish();
        loop {
            seat.parker.reset();
            let came = self.comes.swap(false, Ordering::Relaxed);
            match seat.hall.front.take(|| Sleeper(Arc::clone(&seat.parker)), came) {
                Task::Serve(Accepted { fd, peer }) => {
                    let now = clock::now();
                    seat.began.store(now, Ordering::Relaxed);
                    seat.busy.store(now, Ordering::Relaxed);
                    let address = address(py, &peer)?;
                    let calls = Bound::new(py, StreamCalls::served(fd.as_raw_fd(), seat))?;
                    return Ok(Some((fd.into_raw_fd(), address, calls)));
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

/// The address of a client, as `socket.accept` has it.
fn address<'py>(py: Python<'py>, peer: &Peer) -> PyResult<Bound<'py, PyAny>> {
    Ok(match peer {
        Peer::Inet(SocketAddr::V4(v4)) => (v4.ip().to_string(), v4.port()).into_pyobject(py)?.into_any(),
        Peer::Inet(SocketAddr::V6(v6)) => {
            (v6.ip().to_string(), v6.port(), v6.flowinfo(), v6.scope_id()).into_pyobject(py)?.into_any()
        }
        Peer::Unix(name) if name.first() == Some(&0) => PyBytes::new(py, name).into_any(),
        Peer::Unix(path) => {
            let path: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(path.clone());
            PyString::new(py, "").call_method1("__add__", (path,))?
        }
    })
}

/// A listener, an acceptor, a queue of connections and the workers that serve them.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct ServerEngine {
    hall: Arc<Hall>,
    acceptor: Mutex<Option<Acceptor>>,
}

#[pymethods]
impl ServerEngine {
    #[new]
    #[pyo3(signature = (*, connections, active, queued, workers, reject, tells, shared))]
    fn new(
        connections: usize,
        active: usize,
        queued: usize,
        workers: usize,
        reject: bool,
        tells: bool,
        shared: bool,
    ) -> PyResult<Self> {
        let overflow = if reject { Overflow::Reject } else { Overflow::Wait };
        let limits = Limits { connections, active: active.min(workers), queued, overflow };
        let desk = Desk {
            bell: Mutex::new(Some(Bell::new()?)),
            parker: Arc::default(),
            starts: AtomicUsize::new(0),
            drained: AtomicBool::new(false),
            asked: AtomicBool::new(false),
        };
        let hall = Hall {
            front: Front::new(limits, workers, desk),
            refused: Mutex::default(),
            shared,
            tells,
            trouble: Mutex::default(),
        };
        Ok(Self { hall: Arc::new(hall), acceptor: Mutex::new(None) })
    }

    /// Starts to accept connections of a listener, of which it makes a duplicate.
    fn accept(&self, listener: i32) -> PyResult<()> {
        let listener = duplicate_descriptor(listener)?;
        let bell = lock(&self.hall.front.host().bell).clone();
        let Some(bell) = bell else {
            return Err(PyRuntimeError::new_err("this server has ended"));
        };
        let acceptor = Acceptor::start(listener, bell, Arc::clone(&self.hall))?;
        *lock(&self.acceptor) = Some(acceptor);
        Ok(())
    }

    /// A worker, for a thread that was asked for.
    fn worker(&self) -> ServerWorker {
        let seat = Seat {
            hall: Arc::clone(&self.hall),
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
        let desk = self.hall.front.host();
        let deadline = timeout.and_then(clock::after);
        loop {
            desk.parker.reset();
            let starts = desk.starts.swap(0, Ordering::SeqCst);
            let refused = std::mem::take(&mut *lock(&self.hall.refused));
            let trouble = lock(&self.hall.trouble).take();
            let drained = desk.drained.load(Ordering::SeqCst);
            let asked = desk.asked.swap(false, Ordering::SeqCst);
            let anything = starts > 0 || !refused.is_empty() || trouble.is_some() || drained || asked;
            let late = deadline.is_some_and(|deadline| clock::now() >= deadline);
            if anything || late {
                let list = PyList::empty(py);
                for Accepted { fd, peer } in refused {
                    list.append((fd.into_raw_fd(), address(py, &peer)?))?;
                }
                return (starts, list, trouble, drained).into_pyobject(py);
            }
            desk.parker.wait(py, deadline, Expect::Nothing)?;
        }
    }

    /// Has [`Self::wait`] return.
    fn ask(&self) {
        let desk = self.hall.front.host();
        desk.asked.store(true, Ordering::SeqCst);
        desk.parker.unpark();
    }

    /// So many workers could not be started.
    fn not_started(&self, count: usize) {
        self.hall.front.not_started(count);
    }

    /// Accepts nothing more. What is queued is served if `drain`, and closed otherwise; how many were closed.
    fn end(&self, py: Python<'_>, drain: bool) -> usize {
        let acceptor = lock(&self.acceptor).take();
        py.detach(|| drop(acceptor));
        lock(&self.hall.front.host().bell).take();
        self.hall.front.end(!drain).len()
    }

    /// What there is and was, in numbers.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (counts, workers, idle) = self.hall.front.counts();
        let numbers = PyDict::new(py);
        numbers.set_item("accepted", counts.accepted)?;
        numbers.set_item("refused", counts.refused)?;
        numbers.set_item("served", counts.served)?;
        numbers.set_item("dropped", counts.dropped)?;
        numbers.set_item("queued", counts.queued)?;
        numbers.set_item("active", counts.active)?;
        numbers.set_item("busiest", counts.busiest)?;
        numbers.set_item("workers", workers)?;
        numbers.set_item("idle", idle)?;
        Ok(numbers)
    }

    /// Refuses to be pickled: a process of its own has none of the threads.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a server cannot be pickled: make it in the process that runs it"))
    }
}
