//! Publications on behalf of messages, until the broker has confirmed them. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{JobId, Parcel};
use crate::outbox::{Publication, Token};

/// One publication.
#[derive(Debug)]
pub(super) struct Entry {
    /// The message it is published on behalf of.
    pub(super) job: JobId,
    /// What is published.
    pub(super) parcel: Parcel,
    /// Whether it takes the place of one that the broker did not take.
    pub(super) is_substitute: bool,
}

/// All that the broker has not confirmed yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<Token, Entry>,
    // Refused for now: when each is tried again.
    later: BTreeSet<(u64, Token)>,
    next: Token,
}

impl Ledger {
    /// Enters a publication; its name.
    pub(super) fn add(&mut self, job: JobId, parcel: Parcel, is_substitute: bool) -> Token {
        self.next += 1;
        self.entries.insert(self.next, Entry { job, parcel, is_substitute });
        self.next
    }

    /// It is settled: takes it out.
    pub(super) fn remove(&mut self, token: Token) -> Option<Entry> {
        self.entries.remove(&token)
    }

    /// Puts one back to try again at this moment.
    pub(super) fn put_off(&mut self, token: Token, entry: Entry, at: u64) {
        self.entries.insert(token, entry);
        self.later.insert((at, token));
    }

    /// One to try now.
    pub(super) fn due(&mut self, now: u64) -> Option<(Token, Arc<Publication>)> {
        let (at, token) = *self.later.first()?;
        if at > now {
            return None;
        }
        self.later.pop_first();
        let entry = self.entries.get(&token)?;
        Some((token, Arc::clone(&entry.parcel.publication)))
    }

    /// When to look for [`Ledger::due`] again.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<u64> {
        self.later.first().map(|(at, _)| *at)
    }
}
