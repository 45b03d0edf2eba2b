//! The end of a pool: it takes no more tasks, withdraws those that it has, or fails them all.

use std::sync::Arc;

use super::backlog::Backlog;
use super::{Cancelled, Openness, State};
use crate::task::{Location, Outcome, Token};

impl<T> State<T> {
    /// No task can run any more: all that are known fail with `reason`.
    pub fn break_down(&mut self, reason: &str) {
        if self.broken.is_some() {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.broken = Some(Arc::clone(&reason));
        let tokens: Vec<Token> = self.tasks.keys().collect();
        for token in tokens {
            if let Location::Slot(slot) | Location::AwaitingDecision(slot) = self.tasks[token].location {
                self.occupants[slot as usize] = None;
                if self.slots.withdraw(self.entry(slot)) {
                    self.free_slot(slot);
                }
            }
            self.settle(token, Outcome::Broken(Arc::clone(&reason)), true);
        }
        self.backlog = Backlog::default();
    }

    /// Takes no more tasks; the pool ends when those it has are done.
    pub fn close(&mut self) {
        if self.openness == Openness::Open {
            self.openness = Openness::Closing;
        }
    }

    /// Withdraws every task that has not begun; their user data. What fails from now on is not begun again.
    pub fn withdraw_all(&mut self) -> Vec<T> {
        self.withdrawn = true;
        self.cancel_all(false, 0)
    }

    /// Takes no more tasks, withdraws those that have not begun and asks the others to stop; the pool ends when they
    /// have, or have been killed. User data of all.
    pub fn stop(&mut self, now: u64) -> Vec<T> {
        if self.openness >= Openness::Stopping {
            return Vec::new();
        }
        self.openness = Openness::Stopping;
        self.cancel_all(true, now)
    }

    fn cancel_all(&mut self, running: bool, now: u64) -> Vec<T> {
        // Those without a slot first: otherwise they would move into the slots of those that are withdrawn, and begin.
        let (waiting, placed): (Vec<Token>, Vec<Token>) =
            self.tasks.keys().partition(|token| self.tasks[*token].location == Location::Backlog);
        let mut withdrawn = Vec::new();
        for token in waiting.into_iter().chain(placed) {
            match self.cancel(token, running, now) {
                Cancelled::Withdrawn(user_data) | Cancelled::Ending(user_data) => withdrawn.push(user_data),
                Cancelled::TooLate => {}
            }
        }
        withdrawn
    }

    /// Ends the pool at once: gives the user data of all unfinished tasks; workers will be killed.
    pub fn terminate(&mut self) -> Vec<T> {
        if self.openness == Openness::Ended {
            return Vec::new();
        }
        self.openness = Openness::Terminating;
        let tokens: Vec<Token> = self.tasks.keys().collect();
        self.occupants.fill(None);
        self.backlog = Backlog::default();
        tokens.into_iter().filter_map(|token| self.forget(token)).collect()
    }
}
