//! How a worker ends: it takes no more messages, and gives back what has not begun.

use super::{Action, Duties, JobId, Order, Phase};

/// In a cold end, what is being published has so many nanoseconds to be confirmed.
const LAST_WORDS: u64 = 2_000_000_000;

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// What runs may end by itself, until this moment; without one for as long as it takes.
    Warm(Option<u64>),
    /// What runs is stopped, and given back.
    Cold,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Closing {
    /// Nobody has said so.
    #[default]
    Open,
    /// What runs ends by itself, until this moment.
    Warm(Option<u64>),
    /// Nothing runs. What is being published is waited for until this moment.
    Cold(u64),
    /// [`Action::End`] was given.
    Ended,
}

impl Closing {
    pub(super) fn has_begun(self) -> bool {
        self != Self::Open
    }

    pub(super) fn deadline(self) -> Option<u64> {
        match self {
            Self::Warm(deadline) => deadline,
            Self::Cold(deadline) => Some(deadline),
            Self::Open | Self::Ended => None,
        }
    }
}

impl<O: Order> Duties<O> {
    /// Ends. It may be said again to hurry it.
    pub fn shut_down(&mut self, how: Shutdown, now: u64) {
        if !self.closing.has_begun() {
            self.intakes.iter_mut().for_each(|intake| intake.close(&mut self.actions));
            for job in self.in_order(|phase| matches!(phase, Phase::PutOff | Phase::Ready)) {
                self.give_job_back(job);
            }
            self.ready.clear();
            self.put_off.clear();
        }
        match (how, self.closing) {
            (_, Closing::Ended)
            | (Shutdown::Cold, Closing::Cold(_))
            | (Shutdown::Warm(_), Closing::Cold(_)) => {}
            (Shutdown::Warm(deadline), Closing::Open | Closing::Warm(_)) => {
                self.closing = Closing::Warm(deadline)
            }
            (Shutdown::Cold, Closing::Open | Closing::Warm(_)) => self.stop_all(now),
        }
        self.end_if_done();
    }

    fn stop_all(&mut self, now: u64) {
        self.closing = Closing::Cold(now.saturating_add(LAST_WORDS));
        for job in self.in_order(|phase| matches!(phase, Phase::Running { .. })) {
            self.actions.push(Action::Stop(job));
            self.give_job_back(job);
        }
        self.running = 0;
    }

    /// Ends what has taken too long.
    pub(super) fn look_at_the_time(&mut self, now: u64) {
        match self.closing {
            Closing::Warm(Some(deadline)) if deadline <= now => self.stop_all(now),
            // Their deliveries come again elsewhere: at least once.
            Closing::Cold(deadline) if deadline <= now => self.jobs.clear(),
            _ => {}
        }
    }

    pub(super) fn end_if_done(&mut self) {
        let is_ending = matches!(self.closing, Closing::Warm(_) | Closing::Cold(_));
        if is_ending && self.jobs.is_empty() {
            self.closing = Closing::Ended;
            self.actions.push(Action::End);
        }
    }

    /// Messages in such a phase, as they came.
    fn in_order(&self, is_meant: impl Fn(Phase) -> bool) -> Vec<JobId> {
        let meant = self.jobs.iter().filter(|(_, entry)| is_meant(entry.phase));
        let mut jobs: Vec<JobId> = meant.map(|(job, _)| *job).collect();
        jobs.sort_unstable();
        jobs
    }
}
