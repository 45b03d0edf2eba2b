//! The limits of a server: how many connections may be open, served and queued, and what becomes of the others.
//!
//! Pure: it counts and decides, and knows neither sockets nor time.
//!
//! ```text
//!  listener's backlog ──arrive──▶ queued ──serve──▶ active ──leave──▶
//!                        └────▶ refused
//! ```
//! Connections that stay in the listener's backlog are the kernel's: they are not open here, and wait.

/// What becomes of a connection for which the queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It stays in the listener's backlog: nothing is accepted until there is room.
    Wait,
    /// It is accepted, and handed to whoever refuses connections, so that the client learns it at once.
    Reject,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open ones, queued and active together. At this number nothing more is accepted, whatever `overflow` says.
    pub connections: usize,
    /// Those that a worker serves at the moment.
    pub active: usize,
    /// Those that wait for a worker.
    pub queued: usize,
    /// What happens beyond `queued`.
    pub overflow: Overflow,
}

/// What to do with a connection that has just been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Queue it for a worker.
    Queue,
    /// Refuse it: the queue is full.
    Refuse,
}

/// What has become of connections so far, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted, refused ones included.
    pub accepted: u64,
    /// Refused since the queue was full.
    pub refused: u64,
    /// Served to the end.
    pub served: u64,
    /// Closed unserved, since the server ended.
    pub dropped: u64,
    /// In the queue.
    pub queued: usize,
    /// Being served.
    pub active: usize,
    /// The most that were being served at a time.
    pub busiest: usize,
}

/// Decides which connections are let in.
#[derive(Clone, Debug)]
pub struct Admission {
    limits: Limits,
    counts: Counts,
    draining: bool,
}

impl Admission {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Counts::default(), draining: false }
    }

    /// What there is and was.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many connections the queue may hold now: those that are about to be served do not count as waiting.
    fn room(&self) -> usize {
        let free = self.limits.active.saturating_sub(self.counts.active);
        self.limits.queued.saturating_add(free)
    }

    /// Whether the next connection may be taken off the listener now.
    #[must_use]
    pub fn may_accept(&self) -> bool {
        let Counts { queued, active, .. } = self.counts;
        let heard = queued < self.room() || self.limits.overflow == Overflow::Reject;
        !self.draining && queued + active < self.limits.connections && heard
    }

    /// Counts a connection that has been accepted.
    pub fn arrive(&mut self) -> Verdict {
        if self.counts.queued >= self.room() {
            self.refuse();
            return Verdict::Refuse;
        }
        self.counts.accepted += 1;
        self.counts.queued += 1;
        Verdict::Queue
    }

    /// Counts one that is refused whatever room there is.
    pub fn refuse(&mut self) {
        self.counts.accepted += 1;
        self.counts.refused += 1;
    }

    /// Whether a queued connection may be served now.
    #[must_use]
    pub fn may_serve(&self) -> bool {
        self.counts.queued > 0 && self.counts.active < self.limits.active
    }

    /// A queued connection is being served from now on.
    pub fn serve(&mut self) {
        self.counts.queued -= 1;
        self.counts.active += 1;
        self.counts.busiest = self.counts.busiest.max(self.counts.active);
    }

    /// A connection has ended that was being served.
    pub fn leave(&mut self) {
        self.counts.active -= 1;
        self.counts.served += 1;
    }

    /// Lets nobody in any more; those inside stay.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nobody is let in any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// A queued connection has been closed unserved.
    pub fn drop_queued(&mut self) {
        self.counts.queued -= 1;
        self.counts.dropped += 1;
    }

    /// Whether nobody is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.queued + self.counts.active == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, active: usize, queued: usize, overflow: Overflow) -> Admission {
        Admission::new(Limits { connections, active, queued, overflow })
    }

    #[test]
    fn beyond_the_queue_clients_wait_or_are_refused() {
        let mut waits = admission(100, 1, 2, Overflow::Wait);
        waits.arrive();
        waits.serve();
        assert_eq!((waits.arrive(), waits.arrive()), (Verdict::Queue, Verdict::Queue));
        assert!(!waits.may_accept(), "the queue is full");
        waits.leave();
        waits.serve();
        assert!(waits.may_accept(), "one has been taken from it");

        let mut rejects = admission(100, 1, 1, Overflow::Reject);
        rejects.arrive();
        rejects.serve();
        assert_eq!(rejects.arrive(), Verdict::Queue);
        assert!(rejects.may_accept(), "to say no");
        assert_eq!(rejects.arrive(), Verdict::Refuse);
        assert_eq!((rejects.counts().refused, rejects.counts().queued), (1, 1));
    }

    #[test]
    fn what_is_refused_in_any_case_takes_no_room() {
        let mut admission = admission(100, 1, 0, Overflow::Wait);
        admission.refuse();
        assert_eq!((admission.counts().accepted, admission.counts().refused), (1, 1));
        assert!(admission.may_accept() && admission.is_empty());
    }

    #[test]
    fn without_a_queue_only_free_workers_let_in() {
        let mut waits = admission(100, 1, 0, Overflow::Wait);
        assert!(waits.may_accept());
        assert_eq!(waits.arrive(), Verdict::Queue);
        assert!(!waits.may_accept());
        waits.serve();
        assert!(!waits.may_accept());
        waits.leave();
        assert!(waits.may_accept());

        let mut rejects = admission(100, 1, 0, Overflow::Reject);
        assert_eq!(rejects.arrive(), Verdict::Queue);
        rejects.serve();
        assert_eq!(rejects.arrive(), Verdict::Refuse);
    }

    #[test]
    fn open_connections_are_limited_by_themselves() {
        let mut admission = admission(2, 10, 10, Overflow::Reject);
        admission.arrive();
        admission.serve();
        admission.arrive();
        assert!(!admission.may_accept());
        admission.leave();
        assert!(admission.may_accept());
    }

    #[test]
    fn a_draining_server_keeps_those_inside() {
        let mut admission = admission(10, 10, 10, Overflow::Wait);
        admission.arrive();
        admission.drain();
        assert!(!admission.may_accept() && admission.may_serve() && !admission.is_empty());
        admission.serve();
        admission.leave();
        assert!(admission.is_empty());
    }
}
