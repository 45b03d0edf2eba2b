//! Waiting for an item, for room, for the end of all tasks, and for a latch.
//!
//! An operation is tried; when there is nothing to take, or no room, its thread sleeps at the event count for that.
//! When a latch is taken, it sleeps at the latch's own, and there the holder's death ends the sleep.

use manyhands_os::clock::{self, MILLISECOND, SECOND};
use manyhands_os::process::Identity;
use manyhands_sync::site::{Site, WaitKind};
use manyhands_sync::waiting::{Look, Owners, Stopped, Wait, Waiting};
use manyhands_sync::{EventCount, Patience, SpinPolicy};

use super::error::{GetError, PutError, TaskError};
use super::item::{Item, Message};
use super::latch::Attempt;
use super::{Batch, Queue};

/// How long an operation that must not wait for an item, or for room, waits for a latch all the same: whoever has it is
/// done in much less time, unless it is stopped.
const TURN: u64 = SECOND;

/// How long a [glance](Patience::Glance) waits for a latch.
const GLIMPSE: u64 = MILLISECOND;

/// The most pauses between two looks: a consumer that looks all the time takes the commit away from its producer, once
/// for each item, when they could come in groups.
const WIDEST: u32 = 16;

/// How long to look before sleeping.
pub(crate) fn spin_policy() -> SpinPolicy {
    SpinPolicy::new().with_pauses(WIDEST)
}

impl Attempt {
    /// As an attempt in a wait.
    pub(crate) fn of(look: Look) -> Self {
        match look {
            Look { slept: true, .. } | Look { dead: Some(_), .. } => Self::Woken,
            Look { sleeping: true, .. } => Self::First,
            _ => Self::Look,
        }
    }
}

/// What stands in the way of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Nothing is there, or no room is.
    Nothing,
    /// The latch is taken.
    Taken,
}

/// An error that may mean that waiting would help.
pub(crate) trait Refusal: Sized {
    fn obstacle(&self) -> Option<Obstacle>;
    fn timed_out() -> Self;
    fn interrupted() -> Self;
}

impl Refusal for PutError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Full => Some(Obstacle::Nothing),
            Self::Busy(_) => Some(Obstacle::Taken),
            _ => None,
        }
    }

    fn timed_out() -> Self {
        Self::Full
    }

    fn interrupted() -> Self {
        Self::Interrupted
    }
}

impl Refusal for GetError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Empty => Some(Obstacle::Nothing),
            Self::Busy(_) => Some(Obstacle::Taken),
            _ => None,
        }
    }

    fn timed_out() -> Self {
        Self::Empty
    }

    fn interrupted() -> Self {
        Self::Interrupted
    }
}

impl Refusal for TaskError {
    fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::TimedOut => Some(Obstacle::Nothing),
            Self::Busy(_) => Some(Obstacle::Taken),
            _ => None,
        }
    }

    fn timed_out() -> Self {
        Self::TimedOut
    }

    fn interrupted() -> Self {
        Self::Interrupted
    }
}

/// Where an operation waits.
#[derive(Clone, Copy)]
pub(crate) struct WaitPoint<'q> {
    pub(crate) site: &'q Site,
    /// For something to be there.
    pub(crate) events: EventCount<'q>,
    pub(crate) key: u64,
    pub(crate) kind: WaitKind,
    pub(crate) spin: &'q SpinPolicy,
    /// For its latch.
    pub(crate) turn: EventCount<'q>,
    pub(crate) turn_key: u64,
}

/// Calls `once` until nothing stands in its way, and sleeps in between. `holder` is who has the latch, `others` names
/// those whose death may change what `once` finds.
pub(crate) fn drive<T, E: Refusal>(
    wait_point: WaitPoint<'_>,
    patience: Patience,
    waiting: &mut dyn Waiting,
    holder: impl Fn() -> Option<Identity>,
    others: impl Fn(&mut Owners),
    mut once: impl FnMut(Attempt) -> Result<T, E>,
) -> Result<T, E> {
    let WaitPoint { site, events, key, kind, spin, turn, turn_key } = wait_point;
    // Taken out of the loop, so that an operation that must not wait does not even spin.
    let mut outcome = once(Attempt::Only);
    loop {
        match outcome.as_ref().err().and_then(Refusal::obstacle) {
            None => return outcome,
            Some(Obstacle::Nothing) => {
                if patience.is_over() {
                    return outcome;
                }
                let wait = Wait { events, key, kind, patience, spin, listed: None };
                let waited = site.block(wait, waiting, &others, |look| {
                    let outcome = once(Attempt::of(look));
                    let nothing =
                        outcome.as_ref().err().and_then(Refusal::obstacle) == Some(Obstacle::Nothing);
                    (!nothing).then_some(outcome)
                });
                outcome = waited.unwrap_or_else(|stopped| Err(refusal(&stopped)));
                if matches!(&outcome, Err(error) if error.obstacle() == Some(Obstacle::Nothing)) {
                    return outcome;
                }
            }
            Some(Obstacle::Taken) => {
                let patience = until_turn(patience);
                let spin = &SpinPolicy::none();
                let wait = Wait { events: turn, key: turn_key, kind, patience, spin, listed: None };
                let owner = |owners: &mut Owners| {
                    holder().inspect(|holder| {
                        owners.push(*holder);
                    });
                };
                let waited = site.block(wait, waiting, owner, |look| {
                    let outcome = once(Attempt::of(look));
                    let taken = outcome.as_ref().err().and_then(Refusal::obstacle) == Some(Obstacle::Taken);
                    (!taken).then_some(outcome)
                });
                match waited {
                    Ok(next) => outcome = next,
                    Err(stopped) => return Err(refusal(&stopped)),
                }
            }
        }
    }
}

/// How long an operation waits for a latch.
fn until_turn(patience: Patience) -> Patience {
    let turn = |length| clock::now() + length;
    match patience {
        Patience::Now => Patience::Until(turn(TURN)),
        Patience::Glance => Patience::Until(turn(GLIMPSE)),
        Patience::Until(deadline) => Patience::Until(deadline.max(turn(TURN))),
        Patience::Forever => Patience::Forever,
    }
}

fn refusal<E: Refusal>(stopped: &Stopped) -> E {
    match stopped {
        Stopped::TimedOut => E::timed_out(),
        // Nobody owns what is waited for here, so there are no cycles.
        Stopped::Broken | Stopped::Deadlock(_) => E::interrupted(),
    }
}

/// Which side of a queue an operation is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Put,
    Get,
    Join,
}

impl Queue {
    fn wait_point(&self, side: Side) -> WaitPoint<'_> {
        let (events, key, kind) = match side {
            Side::Put => (self.space(), self.space_key(), WaitKind::Put),
            Side::Get => (self.items(), self.items_key(), WaitKind::Get),
            Side::Join => (self.joined(), self.joined_key(), WaitKind::Join),
        };
        let of_consumers = side != Side::Put;
        let turn_key = self.base as u64 + if of_consumers { 5 } else { 4 };
        let turn = self.turn(of_consumers);
        WaitPoint { site: &self.site, events, key, kind, spin: &self.spin, turn, turn_key }
    }

    fn drive<T, E: Refusal>(
        &self,
        side: Side,
        patience: Patience,
        waiting: &mut dyn Waiting,
        once: impl FnMut(Attempt) -> Result<T, E>,
    ) -> Result<T, E> {
        let holder = || self.holder(side != Side::Put);
        drive(self.wait_point(side), patience, waiting, holder, |_| {}, once)
    }

    /// Puts an item in, and waits until that is possible.
    ///
    /// # Errors
    /// `Full` when the deadline has passed, `Interrupted`, `Closed`, or when it cannot be put in at all.
    pub fn put(
        &self,
        message: &Message<'_>,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), PutError> {
        self.drive(Side::Put, patience, waiting, |attempt| {
            self.glance_put(attempt)?;
            self.put_once(message, attempt)
        })
    }

    /// Puts all items of `batch` in and takes them out of it. What is left in it when this fails has not gone in.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_batch(
        &self,
        batch: &mut Batch,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), PutError> {
        while !batch.is_empty() {
            self.drive(Side::Put, patience, waiting, |attempt| {
                self.glance_put(attempt)?;
                self.put_batch_once(batch, attempt)
            })?;
        }
        Ok(())
    }

    /// Puts all of `messages` in, in their order; the error comes with how many had gone in before.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_many(
        &self,
        messages: &[Message<'_>],
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<(), (usize, PutError)> {
        let mut done = 0;
        if self.options.kind == super::Kind::Fifo {
            let mut batch = Batch::default();
            messages.iter().for_each(|message| batch.push(message.tag, message.parts));
            let put = self.put_batch(&mut batch, patience, waiting);
            return put.map_err(|error| (messages.len() - batch.len(), error));
        }
        while done < messages.len() {
            let put = |attempt| {
                self.glance_put(attempt)?;
                self.put_some(&messages[done..], attempt)
            };
            done += self.drive(Side::Put, patience, waiting, put).map_err(|error| (done, error))?;
        }
        Ok(())
    }

    /// Takes an item out, and waits for one. See [`try_get`](Self::try_get).
    ///
    /// # Errors
    /// `Empty` when the deadline has passed, `Interrupted`, `Closed` or `Corrupt`; the inner error is what `take`
    /// returned.
    pub fn get<T, E>(
        &self,
        patience: Patience,
        waiting: &mut dyn Waiting,
        take: impl FnOnce(Item<'_>) -> Result<T, E>,
    ) -> Result<Result<T, E>, GetError> {
        let mut take = Some(take);
        self.drive(Side::Get, patience, waiting, |attempt| {
            self.glance_get(attempt)?;
            self.slim(self.get_once(&mut take, attempt))
        })
    }

    /// Waits for an item and takes up to `most` out that are there. See [`try_get_many`](Self::try_get_many).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_many<E>(
        &self,
        most: usize,
        patience: Patience,
        waiting: &mut dyn Waiting,
        mut take: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Result<usize, E>, GetError> {
        self.drive(Side::Get, patience, waiting, |attempt| {
            self.glance_get(attempt)?;
            self.slim(self.get_some(most, &mut take, attempt))
        })
    }

    /// Waits for an item and takes up to `most`, or about `bytes` bytes of them, out that are there.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_batch(
        &self,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
        patience: Patience,
        waiting: &mut dyn Waiting,
    ) -> Result<usize, GetError> {
        self.drive(Side::Get, patience, waiting, |attempt| {
            self.glance_get(attempt)?;
            self.slim(self.get_batch_once(most, bytes, batch, attempt))
        })
    }

    /// Many looks in a row leave the latch alone while there is nothing to take.
    #[inline]
    fn glance_get(&self, attempt: Attempt) -> Result<(), GetError> {
        let nothing = attempt == Attempt::Look && self.is_empty() && !self.is_closed();
        if nothing { Err(GetError::Empty) } else { Ok(()) }
    }

    /// Many looks in a row leave the latch alone while there is no room.
    #[inline]
    fn glance_put(&self, attempt: Attempt) -> Result<(), PutError> {
        let nothing = attempt == Attempt::Look && self.is_full() && !self.is_closed();
        if nothing { Err(PutError::Full) } else { Ok(()) }
    }

    /// A queue that is found empty need not keep the memory for many items.
    fn slim<T>(&self, outcome: Result<T, GetError>) -> Result<T, GetError> {
        if matches!(outcome, Err(GetError::Empty)) {
            self.give_back();
        }
        outcome
    }

    /// Waits until there is something to take out, and takes nothing.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn wait_items(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), GetError> {
        self.drive(Side::Get, patience, waiting, |attempt| {
            if self.is_empty() {
                // Only with the latch is it certain that nothing was left behind by a dead process.
                drop(self.enter_get(attempt)?);
            }
            match (self.is_empty(), self.is_closed()) {
                (false, _) => Ok(()),
                (true, true) => Err(GetError::Closed),
                (true, false) => self.slim(Err(GetError::Empty)),
            }
        })
    }

    /// Waits until there is room for another item, and puts nothing in.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn wait_space(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), PutError> {
        self.drive(Side::Put, patience, waiting, |attempt| {
            drop(self.enter_put(attempt)?);
            if self.is_full() { Err(PutError::Full) } else { Ok(()) }
        })
    }

    /// Closes it. See [`try_close`](Self::try_close).
    ///
    /// # Errors
    /// `Interrupted` or `Corrupt`.
    pub fn close(&self, immediate: bool, waiting: &mut dyn Waiting) -> Result<(), PutError> {
        // Either latch may be the one that is taken; this sleeps at one and looks from time to time.
        self.drive(Side::Put, Patience::Forever, waiting, |attempt| self.close_once(immediate, attempt))
    }

    /// Says that `count` of the items that were taken out are done.
    ///
    /// # Errors
    /// `TooOften` when so many are not left, `NotJoinable`, `Interrupted` or `Corrupt`.
    pub fn task_done(&self, count: u32, waiting: &mut dyn Waiting) -> Result<(), TaskError> {
        self.drive(Side::Join, Patience::Forever, waiting, |attempt| self.task_done_once(count, attempt))
    }

    /// Counts the items that dead processes had taken as done; returns how many.
    ///
    /// # Errors
    /// `NotJoinable`, `Interrupted` or `Corrupt`.
    pub fn write_off(&self, waiting: &mut dyn Waiting) -> Result<u64, TaskError> {
        self.drive(Side::Join, Patience::Forever, waiting, |attempt| self.write_off_once(attempt))
    }

    /// Waits until all items that were put in are done.
    ///
    /// # Errors
    /// `Lost` when that will never be, as processes died that had taken some; `TimedOut`, `NotJoinable`, `Interrupted`
    /// or `Corrupt`.
    pub fn join(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), TaskError> {
        self.drive(Side::Join, patience, waiting, |attempt| {
            let left = self.unfinished_once(attempt)?;
            match left.count {
                0 => Ok(()),
                _ if left.lost.is_empty() => Err(TaskError::TimedOut),
                _ => Err(TaskError::Lost(left.lost)),
            }
        })
    }
}
