//! The threads of a server: the front at which they queue for connections, and each one's seat.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::clock::{self, Deadline};
use manyhands_server::admission::Counts;
use manyhands_server::crew::Wake;
use manyhands_server::front::Front;

use super::hall::{Arrival, Desk, Hall, Queue};
use crate::interpreter::parker::Parker;

/// Whom the front wakes: a worker's own parker, on which nothing else waits.
pub(super) struct Sleeper(pub(super) Arc<Parker>);

impl Wake for Sleeper {
    fn wake(&self) {
        self.0.unpark();
    }
}

pub(super) type Arrivals = Front<Arrival, Sleeper, Desk>;

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

    fn has_queue(&self) -> bool {
        self.has_queue()
    }

    fn look_for_a_stall(&self) {
        self.look_for_a_stall();
    }

    fn end(&self, drop_queue: bool) -> usize {
        self.end(drop_queue).len()
    }
}

/// A worker's place.
pub(super) struct Seat {
    pub(super) hall: Arc<Hall<Arrivals>>,
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
        self.hall.queue.others_run()
    }

    pub(super) fn waits(&self) -> Waits<'_> {
        self.busy.store(0, Ordering::Relaxed);
        self.hall.queue.wait_begins();
        Waits(self)
    }

    /// The connection has ended, if there was one.
    pub(super) fn finish(&self) {
        let began: Deadline = self.began.swap(0, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        if began != 0 {
            self.hall.queue.leave(clock::now().saturating_sub(began));
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.busy.store(clock::now(), Ordering::Relaxed);
        self.0.hall.queue.wait_ends();
    }
}
