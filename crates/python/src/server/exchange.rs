//! Whose turn it is on a connection: which may be ended without a client missing anything.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use manyhands_os::clock::{self, SECOND};
use manyhands_os::stream;

/// The client has said nothing, and nothing was sent to it.
const FRESH: u8 = 0;
/// The client has said something since anything was sent to it.
const ASKED: u8 = 1;
/// Something was sent since the client has said anything.
const ANSWERED: u8 = 2;
/// How long after it has connected a client's first words may be under way.
const UNDER_WAY: u64 = SECOND;

/// What client and handler have said.
pub(super) struct Exchange {
    /// [`FRESH`], [`ASKED`] or [`ANSWERED`]. Set by whoever receives or sends.
    state: AtomicU8,
    /// Since when the client can speak. Set again by whoever has shaken hands with it.
    opened: AtomicU64,
}

impl Exchange {
    /// Nobody has said anything yet.
    pub(super) fn new() -> Self {
        Self { state: AtomicU8::new(FRESH), opened: AtomicU64::new(clock::now()) }
    }

    /// What was said so far was not for the handler, which begins now.
    pub(super) fn begin_again(&self) {
        self.opened.store(clock::now(), Ordering::Relaxed);
        self.state.store(FRESH, Ordering::Relaxed);
    }

    /// Something of the client's has been received. As soon as it is no longer among what can be read: in between,
    /// the connection would seem idle.
    pub(super) fn heard(&self) {
        self.state.store(ASKED, Ordering::Relaxed);
    }

    /// Something is being sent, or need not be.
    pub(super) fn answered(&self) {
        self.state.store(ANSWERED, Ordering::Relaxed);
    }

    /// Whether a handler that waits for the client waits for another request: the client has got something since it has
    /// said something, or has said nothing for so long that its first words are not under way; and nothing more has come.
    pub(super) fn is_over(&self, connection: impl AsFd) -> bool {
        // First: what is read meanwhile is not there any more, but has been heard.
        if stream::has_input(connection) {
            return false;
        }
        match self.state.load(Ordering::Relaxed) {
            FRESH => clock::now().saturating_sub(self.opened.load(Ordering::Relaxed)) > UNDER_WAY,
            state => state == ANSWERED,
        }
    }
}
