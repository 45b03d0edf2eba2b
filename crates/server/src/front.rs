//! One queue of connections between a listener and the workers.
//!
//! What [`Admission`](crate::admission::Admission) and [`Crew`] decide is decided here under one lock, which nobody holds while he waits or wakes.
//!
//! A worker that waits for its client says so before and after ([`Front::wait_begins`], [`Front::wait_ends`]), which happens with each
//! message and so takes no lock. Two numbers make that safe:
//!
//! | word | set by | read by |
//! |---|---|---|
//! | `running` | workers: serving, and not waiting for their client | `offer`, and whoever looks whom a connection needs |
//! | `waiting` | `offer`, `take`: connections in the queue | `wait_begins` |
//!
//! `offer` writes `waiting` and then reads `running`; `wait_begins` writes `running` and then reads `waiting`. All four are sequentially
//! consistent, so one of the two sees the other's, and finds a worker for the connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands_os::clock;

use crate::admission::{Counts, Limits};
use crate::crew::{Crew, Need, Wake};
use crate::gate::Gate;
use crate::host::Host;

/// What a worker does next.
#[derive(Debug)]
pub enum Task<C> {
    /// Serve this connection.
    Serve(C),
    /// Sleep until woken, then ask again.
    Sleep,
    /// There will be no more, or not soon: end.
    Leave,
}

/// Starts workers for a front; called without a lock held.
pub trait Employer: Host {
    /// Start `count` workers.
    fn start_workers(&self, count: usize);
}

/// The queue, and everybody's place at it.
pub struct Front<C, W, H> {
    inner: Mutex<Inner<C, W>>,
    running: AtomicUsize,
    waiting: AtomicUsize,
    /// Whether workers leave when there is nothing to serve.
    lent: bool,
    host: H,
}

struct Inner<C, W> {
    gate: Gate<C>,
    crew: Crew<W>,
    /// How many connections were taken off the queue so far, and at the last look.
    taken: u64,
    seen: u64,
}

impl<C, W: Wake, H: Employer> Front<C, W, H> {
    /// Nobody is there yet.
    pub fn new(limits: Limits, workers: usize, host: H) -> Self {
        let inner = Inner { gate: Gate::new(limits), crew: Crew::new(workers), taken: 0, seen: 0 };
        let (running, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { inner: Mutex::new(inner), running, waiting, lent: false, host }
    }

    /// The same, whose workers leave when there is nothing to serve, if they are lent: others want them, too.
    #[must_use]
    pub fn lent(self, lent: bool) -> Self {
        Self { lent, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C, W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is counted now, and releases the lock.
    fn release(&self, inner: MutexGuard<'_, Inner<C, W>>) {
        self.host.counted(inner.gate.counts(), inner.crew.size(), inner.crew.idle());
        drop(inner);
    }

    /// The host it was made with.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// What there is and was; and the number of workers, and of idle ones.
    pub fn counts(&self) -> (Counts, usize, usize) {
        let inner = self.lock();
        (inner.gate.counts(), inner.crew.size(), inner.crew.idle())
    }

    /// Whether the next connection may be accepted; if not, the host is told when that may have changed.
    pub fn may_accept(&self) -> bool {
        self.lock().gate.may_accept(true)
    }

    /// Queues an accepted connection.
    ///
    /// # Errors
    /// The connection, when the queue is full.
    pub fn offer(&self, connection: C) -> Result<(), C> {
        let mut inner = self.lock();
        if let Err(refused) = inner.gate.arrive(connection) {
            self.release(inner);
            return Err(refused);
        }
        self.waiting.store(inner.gate.queued(), Ordering::SeqCst);
        self.find(inner, false);
        Ok(())
    }

    /// Counts what is refused whatever room there is.
    pub fn refuse(&self) {
        let mut inner = self.lock();
        inner.gate.refuse();
        self.release(inner);
    }

    /// Has somebody come for the queue, if nobody has since the last call: handlers that neither end nor wait for their
    /// clients.
    pub fn look_for_a_stall(&self) {
        let mut inner = self.lock();
        let stalled = inner.taken == inner.seen;
        inner.seen = inner.taken;
        if stalled {
            if self.running.load(Ordering::SeqCst) > 0 {
                inner.crew.learn_of_a_stall();
            }
            self.find(inner, true);
        }
    }

    /// Whether connections are in the queue.
    pub fn has_queue(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Wakes or starts whoever is needed for the queue.
    fn find(&self, mut inner: MutexGuard<'_, Inner<C, W>>, stalled: bool) {
        if !inner.gate.may_serve() {
            return self.release(inner);
        }
        let queued = inner.gate.queued();
        let need = match stalled {
            true => inner.crew.stalled(queued),
            false => inner.crew.need(queued, self.running.load(Ordering::SeqCst)),
        };
        self.release(inner);
        match need {
            Need::Nobody => {}
            Need::Wake(worker) => worker.wake(),
            Need::Start => self.host.start_workers(1),
        }
    }

    /// A worker asks for a connection. `came` says that it was woken, or has just been started.
    pub fn take(&self, worker: impl FnOnce() -> W, came: bool) -> Task<C> {
        let mut inner = self.lock();
        if came {
            inner.crew.arrive();
        }
        if let Some(connection) = inner.gate.serve() {
            inner.taken += 1;
            self.waiting.store(inner.gate.queued(), Ordering::SeqCst);
            self.running.fetch_add(1, Ordering::SeqCst);
            let news = inner.gate.news();
            let slow = inner.crew.is_slow() && inner.gate.queued() > 0;
            if slow {
                self.find(inner, false);
            } else {
                self.release(inner);
            }
            news.tell(&self.host);
            return Task::Serve(connection);
        }
        if self.lent || inner.gate.is_done() {
            inner.crew.leave();
            self.release(inner);
            return Task::Leave;
        }
        inner.crew.rest(worker());
        self.release(inner);
        Task::Sleep
    }

    /// A worker is about to wait for its client.
    pub fn wait_begins(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.has_queue() {
            self.find(self.lock(), false);
        }
    }

    /// Whether workers other than one that runs do not wait for their clients: they want to run, too.
    pub fn others_run(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 1
    }

    /// A worker has ended without asking for another connection: another may be needed in its place.
    pub fn lose(&self) {
        let mut inner = self.lock();
        inner.crew.leave();
        self.find(inner, false);
    }

    /// It does not wait any more.
    pub fn wait_ends(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
    }

    /// A connection has ended that took so long, in nanoseconds.
    pub fn leave(&self, took: clock::Deadline) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        let mut inner = self.lock();
        let news = inner.gate.leave();
        inner.crew.learn(took);
        self.release(inner);
        news.tell(&self.host);
    }

    /// `count` workers that were asked for could not be started.
    pub fn not_started(&self, count: usize) {
        let mut inner = self.lock();
        for _ in 0..count {
            inner.crew.not_started();
        }
        self.release(inner);
    }

    /// Accepts nothing more; what is queued is served, or dropped and returned if `drop_queue` says so. Workers leave when there
    /// is nothing for them.
    pub fn end(&self, drop_queue: bool) -> Vec<C> {
        let mut inner = self.lock();
        let (dropped, news) = inner.gate.end(drop_queue);
        self.waiting.store(inner.gate.queued(), Ordering::SeqCst);
        let idle = inner.crew.rouse();
        self.release(inner);
        for worker in idle {
            worker.wake();
        }
        news.tell(&self.host);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Overflow;

    /// Counts the workers that were asked for.
    struct Starts(AtomicUsize);

    impl Employer for Starts {
        fn start_workers(&self, count: usize) {
            self.0.fetch_add(count, Ordering::SeqCst);
        }
    }

    impl Host for Starts {
        fn accept_again(&self) {}
        fn drained(&self) {}
    }

    impl Wake for () {
        fn wake(&self) {}
    }

    #[test]
    fn after_one_stall_each_of_many_clients_who_stay_has_a_worker_at_once() {
        let limits = Limits { connections: 9, active: 9, queued: 9, overflow: Overflow::Wait };
        let front: Front<u8, (), Starts> = Front::new(limits, 9, Starts(AtomicUsize::new(0)));
        let started = || front.host().0.load(Ordering::SeqCst);
        for client in 0..5 {
            front.offer(client).expect("there is room");
        }
        assert_eq!(started(), 1, "it may be back soon");
        assert!(matches!(front.take(|| (), true), Task::Serve(0)));
        front.look_for_a_stall();
        assert_eq!(started(), 1, "it has just come");
        front.look_for_a_stall();
        for client in 1..5 {
            assert_eq!(started(), 1 + usize::from(client), "without another look");
            assert!(matches!(front.take(|| (), true), Task::Serve(taken) if taken == client));
        }
    }
}
