//! Tasks that come later: their next attempt must wait, or they have only been announced.
//!
//! A task that is put off has no slot, so that no worker is kept waiting for it. Nothing here reads a clock: how long it
//! waits counts from when the driver next looks, which is at once.

use std::collections::BTreeMap;

use super::plan::Action;
use super::{Openness, Refused, State};
use crate::task::{Location, Token};

/// The tasks whose next attempt waits. Tokens of tasks that have ended since stay behind and are skipped.
#[derive(Default)]
pub(crate) struct PutOff {
    /// Those that the driver has not seen yet.
    fresh: Vec<Token>,
    /// When to queue each again, in nanoseconds of the clock; tasks of one time by age.
    due: BTreeMap<(u64, u64), Token>,
}

impl<T> State<T> {
    /// Whether tasks have been put off that the driver has not seen yet.
    #[must_use]
    pub fn has_put_off(&self) -> bool {
        !self.put_off.fresh.is_empty()
    }

    /// Takes a task without a slot out of the way until its pause is over; at once if there is none.
    pub(super) fn put_off(&mut self, token: Token) {
        let task = &mut self.tasks[token];
        task.location = Location::Backlog;
        if task.pause() > 0 {
            self.put_off.fresh.push(token);
        } else {
            let (priority, sequence) = (task.priority(), task.sequence);
            self.backlog.put_back(priority, sequence, token);
        }
    }

    /// Queues the tasks whose pause is over; gives the time of the next one.
    pub(super) fn bring_back(&mut self, now: u64, actions: &mut Vec<Action>) -> Option<u64> {
        for token in std::mem::take(&mut self.put_off.fresh) {
            if let Some(task) = self.tasks.get(token) {
                self.put_off.due.insert((now.saturating_add(task.pause()), task.sequence), token);
            }
        }
        let mut is_any = false;
        while let Some(first) = self.put_off.due.first_entry().filter(|first| first.key().0 <= now) {
            let token = first.remove();
            if let Some(task) = self.tasks.get(token) {
                let (priority, sequence) = (task.priority(), task.sequence);
                self.backlog.put_back(priority, sequence, token);
                is_any = true;
            }
        }
        if is_any && self.refill() {
            actions.push(Action::WakeWorkers);
        }
        self.put_off.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// Announces a task: until [`give_back`](Self::give_back) the pool does not end, and takes it even if it is closed.
    ///
    /// # Errors
    /// [`Refused`] when the pool is closed or broken.
    pub fn reserve(&mut self) -> Result<(), Refused> {
        self.check_open()?;
        self.reserved += 1;
        Ok(())
    }

    /// The task that was announced has been submitted, or will never be.
    pub fn give_back(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Whether an announced task can be taken now.
    pub(super) fn check_expected(&self) -> Result<(), Refused> {
        match self.openness {
            Openness::Closing if self.reserved > 0 && self.broken.is_none() => Ok(()),
            _ => self.check_open(),
        }
    }
}
