//! Whether a task that has failed, or whose worker has died, is tried again.

use super::{Openness, State};
use crate::task::{Death, Location, Outcome, Token};

impl<T> State<T> {
    /// The caller has looked at the failure of a task that may be retried: runs it again, or gives
    /// its user data back. `None`: it runs again (or has been cancelled).
    pub fn decide_retry(&mut self, token: Token, retry: bool) -> Option<T> {
        let Some(Location::AwaitingDecision(slot)) = self.tasks.get(token).map(|task| task.location) else {
            return None;
        };
        if retry && self.tries_again() {
            self.try_again(token, slot);
            return None;
        }
        self.free_slot(slot);
        self.counts.failed += 1;
        self.refill();
        self.remove(token).map(|task| task.user_data)
    }

    /// Whether anything that has failed may run again.
    pub(super) fn tries_again(&self) -> bool {
        self.openness < Openness::Stopping && self.broken.is_none() && !self.withdrawn
    }

    /// Queues a task again in the slot that it has, unless its next attempt must wait.
    fn try_again(&mut self, token: Token, slot: u32) {
        self.counts.retried += 1;
        let task = &mut self.tasks[token];
        task.attempt += 1;
        if task.pause() == 0 {
            self.queue(slot, token);
            return;
        }
        self.keep_outside_slot(token, slot);
        self.free_slot(slot);
        self.put_off(token);
        self.refill();
    }

    /// A slot whose worker has died before it finished.
    pub(crate) fn lose(&mut self, slot: u32, death: impl FnOnce(String) -> Death) {
        let Some(token) = self.occupants[slot as usize] else {
            self.free_slot(slot);
            return;
        };
        let task = &self.tasks[token];
        let retry = task.may_retry()
            && task.options.as_ref().is_some_and(|options| options.retry_deaths)
            && self.tries_again();
        if retry {
            self.try_again(token, slot);
        } else {
            let death = death(task.name().to_owned());
            self.free_slot(slot);
            self.settle(token, Outcome::Died(Box::new(death)), true);
        }
    }
}
