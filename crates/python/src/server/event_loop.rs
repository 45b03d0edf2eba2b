//! Connections that event loops serve: how they get there, and how a loop learns what has arrived.
//!
//! A loop has one descriptor to watch, a poller of ours, and is called back once for all connections that are ready.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands_os::clock;
use manyhands_os::poll::{EventFd, Interest, Readiness};
use manyhands_os::stream;
use manyhands_server::admission::Counts;
use manyhands_server::crew::Wake;
use manyhands_server::lobby::Lobby;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::connection::Connection;
use super::hall::{Accepted, Arrival, Beat, Desk, Entrance, Hall, Queue, address, limits};
use super::ledger::ServerLedger;
use super::room::Room;
use super::streams::{StreamReader, StreamWriter};
use super::wait::Wait;

/// The poller's name for the waker: no connection has it.
const INBOX: u64 = 0;

/// So often a loop looks for what is ready before it does anything else.
const ROUNDS: usize = 8;

/// Wakes a loop for what is in its inbox.
#[derive(Clone)]
struct Waker(Arc<EventFd>);

impl Wake for Waker {
    fn wake(&self) {
        // Nobody is there to be told if the descriptor has been closed by the program.
        _ = self.0.signal();
    }
}

type Arrivals = Lobby<Arrival, Waker, Desk>;

impl Queue for Arrivals {
    fn desk(&self) -> &Desk {
        self.host()
    }

    fn counts(&self) -> Counts {
        self.counts().0
    }

    fn may_accept(&self) -> bool {
        self.may_accept()
    }

    fn offer(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.offer(arrival)
    }

    fn refuse(&self) {
        self.refuse();
    }

    /// Loops need no help: what waits does so for its place, or until a loop has time.
    fn has_queue(&self) -> bool {
        false
    }

    fn look_for_a_stall(&self) {}

    fn end(&self, drop_queue: bool) -> usize {
        self.end(drop_queue).len()
    }
}

/// A listener, an acceptor, a queue of connections and the event loops that serve them.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct LoopEngine {
    entrance: Entrance<Arrivals>,
}

#[pymethods]
impl LoopEngine {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they are named")]
    #[pyo3(signature = (*, ledger, connections, active, queued, reject, tells, shared, longest, beat_ms, manager))]
    fn new(
        ledger: &ServerLedger,
        connections: usize,
        active: usize,
        queued: usize,
        reject: bool,
        tells: bool,
        shared: bool,
        longest: Option<usize>,
        beat_ms: Option<u64>,
        manager: Option<OsString>,
    ) -> PyResult<Self> {
        let desk = Desk::new(Arc::clone(&ledger.0))?;
        let lobby = Lobby::new(limits(connections, active, queued, reject), desk);
        Ok(Self { entrance: Entrance::new(lobby, tells, shared, longest, Beat::every(beat_ms, manager)) })
    }

    /// Starts to accept connections of a listener, of which it makes a duplicate.
    fn accept(&self, listener: i32) -> PyResult<()> {
        self.entrance.accept(listener)
    }

    /// A loop that comes to serve: `begin` is called in it with the reader and the writer of each new connection, or with
    /// the bytes and the address of each datagram.
    fn join(
        &self,
        py: Python<'_>,
        event_loop: Py<PyAny>,
        begin: Py<PyAny>,
        limit: usize,
    ) -> PyResult<EventLoop> {
        let room = Room::new(event_loop)?;
        let waker = Arc::new(EventFd::new()?);
        room.poller()?.add(&*waker, INBOX, Interest::Readable)?;
        let hall = Arc::clone(self.entrance.hall());
        let number = hall.queue.join(Waker(Arc::clone(&waker)));
        Ok(EventLoop {
            room: Arc::new(room),
            hall,
            number,
            waker,
            begin,
            limit,
            nothing: Py::new(py, Wait::for_nothing())?,
            is_left: AtomicBool::new(false),
        })
    }

    /// As `ServerEngine.wait`.
    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyTuple>> {
        self.entrance.wait(py, timeout)
    }

    /// Has [`Self::wait`] return.
    fn ask(&self) {
        self.entrance.ask();
    }

    /// Accepts nothing more. What is queued is served if `drain`, and closed otherwise; how many were closed.
    fn end(&self, py: Python<'_>, drain: bool) -> usize {
        self.entrance.end(py, drain)
    }
}

/// One event loop of a server.
#[pyclass(frozen, module = "manyhands._native", name = "ServerLoop")]
pub(super) struct EventLoop {
    room: Arc<Room<Connection>>,
    hall: Arc<Hall<Arrivals>>,
    number: usize,
    waker: Arc<EventFd>,
    begin: Py<PyAny>,
    limit: usize,
    /// What writers await whose clients keep up.
    nothing: Py<Wait>,
    /// Whether this is the child of a fork, and all of it the parent's. Set once, by the thread that has forked.
    is_left: AtomicBool,
}

impl EventLoop {
    /// Deals with a descriptor that is ready.
    fn attend_to(&self, py: Python<'_>, name: u64, readiness: Readiness) -> PyResult<()> {
        if name != INBOX {
            let Some(connection) = self.room.find(name) else { return Ok(()) };
            return self.room.step(py, || connection.ready(py, readiness));
        }
        self.waker.drain();
        let mut outcome = Ok(());
        for arrival in self.hall.queue.collect(self.number) {
            outcome = outcome.and(self.room.step(py, || match arrival {
                Arrival::Connection(accepted) => self.welcome(py, accepted),
                Arrival::Datagram { bytes, peer } => {
                    let arguments = (PyBytes::new(py, &bytes), address(py, &peer)?);
                    self.begin.call1(py, arguments).map(drop)
                }
            }));
        }
        outcome
    }

    fn welcome(&self, py: Python<'_>, Accepted { fd, peer }: Accepted) -> PyResult<()> {
        if let stream::Peer::Inet(_) = peer {
            // As asyncio does: replies are not kept back until there is more to say.
            _ = stream::send_at_once(&fd);
        }
        match Connection::open(&self.room, fd, peer, self.limit) {
            Ok(connection) => {
                let reader = StreamReader::new(&connection);
                let writer = StreamWriter::new(&connection, self.nothing.clone_ref(py));
                self.begin.call1(py, (reader, writer))?;
                Ok(())
            }
            Err(error) => {
                self.hall.queue.leave(self.number);
                Err(error.into())
            }
        }
    }
}

#[pymethods]
impl EventLoop {
    /// The descriptor that is readable while there is something to dispatch.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.room.poller()?.as_fd().as_raw_fd())
    }

    /// Deals with what is ready: begins with new connections, and lets handlers go on whose clients have said something.
    ///
    /// What one of them raises, which is only what ends a program, does not keep the others from their turn.
    fn dispatch(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_left.load(Ordering::Relaxed) {
            return Ok(());
        }
        let poller = self.room.poller()?;
        let mut outcome = Ok(());
        // A turn of the loop costs more than looking once more.
        for _ in 0..ROUNDS {
            let ready = poller.wait(Some(clock::now()))?;
            if ready.is_empty() {
                break;
            }
            for (name, readiness) in ready {
                outcome = outcome.and(self.attend_to(py, name, readiness));
                if self.is_left.load(Ordering::Relaxed) {
                    return outcome;
                }
            }
        }
        outcome
    }

    /// A connection is served no more.
    fn leave(&self) {
        self.hall.queue.leave(self.number);
    }

    /// Ends connections whose handlers wait for another request; or all.
    fn end_connections(&self, py: Python<'_>, only_idle: bool) -> PyResult<()> {
        let mut ended = self.room.all().into_iter().filter(|each| !only_idle || each.is_idle());
        ended.try_for_each(|connection| connection.end(py))
    }

    /// In the child of a fork, which a handler has made in the loop's thread: leaves everything to the parent, but for the connection of
    /// this handler, if it has that.
    #[pyo3(signature = (writer))]
    fn leave_to_parent(&self, writer: Option<&StreamWriter>) {
        self.is_left.store(true, Ordering::Relaxed);
        self.room.leave_to_parent();
        for connection in self.room.all() {
            connection.leave_to_parent(writer.is_some_and(|writer| writer.is_of(&connection)));
        }
    }

    /// Closes all connections, and wakes whoever waits for them: the loop serves no more.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.hall.queue.part(self.number);
        let closed = self.room.all().iter().try_for_each(|connection| connection.abort(py));
        self.room.close();
        closed
    }
}
