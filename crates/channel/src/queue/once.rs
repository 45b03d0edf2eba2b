//! Each operation as one try: enters a latch, does it, leaves, tells those who wait.

use std::sync::atomic::AtomicU64;

use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::Words;

use super::batch::Batch;
use super::consumers;
use super::error::{Corrupt, GetError, PutError};
use super::heap::{Heap, item_number};
use super::item::{Item, Message};
use super::latch::{Attempt, Busy, Guard};
use super::layout::{head, root};
use super::stream::{Stream, Taken};
use super::{Body, CLOSED, IMMEDIATE, Kind, Queue};

impl Queue {
    /// The latch under which items are put in, with everything as it should be.
    #[inline]
    pub(super) fn enter_put(&self, attempt: Attempt) -> Result<Guard<'_>, PutError> {
        let guard = self.enter_put_closed(attempt)?;
        // Not Acquire: it was set under this latch.
        if self.root.word(root::STATE).load(Ordering::Relaxed) & CLOSED != 0 {
            return Err(PutError::Closed);
        }
        Ok(guard)
    }

    /// The same, also of a queue that is closed.
    #[inline]
    pub(super) fn enter_put_closed(&self, attempt: Attempt) -> Result<Guard<'_>, PutError> {
        match &self.body {
            Body::Stream(stream) => {
                let guard = stream.put_latch().enter(attempt)?;
                if guard.inherited() {
                    stream.recover_put()?;
                }
                Ok(guard)
            }
            Body::Heap(heap) => self.enter_heap(heap, attempt),
        }
    }

    /// The latch under which items are taken out, with everything as it should be.
    #[inline]
    pub(super) fn enter_get(&self, attempt: Attempt) -> Result<Guard<'_>, GetError> {
        match &self.body {
            Body::Stream(stream) => {
                let guard = stream.get_latch().enter(attempt)?;
                if guard.inherited() {
                    self.recover_get(stream);
                }
                Ok(guard)
            }
            Body::Heap(heap) => self.enter_heap(heap, attempt),
        }
    }

    #[cold]
    fn recover_get(&self, stream: &Stream) {
        stream.recover_get();
        let got = stream.got();
        let there = stream.put_count().wrapping_sub(got);
        self.consumers.undo(|last| {
            let ahead = last.wrapping_sub(got);
            (last != consumers::NO_NUMBER && ahead > 0 && ahead <= there).then_some((ahead, got))
        });
        self.count_open();
    }

    fn enter_heap<'q, E: From<Busy> + From<Corrupt>>(
        &self,
        heap: &'q Heap,
        attempt: Attempt,
    ) -> Result<Guard<'q>, E> {
        let guard = heap.latch().enter(attempt)?;
        if guard.inherited() {
            let mut there: Vec<u32> = heap.rebuild()?.into_iter().map(item_number).collect();
            there.sort_unstable();
            self.consumers.undo(|last| {
                let is_there = last != consumers::NO_NUMBER && there.binary_search(&last).is_ok();
                is_there.then_some((1, consumers::NO_NUMBER))
            });
            self.count_open();
        }
        Ok(guard)
    }

    /// Puts an item in, if that is possible at once.
    ///
    /// # Errors
    /// `Full`, `Closed`, `Busy`, or when the item cannot be put in at all.
    #[inline]
    pub fn try_put(&self, message: &Message<'_>) -> Result<(), PutError> {
        self.put_once(message, Attempt::Only)
    }

    #[inline]
    pub(super) fn put_once(&self, message: &Message<'_>, attempt: Attempt) -> Result<(), PutError> {
        let guard = self.enter_put(attempt)?;
        match &self.body {
            Body::Stream(stream) => stream.put(&guard, message, self.options.maxsize)?,
            Body::Heap(heap) => {
                heap.put(&guard, std::iter::once(*message), self.options.maxsize)?;
            }
        }
        drop(guard);
        self.tell_consumers(1);
        Ok(())
    }

    /// Puts in the first of `messages`, as many as possible at once; returns how many, not zero unless there are none.
    ///
    /// # Errors
    /// As [`try_put`](Self::try_put), when the first cannot be put in.
    pub fn try_put_many(&self, messages: &[Message<'_>]) -> Result<usize, PutError> {
        if self.options.kind == Kind::Fifo {
            let mut batch = Batch::default();
            messages.iter().for_each(|message| batch.push(message.tag, message.parts));
            return self.try_put_batch(&mut batch);
        }
        self.put_some(messages, Attempt::Only)
    }

    pub(super) fn put_some(&self, messages: &[Message<'_>], attempt: Attempt) -> Result<usize, PutError> {
        let guard = self.enter_put(attempt)?;
        let Body::Heap(heap) = &self.body else {
            return Err(Corrupt { what: "a stream in place of a heap" }.into());
        };
        let count = heap.put(&guard, messages.iter().copied(), self.options.maxsize)?;
        drop(guard);
        self.tell_consumers(count);
        Ok(count)
    }

    /// Puts the first items of `batch` in, as many as possible at once, takes them out of the batch and returns how
    /// many; not zero unless there are none. In a queue of kind `Priority` their priority is 0.
    ///
    /// # Errors
    /// As [`try_put`](Self::try_put), when the first cannot be put in.
    pub fn try_put_batch(&self, batch: &mut Batch) -> Result<usize, PutError> {
        self.put_batch_once(batch, Attempt::Only)
    }

    pub(super) fn put_batch_once(&self, batch: &mut Batch, attempt: Attempt) -> Result<usize, PutError> {
        let guard = self.enter_put(attempt)?;
        let count = match &self.body {
            Body::Stream(stream) => stream.put_batch(&guard, batch, self.options.maxsize)?,
            Body::Heap(heap) => {
                let contents: Vec<(u16, [&[u8]; 1])> =
                    batch.iter().map(|(tag, bytes)| (tag, [bytes])).collect();
                let messages = contents.iter().map(|(tag, parts)| Message::new(*tag, parts));
                let count = heap.put(&guard, messages, self.options.maxsize)?;
                let bytes =
                    contents[..count].iter().map(|(_, [bytes])| 8 + bytes.len().next_multiple_of(8)).sum();
                batch.advance(bytes, count);
                count
            }
        };
        drop(guard);
        self.tell_consumers(count);
        Ok(count)
    }

    /// Takes an item out, if there is one. It is out when `take` has returned `Ok`; otherwise it stays.
    ///
    /// # Errors
    /// `Empty`, `Closed`, `Busy` or `Corrupt`; the inner error is what `take` returned.
    #[inline]
    pub fn try_get<T, E>(
        &self,
        take: impl FnOnce(Item<'_>) -> Result<T, E>,
    ) -> Result<Result<T, E>, GetError> {
        self.get_once(&mut Some(take), Attempt::Only)
    }

    /// `take` is taken out of the option when there is an item.
    #[inline]
    pub(super) fn get_once<T, E>(
        &self,
        take: &mut Option<impl FnOnce(Item<'_>) -> Result<T, E>>,
        attempt: Attempt,
    ) -> Result<Result<T, E>, GetError> {
        let mut value = None;
        let taken = self.get_some(
            1,
            |item| {
                let Some(take) = take.take() else { return Ok(()) };
                value = Some(take(item)?);
                Ok(())
            },
            attempt,
        )?;
        match (taken, value) {
            (Ok(_), Some(value)) => Ok(Ok(value)),
            (Ok(_), None) => Err(Corrupt { what: "an item that nobody has seen" }.into()),
            (Err(error), _) => Ok(Err(error)),
        }
    }

    /// Takes up to `most` items out, at least one, all of them or, when `take` returns an error, none.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn try_get_many<E>(
        &self,
        most: usize,
        take: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Result<usize, E>, GetError> {
        self.get_some(most, take, Attempt::Only)
    }

    #[inline]
    pub(super) fn get_some<E>(
        &self,
        most: usize,
        mut take: impl FnMut(Item<'_>) -> Result<(), E>,
        attempt: Attempt,
    ) -> Result<Result<usize, E>, GetError> {
        let guard = self.enter_get(attempt)?;
        let state = self.state();
        if state & IMMEDIATE != 0 {
            return Err(GetError::Closed);
        }
        let taken = match &self.body {
            Body::Stream(stream) => {
                let before = |count, last| self.about_to_take(count, last);
                match stream.get(&guard, most, &mut take, before).map_err(|error| error.if_closed(state))? {
                    Ok(taken) => taken,
                    Err(error) => return Ok(Err(error)),
                }
            }
            Body::Heap(heap) => {
                let before = |count, last| self.about_to_take(count, last);
                match heap.get(&guard, most, &mut take, before).map_err(|error| error.if_closed(state))? {
                    Ok(items) => Taken { items, freed: true, drained: heap.len() == 0 },
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        drop(guard);
        self.have_taken(taken);
        Ok(Ok(taken.items))
    }

    /// Takes up to `most` items or about `bytes` bytes of them out, at least one item, and appends them to `batch`.
    /// Returns how many.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn try_get_batch(&self, most: usize, bytes: usize, batch: &mut Batch) -> Result<usize, GetError> {
        self.get_batch_once(most, bytes, batch, Attempt::Only)
    }

    pub(super) fn get_batch_once(
        &self,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
        attempt: Attempt,
    ) -> Result<usize, GetError> {
        let Body::Stream(stream) = &self.body else {
            return self.get_heap_batch(most, bytes, batch, attempt);
        };
        let guard = self.enter_get(attempt)?;
        let state = self.state();
        if state & IMMEDIATE != 0 {
            return Err(GetError::Closed);
        }
        let before = |count, last| self.about_to_take(count, last);
        let taken = stream.get_batch(&guard, most, bytes, batch, before);
        let taken = taken.map_err(|error| error.if_closed(state))?;
        drop(guard);
        self.have_taken(taken);
        Ok(taken.items)
    }

    /// What to do without the latch when items have been taken out.
    #[inline]
    fn have_taken(&self, taken: Taken) {
        if taken.freed || self.options.maxsize > 0 {
            self.tell_producers(taken.items);
        }
        if taken.freed {
            self.passed.store(true, Ordering::Relaxed);
        }
        if taken.drained && self.passed.load(Ordering::Relaxed) {
            self.passed.store(false, Ordering::Relaxed);
            self.give_back();
        }
    }

    fn get_heap_batch(
        &self,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
        attempt: Attempt,
    ) -> Result<usize, GetError> {
        let (start, mut count) = (batch.size(), 0);
        while count < most && (count == 0 || batch.size() - start < bytes) {
            let mut taken = Batch::default();
            let take = |mut item: Item<'_>| {
                taken.push_with(item.tag(), |bytes| item.read_to_end(bytes));
                Ok::<(), std::convert::Infallible>(())
            };
            match self.get_some(1, take, attempt) {
                Ok(Ok(_)) => {
                    taken.iter().for_each(|(tag, bytes)| batch.push(tag, &[bytes]));
                    count += 1;
                }
                Ok(Err(never)) => match never {},
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    #[inline]
    fn about_to_take(&self, count: u32, last: u32) -> Result<(), Corrupt> {
        if self.options.joinable {
            self.consumers.take(count, last);
            let open = self.open_word();
            open.store(open.load(Ordering::Relaxed).wrapping_add(u64::from(count)), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Items taken and not finished, a sum kept under the latch of the consumers.
    pub(super) fn open_word(&self) -> &AtomicU64 {
        match &self.body {
            Body::Stream(stream) => stream.head_word(head::OPEN),
            Body::Heap(heap) => heap.head_word(head::OPEN),
        }
    }

    pub(super) fn count_open(&self) {
        self.open_word().store(self.consumers.open() as u64, Ordering::Relaxed);
    }

    /// Closes it, if that is possible at once: nothing can be put in any more; what is in it can be taken out, or with
    /// `immediate` is dropped. Wakes everybody who waits.
    ///
    /// # Errors
    /// `Busy` or `Corrupt`.
    pub fn try_close(&self, immediate: bool) -> Result<(), PutError> {
        self.close_once(immediate, Attempt::Only)
    }

    pub(super) fn close_once(&self, immediate: bool, attempt: Attempt) -> Result<(), PutError> {
        let put = match self.enter_put(attempt) {
            Err(PutError::Closed) if !immediate => return Ok(()),
            // It is closed, so nobody puts anything in: the latch is not needed for that. To drop what is there it is.
            Err(PutError::Closed) => self.enter_put_closed(attempt)?,
            entered => entered?,
        };
        let state = self.root.word(root::STATE);
        if !immediate {
            // Release: what was put in before. pairs with: state
            state.store(CLOSED, Ordering::Release);
        } else {
            match &self.body {
                Body::Stream(stream) => {
                    let get = self.enter_get(attempt).map_err(|error| match error {
                        GetError::Corrupt(corrupt) => PutError::Corrupt(corrupt),
                        GetError::Busy(busy) => PutError::Busy(busy),
                        _ => PutError::Closed,
                    })?;
                    // pairs with: state
                    state.store(CLOSED | IMMEDIATE, Ordering::Release);
                    stream.clear(&put, &get);
                }
                Body::Heap(heap) => {
                    // pairs with: state
                    state.store(CLOSED | IMMEDIATE, Ordering::Release);
                    heap.clear(&put)?;
                }
            }
        }
        drop(put);
        self.site.notify(self.items(), self.items_key(), u32::MAX);
        self.site.notify(self.space(), self.space_key(), u32::MAX);
        self.site.notify(self.joined(), self.joined_key(), u32::MAX);
        self.give_back();
        Ok(())
    }
}

impl GetError {
    /// What it means that nothing is there, in a queue whose state was this before.
    fn if_closed(self, state: u64) -> Self {
        if self == Self::Empty && state & CLOSED != 0 { Self::Closed } else { self }
    }
}
