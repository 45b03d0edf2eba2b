//! What a segment is.

use std::fmt;

/// What stands in a segment. The number is written in its heading, the word in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[expect(missing_docs, reason = "they are the classes of these names")]
pub enum Kind {
    /// The shared heap of a process: tasks, results, and everything unnamed that it shares.
    SharedHeap = 1,
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

/// What is true of a kind beside its name. A new kind is one row of [`TABLE`] more.
#[derive(Clone, Copy, Debug)]
struct Traits {
    kind: Kind,
    is_elastic: bool,
    has_locks: bool,
    is_held: bool,
    is_watched: bool,
    parameter: &'static str,
}

const PLAIN: Traits = Traits {
    kind: Kind::SharedHeap,
    is_elastic: false,
    has_locks: false,
    is_held: false,
    is_watched: false,
    parameter: "",
};
const LOCK: Traits = Traits { has_locks: true, is_held: true, is_watched: true, ..PLAIN };
const PERMITS: Traits = Traits { is_held: true, is_watched: true, parameter: "value", ..PLAIN };
const QUEUE: Traits = Traits { is_elastic: true, parameter: "maxsize", ..PLAIN };

/// In the order of their numbers.
const TABLE: [Traits; 16] = [
    Traits { kind: Kind::SharedHeap, has_locks: true, ..PLAIN },
    Traits { kind: Kind::Lock, ..LOCK },
    Traits { kind: Kind::RLock, ..LOCK },
    Traits { kind: Kind::Semaphore, ..PERMITS },
    Traits { kind: Kind::BoundedSemaphore, ..PERMITS },
    Traits { kind: Kind::Event, ..PLAIN },
    Traits { kind: Kind::Condition, ..PLAIN },
    Traits { kind: Kind::Barrier, is_watched: true, parameter: "parties", ..PLAIN },
    Traits { kind: Kind::Queue, ..QUEUE },
    Traits { kind: Kind::JoinableQueue, ..QUEUE },
    Traits { kind: Kind::SimpleQueue, ..QUEUE },
    Traits { kind: Kind::PriorityQueue, ..QUEUE },
    Traits { kind: Kind::LifoQueue, ..QUEUE },
    Traits { kind: Kind::Pipe, is_watched: true, ..QUEUE },
    Traits { kind: Kind::Value, ..PLAIN },
    Traits { kind: Kind::Array, ..PLAIN },
];

const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].kind as usize == index + 1, "a row of the table is not where its number says");
        index += 1;
    }
};

impl Kind {
    /// The number that a heading has for it.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    fn traits(self) -> &'static Traits {
        &TABLE[self as usize - 1]
    }

    /// Whether the body of such a segment may have any length: a queue or a pipe, which just holds less in a short one.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::Queue.is_elastic() && !Kind::Array.is_elastic());
    /// ```
    #[must_use]
    pub fn is_elastic(self) -> bool {
        self.traits().is_elastic
    }

    /// Whether somebody may wait for a lock in such a segment. (A condition is used with a lock, which is none of its
    /// own words.)
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::SharedHeap.has_locks() && !Kind::Condition.has_locks());
    /// ```
    #[must_use]
    pub fn has_locks(self) -> bool {
        self.traits().has_locks
    }

    /// Whether such an object has holders, also when nobody waits for it: a lock, or permits.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::Semaphore.is_held() && !Kind::Event.is_held());
    /// ```
    #[must_use]
    pub fn is_held(self) -> bool {
        self.traits().is_held
    }

    /// Whether others must learn at once when a process dies that uses a segment of this kind. Where nobody holds
    /// anything for long a participant slot would only be in the way: the thread that guards it has to come by before a segment
    /// can be unmapped.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert!(Kind::Barrier.is_watched() && !Kind::Queue.is_watched());
    /// ```
    #[must_use]
    pub fn is_watched(self) -> bool {
        self.traits().is_watched
    }

    /// The constructor's word for the number that such an object is made with; empty if there is none.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// assert_eq!(Kind::Barrier.parameter(), "parties");
    /// ```
    #[must_use]
    pub fn parameter(self) -> &'static str {
        self.traits().parameter
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
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        TABLE.get(index).map(|row| row.kind)
    }

    /// The kind whose word this is.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        TABLE.iter().map(|row| row.kind).find(|kind| format!("{kind:?}") == word)
    }
}

/// The word for it, which is the name of its class.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
