//! The tasks of a thread pool that no worker has taken yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::task::Task;

/// Tasks in the order in which they will run: by priority, highest first, and then as they came.
///
/// A task that is taken out of the middle leaves a hole, which is skipped when its turn comes: that makes withdrawing
/// one a binary search (keys grow within a priority).
#[derive(Default)]
pub(crate) struct Backlog {
    /// Priority 0, which nearly every task has.
    plain: VecDeque<Entry>,
    others: BTreeMap<Reverse<i32>, VecDeque<Entry>>,
    len: usize,
}

struct Entry {
    /// The task's token, or a newer one for a later attempt.
    key: u64,
    task: Option<Task>,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a task in its priority at the place that `key` gives it: behind all others, mostly. Threads that submit at the
    /// same time get their keys in one order, and come here in another.
    pub(crate) fn push(&mut self, key: u64, task: Task) {
        self.len += 1;
        let priority = task.priority();
        let level = match priority {
            0 => &mut self.plain,
            _ => self.others.entry(Reverse(priority)).or_default(),
        };
        let entry = Entry { key, task: Some(task) };
        if level.back().is_none_or(|last| last.key < key) {
            level.push_back(entry);
        } else {
            let at = level.partition_point(|earlier| earlier.key < key);
            level.insert(at, entry);
        }
    }

    /// Takes the task whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Task> {
        let urgent = |level: &Reverse<i32>| level.0 > 0;
        if self.others.first_key_value().is_some_and(|(level, _)| urgent(level))
            && let Some(task) = self.pop_other()
        {
            return Some(task);
        }
        while let Some(entry) = self.plain.pop_front() {
            if let Some(task) = entry.task {
                self.len -= 1;
                return Some(task);
            }
        }
        self.pop_other()
    }

    /// Takes the first task of the first level that has one; levels found empty go.
    fn pop_other(&mut self) -> Option<Task> {
        while let Some(mut level) = self.others.first_entry() {
            // A level below 0 must not overtake the plain ones.
            if level.key().0 < 0 && !self.plain.is_empty() {
                return None;
            }
            while let Some(entry) = level.get_mut().pop_front() {
                if let Some(task) = entry.task {
                    self.len -= 1;
                    return Some(task);
                }
            }
            level.remove();
        }
        None
    }

    /// Takes a certain task out that has not been tried yet.
    pub(crate) fn take(&mut self, token: u64) -> Option<Task> {
        for level in std::iter::once(&mut self.plain).chain(self.others.values_mut()) {
            if let Ok(at) = level.binary_search_by_key(&token, |entry| entry.key)
                && let Some(task) = level[at].task.take()
            {
                self.len -= 1;
                return Some(task);
            }
        }
        None
    }

    /// Takes a certain task out that waits for another attempt.
    pub(crate) fn take_retry(&mut self, token: u64) -> Option<Task> {
        let awaited = |task: &mut Task| task.token == token && task.is_retry();
        let levels = std::iter::once(&mut self.plain).chain(self.others.values_mut());
        let taken = levels.flatten().find_map(|entry| entry.task.take_if(awaited))?;
        self.len -= 1;
        Some(taken)
    }
}
