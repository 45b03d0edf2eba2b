//! What the queues of a server need done by others.

use crate::admission::Counts;

/// Told by a queue of connections, without a lock held if nothing else is said.
pub trait Host: Send + Sync {
    /// There may be room for another connection again.
    fn accept_again(&self);
    /// Nobody is inside any more, and nobody will come.
    fn drained(&self);
    /// The numbers have changed; so many workers are there, and so many of them idle. Called with the lock held, so that what comes last is
    /// true: it must not wait.
    fn counted(&self, _counts: Counts, _workers: usize, _idle: usize) {}
}
