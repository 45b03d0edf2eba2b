//! Tasks that wait for a slot: first in, first out, higher priorities first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::task::Token;

/// The backlog. Priority 0, the usual one, has a plain queue of its own.
///
/// Tokens of tasks that have been cancelled stay behind and are passed over by `pop`.
#[derive(Default)]
pub(crate) struct Backlog {
    usual: VecDeque<(u64, Token)>,
    others: BTreeMap<(Reverse<i32>, u64), Token>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.usual.is_empty() && self.others.is_empty()
    }

    pub(crate) fn push(&mut self, priority: i32, sequence: u64, token: Token) {
        if priority == 0 {
            self.usual.push_back((sequence, token));
        } else {
            self.others.insert((Reverse(priority), sequence), token);
        }
    }

    /// Puts a task back that had left, at the place its sequence gives it.
    pub(crate) fn put_back(&mut self, priority: i32, sequence: u64, token: Token) {
        if priority != 0 {
            return self.push(priority, sequence, token);
        }
        let location = self.usual.partition_point(|(other, _)| *other < sequence);
        self.usual.insert(location, (sequence, token));
    }

    /// The next task for which `alive` holds.
    pub(crate) fn pop(&mut self, alive: impl Fn(Token) -> bool) -> Option<Token> {
        loop {
            let urgent = self.others.first_key_value().is_some_and(|((priority, _), _)| priority.0 > 0);
            let token = if urgent || self.usual.is_empty() {
                self.others.pop_first().map(|(_, token)| token)?
            } else {
                self.usual.pop_front().map(|(_, token)| token)?
            };
            if alive(token) {
                return Some(token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn order_is_priority_then_age() {
        let mut names: SlotMap<Token, &str> = SlotMap::with_key();
        let mut backlog = Backlog::default();
        let submitted = [("a", 0), ("b", 5), ("c", -1), ("d", 0), ("e", 5)];
        for (sequence, (name, priority)) in submitted.into_iter().enumerate() {
            let token = names.insert(name);
            backlog.push(priority, sequence as u64, token);
        }
        let first = backlog.pop(|_| true).expect("five wait");
        assert_eq!(names[first], "b");
        backlog.put_back(5, 1, first);
        let mut order = String::new();
        while let Some(token) = backlog.pop(|token| names[token] != "d") {
            order += names[token];
        }
        assert_eq!(order, "beac");
        assert!(backlog.is_empty());
    }
}
