//! Items as tasks: which consumer has taken them, and whether all are done.

use manyhands_os::process::Identity;
use manyhands_sync::atomic::Ordering;

use super::Queue;
use super::error::{GetError, TaskError};
use super::latch::Attempt;

/// What is left to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Items that were put in and not said to be done.
    pub count: u64,
    /// Processes that died, and how many of those items each had taken. When there were more than 250 of them, one stands
    /// for several.
    pub lost: Vec<(Identity, u32)>,
}

impl Queue {
    /// Says that `count` of the items that were taken out are done, if that is possible at once.
    ///
    /// # Errors
    /// `TooOften` when so many are not left, `NotJoinable`, `Busy` or `Corrupt`.
    pub fn try_task_done(&self, count: u32) -> Result<(), TaskError> {
        self.task_done_once(count, Attempt::Only)
    }

    pub(super) fn task_done_once(&self, count: u32, attempt: Attempt) -> Result<(), TaskError> {
        self.check_joinable()?;
        let guard = self.enter_tasks(attempt)?;
        let left = self.left();
        if i64::from(count) > left {
            return Err(TaskError::TooOften);
        }
        self.consumers.finish(count);
        let open = self.open_word();
        open.store(open.load(Ordering::Relaxed).wrapping_sub(u64::from(count)), Ordering::Relaxed);
        drop(guard);
        if left == i64::from(count) {
            self.site.notify(self.joined(), self.joined_key(), u32::MAX);
        }
        Ok(())
    }

    /// What is left to be done, if that can be said at once.
    ///
    /// # Errors
    /// `NotJoinable`, `Busy` or `Corrupt`.
    pub fn unfinished(&self) -> Result<Unfinished, TaskError> {
        self.unfinished_once(Attempt::Only)
    }

    pub(super) fn unfinished_once(&self, attempt: Attempt) -> Result<Unfinished, TaskError> {
        self.check_joinable()?;
        let guard = self.enter_tasks(attempt)?;
        let count = u64::try_from(self.left()).unwrap_or(0);
        drop(guard);
        // A caller that looks again and again does not ask for deaths every time.
        let lost = if count > 0 && attempt.may_ask() { self.consumers.lost() } else { Vec::new() };
        Ok(Unfinished { count, lost })
    }

    /// Counts the items that dead processes had taken as done, if that is possible at once; returns how many.
    ///
    /// # Errors
    /// `NotJoinable`, `Busy` or `Corrupt`.
    pub fn try_write_off(&self) -> Result<u64, TaskError> {
        self.write_off_once(Attempt::Only)
    }

    pub(super) fn write_off_once(&self, attempt: Attempt) -> Result<u64, TaskError> {
        self.check_joinable()?;
        let guard = self.enter_tasks(attempt)?;
        let count = self.consumers.write_off();
        self.count_open();
        drop(guard);
        self.site.notify(self.joined(), self.joined_key(), u32::MAX);
        Ok(count)
    }

    fn check_joinable(&self) -> Result<(), TaskError> {
        if self.options.joinable { Ok(()) } else { Err(TaskError::NotJoinable) }
    }

    fn enter_tasks(&self, attempt: Attempt) -> Result<super::latch::Guard<'_>, TaskError> {
        self.enter_get(attempt).map_err(|error| match error {
            GetError::Corrupt(corrupt) => TaskError::Corrupt(corrupt),
            GetError::Busy(busy) => TaskError::Busy(busy),
            GetError::Interrupted | GetError::Empty | GetError::Closed => TaskError::Interrupted,
        })
    }

    /// Items in the queue, and those taken and not done. The caller has the latch of the consumers.
    fn left(&self) -> i64 {
        (self.len() as i64).wrapping_add(self.open_word().load(Ordering::Relaxed) as i64)
    }
}
