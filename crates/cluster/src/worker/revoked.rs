//! Ids of tasks that must not run any more. Pure.

use std::collections::{HashMap, VecDeque};

/// So many are remembered, and for so long (three hours, in nanoseconds): as Celery does, so that a mixed fleet forgets together.
const MOST: usize = 50_000;
const KEPT: u64 = 3 * 3600 * 1_000_000_000;

/// The ids, with the moment at which each was revoked.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    since: HashMap<String, u64>,
    order: VecDeque<(u64, String)>,
}

impl Revoked {
    /// Remembers an id.
    pub(super) fn add(&mut self, id: &str, now: u64) {
        self.forget(now);
        if self.since.insert(id.to_owned(), now) != Some(now) {
            self.order.push_back((now, id.to_owned()));
        }
    }

    /// Whether it was revoked.
    #[must_use]
    pub(super) fn has(&self, id: &str) -> bool {
        self.since.contains_key(id)
    }

    /// All ids, for workers that start later.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.since.keys().map(String::as_str)
    }

    fn forget(&mut self, now: u64) {
        while let Some((since, _)) = self.order.front()
            && (self.order.len() >= MOST || now.saturating_sub(*since) > KEPT)
        {
            let Some((since, id)) = self.order.pop_front() else { break };
            // Unless it was revoked once more.
            if self.since.get(&id) == Some(&since) {
                self.since.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_forgotten_after_a_while() {
        let mut revoked = Revoked::default();
        revoked.add("a", 1);
        revoked.add("b", 1);
        revoked.add("a", KEPT);
        revoked.add("c", KEPT + 2);
        assert!(revoked.has("a") && revoked.has("c"), "revoked once more, and just now");
        assert!(!revoked.has("b"), "three hours ago");
    }

    #[test]
    fn so_many_are_remembered() {
        let mut revoked = Revoked::default();
        (0..=MOST).for_each(|number| revoked.add(&number.to_string(), 1));
        assert_eq!((revoked.ids().count(), revoked.has("0"), revoked.has("1")), (MOST, false, true));
    }
}
