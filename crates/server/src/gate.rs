//! The connections that have been let in and wait to be served: what a front and a lobby have in common, under the lock of either.

use std::collections::VecDeque;

use crate::admission::{Admission, Counts, Limits, Verdict};
use crate::host::Host;

/// Admission, and the queue.
pub(crate) struct Gate<C> {
    admission: Admission,
    queue: VecDeque<C>,
    /// Nothing is accepted until somebody is told.
    paused: bool,
}

/// What a host must be told, once the lock is released.
#[must_use]
pub(crate) struct News {
    has_room: bool,
    has_drained: bool,
}

impl News {
    pub(crate) fn tell(self, host: &impl Host) {
        if self.has_room {
            host.accept_again();
        }
        if self.has_drained {
            host.drained();
        }
    }
}

impl<C> Gate<C> {
    /// Nobody is there yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { admission: Admission::new(limits), queue: VecDeque::new(), paused: false }
    }

    /// What there is and was.
    pub(crate) fn counts(&self) -> Counts {
        self.admission.counts()
    }

    /// How many connections wait.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether the next connection may be accepted, if there is somebody to serve it; if not, there are news once that may have changed.
    pub(crate) fn may_accept(&mut self, is_served: bool) -> bool {
        self.paused = !is_served || !self.admission.may_accept();
        !self.paused
    }

    /// Queues an accepted connection.
    ///
    /// # Errors
    /// The connection, when the queue is full.
    pub(crate) fn arrive(&mut self, connection: C) -> Result<(), C> {
        match self.admission.arrive() {
            Verdict::Refuse => Err(connection),
            Verdict::Queue => {
                self.queue.push_back(connection);
                Ok(())
            }
        }
    }

    /// Counts what is refused whatever room there is.
    pub(crate) fn refuse(&mut self) {
        self.admission.refuse();
    }

    /// Whether the first of the queue may be served.
    pub(crate) fn may_serve(&self) -> bool {
        self.admission.may_serve()
    }

    /// The first of the queue, if it may be served: from now on it is.
    pub(crate) fn serve(&mut self) -> Option<C> {
        if !self.may_serve() {
            return None;
        }
        let connection = self.queue.pop_front()?;
        self.admission.serve();
        Some(connection)
    }

    /// What the host must be told since the queue has become shorter.
    pub(crate) fn news(&mut self) -> News {
        News { has_room: std::mem::take(&mut self.paused), has_drained: false }
    }

    /// A connection has ended that was served.
    pub(crate) fn leave(&mut self) -> News {
        self.admission.leave();
        let has_drained = self.admission.is_draining() && self.admission.is_empty();
        News { has_drained, ..self.news() }
    }

    /// Whether nobody waits, and nobody will come.
    pub(crate) fn is_done(&self) -> bool {
        self.admission.is_draining() && self.queue.is_empty()
    }

    /// Lets nobody in any more, and drops those that wait if `drop_queue` says so; these.
    pub(crate) fn end(&mut self, drop_queue: bool) -> (Vec<C>, News) {
        self.admission.drain();
        let mut dropped = Vec::new();
        if drop_queue {
            dropped.extend(self.queue.drain(..));
            dropped.iter().for_each(|_| self.admission.drop_queued());
        }
        (dropped, News { has_room: false, has_drained: self.admission.is_empty() })
    }
}
