//! Tasks as the parent knows them, and what becomes of them.

use std::ops::Range;
use std::sync::Arc;

use manyhands_channel::arena::Block;

use crate::slots::{Encoding, Head};

slotmap::new_key_type! {
    /// Names a task; its 64-bit form is the *token* that callers keep.
    pub struct Token;
}

/// A function as workers get it: decoded once per worker, known by its id from then on.
#[derive(Debug)]
pub struct Function {
    /// Unique in this pool, never used again.
    pub id: u64,
    /// Its encoded form: the first `length` bytes of this block.
    pub block: Block,
    /// Bytes of the encoded form.
    pub length: usize,
    /// How it is called in messages and statistics.
    pub name: String,
}

/// What the caller asked for beyond the call itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Longest time from start to end, in nanoseconds.
    pub timeout: Option<u64>,
    /// How often it may be run again.
    pub retries: u32,
    /// Nanoseconds to wait before each of them; the last counts for all that follow. Empty: none waits.
    pub pauses: Vec<u64>,
    /// Whether the death of its worker is among the failures to retry.
    pub retry_deaths: bool,
    /// Whether passing its timeout is among the failures to retry.
    pub retry_timeouts: bool,
    /// Higher runs earlier; 0 is usual.
    pub priority: i32,
    /// Name in messages and statistics, when not the function's.
    pub name: Option<String>,
}

/// Encoded arguments on their way in.
#[derive(Debug)]
pub enum Arguments<'a> {
    /// Few enough bytes to lie in a slot.
    Inline(Encoding, &'a [u8]),
    /// A block of shared memory.
    Block(Block),
}

/// Arguments the parent keeps.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Their only copy is in the task's slot.
    InSlot,
    /// In private memory, until there is a slot.
    Bytes(Encoding, Box<[u8]>),
    /// In a block; kept until the task ends.
    Block(Block),
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// Waits in the backlog.
    Backlog,
    /// Has a slot: queued, running or done there.
    Slot(u32),
    /// Its failure is being examined by the caller, which may have it retried.
    AwaitingDecision(u32),
}

/// A task in the parent's books.
#[derive(Debug)]
pub(crate) struct Task<T> {
    pub(crate) user_data: T,
    pub(crate) function: Arc<Function>,
    pub(crate) kept: Kept,
    pub(crate) flags: u8,
    pub(crate) options: Option<Box<Options>>,
    pub(crate) location: Location,
    pub(crate) attempt: u32,
    pub(crate) sequence: u64,
}

impl<T> Task<T> {
    pub(crate) fn name(&self) -> &str {
        self.options.as_ref().and_then(|options| options.name.as_deref()).unwrap_or(&self.function.name)
    }

    pub(crate) fn priority(&self) -> i32 {
        self.options.as_ref().map_or(0, |options| options.priority)
    }

    /// Nanoseconds to wait before the attempt that comes next, which has been counted already.
    pub(crate) fn pause(&self) -> u64 {
        let pauses = self.options.as_ref().map_or(&[][..], |options| &options.pauses);
        let at = (self.attempt as usize).saturating_sub(1).min(pauses.len().saturating_sub(1));
        pauses.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn may_retry(&self) -> bool {
        self.options.as_ref().is_some_and(|options| self.attempt < options.retries)
    }
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Name of the task it was running.
    pub task: String,
    /// Process id; `None` when it died before that was known.
    pub pid: Option<i32>,
    /// As `waitpid` gives it; `None` when nobody could wait for it.
    pub wait_status: Option<i32>,
    /// Its largest resident size, in bytes, if known.
    pub rss_bytes: Option<u64>,
}

/// What became of a task.
#[derive(Debug)]
pub enum Outcome {
    /// A result or an exception in bytes: a part of [`Completions::bytes`].
    Inline(Head, Range<usize>),
    /// A result or an exception in a block.
    Block(Head, Block),
    /// Its worker died.
    Died(Box<Death>),
    /// It ran longer than its timeout (ns).
    TimedOut(String, u64),
    /// The pool cannot run anything any more; the text says why.
    Broken(Arc<str>),
    /// Its slot or block was overwritten by something that is not ours.
    Corrupted,
}

/// A finished task on its way to the caller.
#[derive(Debug)]
pub struct Finished<T> {
    /// Which task.
    pub token: Token,
    /// What the caller handed in; `None` when the task failed and may be retried: then
    /// [`crate::pool::Pool::decide_retry`] decides, and gives the user data back.
    pub user_data: Option<T>,
    /// What became of it.
    pub outcome: Outcome,
}

/// The stream of a worker on which output came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
    /// Log records, warnings and what else is for the parent, in frames.
    Reports,
}

/// A piece of output of a worker.
#[derive(Debug)]
pub struct Output {
    /// Number of the worker's worker slot.
    pub worker_slot: usize,
    /// Its process id.
    pub pid: i32,
    /// Where it was written.
    pub stream: Stream,
    /// What; empty when the stream has ended.
    pub bytes: Vec<u8>,
}

/// All that has finished or been printed since the last look.
#[derive(Debug)]
pub struct Completions<T> {
    /// The output, oldest first; to be shown before the outcomes.
    pub output: Vec<Output>,
    /// What finished.
    pub finished: Vec<Finished<T>>,
    /// The bytes that [`Outcome::Inline`] points into.
    pub bytes: Vec<u8>,
}

impl<T> Default for Completions<T> {
    fn default() -> Self {
        Self { output: Vec::new(), finished: Vec::new(), bytes: Vec::new() }
    }
}

impl<T> Completions<T> {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.output.is_empty() && self.finished.is_empty()
    }

    /// Forgets its content, keeps its memory.
    pub fn clear(&mut self) {
        self.output.clear();
        self.finished.clear();
        self.bytes.clear();
    }
}
