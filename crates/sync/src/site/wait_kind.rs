//! What is waited for at a site.

use crate::kind::Kind;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WaitKind {
    /// A lock.
    Lock = 1,
    /// A lock that its owner may take again.
    RLock,
    /// A permit.
    Semaphore,
    /// An event to be set.
    Event,
    /// A notification.
    Condition,
    /// Others to arrive.
    Barrier,
    /// Something to take out of a queue.
    Get,
    /// Room in a queue.
    Put,
    /// All work of a queue to be done.
    Join,
    /// Something to take out of a pipe.
    Receive,
    /// Room in a pipe.
    Send,
}

/// What a wait is called: by the user's call, in a word, and what kind of object without a name is waited for, if the
/// wait says so. In the order of their numbers; a new one is one row more.
const WAITS: [(WaitKind, &str, &str, Option<Kind>); 11] = [
    (WaitKind::Lock, "Lock", "acquire", Some(Kind::Lock)),
    (WaitKind::RLock, "RLock", "acquire", Some(Kind::RLock)),
    (WaitKind::Semaphore, "Semaphore", "acquire", Some(Kind::Semaphore)),
    (WaitKind::Event, "Event", "wait", Some(Kind::Event)),
    (WaitKind::Condition, "Condition", "wait", Some(Kind::Condition)),
    (WaitKind::Barrier, "Barrier", "wait", Some(Kind::Barrier)),
    (WaitKind::Get, "Queue.get", "get", None),
    (WaitKind::Put, "Queue.put", "put", None),
    (WaitKind::Join, "Queue.join", "join", None),
    (WaitKind::Receive, "Connection.recv", "receive", None),
    (WaitKind::Send, "Connection.send", "send", None),
];

const _: () = {
    let mut index = 0;
    while index < WAITS.len() {
        assert!(WAITS[index].0 as usize == index + 1, "a row of the table is not where its number says");
        index += 1;
    }
};

impl WaitKind {
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let index = usize::try_from(bits).ok()?.checked_sub(1)?;
        WAITS.get(index).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, Option<Kind>) {
        &WAITS[self as usize - 1]
    }

    /// What a user calls it.
    ///
    /// ```
    /// use manyhands_sync::site::WaitKind;
    /// assert_eq!(WaitKind::Get.text(), "Queue.get");
    /// ```
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().1
    }

    /// What the one that waits is doing, in a word.
    ///
    /// ```
    /// use manyhands_sync::site::WaitKind;
    /// assert_eq!(WaitKind::RLock.verb(), "acquire");
    /// ```
    #[must_use]
    pub fn verb(self) -> &'static str {
        self.row().2
    }

    /// What kind of object is waited for, as far as this says it; `None` for what always has a segment of its own, which
    /// says it better.
    ///
    /// ```
    /// use manyhands_sync::names::Kind;
    /// use manyhands_sync::site::WaitKind;
    /// assert_eq!(WaitKind::Event.object(), Some(Kind::Event));
    /// assert_eq!(WaitKind::Get.object(), None);
    /// ```
    #[must_use]
    pub fn object(self) -> Option<Kind> {
        self.row().3
    }

    /// Whether one owner, which can be named, is waited for.
    #[must_use]
    pub fn is_lock(self) -> bool {
        matches!(self, Self::Lock | Self::RLock)
    }
}
