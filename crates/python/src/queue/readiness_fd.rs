//! A descriptor that is readable while an end of a pipe has something to receive, for those who wait by selectors.
//!
//! Nothing goes through it. It is an epoll set of a wake socket, to which senders send wake-ups, and of the process
//! that holds the other end, since one that is killed cannot send any.
//!
//! What does *not* work: when several processes hold the other end, the death of one of them says nothing, so none is
//! watched; the descriptor tells of the end only after another look at the connection.

use std::io::{self, ErrorKind::NotFound};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use manyhands_channel::pipe::{End, RecvError};
use manyhands_channel::queue::{GetError, Item};
use manyhands_os::poll::{Interest, Poller};
use manyhands_os::process::{Identity, Pidfd, identity};
use manyhands_os::socket::{self, WakeSocket};
use manyhands_sync::site::{AsyncTicket, WaitKind};

pub(super) struct ReadinessFd {
    poller: Poller,
    socket: WakeSocket,
    /// `None` where the table of waiters was full: then only what is there already is told.
    ticket: Option<AsyncTicket>,
    /// The process that holds the other end.
    watched: Option<(Identity, Pidfd)>,
    /// Whose it is: a forked child has only a copy.
    owner: Identity,
}

impl ReadinessFd {
    /// A readiness descriptor for `end`, which is one that receives; not yet [tuned](Self::tune).
    ///
    /// # Errors
    /// When descriptors run out.
    pub(super) fn open(end: &End) -> io::Result<Self> {
        let (poller, socket) = (Poller::new()?, WakeSocket::open()?);
        poller.add(&socket, 0, Interest::Readable)?;
        let ticket = end.items().and_then(|(events, key)| {
            end.site().enlist_async(events, WaitKind::Receive, key, socket.number())
        });
        Ok(Self { poller, socket, ticket, watched: None, owner: identity() })
    }

    /// Waits no more at `end`.
    pub(super) fn close(mut self, end: &End) {
        // A copy made by fork leaves what is the parent's alone.
        let ticket = self.ticket.take().filter(|_| self.is_own());
        if let (Some(ticket), Some((events, _))) = (ticket, end.items()) {
            ticket.leave(events, true);
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.poller.as_fd().as_raw_fd()
    }

    pub(super) fn is_own(&self) -> bool {
        self.owner == identity()
    }

    /// Makes the descriptor readable if, and only if, there is something to receive or the end. To be called after every
    /// look at what is there.
    pub(super) fn tune(&mut self, end: &End) {
        _ = self.socket.drain();
        // In this order: whoever sends, or dies, after the look is sure to be heard.
        if let Some(ticket) = &mut self.ticket
            && let Some((events, _)) = end.items()
        {
            ticket.rearm(events);
        }
        self.watch(match end.peers_alive()[..] {
            [peer] if peer != identity() => Some(peer),
            _ => None,
        });
        let there = end.try_recv(|_: Item<'_>| Err::<(), ()>(()));
        if !matches!(there, Err(RecvError::Get(GetError::Empty))) {
            socket::wake(identity(), self.socket.number(), 0);
        }
    }

    fn watch(&mut self, peer: Option<Identity>) {
        if self.watched.as_ref().map(|(watched, _)| *watched) == peer {
            return;
        }
        if let Some((_, process)) = self.watched.take() {
            // It is in the set; and if not, it need not be taken out.
            _ = self.poller.remove(process);
        }
        // Where processes cannot be watched, the end is seen at the next look.
        if let Some(peer) = peer
            && let Ok(process) = Pidfd::open(peer.pid())
            // It may have died before, and another may have its number by now: whoever looks next sees the end.
            && Identity::of(peer.pid()).map_or_else(|error| error.kind() != NotFound, |found| found == peer)
            && self.poller.add(&process, 1, Interest::Readable).is_ok()
        {
            self.watched = Some((peer, process));
        }
    }
}
