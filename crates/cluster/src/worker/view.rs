//! What a worker has, and how tasks have ended here, for those who want to know. Pure.

use std::sync::Arc;

use super::{Duties, Ending, Job, JobId, Moment, Order, Phase};
use crate::control::Stage;

/// A task that has ended otherwise than by its own outcome.
#[derive(Debug)]
pub(super) struct Ended<O> {
    pub(super) order: Arc<O>,
    pub(super) ending: Ending,
    /// Whether it had begun.
    pub(super) has_begun: bool,
}

impl<O> Ended<O> {
    pub(super) fn new(job: &Job<O>, ending: &Ending) -> Self {
        let has_begun = matches!(job.phase, Phase::Running { .. });
        Self { order: Arc::clone(&job.order), ending: ending.clone(), has_begun }
    }
}

impl<O: Order> Duties<O> {
    /// All messages that are here: each with its queue's number, and how far it is.
    pub(super) fn held(&self, moment: Moment) -> impl Iterator<Item = (&O, usize, Stage)> {
        self.jobs.values().map(move |job| {
            let stage = match job.phase {
                Phase::PutOff => Stage::PutOff,
                Phase::Ready => Stage::Ready,
                Phase::Running { since } => Stage::Running(moment.seconds_of(since)),
                Phase::Settling { .. } => Stage::Settling,
            };
            (&*job.order, job.queue, stage)
        })
    }

    /// Since when a task runs whose outcome counts: it was not revoked.
    pub(super) fn counts_since(&self, job: JobId) -> Option<u64> {
        let job = self.jobs.get(&job).filter(|job| !job.is_revoked)?;
        if let Phase::Running { since } = job.phase { Some(since) } else { None }
    }

    /// The tasks that have ended otherwise than by their own outcome since the last look.
    pub(super) fn take_ended(&mut self) -> Vec<Ended<O>> {
        std::mem::take(&mut self.ended)
    }
}

impl Moment {
    /// A moment of the other clock in seconds since 1970.
    #[expect(clippy::cast_precision_loss, reason = "what is lost is less than a microsecond")]
    fn seconds_of(self, moment: u64) -> f64 {
        self.since_1970.saturating_sub(self.now.saturating_sub(moment)) as f64 / 1e9
    }

    /// This moment as remote control has it.
    pub(super) fn when(self) -> crate::control::When {
        crate::control::When { now: self.now, time: self.seconds_of(self.now) }
    }
}
