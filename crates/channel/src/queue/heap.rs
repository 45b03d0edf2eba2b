//! Items in any other order: what queues of kind `Lifo` and `Priority` are made of.
//!
//! Each item is in a chain of cells; its first cell says that it is there, where it belongs, and how it goes on. These
//! cells are the truth. What orders them (a stack or a binary heap of their numbers), the list of free cells and the
//! counters are indices, rebuilt from the cells when a holder of the latch died ([`Heap::rebuild`]).
//!
//! | word of a first cell | meaning |
//! |---|---|
//! | 0 | bit 63: there is an item; bits 0-62: its number, from 0 on in the order in which they were put in. 0: none |
//! | 1, 2 | its priority, high and low half |
//! | 3 | its [`Header`] |
//! | 4 | the next cell plus one, 0: none |
//! | 5-15 | bytes |
//!
//! In a further cell word 0 is zero, word 1 leads to the next, and the rest are bytes. Items with a number at or beyond
//! the *commit word*, which counts those put in, are not there yet: so several are put in by one store. An item is out
//! when word 0 of its first cell is zero.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use manyhands_os::memory::Segment;
use manyhands_sync::EventCount;
use manyhands_sync::atomic::{Ordering, fence};
use manyhands_sync::words::{SegmentWords, Words};

use super::error::{Corrupt, GetError, PutError};
use super::item::{Header, Item, Message, Span, Spans};
use super::latch::{Guard, Latch};
use super::layout::{CELL, HeapPlan, KEEP, head, head_at};

mod order;

const LIVE: u64 = 1 << 63;

/// Words of a first cell, and where its bytes begin.
const STATE: usize = 0;
const PRIORITY: usize = 1;
const HEADER: usize = 3;
const NEXT: usize = 4;
const FIRST_BYTES: usize = 40;

/// The same of a further cell.
const NEXT_FURTHER: usize = 1;
const FURTHER_BYTES: usize = 16;

/// Cells whose memory is committed at a time.
const STEP: u32 = 512;

/// What the table of consumers knows an item by: its number counted from 1, modulo 2³².
pub(super) fn item_number(state: u64) -> u32 {
    (state as u32).wrapping_add(1)
}

/// Cells with items, and their order.
pub(crate) struct Heap {
    segment: Arc<Segment>,
    head: SegmentWords,
    order: SegmentWords,
    plan: HeapPlan,
    /// By number alone: last in, first out.
    is_stack: bool,
}

/// What decides which item is next: the smallest.
type Rank = (u64, u64, u64);

impl Heap {
    /// The heap in the bytes `region`; `None` when they are too few.
    pub(crate) fn over(segment: &Arc<Segment>, region: Range<usize>, is_stack: bool) -> Option<Self> {
        let plan = HeapPlan::of(region)?;
        let order = SegmentWords::new(Arc::clone(segment), plan.order, plan.count as usize);
        let head = head_at(segment, plan.head);
        Some(Self { segment: Arc::clone(segment), head, order, plan, is_stack })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.head.word(index)
    }

    fn get_word(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    fn set_word(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    fn events(&self, index: usize) -> EventCount<'_> {
        EventCount::new(self.head.futex(index), self.head.futex(index + 1))
    }

    pub(crate) fn latch(&self) -> Latch<'_> {
        Latch::new(self.word(head::PUT_LATCH), self.events(head::PUT_TURN))
    }

    /// What a consumer waits for.
    pub(crate) fn items(&self) -> EventCount<'_> {
        self.events(head::ITEMS)
    }

    /// What a producer waits for.
    pub(crate) fn space(&self) -> EventCount<'_> {
        self.events(head::SPACE)
    }

    /// A word of the head.
    pub(crate) fn head_word(&self, index: usize) -> &AtomicU64 {
        self.word(index)
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.get_word(head::HEAP_LEN)).unwrap_or(usize::MAX).min(self.plan.count as usize)
    }

    /// The most bytes an item can have.
    pub(crate) fn largest(&self) -> usize {
        (CELL - FIRST_BYTES) + (self.plan.count as usize - 1) * (CELL - FURTHER_BYTES)
    }

    /// Memory of the cells that were ever used, in bytes.
    pub(crate) fn memory(&self) -> usize {
        (self.get_word(head::FRESH) as usize).min(self.plan.count as usize) * CELL
    }

    // ---------------------------------------------------------------- cells

    fn address(&self, cell: u32) -> usize {
        self.plan.cells + cell as usize * CELL
    }

    fn cell(&self, cell: u32, word: usize) -> &AtomicU64 {
        self.segment.word64(self.address(cell) + word * 8)
    }

    /// The cell that a link names; `None` at the end of a chain.
    fn follow(&self, link: u64) -> Result<Option<u32>, Corrupt> {
        match link.checked_sub(1) {
            None => Ok(None),
            Some(cell) => self.known(cell).map(Some),
        }
    }

    fn known(&self, cell: u64) -> Result<u32, Corrupt> {
        let known = u32::try_from(cell).ok().filter(|cell| *cell < self.plan.count);
        known.ok_or(Corrupt { what: "a link does not lead to a cell" })
    }

    fn rank(&self, cell: u32) -> Rank {
        let load = |word| self.cell(cell, word).load(Ordering::Relaxed);
        (load(PRIORITY), load(PRIORITY + 1), load(STATE))
    }

    fn cells_for(len: usize) -> usize {
        1 + len.saturating_sub(CELL - FIRST_BYTES).div_ceil(CELL - FURTHER_BYTES)
    }

    fn allocate(&self) -> Result<u32, PutError> {
        let spare = self.get_word(head::SPARE);
        let cell = if let Some(cell) = self.follow(spare)? {
            self.set_word(head::SPARE, self.cell(cell, NEXT_FURTHER).load(Ordering::Relaxed));
            cell
        } else {
            let cell = self.get_word(head::FRESH);
            if cell >= u64::from(self.plan.count) {
                return Err(PutError::Full);
            }
            let cell = self.known(cell)?;
            if cell.is_multiple_of(STEP) {
                self.commit(cell).map_err(PutError::OutOfMemory)?;
            }
            self.set_word(head::FRESH, u64::from(cell) + 1);
            cell
        };
        self.set_word(head::LINKED, self.get_word(head::LINKED).wrapping_add(1));
        Ok(cell)
    }

    fn commit(&self, cell: u32) -> std::io::Result<()> {
        let end = self.plan.count.min(cell + STEP);
        self.segment.commit(self.plan.order + cell as usize * 8..self.plan.order + end as usize * 8)?;
        self.segment.commit(self.address(cell)..self.address(end))
    }

    /// Takes the chain that begins with `cell` back. Its first word is zero.
    fn release(&self, cell: u32) -> Result<(), Corrupt> {
        let mut next = self.follow(self.cell(cell, NEXT).load(Ordering::Relaxed))?;
        self.release_one(cell);
        let mut freed = 1;
        while let Some(cell) = next {
            next = self.follow(self.cell(cell, NEXT_FURTHER).load(Ordering::Relaxed))?;
            self.release_one(cell);
            freed += 1;
            if freed > self.plan.count {
                return Err(Corrupt { what: "a chain of cells does not end" });
            }
        }
        Ok(())
    }

    fn release_one(&self, cell: u32) {
        self.cell(cell, NEXT_FURTHER).store(self.get_word(head::SPARE), Ordering::Relaxed);
        self.set_word(head::SPARE, u64::from(cell) + 1);
        self.set_word(head::LINKED, self.get_word(head::LINKED).saturating_sub(1));
    }

    // ---------------------------------------------------------------- putting in

    /// Puts in the first of `messages`, as many as there is room for, when fewer than `limit` are there (0: any
    /// number). The caller holds the latch. Returns how many.
    pub(crate) fn put<'m>(
        &self,
        _guard: &Guard<'_>,
        messages: impl Iterator<Item = Message<'m>>,
        limit: u32,
    ) -> Result<usize, PutError> {
        let len = self.len();
        let room = if limit == 0 { usize::MAX } else { (limit as usize).saturating_sub(len) };
        let commit = self.get_word(head::PUT_COMMIT);
        let mut written = Vec::new();
        let mut refused = PutError::Full;
        let mut bytes = 0;
        let mut wanted = false;
        for message in messages {
            wanted = true;
            if written.len() == room {
                break;
            }
            match self.write(&message, commit.wrapping_add(written.len() as u64)) {
                Ok(cell) => written.push(cell),
                Err(error) => {
                    refused = error;
                    break;
                }
            }
            bytes += message.size();
        }
        if written.is_empty() {
            return if wanted { Err(refused) } else { Ok(0) };
        }
        // Release: a process that finds this finds the items, should we die. pairs with: rebuild
        self.word(head::PUT_COMMIT).store(commit.wrapping_add(written.len() as u64), Ordering::Release);
        for cell in &written {
            self.push(*cell)?;
        }
        self.set_word(head::BYTES_PUT, self.get_word(head::BYTES_PUT).wrapping_add(bytes as u64));
        Ok(written.len())
    }

    /// Writes an item that becomes one by the next commit.
    fn write(&self, message: &Message<'_>, number: u64) -> Result<u32, PutError> {
        let size = message.size();
        if size > self.largest() {
            return Err(PutError::TooLarge { size, limit: self.largest() });
        }
        let free = u64::from(self.plan.count).saturating_sub(self.get_word(head::LINKED));
        if Self::cells_for(size) as u64 > free {
            return Err(PutError::Full);
        }
        let first = self.allocate()?;
        self.cell(first, NEXT).store(0, Ordering::Relaxed);
        if let Err(error) = self.write_bytes(first, message) {
            self.release(first)?;
            return Err(error);
        }
        let priority = if self.is_stack { 0 } else { message.priority };
        self.cell(first, PRIORITY).store((priority >> 64) as u64, Ordering::Relaxed);
        self.cell(first, PRIORITY + 1).store(priority as u64, Ordering::Relaxed);
        let header = Header { len: size, tag: message.tag };
        self.cell(first, HEADER).store(header.pack(), Ordering::Relaxed);
        // Release: an item is whole before it is one. pairs with: rebuild
        self.cell(first, STATE).store(LIVE | number, Ordering::Release);
        Ok(first)
    }

    fn write_bytes(&self, first: u32, message: &Message<'_>) -> Result<(), PutError> {
        let (mut cell, mut link, mut byte) = (first, NEXT, FIRST_BYTES);
        for part in message.parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if byte == CELL {
                    let next = self.allocate()?;
                    self.cell(next, STATE).store(0, Ordering::Relaxed);
                    self.cell(next, NEXT_FURTHER).store(0, Ordering::Relaxed);
                    self.cell(cell, link).store(u64::from(next) + 1, Ordering::Relaxed);
                    (cell, link, byte) = (next, NEXT_FURTHER, FURTHER_BYTES);
                }
                let (now, later) = rest.split_at(rest.len().min(CELL - byte));
                self.segment.copy_in(self.address(cell) + byte, now);
                byte += now.len();
                rest = later;
            }
        }
        Ok(())
    }

    // ---------------------------------------------------------------- taking out

    /// Takes up to `most` items out, as `Stream::get`; `before` is called for each, with its number, right before it is
    /// out.
    pub(crate) fn get<E>(
        &self,
        _guard: &Guard<'_>,
        most: usize,
        mut take: impl FnMut(Item<'_>) -> Result<(), E>,
        mut before: impl FnMut(u32, u32) -> Result<(), Corrupt>,
    ) -> Result<Result<usize, E>, GetError> {
        let count = self.len().min(most);
        if count == 0 {
            return Err(GetError::Empty);
        }
        let mut taken = Vec::with_capacity(count.min(1024));
        let mut bytes = 0;
        let mut refused = None;
        while taken.len() < count && refused.is_none() {
            let cell = self.pop()?;
            taken.push(cell);
            match self.show(cell, &mut take) {
                Ok(Ok(len)) => bytes += len,
                Ok(Err(error)) => refused = Some(Ok(error)),
                Err(corrupt) => refused = Some(Err(corrupt)),
            }
        }
        if let Some(refused) = refused {
            // Backwards: on a stack the last one put back is the first one out.
            for cell in taken.into_iter().rev() {
                self.push(cell)?;
            }
            return refused.map(Err).map_err(GetError::Corrupt);
        }
        for cell in &taken {
            before(1, item_number(self.cell(*cell, STATE).load(Ordering::Relaxed)))?;
            self.take_away(*cell)?;
        }
        self.set_word(head::BYTES_GOT, self.get_word(head::BYTES_GOT).wrapping_add(bytes as u64));
        if self.len() == 0 && self.memory() > KEEP {
            self.reset();
        }
        Ok(Ok(taken.len()))
    }

    fn show<E>(
        &self,
        cell: u32,
        take: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Result<usize, E>, Corrupt> {
        let header = Header::unpack(self.cell(cell, HEADER).load(Ordering::Relaxed))?;
        if header.len > self.largest() {
            return Err(Corrupt { what: "an item is longer than the queue" });
        }
        let mut pieces = Cells { heap: self, link: self.cell(cell, NEXT).load(Ordering::Relaxed) };
        let span = Span { at: self.address(cell) + FIRST_BYTES, len: header.len.min(CELL - FIRST_BYTES) };
        let mut damage = None;
        let taken = take(Item {
            segment: &self.segment,
            header,
            remaining: header.len,
            span,
            spans: &mut pieces,
            damage: &mut damage,
        });
        match damage {
            Some(damage) => Err(damage),
            None => Ok(taken.map(|()| header.len)),
        }
    }

    /// Makes an item none.
    fn take_away(&self, cell: u32) -> Result<(), Corrupt> {
        // Release: that it was counted comes before. pairs with: rebuild
        self.cell(cell, STATE).store(0, Ordering::Release);
        // And what its cells become comes after: should we die, an item that is there is whole.
        fence(Ordering::Release);
        self.release(cell)
    }

    /// Forgets everything and gives the memory back. There are no items.
    fn reset(&self) {
        // In this order: cells that are out of the count are committed before they are used again.
        for index in [head::SPARE, head::FRESH, head::LINKED] {
            self.set_word(index, 0);
        }
        let _ = self.segment.discard(self.plan.cells..self.address(self.plan.count));
        let _ = self.segment.discard(self.plan.order..self.plan.cells);
    }

    /// Gives all memory back if there are no items. The caller holds the latch.
    pub(crate) fn reset_if_empty(&self, _guard: &Guard<'_>) {
        if self.len() == 0 {
            self.reset();
        }
    }

    /// Drops all items. The caller holds the latch. Returns how many there were.
    pub(crate) fn clear(&self, _guard: &Guard<'_>) -> Result<u32, Corrupt> {
        let mut dropped = 0;
        while self.len() > 0 {
            let cell = self.pop()?;
            self.take_away(cell)?;
            dropped += 1;
        }
        self.reset();
        Ok(dropped)
    }
}

/// The cells of an item after its first.
struct Cells<'h> {
    heap: &'h Heap,
    link: u64,
}

impl Spans for Cells<'_> {
    fn next_span(&mut self) -> Result<Span, Corrupt> {
        let cell = self.heap.follow(self.link)?.ok_or(Corrupt { what: "an item ends too early" })?;
        self.link = self.heap.cell(cell, NEXT_FURTHER).load(Ordering::Relaxed);
        Ok(Span { at: self.heap.address(cell) + FURTHER_BYTES, len: CELL - FURTHER_BYTES })
    }
}
