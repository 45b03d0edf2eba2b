//! A message that asks for a task, as far as the duties of a worker depend on it.

use std::sync::Arc;

use crate::outbox::Publication;

/// Which attempt at which task a message is: what comes again after a lost connection is recognised by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// The task's id; of a message that cannot be read, whatever is there.
    pub id: String,
    /// How often the task itself has asked to be run again.
    pub retries: u32,
    /// How many processes have died over it.
    pub deaths: u32,
}

/// Why a message ends as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is no task, in one word of the codec's.
    Unreadable(&'static str),
    /// No such task is registered here.
    NotRegistered,
    /// So many processes have died over it.
    Deaths(u32),
}

/// How a task ends, if not by its own outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its process died: the message goes back to its queue, and says how often that has happened.
    Again {
        /// How many processes have died over it, this one included.
        deaths: u32,
    },
    /// The message goes where dead letters go, and whoever waits for the task hears that it failed.
    Dead(Cause),
    /// It must not run any more.
    Revoked {
        /// Because it was too late, not because somebody has said so.
        is_expired: bool,
    },
    /// It has run, and the broker does not take its answer, in these words: whoever waits hears that instead.
    Unanswerable(String),
}

/// What a publication is for, which decides what is done when the broker does not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It tells somebody how the task has ended.
    Answer,
    /// It is the next task of a chain, a callback, or the task itself for another attempt.
    Task,
    /// It is a dead letter.
    DeadLetter,
}

/// A message to be published on behalf of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The message.
    pub publication: Arc<Publication>,
    /// What it is for.
    pub role: Role,
}

/// A message that asks for a task.
pub trait Order {
    /// Which attempt at which task it is.
    fn attempt(&self) -> &Arc<Attempt>;
    /// Not to be run before this moment, in nanoseconds since 1970.
    fn eta(&self) -> Option<u64>;
    /// Not to be begun after this moment, in nanoseconds since 1970.
    fn expires(&self) -> Option<u64>;
    /// Why it can never be run here.
    fn unfit(&self) -> Option<Cause>;
    /// What to publish when it ends so.
    fn ending(&self, ending: &Ending) -> Vec<Parcel>;
    /// The dead letter that a publication on its behalf becomes when the broker does not take it, for a reason in these words.
    fn undeliverable(&self, publication: &Publication, reason: &str) -> Parcel;
}
