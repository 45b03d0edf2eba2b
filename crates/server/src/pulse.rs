//! Whether a server answers, as its acceptor sees it at each beat. Pure.
//!
//! The acceptor asks, which needs nothing of the interpreter's; that it asks says that it works. It asks whether anybody has
//! *passed* since the last beat: a worker that came for a connection, or the serving thread, which is woken at each beat for that.
//! Nobody can pass while a handler keeps the interpreter to itself. If it computes meanwhile, the server is busy, and that is no
//! reason to end it; if nobody has passed and nothing is computed, it is wedged.

/// A process that has used less than this part of the time was not computing.
const LEAST_SHARE: u64 = 100;

/// What was seen at the last beat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    passes: u64,
    cpu: u64,
}

impl Pulse {
    /// Whether the server has answered since the last beat, `period` ago: how often anybody has passed, and how much CPU time the process has
    /// used, so far.
    ///
    /// ```
    /// use manyhands_server::pulse::Pulse;
    ///
    /// let mut pulse = Pulse::default();
    /// assert!(pulse.beat(1, 0, 1000), "somebody has passed");
    /// assert!(pulse.beat(1, 900, 1000), "nobody could: a handler computes");
    /// assert!(!pulse.beat(1, 905, 1000), "it is wedged");
    /// ```
    pub fn beat(&mut self, passes: u64, cpu: u64, period: u64) -> bool {
        let computes = cpu.saturating_sub(self.cpu) > period / LEAST_SHARE;
        let answers = passes != self.passes || computes;
        *self = Self { passes, cpu };
        answers
    }
}
