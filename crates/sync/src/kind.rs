//! What a segment is.

use std::fmt;

/// What stands in a segment. The number is written in its heading, the word in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[expect(missing_docs, reason = "they are the classes of these names")]
pub enum Kind {
    /// The ground of a process: tasks, results, and everything unnamed that it shares.
    Ground = 1,
    Lock,
    RLock,
    Semaphore,
    BoundedSemaphore,
    Event,
    Condition,
    Barrier,
    Queue,
    JoinableQueue,
    SimpleQueue,
    PriorityQueue,
    LifoQueue,
    Pipe,
    Value,
    Array,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Ground,
        Self::Lock,
        Self::RLock,
        Self::Semaphore,
        Self::BoundedSemaphore,
        Self::Event,
        Self::Condition,
        Self::Barrier,
        Self::Queue,
        Self::JoinableQueue,
        Self::SimpleQueue,
        Self::PriorityQueue,
        Self::LifoQueue,
        Self::Pipe,
        Self::Value,
        Self::Array,
    ];

    /// The number that a heading has for it.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// Whether the body of such a segment may have any length: a queue or a pipe, which just holds less in a short one.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::Queue.is_elastic() && !Kind::Array.is_elastic());
    /// ```
    #[must_use]
    pub fn is_elastic(self) -> bool {
        match self {
            Self::Queue
            | Self::JoinableQueue
            | Self::SimpleQueue
            | Self::PriorityQueue
            | Self::LifoQueue
            | Self::Pipe => true,
            Self::Ground
            | Self::Lock
            | Self::RLock
            | Self::Semaphore
            | Self::BoundedSemaphore
            | Self::Event
            | Self::Condition
            | Self::Barrier
            | Self::Value
            | Self::Array => false,
        }
    }

    /// Whether somebody may wait for a lock in such a segment. (A condition is used with a lock, which is none of its
    /// own words.)
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::Ground.has_locks() && !Kind::Condition.has_locks());
    /// ```
    #[must_use]
    pub fn has_locks(self) -> bool {
        matches!(self, Self::Ground | Self::Lock | Self::RLock)
    }

    /// The kind with this number.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert_eq!(Kind::from_number(Kind::Barrier.number()), Some(Kind::Barrier));
    /// assert_eq!(Kind::from_number(0), None);
    /// ```
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The kind whose word this is.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| format!("{kind:?}") == word)
    }
}

/// The word for it, which is the name of its class.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
