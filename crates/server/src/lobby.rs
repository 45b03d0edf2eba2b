//! One queue of connections between a listener and event loops.
//!
//! A loop serves many connections at a time, and asks for none: each is handed to the loop that has the fewest, once
//! [`Admission`](crate::admission::Admission) lets it be served. A loop that has got some is woken, and [collects](Lobby::collect) them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::admission::{Counts, Limits};
use crate::crew::Wake;
use crate::gate::Gate;
use crate::host::Host;

/// The queue, and the loops.
pub struct Lobby<C, W, H> {
    inner: Mutex<Inner<C, W>>,
    host: H,
}

struct Inner<C, W> {
    gate: Gate<C>,
    loops: Vec<EventLoop<C, W>>,
}

struct EventLoop<C, W> {
    /// None once it serves no more.
    waker: Option<W>,
    /// What it has not collected yet.
    inbox: Vec<C>,
    /// How many connections it has, those in the inbox included.
    active: usize,
}

impl<C, W: Wake + Clone, H: Host> Lobby<C, W, H> {
    /// Nobody is there yet.
    pub fn new(limits: Limits, host: H) -> Self {
        let inner = Inner { gate: Gate::new(limits), loops: Vec::new() };
        Self { inner: Mutex::new(inner), host }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C, W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is counted now, and releases the lock.
    fn release(&self, inner: MutexGuard<'_, Inner<C, W>>) {
        let idle = inner.loops.iter().filter(|each| each.waker.is_some() && each.active == 0).count();
        self.host.counted(inner.gate.counts(), inner.loops.len(), idle);
        drop(inner);
    }

    /// The host it was made with.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// What there is and was, and the number of loops.
    pub fn counts(&self) -> (Counts, usize) {
        let inner = self.lock();
        (inner.gate.counts(), inner.loops.len())
    }

    /// Whether the next connection may be accepted; if not, the host is told when that may have changed.
    pub fn may_accept(&self) -> bool {
        let mut inner = self.lock();
        let is_served = !inner.loops.is_empty();
        inner.gate.may_accept(is_served)
    }

    /// A loop has come, and is woken when there is something for it; its number.
    pub fn join(&self, waker: W) -> usize {
        let mut inner = self.lock();
        inner.loops.push(EventLoop { waker: Some(waker), inbox: Vec::new(), active: 0 });
        let number = inner.loops.len() - 1;
        self.release(inner);
        self.host.accept_again();
        number
    }

    /// Queues an accepted connection, or hands it to a loop.
    ///
    /// # Errors
    /// The connection, when the queue is full.
    pub fn offer(&self, connection: C) -> Result<(), C> {
        let mut inner = self.lock();
        if let Err(refused) = inner.gate.arrive(connection) {
            self.release(inner);
            return Err(refused);
        }
        let woken = inner.hand_out();
        self.release(inner);
        if let Some(waker) = woken {
            waker.wake();
        }
        Ok(())
    }

    /// Counts what is refused whatever room there is.
    pub fn refuse(&self) {
        let mut inner = self.lock();
        inner.gate.refuse();
        self.release(inner);
    }

    /// What has been handed to a loop since it asked last.
    pub fn collect(&self, number: usize) -> Vec<C> {
        std::mem::take(&mut self.lock().loops[number].inbox)
    }

    /// A loop serves no more: it gets no other connection, and is not woken.
    pub fn part(&self, number: usize) {
        let mut inner = self.lock();
        let waker = inner.loops[number].waker.take();
        let uncollected = std::mem::take(&mut inner.loops[number].inbox);
        self.release(inner);
        drop((waker, uncollected));
    }

    /// A connection of this loop has ended.
    pub fn leave(&self, number: usize) {
        let mut inner = self.lock();
        let news = inner.gate.leave();
        inner.loops[number].active -= 1;
        let woken = inner.hand_out();
        self.release(inner);
        if let Some(waker) = woken {
            waker.wake();
        }
        news.tell(&self.host);
    }

    /// Accepts nothing more; what is queued is served, or dropped and returned if `drop_queue` says so.
    pub fn end(&self, drop_queue: bool) -> Vec<C> {
        let mut inner = self.lock();
        let (dropped, news) = inner.gate.end(drop_queue);
        self.release(inner);
        news.tell(&self.host);
        dropped
    }
}

impl<C, W: Clone> Inner<C, W> {
    /// Gives the first of the queue, if it may be served, to the loop that has the fewest; whom to wake.
    fn hand_out(&mut self) -> Option<W> {
        let here = self.loops.iter_mut().filter(|each| each.waker.is_some());
        let fewest = here.min_by_key(|each| each.active)?;
        let connection = self.gate.serve()?;
        fewest.active += 1;
        fewest.inbox.push(connection);
        // Else it has been woken for those before.
        fewest.waker.clone().filter(|_| fewest.inbox.len() == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::admission::Overflow;

    #[derive(Default)]
    struct Told {
        again: AtomicUsize,
        drained: AtomicUsize,
    }

    impl Host for Told {
        fn accept_again(&self) {
            self.again.fetch_add(1, Ordering::SeqCst);
        }
        fn drained(&self) {
            self.drained.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Clone, Default)]
    struct Woken(Arc<AtomicUsize>);

    impl Wake for Woken {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn lobby(active: usize, loops: usize) -> (Lobby<u8, Woken, Told>, Vec<Woken>) {
        let limits = Limits { connections: 8, active, queued: 8, overflow: Overflow::Wait };
        let lobby = Lobby::new(limits, Told::default());
        assert!(!lobby.may_accept(), "nobody would come for it");
        let wakers: Vec<_> = (0..loops).map(|_| Woken::default()).collect();
        for waker in &wakers {
            lobby.join(waker.clone());
        }
        assert!(lobby.may_accept());
        (lobby, wakers)
    }

    #[test]
    fn each_connection_goes_to_the_loop_that_has_the_fewest() {
        let (lobby, wakers) = lobby(8, 2);
        for client in 0..4 {
            lobby.offer(client).expect("there is room");
        }
        assert_eq!((lobby.collect(0), lobby.collect(1)), (vec![0, 2], vec![1, 3]));
        assert_eq!(wakers[0].0.load(Ordering::SeqCst), 1, "once for both");
        lobby.leave(1);
        lobby.leave(1);
        lobby.offer(4).expect("there is room");
        assert_eq!((lobby.collect(0), lobby.collect(1)), (vec![], vec![4]));
        lobby.part(1);
        lobby.offer(5).expect("there is room");
        assert_eq!(lobby.collect(0), [5], "although the other had fewer");
    }

    #[test]
    fn what_may_not_be_served_waits_until_a_connection_ends() {
        let (lobby, _) = lobby(1, 1);
        for client in 0..3 {
            lobby.offer(client).expect("there is room");
        }
        assert_eq!(lobby.collect(0), [0]);
        assert!(lobby.end(false).is_empty());
        lobby.leave(0);
        assert_eq!(lobby.collect(0), [1]);
        assert_eq!(lobby.end(true), [2]);
        assert_eq!(lobby.host().drained.load(Ordering::SeqCst), 0, "one is inside");
        lobby.leave(0);
        assert_eq!(lobby.host().drained.load(Ordering::SeqCst), 1);
        let (counts, _) = lobby.counts();
        assert_eq!((counts.served, counts.dropped, counts.active), (2, 1, 0));
    }
}
