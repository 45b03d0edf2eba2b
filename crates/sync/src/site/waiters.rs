//! The table of waiters: what each waits for, and since when.
//!
//! Waiting does not depend on it. It is there to be read: by a search for deadlocks, by `manyhands top`, and by those
//! who wake a certain waiter rather than any (conditions, event loops).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_os::clock;
use manyhands_os::process::{Identity, identity, thread_id};

use super::Site;
use super::heading::{self, AT_WAITERS, MOST_WAITERS, STACK_BYTES};
use super::wait_kind::WaitKind;
use crate::EventCount;
use crate::call::{CALLED, Call, TICKET, WAITING};

/// Byte offsets in an entry.
///
/// | word | bits | meaning | who changes it |
/// |---|---|---|---|
/// | holder | 0-53 | identity; 0: free | whoever enlists: 0→own; whoever finds it dead: →own, then 0; its holder: →0 |
/// | state | | ticket and phase, see [`Call`] | the holder; a caller |
/// | key | | what it waits for | the holder, while filling |
/// | since | | since when, nanoseconds of the clock | the holder, while filling |
/// | who | 0-31 | kernel's number of the thread, or number of the wake socket | the holder, while filling |
/// | who | 32-39 | [`WaitKind`] | the holder, while filling |
/// | who | 40 | [`TIMED`]: it has a deadline | the holder, while filling |
/// | who | 41 | [`BY_SOCKET`]: it is woken through its wake socket | the holder, while filling |
/// | who | 42 | [`STEADFAST`]: it does not end without what it waits for | the holder, while filling |
/// | sequence, sleepers | | an event count of its own | as there |
/// | stack | 0-15 | bytes of text in the table of stacks | the holder |
/// | stack | 16 | [`PUBLISHED`]: there will be no other text | the holder |
const HOLDER: usize = 0;
const STATE: usize = 8;
const KEY: usize = 16;
const SINCE: usize = 24;
const WHO: usize = 32;
const SEQUENCE: usize = 40;
const SLEEPERS: usize = 44;
const STACK: usize = 48;

const KIND_SHIFT: u32 = 32;
const TIMED: u64 = 1 << 40;
const BY_SOCKET: u64 = 1 << 41;
const STEADFAST: u64 = 1 << 42;

const PUBLISHED: u64 = 1 << 16;

const _: () = assert!((STACK_BYTES as u64) < PUBLISHED);

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the table.
    pub index: usize,
    /// No other entry of the site ever had it; one that came later has a higher one.
    pub ticket: u64,
    /// The process that waits.
    pub identity: Identity,
    /// The kernel's number of the thread that waits, or for an event loop the number of its wake socket.
    pub thread: u32,
    /// Whether `thread` is the number of a wake socket.
    pub by_socket: bool,
    /// What is waited for.
    pub kind: WaitKind,
    /// Which one: byte offset of its record in the segment, plus a small number for the condition within it.
    pub key: u64,
    /// Whether it gives up at some time.
    pub timed: bool,
    /// Whether it does not end without what is waited for: see
    /// [`Waiting::is_steadfast`](crate::waiting::Waiting::is_steadfast).
    pub steadfast: bool,
    /// Since when, in nanoseconds of the clock.
    pub since: u64,
    /// Whether it has been called ([`Site::call`]).
    pub called: bool,
}

/// What to write into an entry.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) kind: WaitKind,
    pub(super) key: u64,
    pub(super) since: u64,
    pub(super) timed: bool,
    pub(super) steadfast: bool,
    /// The number of the wake socket to wake it by, instead of the calling thread.
    pub(super) socket: Option<u32>,
}

/// The calling thread's entry in the table of waiters; dropping it takes it off. A copy made by fork is nobody's entry.
#[derive(Debug)]
pub struct Listed {
    site: Arc<Site>,
    index: usize,
    ticket: u64,
}

impl Listed {
    /// Its place in the table.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its ticket.
    #[must_use]
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Its own event count: who [calls](Site::call) it notifies there.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        self.site.entry_events(self.index)
    }

    /// Whether it has been called.
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.site.entry_call(self.index).is_called(self.ticket)
    }

    /// Whether it is this process's: a copy made by fork is not.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.site.is_own(self.index, self.ticket)
    }

    /// Gives up being called; returns false when it has been called already. Not called any more from then on.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        !self.is_own() || self.site.entry_call(self.index).withdraw(self.ticket)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.site.strike(self.index, self.ticket);
    }
}

impl Site {
    /// Writes the calling thread into the table of waiters, as waiting for `key`. `None` when the table is full.
    #[must_use]
    pub fn enlist(self: &Arc<Self>, kind: WaitKind, key: u64, timed: bool) -> Option<Listed> {
        let form = Form { kind, key, since: clock::now(), timed, steadfast: false, socket: None };
        let (index, ticket) = self.write_entry(form)?;
        Some(Listed { site: Arc::clone(self), index, ticket })
    }

    /// Those who wait for `key`, in no particular order.
    pub fn waiters_of(&self, key: u64) -> impl Iterator<Item = Entry> + '_ {
        // The key alone first: most entries are somebody else's.
        let is_for_key = move |index: &usize| self.entry_word(*index, KEY).load(Ordering::Relaxed) == key;
        (0..self.waiter_count())
            .filter(is_for_key)
            .filter_map(|index| self.entry(index))
            .filter(move |entry| entry.key == key)
    }

    /// All who wait, in no particular order.
    pub fn waiters(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.waiter_count()).filter_map(|index| self.entry(index))
    }

    /// The entry at `index`; `None` when nobody waits there.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<Entry> {
        if index >= self.waiter_count() {
            return None;
        }
        let call = self.entry_call(index);
        let state = call.state();
        let get = |at| self.entry_word(index, at).load(Ordering::Relaxed);
        let who = get(WHO);
        let entry = Entry {
            index,
            ticket: state & TICKET,
            identity: Identity::from_bits(get(HOLDER))?,
            thread: who as u32,
            by_socket: who & BY_SOCKET != 0,
            kind: WaitKind::from_bits(who >> KIND_SHIFT & 0xff)?,
            key: get(KEY),
            timed: who & TIMED != 0,
            steadfast: who & STEADFAST != 0,
            since: get(SINCE),
            called: state & !TICKET == CALLED,
        };
        // Acquire keeps the reads before this one. Filled again in between: not one entry but a mixture of two.
        std::sync::atomic::fence(Ordering::Acquire);
        let unchanged = call.is_of(entry.ticket);
        (matches!(state & !TICKET, WAITING | CALLED) && unchanged).then_some(entry)
    }

    /// Calls the waiter at `index`, if it still is the one with `ticket` and has not been called: wakes it, or sends a
    /// wake-up to its wake socket. Returns whether it was called by this.
    #[must_use]
    pub fn call(&self, index: usize, ticket: u64) -> bool {
        let Some(entry) = self.entry(index).filter(|entry| entry.ticket == ticket) else { return false };
        let called = self.entry_call(index).call(ticket);
        if called && entry.by_socket {
            manyhands_os::socket::wake(entry.identity, entry.thread, self.call_number(ticket));
        } else if called {
            self.entry_call(index).wake();
        }
        called
    }

    /// What a wake-up for the waiter with `ticket` says: a number that no other waiter at the wake socket has,
    /// whatever site it waits in.
    pub(super) fn call_number(&self, ticket: u64) -> u64 {
        self.segment().number().rotate_left(40) ^ ticket
    }

    /// Strikes the entries of a process that has died. A notification of a condition that it can have made no use of goes
    /// to the next.
    pub fn forget(&self, dead: Identity) {
        let (me, dead) = (identity().to_bits(), dead.to_bits());
        for index in 0..self.waiter_count() {
            let holder = self.entry_word(index, HOLDER);
            // Acquire and Release: as if we had filled it. pairs with: write_entry, free_entry
            if holder.load(Ordering::Relaxed) == dead
                && holder.compare_exchange(dead, me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                let called = |entry: &Entry| entry.called && entry.kind == WaitKind::Condition;
                if let Some(entry) = self.entry(index).filter(called) {
                    // Before the entry goes: should we die between the two, somebody calls one more, none fewer.
                    self.call_next(entry.key);
                }
                self.free_entry(index);
            }
        }
    }

    /// Calls the one that has waited longest for the condition `key`. If that has died, too, it will be found as one that
    /// has been called.
    fn call_next(&self, key: u64) {
        let waits = |entry: &Entry| !entry.called && entry.kind == WaitKind::Condition;
        while let Some(oldest) = self.waiters_of(key).filter(waits).min_by_key(|entry| entry.ticket) {
            if self.call(oldest.index, oldest.ticket) {
                return;
            }
        }
    }

    /// The stack that the waiter at `index` has published; empty when it has published none.
    #[must_use]
    pub fn stack_of(&self, index: usize) -> String {
        if index >= self.waiter_count() {
            return String::new();
        }
        // pairs with: publish_stack (Release)
        let len = self.entry_word(index, STACK).load(Ordering::Acquire) & (PUBLISHED - 1);
        let mut text = vec![0; (len as usize).min(STACK_BYTES)];
        let Some(place) = heading::stack(index) else { return String::new() };
        self.segment.copy_out(place, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Whether the waiter at `index` has published its stack, or will never do so.
    pub(crate) fn has_published_stack(&self, index: usize) -> bool {
        let is_there = index < self.waiter_count();
        is_there && self.entry_word(index, STACK).load(Ordering::Relaxed) & PUBLISHED != 0
    }

    /// Publishes the text of the stack of the waiter at `index`: as many of its last lines, which say where the waiter is,
    /// as there is room for.
    pub(crate) fn publish_stack(&self, index: usize, text: &str) {
        let mut start = text.len().saturating_sub(STACK_BYTES);
        if start > 0 {
            start = text.as_bytes()[start..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(start, |end| start + end + 1);
        }
        let text = &text.as_bytes()[start..];
        let has_room = |place: &usize| self.segment.commit(*place..place + STACK_BYTES).is_ok();
        let place = heading::stack(index).filter(|place| !text.is_empty() && has_room(place));
        if let Some(place) = place {
            self.segment.copy_in(place, text);
        }
        let len = place.map_or(0, |_| text.len() as u64);
        // Release: the text is written. pairs with: stack_of (Acquire)
        self.entry_word(index, STACK).store(len | PUBLISHED, Ordering::Release);
    }

    /// Fills a free entry: its index and ticket.
    pub(super) fn write_entry(&self, form: Form) -> Option<(usize, u64)> {
        let index = self.claim_entry()?;
        let ticket = self.next_ticket() & TICKET;
        let set = |at, value| self.entry_word(index, at).store(value, Ordering::Relaxed);
        let call = self.entry_call(index);
        call.fill(ticket);
        // A reader of a mixture sees that the ticket has changed. pairs with: the fence in entry (Acquire)
        std::sync::atomic::fence(Ordering::Release);
        set(KEY, form.key);
        set(SINCE, form.since);
        set(STACK, 0);
        let thread = u64::from(form.socket.unwrap_or_else(thread_id));
        let timed = if form.timed { TIMED } else { 0 };
        let by_socket = if form.socket.is_some() { BY_SOCKET } else { 0 };
        let steadfast = if form.steadfast { STEADFAST } else { 0 };
        if form.socket.is_some() {
            // Before the entry says so: the count may be too high after a death, never too low.
            self.word(heading::AT_WAKE_SOCKETS).fetch_add(1, Ordering::Relaxed);
        }
        set(WHO, thread | (form.kind as u64) << KIND_SHIFT | timed | by_socket | steadfast);
        call.begin(ticket);
        Some((index, ticket))
    }

    /// Writes the calling thread into the table: index and ticket, for [`strike`](Self::strike).
    pub(crate) fn enlist_at(
        &self,
        kind: WaitKind,
        key: u64,
        since: u64,
        timed: bool,
        steadfast: bool,
    ) -> Option<(usize, u64)> {
        self.write_entry(Form { kind, key, since, timed, steadfast, socket: None })
    }

    /// Whether the entry is this process's and the one with `ticket`. Those of a forked child's copies are its parent's.
    pub(crate) fn is_own(&self, index: usize, ticket: u64) -> bool {
        let mine = self.entry_word(index, HOLDER).load(Ordering::Relaxed) == identity().to_bits();
        mine && self.entry_call(index).is_of(ticket)
    }

    /// Takes the entry off the list, if it still is this process's and the one with `ticket`.
    pub(crate) fn strike(&self, index: usize, ticket: u64) {
        if self.is_own(index, ticket) {
            self.free_entry(index);
        }
    }

    fn free_entry(&self, index: usize) {
        let who = self.entry_word(index, WHO).swap(0, Ordering::Relaxed);
        if who & BY_SOCKET != 0 {
            // Only of those that were counted, so that it is never too low.
            let counted = |count: u64| count.checked_sub(1);
            let _ = self.word(heading::AT_WAKE_SOCKETS).fetch_update(
                Ordering::Relaxed,
                Ordering::Relaxed,
                counted,
            );
        }
        self.entry_word(index, KEY).store(0, Ordering::Relaxed);
        self.entry_call(index).silence();
        // Release: it is empty. pairs with: claim_entry (Acquire)
        self.entry_word(index, HOLDER).store(0, Ordering::Release);
    }

    fn claim_entry(&self) -> Option<usize> {
        let me = identity().to_bits();
        let free = |index: &usize| {
            let holder = self.entry_word(*index, HOLDER);
            // Acquire: it is empty. pairs with: free_entry (Release)
            holder.load(Ordering::Relaxed) == 0
                && holder.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        loop {
            let count = self.waiter_count();
            if let Some(index) = (0..count).find(free) {
                return Some(index);
            }
            if count == MOST_WAITERS {
                self.forget_all_dead();
                return (0..count).find(free);
            }
            heading::grow(&self.segment, AT_WAITERS, count, heading::waiter).ok()?;
        }
    }

    /// Strikes the entries of all processes that have died.
    pub fn forget_all_dead(&self) {
        let holders = (0..self.waiter_count()).map(|index| self.entry_word(index, HOLDER));
        let mut all: Vec<u64> = holders.map(|holder| holder.load(Ordering::Relaxed)).collect();
        all.sort_unstable();
        all.dedup();
        for who in all.into_iter().filter_map(Identity::from_bits) {
            if self.is_dead(who) {
                self.forget(who);
            }
        }
    }

    fn waiter_count(&self) -> usize {
        heading::high_water(&self.segment, AT_WAITERS, MOST_WAITERS)
    }

    fn entry_word(&self, index: usize, at: usize) -> &AtomicU64 {
        self.segment.word64(heading::waiter(index) + at)
    }

    pub(super) fn entry_call(&self, index: usize) -> Call<'_> {
        Call::new(self.entry_word(index, STATE), self.entry_events(index))
    }

    fn entry_events(&self, index: usize) -> EventCount<'_> {
        let futex = |at: usize| -> &AtomicU32 { self.segment.word32(heading::waiter(index) + at) };
        EventCount::new(futex(SEQUENCE), futex(SLEEPERS))
    }
}
