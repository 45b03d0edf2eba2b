//! Waiting without a thread: an event loop is woken through its socket.
//!
//! Such a waiter is counted in at the primitive's event count like a sleeper, so that one look tells a notifier
//! whether anybody waits at all; and is written into the table of waiters, so that the notifier knows which socket to
//! write to. A wake-up only means "look again".

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manyhands_os::clock;

use super::heading::AT_WAKE_SOCKETS;
use super::waiters::Form;
use super::{Site, WaitKind};
use crate::EventCount;
use crate::event_count::Notified;

/// A waiter without a thread. In this order: enlist, look at the condition, wait for the socket to be readable, look,
/// and if there was nothing, [`rearm`](Self::rearm), look, and wait again; in the end [`leave`](Self::leave).
///
/// It never sleeps forever by mistake if the owner looks again every 200 ms, as threads do: a wake-up is lost when the
/// one who got it dies or stops.
///
/// A copy made by fork stands for nobody: whatever is done with it changes nothing for the parent.
#[derive(Debug)]
pub struct AsyncTicket {
    site: Arc<Site>,
    index: usize,
    ticket: u64,
    key: u64,
    round: u32,
}

impl Site {
    /// Has whoever [notifies](Self::notify) `events` and `key` wake this process through its wake socket `socket`.
    /// `None` when the table of waiters is full: look again from time to time then.
    #[must_use]
    pub fn enlist_async(
        self: &Arc<Self>,
        events: EventCount<'_>,
        kind: WaitKind,
        key: u64,
        socket: u32,
    ) -> Option<AsyncTicket> {
        let form =
            Form { kind, key, since: clock::now(), timed: true, steadfast: false, socket: Some(socket) };
        // In this order: a thread that sees that we are counted in sees the entry, too.
        let (index, ticket) = self.write_entry(form)?;
        let round = events.prepare().into_round();
        Some(AsyncTicket { site: Arc::clone(self), index, ticket, key, round })
    }

    /// Says that something has changed for those who wait at `events` for `key`: wakes `count` of those who sleep, and
    /// wakes `count` of those with wake sockets, the longest waiting first; or all, when there are no more than that.
    /// When nobody waits it costs a fence and a load. Returns whether there was anybody.
    pub fn notify(&self, events: EventCount<'_>, key: u64, count: u32) -> bool {
        let mut notified = events.notify_some(count);
        if notified == (Notified::Some { slept: false })
            && self.word(AT_WAKE_SOCKETS).load(Ordering::Relaxed) == 0
        {
            // The dead would stay counted in, and make every notification a system call: everybody is counted out once.
            // (Coroutines are counted in and never sleep, so where there are any this says nothing.)
            notified = events.notify_some(u32::MAX);
        }
        if notified != Notified::Nobody && self.word(AT_WAKE_SOCKETS).load(Ordering::Relaxed) != 0 {
            // Those who are not counted in any more have to hear of it.
            let count = if notified == Notified::All { usize::MAX } else { count as usize };
            self.wake(key, count);
        }
        notified != Notified::Nobody
    }

    #[cold]
    fn wake(&self, key: u64, count: usize) {
        let mut waiting: Vec<(u64, usize)> = self
            .waiters_of(key)
            .filter(|entry| entry.by_socket && !entry.called)
            .map(|entry| (entry.ticket, entry.index))
            .collect();
        waiting.sort_unstable();
        waiting.into_iter().filter(|(ticket, index)| self.call(*index, *ticket)).take(count).for_each(drop);
    }
}

impl AsyncTicket {
    /// Its place in the table of waiters.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// What tells it from others that had the same place.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Strikes those who wait for the same, have been called, and are dead: see [`Site::forget`].
    pub(crate) fn forget_dead_called(&self) {
        let called = self.site.waiters_of(self.key).filter(|entry| entry.called);
        called
            .filter(|entry| self.site.is_dead(entry.identity))
            .for_each(|entry| self.site.forget(entry.identity));
    }

    /// What a wake-up for it says; see [`WakeSocket::drain`](manyhands_os::socket::WakeSocket::drain).
    #[must_use]
    pub fn call_number(&self) -> u64 {
        self.site.call_number(self.ticket)
    }

    /// Whether it is this process's: a copy made by fork is not.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.site.is_own(self.index, self.ticket)
    }

    /// Whether it has been woken since it was enlisted or rearmed.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.is_own() && self.site.entry_call(self.index).is_called(self.ticket)
    }

    /// Gives up being called; returns false when it has been called already. Not called any more from then on.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        !self.is_own() || self.site.entry_call(self.index).withdraw(self.ticket)
    }

    /// Waits again after a wake-up. Look at the condition after this.
    pub fn rearm(&mut self, events: EventCount<'_>) {
        if !self.is_own() {
            return;
        }
        events.count_out(self.round);
        self.site.entry_call(self.index).rearm(self.ticket);
        self.round = events.prepare().into_round();
    }

    /// Waits no more. A waiter that leaves with nothing (`satisfied` is false) passes on a wake-up that it may have
    /// got in another's place.
    pub fn leave(self, events: EventCount<'_>, satisfied: bool) {
        if !self.is_own() {
            return;
        }
        events.count_out(self.round);
        // In one step: a caller from here on finds nobody, and calls another.
        let called = !self.withdraw();
        let (site, key) = (Arc::clone(&self.site), self.key);
        drop(self);
        if called && !satisfied {
            site.notify(events, key, 1);
        }
    }
}

impl Drop for AsyncTicket {
    /// Takes it off the list. Without [`leave`](Self::leave) it stays counted in, which costs notifiers a system call
    /// each until the next notification of all.
    fn drop(&mut self) {
        self.site.strike(self.index, self.ticket);
    }
}
