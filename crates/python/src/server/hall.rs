//! Where connections arrive: what an acceptor calls, and what the thread in `serve_forever` is told.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::clock;
use manyhands_os::datagram;
use manyhands_os::service_manager;
use manyhands_os::stream::{self, NotAccepted, Peer, SocketAddr};
use manyhands_server::acceptor::{Acceptor, Bell, Door};
use manyhands_server::admission::{Counts, Limits, Overflow};
use manyhands_server::front::Employer;
use manyhands_server::host::Host;
use manyhands_server::ledger::{Count, Ledger};
use manyhands_server::pulse::Pulse;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::interpreter::ffi::duplicate_descriptor;
use crate::interpreter::lock::lock;
use crate::interpreter::parker::{Expect, Parker};

/// How many refused connections wait for somebody who tells them; the others are closed without a word.
const REFUSED: usize = 64;

/// A connection between its arrival and its worker.
pub(super) struct Accepted {
    pub(super) fd: OwnedFd,
    pub(super) peer: Peer,
}

/// What arrives at a server.
pub(super) enum Arrival {
    Connection(Accepted),
    Datagram { bytes: Vec<u8>, peer: Peer },
}

/// The limits as users have them.
pub(super) fn limits(connections: usize, active: usize, queued: usize, reject: bool) -> Limits {
    let overflow = if reject { Overflow::Reject } else { Overflow::Wait };
    Limits { connections, active, queued, overflow }
}

/// The address of a client, as `socket.accept` has it.
pub(super) fn address<'py>(py: Python<'py>, peer: &Peer) -> PyResult<Bound<'py, PyAny>> {
    Ok(match peer {
        Peer::Inet(SocketAddr::V4(v4)) => (v4.ip().to_string(), v4.port()).into_pyobject(py)?.into_any(),
        Peer::Inet(SocketAddr::V6(v6)) => {
            (v6.ip().to_string(), v6.port(), v6.flowinfo(), v6.scope_id()).into_pyobject(py)?.into_any()
        }
        Peer::Unix(name) if name.first() == Some(&0) => PyBytes::new(py, name).into_any(),
        Peer::Unix(path) => {
            let path: OsString = std::os::unix::ffi::OsStringExt::from_vec(path.clone());
            PyString::new(py, "").call_method1("__add__", (path,))?
        }
    })
}

/// What the thread in `serve_forever` is told, and by whom it is woken.
pub(super) struct Desk {
    /// Gone with the acceptor: whoever keeps a worker, as a traceback may, keeps no descriptor.
    bell: Mutex<Option<Bell>>,
    parker: Arc<Parker>,
    /// Workers to start. Added to by whoever needs them, taken by the thread.
    starts: AtomicUsize,
    /// Nobody is inside any more. Set once.
    drained: AtomicBool,
    /// Somebody wants the thread to look at something of Python's. Set by anyone, cleared by the thread.
    asked: AtomicBool,
    /// How often a thread has come by that had the interpreter: the serving one, or a worker. Added to by these.
    passes: AtomicU64,
    /// What has been counted, for others to see.
    ledger: Arc<Ledger>,
}

impl Desk {
    /// Nothing has happened yet.
    pub(super) fn new(ledger: Arc<Ledger>) -> PyResult<Self> {
        Ok(Self {
            bell: Mutex::new(Some(Bell::new()?)),
            parker: Arc::default(),
            starts: AtomicUsize::new(0),
            drained: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            passes: AtomicU64::new(0),
            ledger,
        })
    }

    /// Has the thread look at something of Python's.
    fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }

    /// Notes that the calling thread has the interpreter.
    pub(super) fn pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Employer for Desk {
    fn start_workers(&self, count: usize) {
        self.starts.fetch_add(count, Ordering::SeqCst);
        self.parker.unpark();
    }
}

impl Host for Desk {
    fn accept_again(&self) {
        if let Some(bell) = &*lock(&self.bell) {
            bell.ring();
        }
    }

    fn drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }

    fn counted(&self, counts: Counts, workers: usize, idle: usize) {
        let ledger = &self.ledger;
        ledger.set(Count::Accepted, counts.accepted);
        ledger.set(Count::Refused, counts.refused);
        ledger.set(Count::Served, counts.served);
        ledger.set(Count::Dropped, counts.dropped);
        ledger.set(Count::Queued, counts.queued as u64);
        ledger.set(Count::Active, counts.active as u64);
        ledger.set(Count::Busiest, counts.busiest as u64);
        ledger.set(Count::Workers, workers as u64);
        ledger.set(Count::Idle, idle as u64);
    }
}

/// How often it is looked whether the server answers, and who is told.
pub(super) struct Beat {
    /// In nanoseconds.
    period: u64,
    /// The service manager's socket, if it wants to be told.
    manager: Option<OsString>,
    pulse: Mutex<Pulse>,
}

impl Beat {
    /// A beat every so many milliseconds; `None`: never.
    pub(super) fn every(milliseconds: Option<u64>, manager: Option<OsString>) -> Option<Self> {
        let period = milliseconds? * clock::MILLISECOND;
        Some(Self { period, manager, pulse: Mutex::default() })
    }
}

/// Where connections wait for whoever serves them.
pub(super) trait Queue: Send + Sync + 'static {
    /// The desk that is told of what happens.
    fn desk(&self) -> &Desk;
    /// What there is and was.
    fn counts(&self) -> Counts;
    /// Whether the next connection may be accepted; if not, the bell is rung once that may have changed.
    fn may_accept(&self) -> bool;
    /// Takes what has arrived, or gives it back if it is full.
    fn offer(&self, arrival: Arrival) -> Result<(), Arrival>;
    /// Counts what is refused whatever room there is.
    fn refuse(&self);
    /// Whether connections wait for somebody who might not come.
    fn has_queue(&self) -> bool;
    /// They have waited a while.
    fn look_for_a_stall(&self);
    /// Accepts nothing more, and closes what waits if `drop_queue` says so; how many that were.
    fn end(&self, drop_queue: bool) -> usize;
}

/// The queue, and what cannot be accepted.
pub(super) struct Hall<Q> {
    pub(super) queue: Q,
    refused: Mutex<Vec<Accepted>>,
    /// Whether other processes serve the same listener.
    shared: bool,
    /// Whether somebody tells those who are refused.
    tells: bool,
    trouble: Mutex<Option<(String, bool)>>,
    /// Of a socket of datagrams: where they are received, with a byte more than they may have.
    packet: Option<Mutex<Vec<u8>>>,
    beat: Option<Beat>,
}

impl<Q: Queue> Door for Hall<Q> {
    fn may_accept(&self) -> bool {
        self.queue.may_accept()
    }

    fn load(&self) -> Option<usize> {
        self.shared.then(|| {
            let counts = self.queue.counts();
            counts.queued + counts.active
        })
    }

    fn admit(&self, fd: OwnedFd, peer: Peer) {
        let arrival = Arrival::Connection(Accepted { fd, peer });
        let Err(Arrival::Connection(accepted)) = self.queue.offer(arrival) else { return };
        if !self.tells {
            return;
        }
        let mut refused = lock(&self.refused);
        if refused.len() < REFUSED {
            refused.push(accepted);
            drop(refused);
            self.queue.desk().parker.unpark();
        }
    }

    fn take(&self, listener: BorrowedFd<'_>) -> Result<(), NotAccepted> {
        let Some(packet) = &self.packet else {
            let (connection, peer) = stream::accept(listener)?;
            self.admit(connection, peer);
            return Ok(());
        };
        let mut packet = lock(packet);
        let (length, peer) = datagram::receive(listener, &mut packet)?;
        if length >= packet.len() {
            self.queue.refuse();
            return Ok(());
        }
        // Nobody is told of what is refused; it is counted.
        _ = self.queue.offer(Arrival::Datagram { bytes: packet[..length].to_vec(), peer });
        Ok(())
    }

    fn has_queue(&self) -> bool {
        self.queue.has_queue()
    }

    fn look_for_a_stall(&self) {
        self.queue.look_for_a_stall();
    }

    fn trouble(&self, error: &io::Error, for_good: bool) {
        *lock(&self.trouble) = Some((error.to_string(), for_good));
        self.queue.desk().parker.unpark();
    }

    fn beat_every(&self) -> Option<u64> {
        self.beat.as_ref().map(|beat| beat.period)
    }

    fn beat(&self) {
        let Some(beat) = &self.beat else { return };
        let desk = self.queue.desk();
        let passes = desk.passes.load(Ordering::Relaxed);
        if lock(&beat.pulse).beat(passes, clock::process_time(), beat.period) {
            desk.ledger.answers();
            if let Some(manager) = &beat.manager {
                // A manager that does not read misses a beat; it cannot be told of that.
                _ = service_manager::tell(manager, "WATCHDOG=1", false);
            }
        }
        desk.ask();
    }
}

/// A hall with an acceptor: what the engines of servers have in common.
pub(super) struct Entrance<Q> {
    hall: Arc<Hall<Q>>,
    acceptor: Mutex<Option<Acceptor>>,
}

impl<Q: Queue> Entrance<Q> {
    /// With the limits of [`Hall`]; `longest` is how many bytes a datagram may have, if these arrive.
    pub(super) fn new(
        queue: Q,
        tells: bool,
        shared: bool,
        longest: Option<usize>,
        beat: Option<Beat>,
    ) -> Self {
        let (refused, trouble) = Default::default();
        let packet = longest.map(|longest| Mutex::new(vec![0; longest + 1]));
        let hall = Hall { queue, refused, shared, tells, trouble, packet, beat };
        Self { hall: Arc::new(hall), acceptor: Mutex::new(None) }
    }

    pub(super) fn hall(&self) -> &Arc<Hall<Q>> {
        &self.hall
    }

    /// Starts to accept connections of a listener, or to receive datagrams of a socket, of which it makes a duplicate.
    pub(super) fn accept(&self, listener: i32) -> PyResult<()> {
        let listener = duplicate_descriptor(listener)?;
        let bell = lock(&self.hall.queue.desk().bell).clone();
        let Some(bell) = bell else {
            return Err(PyRuntimeError::new_err("this server has ended"));
        };
        let acceptor = Acceptor::start(listener, bell, Arc::clone(&self.hall))?;
        *lock(&self.acceptor) = Some(acceptor);
        Ok(())
    }

    /// Waits until there is something to do, or for `timeout` seconds: how many workers to start, which clients were refused (descriptors and
    /// addresses), what is wrong with accepting, and whether nobody is inside any more.
    pub(super) fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyTuple>> {
        let desk = self.hall.queue.desk();
        let deadline = timeout.and_then(clock::after);
        loop {
            desk.parker.reset();
            desk.pass();
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
    pub(super) fn ask(&self) {
        self.hall.queue.desk().ask();
    }

    /// Accepts nothing more. What is queued is served if `drain`, and closed otherwise; how many were closed.
    pub(super) fn end(&self, py: Python<'_>, drain: bool) -> usize {
        let acceptor = lock(&self.acceptor).take();
        py.detach(|| drop(acceptor));
        lock(&self.hall.queue.desk().bell).take();
        self.hall.queue.end(!drain)
    }
}
