//! Where the results of futures come from: whoever waits for one collects for all.

use std::sync::Weak;

use manyhands_os::clock::{self, Deadline, MILLISECOND};
use manyhands_pool::pool::WakeReason;
use manyhands_pool::state::Cancelled;
use manyhands_pool::task::Token;
use pyo3::prelude::*;
use slotmap::KeyData;

use super::Core;
use crate::future::{CancelAnswer, FutureBase, Source};
use crate::interpreter::{ending, parker::Expect};

/// A signal that another thread of the program received does not end our sleep; this does.
const SIGNAL_SLICE: u64 = 500 * MILLISECOND;

fn token_of(bits: u64) -> Token {
    Token::from(KeyData::from_ffi(bits))
}

/// How a future finds its pool. Results may be kept long after the pool has ended; the pool is not.
pub(super) struct Link(pub(super) Weak<Core>);

impl Source for Link {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn wait(&self, future: &Bound<'_, FutureBase>, token: u64, deadline: Option<Deadline>) -> PyResult<()> {
        let Some(core) = self.0.upgrade() else {
            FutureBase::orphan(future, "the pool of this task no longer exists");
            return Ok(());
        };
        core.wait(future, token, deadline)
    }

    fn lead(
        &self,
        py: Python<'_>,
        is_enough: &(dyn Fn() -> bool + Sync),
        deadline: Option<Deadline>,
    ) -> PyResult<bool> {
        self.0.upgrade().map_or(Ok(false), |core| core.lead(py, is_enough, deadline))
    }

    fn notify_leader(&self) {
        if let Some(core) = self.0.upgrade() {
            core.notify_leader();
        }
    }

    fn is_running(&self, token: u64) -> bool {
        self.0.upgrade().is_none_or(|core| core.is_running(token))
    }

    fn cancel(&self, future: &Bound<'_, FutureBase>, token: u64, running: bool) -> CancelAnswer {
        self.0.upgrade().map_or(CancelAnswer::Refused, |core| core.cancel(future, token, running))
    }
}

impl Source for Core {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn wait(&self, future: &Bound<'_, FutureBase>, _token: u64, deadline: Option<Deadline>) -> PyResult<()> {
        let py = future.py();
        let this = future.get();
        if self.is_copy() {
            FutureBase::orphan(
                future,
                "the task runs in the process that this one was forked from; its result is available only there",
            );
            return Ok(());
        }
        if !self.lead(py, &|| this.state().is_done(), deadline)? {
            FutureBase::park(future, Some(within_slice(deadline)), Expect::Perhaps)?;
        }
        Ok(())
    }

    fn lead(
        &self,
        py: Python<'_>,
        is_enough: &(dyn Fn() -> bool + Sync),
        deadline: Option<Deadline>,
    ) -> PyResult<bool> {
        if self.is_copy() {
            return Ok(false);
        }
        ending::outlast();
        let until = Some(within_slice(deadline));
        match py.detach(|| self.pool.wait_as_leader(is_enough, until)) {
            WakeReason::News => self.deliver(py),
            WakeReason::Led => return Ok(false),
            WakeReason::TimedOut | WakeReason::Interrupted | WakeReason::Ended => py.check_signals()?,
        }
        Ok(true)
    }

    fn notify_leader(&self) {
        if !self.is_copy() {
            self.pool.notify_leader();
        }
    }

    fn is_running(&self, token: u64) -> bool {
        self.is_copy() || self.pool.is_running(token_of(token))
    }

    fn cancel(&self, _future: &Bound<'_, FutureBase>, token: u64, running: bool) -> CancelAnswer {
        if self.is_copy() {
            return CancelAnswer::Refused;
        }
        match self.pool.cancel(token_of(token), running) {
            Cancelled::Withdrawn(_) => CancelAnswer::Withdrawn,
            Cancelled::Ending(_) => CancelAnswer::Ending,
            Cancelled::TooLate => CancelAnswer::Refused,
        }
    }
}

fn within_slice(deadline: Option<Deadline>) -> Deadline {
    let slice = clock::now() + SIGNAL_SLICE;
    deadline.map_or(slice, |deadline| deadline.min(slice))
}
