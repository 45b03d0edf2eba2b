//! What becomes of a pool whose workers die before they have done anything.
//!
//! Those that end by themselves will do so again: the pool gives up soon. Those that are killed, as for want of
//! memory, may live the next time, and a killer that picks at random hits one that starts as easily as another: such a
//! pool goes on trying for a while.

use manyhands_os::clock::SECOND;

/// Deaths, per worker of the pool, after which it gives up.
const PER_WORKER: usize = 3;
/// How long workers have to have been killed without any having done a task.
const PATIENCE: u64 = 10 * SECOND;

/// The workers that have died since the last task was done, without a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailedStarts {
    ended: usize,
    killed: usize,
    /// When it was first seen that some were killed, in nanoseconds of the clock.
    since: Option<u64>,
    /// Whether there is a death that has not been looked at: whoever lives now may be at work for long.
    is_news: bool,
}

impl FailedStarts {
    /// One more has died; whether it was killed.
    pub(super) fn count(&mut self, killed: bool) {
        self.is_news = true;
        if killed {
            self.killed += 1;
        } else {
            self.ended += 1;
        }
    }

    /// Why a pool with so many workers must give up, if it must.
    pub(super) fn give_up(&mut self, workers: usize, now: u64) -> Option<&'static str> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let most = PER_WORKER * workers + 2;
        if self.ended > most {
            return Some("its workers die as soon as they start; see what they print");
        }
        if self.killed == 0 {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let lasts = now.saturating_sub(since) >= PATIENCE;
        (lasts && self.killed > most).then_some(
            "its workers have been killed as soon as they started, for 10 s: by the system, if memory is \
             short, or by another program",
        )
    }
}
