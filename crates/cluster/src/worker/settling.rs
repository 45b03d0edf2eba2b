//! How tasks end, and what is published before their messages are acknowledged.

use std::sync::Arc;

use super::view::Ended;
use super::{Action, Cause, Duties, Ending, JobId, Order, Parcel, Phase, Role};
use crate::link::{Refusal, Tag};
use crate::outbox::Token;

/// What the broker does not take now is tried again after so many nanoseconds.
const PAUSE: u64 = 1_000_000_000;

impl<O: Order> Duties<O> {
    /// A task has ended by itself, and this must be published: its answer, and what follows it.
    pub fn finished(&mut self, job: JobId, parcels: Vec<Parcel>, now: u64) {
        let Some(since) = self.leave_slot(job) else { return };
        self.counts.finished += 1;
        // Those begun ahead of their turn have waited for the others.
        let slots = u64::from(self.settings.slots);
        let begun = u64::try_from(self.running).unwrap_or(slots) + 1;
        self.pace.ran(now.saturating_sub(since) * slots / begun.max(slots));
        if self.jobs.get(&job).is_some_and(|entry| entry.is_revoked) {
            self.settle_as(job, &Ending::Revoked { is_expired: false });
        } else {
            self.settle(job, parcels);
        }
        self.go_on(now);
    }

    /// The process that ran a task has died.
    pub fn crashed(&mut self, job: JobId, now: u64) {
        if self.leave_slot(job).is_none() {
            return;
        }
        let Some(entry) = self.jobs.get(&job) else { return };
        let deaths = entry.order.attempt().deaths + 1;
        let ending = match entry.is_revoked {
            // It had to stop, and that is how.
            true => Ending::Revoked { is_expired: false },
            false => {
                self.counts.deaths += 1;
                let is_last = deaths >= self.settings.most_deaths;
                if is_last { Ending::Dead(Cause::Deaths(deaths)) } else { Ending::Again { deaths } }
            }
        };
        self.settle_as(job, &ending);
        self.go_on(now);
    }

    /// A task was not begun after all: others may have it.
    pub fn returned(&mut self, job: JobId, now: u64) {
        if self.leave_slot(job).is_none() {
            return;
        }
        if self.jobs.get(&job).is_some_and(|entry| entry.is_revoked) {
            self.settle_as(job, &Ending::Revoked { is_expired: false });
        } else {
            self.give_job_back(job);
        }
        self.go_on(now);
    }

    /// The broker has a publication.
    pub fn confirmed(&mut self, token: Token, now: u64) {
        let Some(entry) = self.ledger.remove(token) else { return };
        self.settled_one(entry.job);
        self.go_on(now);
    }

    /// The broker does not take a publication.
    pub fn refused(&mut self, token: Token, why: &Refusal, now: u64) {
        let Some(entry) = self.ledger.remove(token) else { return };
        let Some(order) = self.jobs.get(&entry.job).map(|job| Arc::clone(&job.order)) else { return };
        let job = entry.job;
        match (entry.parcel.role, why) {
            // Whoever waited has gone, and the queue of the answers with it.
            (Role::Answer, Refusal::Unroutable) => self.counts.unheard += 1,
            (Role::Answer, Refusal::Error(reason)) if !entry.is_substitute => {
                self.publish(job, order.ending(&Ending::Unanswerable(reason.clone())), true);
            }
            (Role::Answer, Refusal::Error(_)) => self.counts.unheard += 1,
            (Role::Task, Refusal::Unroutable | Refusal::Error(_)) => {
                let reason = match why {
                    Refusal::Error(reason) => reason,
                    _ => "there is no queue for it",
                };
                self.counts.dead += 1;
                let letter = order.undeliverable(&entry.parcel.publication, reason);
                self.publish(job, vec![letter], true);
            }
            (role, _) => {
                if role == Role::DeadLetter {
                    self.actions.push(Action::DeclareDeadLetters);
                }
                self.ledger.put_off(token, entry, now.saturating_add(PAUSE));
                return;
            }
        }
        self.settled_one(job);
        self.go_on(now);
    }

    /// Takes a task out of its slot; since when it had it.
    fn leave_slot(&mut self, job: JobId) -> Option<u64> {
        let Phase::Running { since } = self.jobs.get(&job)?.phase else { return None };
        self.running -= 1;
        Some(since)
    }

    /// Ends a task otherwise than by its own outcome.
    pub(super) fn settle_as(&mut self, job: JobId, ending: &Ending) {
        let Some(entry) = self.jobs.get(&job) else { return };
        match ending {
            Ending::Dead(_) => self.counts.dead += 1,
            Ending::Revoked { .. } => self.counts.revoked += 1,
            Ending::Again { .. } | Ending::Unanswerable(_) => {}
        }
        let parcels = entry.order.ending(ending);
        self.ended.push(Ended::new(entry, ending));
        self.settle(job, parcels);
    }

    /// Publishes all this; the message is acknowledged when it is confirmed.
    fn settle(&mut self, job: JobId, parcels: Vec<Parcel>) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        // One more, so that it is not done before all are on their way.
        entry.phase = Phase::Settling { unconfirmed: 1 };
        self.publish(job, parcels, false);
        self.settled_one(job);
    }

    fn publish(&mut self, job: JobId, parcels: Vec<Parcel>, is_substitute: bool) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let Phase::Settling { unconfirmed } = &mut entry.phase else { return };
        *unconfirmed += parcels.len();
        for parcel in parcels {
            let publication = Arc::clone(&parcel.publication);
            let token = self.ledger.add(job, parcel, is_substitute);
            self.actions.push(Action::Publish(token, publication));
        }
    }

    /// One of the publications that a message waits for needs no more waiting.
    fn settled_one(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let Phase::Settling { unconfirmed } = &mut entry.phase else { return };
        *unconfirmed -= 1;
        if *unconfirmed > 0 {
            return;
        }
        let Some(entry) = self.jobs.remove(&job) else { return };
        let attempt = entry.order.attempt();
        match entry.tag {
            Some(tag) => self.actions.push(Action::Ack(tag)),
            None => self.forget_stray(attempt, job),
        }
        self.done.add(attempt, entry.tag);
    }

    /// Gives the message back to its queue, and forgets it.
    pub(super) fn give_job_back(&mut self, job: JobId) {
        let Some(entry) = self.jobs.remove(&job) else { return };
        match entry.tag {
            Some(tag) => self.give_back(tag),
            None => self.forget_stray(entry.order.attempt(), job),
        }
    }

    pub(super) fn give_back(&mut self, tag: Tag) {
        self.counts.returned += 1;
        self.actions.push(Action::Return(tag));
    }

    fn forget_stray(&mut self, attempt: &Arc<super::Attempt>, job: JobId) {
        if self.strays.get(attempt) == Some(&job) {
            self.strays.remove(attempt);
        }
    }
}
