//! The workers of a server: who is idle, who runs, and when another one is needed for what is queued.
//!
//! Pure: it decides, whoever asks wakes and starts.
//!
//! Workers share an interpreter, in which one of them can run at a time, so waking one for each connection would have them
//! take turns at a high price where one could serve all. So a worker is woken for a queued connection when no other is
//! about to come for it:
//! - none runs: all are idle, or wait for their clients;
//! - or connections take long (more than [`LONG`] in the mean), so that whoever runs will not come soon;
//! - or nobody has come for a while ([`Crew::stalled`]), after which connections count as long until some have been short:
//!   else each of many clients who stay would wait for a stall of its own.

use manyhands_os::clock::MILLISECOND;

/// Connections that take longer than this in the mean are not waited for, in nanoseconds.
pub const LONG: u64 = MILLISECOND;

/// Of the mean, what the newest connection counts for: an eighth.
const MEMORY: u64 = 8;

/// Somebody who sleeps until it is woken.
pub trait Wake {
    /// Wakes it, or keeps it from falling asleep.
    fn wake(&self);
}

/// What it takes so that queued connections are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<W> {
    /// Nothing: somebody is about to come, or nobody can.
    Nobody,
    /// Wake this one, which is idle no more.
    Wake(W),
    /// Start another worker; it counts already.
    Start,
}

/// The workers.
#[derive(Debug)]
pub struct Crew<W> {
    limit: usize,
    /// The one that was busy last is on top: its thread and its memory are warm.
    idle: Vec<W>,
    /// All there are, those included that are being started.
    size: usize,
    /// How many are being started, or have been woken, and have not come yet.
    coming: usize,
    /// How long a connection takes, in nanoseconds.
    mean: u64,
}

impl<W> Crew<W> {
    /// Nobody yet, and at most `limit` ever.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, idle: Vec::new(), size: 0, coming: 0, mean: 0 }
    }

    /// How many there are, those included that are being started.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many of them are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether connections take so long that nobody should wait for whoever serves one.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.mean > LONG
    }

    /// The worker that is needed for `queued` connections while `running` workers serve others.
    pub fn need(&mut self, queued: usize, running: usize) -> Need<W> {
        if !self.is_slow() && self.coming + running > 0 {
            return Need::Nobody;
        }
        self.stalled(queued)
    }

    /// The worker that is needed for `queued` connections when nobody has come for a while.
    pub fn stalled(&mut self, queued: usize) -> Need<W> {
        if queued <= self.coming {
            return Need::Nobody;
        }
        if let Some(worker) = self.idle.pop() {
            self.coming += 1;
            return Need::Wake(worker);
        }
        if self.size < self.limit {
            self.size += 1;
            self.coming += 1;
            return Need::Start;
        }
        Need::Nobody
    }

    /// Those who serve have neither ended nor waited for a while: until some have ended soon, nobody waits for them.
    pub fn learn_of_a_stall(&mut self) {
        self.mean = self.mean.max(2 * LONG);
    }

    /// One that was woken or started has come.
    pub fn arrive(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }

    /// One lies down.
    pub fn rest(&mut self, worker: W) {
        self.idle.push(worker);
    }

    /// One that was asked for could not be started.
    pub fn not_started(&mut self) {
        self.size -= 1;
        self.coming = self.coming.saturating_sub(1);
    }

    /// One leaves for good.
    pub fn leave(&mut self) {
        self.size -= 1;
    }

    /// A connection has taken so long, in nanoseconds.
    pub fn learn(&mut self, took: u64) {
        self.mean = self.mean - self.mean / MEMORY + took.min(1000 * LONG) / MEMORY;
    }

    /// All that are idle, who are so no more.
    pub fn rouse(&mut self) -> Vec<W> {
        self.coming += self.idle.len();
        std::mem::take(&mut self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_enough_while_connections_are_short() {
        let mut crew: Crew<()> = Crew::new(4);
        assert_eq!(crew.need(1, 0), Need::Start);
        assert_eq!(crew.need(2, 0), Need::Nobody, "it is on its way");
        crew.arrive();
        assert_eq!(crew.need(2, 1), Need::Nobody, "it will be back soon");
        assert_eq!(crew.need(2, 0), Need::Start, "it waits for its client");
        assert_eq!(crew.size(), 2);
    }

    #[test]
    fn each_is_needed_once_connections_take_long() {
        let mut crew = Crew::new(3);
        for _ in 0..20 {
            crew.learn(5 * LONG);
        }
        assert!(crew.is_slow());
        crew.rest('a');
        assert_eq!(crew.need(1, 7), Need::Wake('a'));
        assert_eq!(crew.need(1, 7), Need::Nobody, "that one has been woken for it");
        assert_eq!(crew.need(2, 7), Need::Start);
        for _ in 0..40 {
            crew.learn(LONG / 100);
        }
        assert!(!crew.is_slow());
    }

    #[test]
    fn a_stall_says_that_connections_take_long() {
        let mut crew: Crew<()> = Crew::new(4);
        assert_eq!(crew.need(1, 0), Need::Start);
        crew.arrive();
        crew.learn_of_a_stall();
        assert_eq!(crew.need(3, 1), Need::Start, "though one serves");
        crew.arrive();
        assert_eq!(crew.need(2, 2), Need::Start, "without another stall");
        crew.arrive();
        for _ in 0..8 {
            crew.learn(LONG / 100);
        }
        assert_eq!(crew.need(1, 3), Need::Nobody, "they end soon again");
    }

    #[test]
    fn nobody_is_started_beyond_the_limit() {
        let mut crew: Crew<()> = Crew::new(1);
        assert_eq!(crew.stalled(5), Need::Start);
        crew.arrive();
        assert_eq!(crew.stalled(5), Need::Nobody);
        crew.leave();
        assert_eq!(crew.stalled(5), Need::Start);
        crew.not_started();
        assert_eq!(crew.size(), 0);
    }

    #[test]
    fn the_last_to_lie_down_gets_up_first() {
        let mut crew = Crew::new(2);
        crew.rest('a');
        crew.rest('b');
        assert_eq!(crew.need(1, 0), Need::Wake('b'));
        assert_eq!(crew.rouse(), ['a']);
    }
}
