//! What the threads of a server share: the front with its desk, and each worker's seat.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::clock::{self, Deadline};
use manyhands_os::stream::Peer;
use manyhands_server::acceptor::{Bell, Door};
use manyhands_server::crew::Wake;
use manyhands_server::front::{Front, Host};

use crate::interpreter::lock::lock;
use crate::interpreter::parker::Parker;

/// How many refused connections wait for somebody who tells them; the others are closed without a word.
const REFUSED: usize = 64;

/// A connection between its arrival and its worker.
pub(super) struct Accepted {
    pub(super) fd: OwnedFd,
    pub(super) peer: Peer,
}

/// Whom the front wakes: a worker's own parker, on which nothing else waits.
pub(super) struct Sleeper(pub(super) Arc<Parker>);

impl Wake for Sleeper {
    fn wake(&self) {
        self.0.unpark();
    }
}

type Connections = Front<Accepted, Sleeper, Desk>;

/// What the thread in `serve_forever` is told, and by whom it is woken.
pub(super) struct Desk {
    /// Gone with the acceptor: whoever keeps a worker, as a traceback may, keeps no descriptor.
    pub(super) bell: Mutex<Option<Bell>>,
    pub(super) parker: Arc<Parker>,
    /// Workers to start. Added to by whoever needs them, taken by the thread.
    pub(super) starts: AtomicUsize,
    /// Nobody is inside any more. Set once.
    pub(super) drained: AtomicBool,
    /// Somebody wants the thread to look at something of Python's. Set by anyone, cleared by the thread.
    pub(super) asked: AtomicBool,
}

impl Host for Desk {
    fn start_workers(&self, count: usize) {
        self.starts.fetch_add(count, Ordering::SeqCst);
        self.parker.unpark();
    }

    fn accept_again(&self) {
        if let Some(bell) = &*lock(&self.bell) {
            bell.ring();
        }
    }

    fn drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }
}

/// The front, and what cannot be accepted.
pub(super) struct Hall {
    pub(super) front: Connections,
    pub(super) refused: Mutex<Vec<Accepted>>,
    /// Whether other processes serve the same listener.
    pub(super) shared: bool,
    /// Whether somebody tells those who are refused.
    pub(super) tells: bool,
    pub(super) trouble: Mutex<Option<(String, bool)>>,
}

impl Door for Hall {
    fn may_accept(&self) -> bool {
        self.front.may_accept()
    }

    fn load(&self) -> Option<usize> {
        self.shared.then(|| {
            let (counts, ..) = self.front.counts();
            counts.queued + counts.active
        })
    }

    fn admit(&self, fd: OwnedFd, peer: Peer) {
        let Err(accepted) = self.front.offer(Accepted { fd, peer }) else { return };
        if !self.tells {
            return;
        }
        let mut refused = lock(&self.refused);
        if refused.len() < REFUSED {
            refused.push(accepted);
            drop(refused);
            self.front.host().parker.unpark();
        }
    }

    fn has_queue(&self) -> bool {
        self.front.has_queue()
    }

    fn look_for_a_stall(&self) {
        self.front.look_for_a_stall();
    }

    fn trouble(&self, error: &io::Error, for_good: bool) {
        *lock(&self.trouble) = Some((error.to_string(), for_good));
        self.front.host().parker.unpark();
    }
}

/// A worker's place.
pub(super) struct Seat {
    pub(super) hall: Arc<Hall>,
    pub(super) parker: Arc<Parker>,
    /// When the connection was taken that is being served; 0 for none.
    pub(super) began: AtomicU64,
    /// Since when its handler has neither ended nor waited for the client; 0 while it does.
    pub(super) busy: AtomicU64,
}

thread_local! {
    /// The seat whose worker this thread is.
    static SEATED: Cell<*const Seat> = const { Cell::new(std::ptr::null()) };
}

/// A worker waits for its client for as long as this lives.
pub(super) struct Waits<'a>(&'a Seat);

impl Seat {
    /// Makes the calling thread the worker.
    pub(super) fn sit_down(self: &Arc<Self>) {
        SEATED.set(Arc::as_ptr(self));
    }

    /// Whether the calling thread is the worker, and serves.
    pub(super) fn is_ours(&self) -> bool {
        std::ptr::eq(SEATED.get(), self) && self.began.load(Ordering::Relaxed) != 0
    }

    /// Whether other workers want to run.
    pub(super) fn others_run(&self) -> bool {
        self.hall.front.others_run()
    }

    pub(super) fn waits(&self) -> Waits<'_> {
        self.busy.store(0, Ordering::Relaxed);
        self.hall.front.wait_begins();
        Waits(self)
    }

    /// The connection has ended, if there was one.
    pub(super) fn finish(&self) {
        let began: Deadline = self.began.swap(0, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        if began != 0 {
            self.hall.front.leave(clock::now().saturating_sub(began));
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.busy.store(clock::now(), Ordering::Relaxed);
        self.0.hall.front.wait_ends();
    }
}
