//! Messages through a pipe.

use manyhands_sync::Patience;
use manyhands_sync::site::WaitKind;
use manyhands_sync::waiting::{Owners, Waiting};

use super::End;
use super::error::{RecvError, SendError};
use crate::queue::blocking::{self, drive};
use crate::queue::latch::Attempt;
use crate::queue::{Corrupt, GetError, Item, Message, PutError};

impl End {
    /// Sends a message, if there is room.
    ///
    /// # Errors
    /// `Broken`, `WrongWay`, `Put(Full)`, `Put(Busy)` or when it cannot be sent at all.
    pub fn try_send(&self, tag: u16, parts: &[&[u8]]) -> Result<(), SendError> {
        self.send_once(&Message::new(tag, parts), Attempt::Only)
    }

    fn send_once(&self, message: &Message<'_>, attempt: Attempt) -> Result<(), SendError> {
        let stream = self.outgoing().ok_or(SendError::WrongWay)?;
        if !self.peers().were_alive(&self.site) {
            return Err(SendError::Broken);
        }
        let sent = stream.put_latch().enter(attempt).map_err(PutError::Busy).and_then(|guard| {
            if guard.inherited() {
                stream.recover_put()?;
            }
            stream.put(&guard, message, 0)
        });
        match sent {
            Ok(()) => {
                self.site.notify(stream.items(), self.key(self.side.other() as usize, 1), 1);
                Ok(())
            }
            Err(PutError::Full) if attempt.may_ask() && !self.peers().are_alive(&self.site) => {
                Err(SendError::Broken)
            }
            Err(error) => Err(SendError::Put(error)),
        }
    }

    /// Sends a message, and waits for room.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), and `Put(Interrupted)`.
    pub fn send(
        &self,
        tag: u16,
        parts: &[&[u8]],
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), SendError> {
        let stream = self.outgoing().ok_or(SendError::WrongWay)?;
        let message = Message::new(tag, parts);
        let (index, latch) = (self.side.other() as usize, stream.put_latch());
        let wait_point = blocking::WaitPoint {
            site: &self.site,
            events: stream.space(),
            key: self.key(index, 2),
            kind: WaitKind::Send,
            spin: &self.spin,
            turn: latch.events(),
            turn_key: self.key(index, 4),
        };
        drive(
            wait_point,
            patience,
            waiting,
            || latch.holder(),
            self.watching(),
            |attempt| self.send_once(&message, attempt),
        )
    }

    /// Those whose death may end a wait.
    fn watching(&self) -> impl Fn(&mut Owners) + '_ {
        |owners| self.peers().name(owners)
    }

    /// Receives a message, if one is there. It is received when `take` has returned `Ok`; otherwise it stays.
    ///
    /// # Errors
    /// `EndOfFile`, `WrongWay`, or `Get` with `Empty`, `Busy` or `Corrupt`; the inner error is what `take` returned.
    pub fn try_recv<T, E>(
        &self,
        take: impl FnOnce(Item<'_>) -> Result<T, E>,
    ) -> Result<Result<T, E>, RecvError> {
        self.recv_once(&mut Some(take), Attempt::Only)
    }

    fn recv_once<T, E>(
        &self,
        take: &mut Option<impl FnOnce(Item<'_>) -> Result<T, E>>,
        attempt: Attempt,
    ) -> Result<Result<T, E>, RecvError> {
        let stream = self.incoming().ok_or(RecvError::WrongWay)?;
        // Asked first: what was sent before the last holder let go, or died, is found afterwards.
        let open = stream.len() > 0
            || if attempt.may_ask() { self.peers().are_alive(&self.site) } else { self.peers().seem_alive() };
        if open && attempt == Attempt::Look && stream.len() == 0 {
            return Err(GetError::Empty.into());
        }
        let guard = stream.get_latch().enter(attempt).map_err(GetError::Busy)?;
        if guard.inherited() {
            stream.recover_get();
        }
        let mut value = None;
        let show = |item: Item<'_>| {
            let Some(take) = take.take() else { return Ok(()) };
            value = Some(take(item)?);
            Ok(())
        };
        let taken = match stream.get(&guard, 1, show, |_, _| Ok(())) {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(GetError::Empty) if !open => return Err(RecvError::EndOfFile),
            Err(GetError::Empty) => {
                drop(guard);
                stream.trim()?;
                return Err(GetError::Empty.into());
            }
            Err(error) => return Err(error.into()),
        };
        drop(guard);
        // Also when it is empty now: a message that is too long to come after others can come.
        if taken.freed || stream.len() == 0 {
            self.site.notify(stream.space(), self.key(self.side as usize, 2), 1);
        }
        value.map(Ok).ok_or_else(|| Corrupt { what: "a message that nobody has seen" }.into())
    }

    /// Receives a message, and waits for one. See [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), and `Get(Interrupted)`.
    pub fn recv<T, E>(
        &self,
        patience: Patience,
        waiting: &mut dyn Waiting,
        take: impl FnOnce(Item<'_>) -> Result<T, E>,
    ) -> Result<Result<T, E>, RecvError> {
        let mut take = Some(take);
        self.wait_here(patience, waiting, |attempt| self.recv_once(&mut take, attempt))
    }

    /// Waits until a message is there or none will come any more: then receiving does not wait. False when the deadline
    /// has passed before.
    ///
    /// # Errors
    /// `WrongWay`, or `Get` with `Interrupted` or `Corrupt`.
    pub fn poll(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<bool, RecvError> {
        let looked = self.wait_here(patience, waiting, |attempt| {
            // An error leaves the message where it is.
            match self.recv_once(&mut Some(|_: Item<'_>| Err::<(), ()>(())), attempt) {
                Ok(_) | Err(RecvError::EndOfFile) => Ok(()),
                Err(error) => Err(error),
            }
        });
        match looked {
            Ok(()) => Ok(true),
            Err(RecvError::Get(GetError::Empty)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wait_here<T>(
        &self,
        patience: Patience,
        waiting: &mut dyn Waiting,
        mut once: impl FnMut(Attempt) -> Result<T, RecvError>,
    ) -> Result<T, RecvError> {
        let stream = self.incoming().ok_or(RecvError::WrongWay)?;
        let (index, latch) = (self.side as usize, stream.get_latch());
        let wait_point = blocking::WaitPoint {
            site: &self.site,
            events: stream.items(),
            key: self.key(index, 1),
            kind: WaitKind::Receive,
            spin: &self.spin,
            turn: latch.events(),
            turn_key: self.key(index, 5),
        };
        // Whoever will wait need not ask at once who is dead: before it sleeps it does.
        let waits = !patience.is_over();
        drive(
            wait_point,
            patience,
            waiting,
            || latch.holder(),
            self.watching(),
            |attempt| once(if waits && attempt == Attempt::Only { Attempt::Look } else { attempt }),
        )
    }
}
