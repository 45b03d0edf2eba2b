//! The consumers' side of a stream.

use manyhands_sync::atomic::Ordering;

use super::super::batch::Batch;
use super::super::error::{Corrupt, GetError};
use super::super::item::{Header, Item, Span, Spans};
use super::super::latch::Guard;
use super::super::layout::head;
use super::{Commit, Position, Stream, Taken};

impl Stream {
    /// Where the consumers are, and how many items there are, or at least `most`; `None`: none.
    #[inline]
    fn first(&self, most: usize) -> Result<Option<(Commit, u32)>, Corrupt> {
        let word = self.word(head::GOT_COMMIT).load(Ordering::Relaxed);
        let seen = self.word(head::SEEN_PUT);
        let mut there = (seen.load(Ordering::Relaxed) as u32).wrapping_sub(word as u32);
        if (there as usize) < most {
            // What was seen before is used up. As long as it is not, nothing has to be acquired: whoever stored it had
            // acquired it, and we have acquired the latch since. pairs with: put_to
            let put = self.word(head::PUT_COMMIT).load(Ordering::Acquire);
            seen.store(put, Ordering::Relaxed);
            there = (put as u32).wrapping_sub(word as u32);
        }
        if there == 0 {
            return Ok(None);
        }
        Ok(Some((self.unpack(word)?, there)))
    }

    /// Takes out up to `most` items. Each is shown to `take`; when it returns an error all stay where they are.
    /// `before` is told how many, and which number the last has, right before they are out. The caller holds the
    /// consumers' latch.
    #[inline]
    pub(crate) fn get<E>(
        &self,
        _guard: &Guard<'_>,
        most: usize,
        mut take: impl FnMut(Item<'_>) -> Result<(), E>,
        before: impl FnOnce(u32, u32) -> Result<(), Corrupt>,
    ) -> Result<Result<Taken, E>, GetError> {
        let Some((commit, there)) = self.first(most)? else { return Err(GetError::Empty) };
        let count = (there as usize).min(most);
        let mut position = commit.position;
        let mut bytes = 0;
        for _ in 0..count {
            match self.show(position, &mut take)? {
                Ok((end, len)) => {
                    position = end;
                    bytes = self.sum(bytes, len)?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        before(count as u32, commit.count.wrapping_add(count as u32))?;
        Ok(Ok(self.take_to(commit, position, count, bytes)))
    }

    /// Shows the item at `position` to `take`; returns the position behind it and its length in the stream.
    #[inline]
    fn show<E>(
        &self,
        position: Position,
        take: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Result<(Position, usize), E>, Corrupt> {
        let position = self.normal(position)?;
        let at = self.extents.address(position.extent, position.byte);
        let header = Header::unpack(self.extents.segment.word64(at).load(Ordering::Relaxed))?;
        if header.len > self.largest() {
            return Err(Corrupt { what: "an item is longer than the queue" });
        }
        let room = self.extents.usable() - position.byte;
        let end = if header.padded() <= room {
            Position { byte: position.byte + header.padded(), ..position }
        } else {
            self.skip(position, header.padded())?
        };
        let mut pieces = Pieces { stream: self, extent: position.extent };
        let span = Span { at: at + Header::BYTES, len: header.len.min(room - Header::BYTES) };
        let mut damage = None;
        let item = Item {
            segment: &self.extents.segment,
            header,
            remaining: header.len,
            span,
            spans: &mut pieces,
            damage: &mut damage,
        };
        let taken = take(item);
        match damage {
            Some(damage) => Err(damage),
            None => Ok(taken.map(|()| (end, header.padded()))),
        }
    }

    /// Copies up to `most` items, or about `bytes` bytes of them, behind those in `batch`. Otherwise like
    /// [`get`](Self::get).
    pub(crate) fn get_batch(
        &self,
        _guard: &Guard<'_>,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
        before: impl FnOnce(u32, u32) -> Result<(), Corrupt>,
    ) -> Result<Taken, GetError> {
        let Some((commit, there)) = self.first(most)? else { return Err(GetError::Empty) };
        let most = (there as usize).min(most);
        let start = batch.bytes.len();
        let copied = self.copy_out(commit.position, most, bytes, batch);
        let taken = copied.and_then(|(position, count)| {
            before(count as u32, commit.count.wrapping_add(count as u32))?;
            Ok((position, count))
        });
        match taken {
            Ok((position, count)) => {
                batch.count += count;
                Ok(self.take_to(commit, position, count, batch.bytes.len() - start))
            }
            Err(corrupt) => {
                batch.bytes.truncate(start);
                Err(corrupt.into())
            }
        }
    }

    fn copy_out(
        &self,
        mut position: Position,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
    ) -> Result<(Position, usize), Corrupt> {
        let start = batch.bytes.len();
        let full = start.saturating_add(bytes);
        let mut count = 0;
        while count < most && (count == 0 || batch.bytes.len() < full) {
            self.sum(batch.bytes.len() - start, 0)?;
            position = self.normal(position)?;
            let (len, items) = self.run_at(position, most - count, full - batch.bytes.len())?;
            if items > 0 {
                let start = batch.bytes.len();
                batch.bytes.resize(start + len, 0);
                self.extents.segment.copy_out(
                    self.extents.address(position.extent, position.byte),
                    &mut batch.bytes[start..],
                );
                (position.byte, count) = (position.byte + len, count + items);
                continue;
            }
            let shown = self.show(position, &mut |mut item: Item<'_>| {
                batch.bytes.extend_from_slice(&item.header.pack().to_ne_bytes());
                item.read_to_end(&mut batch.bytes);
                let end = batch.bytes.len().next_multiple_of(8);
                batch.bytes.resize(end, 0);
                Ok::<(), Corrupt>(())
            })?;
            (position, count) = (shown?.0, count + 1);
        }
        Ok((position, count))
    }

    /// Length and number of the items from `position` on that end in the same extent: at most `most`, and with the first
    /// that makes it more than `bytes` bytes the last.
    fn run_at(&self, position: Position, most: usize, bytes: usize) -> Result<(usize, usize), Corrupt> {
        let room = self.extents.usable() - position.byte;
        let (mut end, mut items) = (0, 0);
        while items < most && end < bytes.max(1) && end + Header::BYTES <= room {
            let at = self.extents.address(position.extent, position.byte + end);
            let header = Header::unpack(self.extents.segment.word64(at).load(Ordering::Relaxed))?;
            if end + header.padded() > room {
                break;
            }
            (end, items) = (end + header.padded(), items + 1);
        }
        Ok((end, items))
    }

    /// The same position, but not at the end of an extent.
    #[inline]
    fn normal(&self, position: Position) -> Result<Position, Corrupt> {
        if position.byte < self.extents.usable() {
            return Ok(position);
        }
        Ok(Position { extent: self.extents.next(position.extent)?, byte: 0 })
    }

    /// The position `bytes` bytes further on.
    fn skip(&self, mut position: Position, mut bytes: usize) -> Result<Position, Corrupt> {
        loop {
            let room = self.extents.usable() - position.byte;
            if bytes <= room {
                return Ok(Position { byte: position.byte + bytes, ..position });
            }
            bytes -= room;
            position = Position { extent: self.extents.next(position.extent)?, byte: 0 };
        }
    }

    /// Takes the items up to `position` out of the stream.
    #[inline]
    fn take_to(&self, commit: Commit, position: Position, items: usize, bytes: usize) -> Taken {
        let next = Commit { position, count: commit.count.wrapping_add(items as u32) };
        // Release: we have read what a producer may now overwrite. pairs with: room, write_across, trim (Acquire)
        self.word(head::GOT_COMMIT).store(self.pack(next), Ordering::Release);
        self.add(head::GETS, items as u64);
        self.add(head::BYTES_GOT, bytes as u64);
        let drained = self.word(head::SEEN_PUT).load(Ordering::Relaxed) as u32 == next.count;
        Taken { items, freed: position.extent != commit.position.extent, drained }
    }

    /// Adds up what a run of items takes; more than there is means going round in a circle.
    #[inline]
    fn sum(&self, bytes: usize, more: usize) -> Result<usize, Corrupt> {
        let sum = bytes + more;
        let limit = self.extents.count() as usize * self.extents.len();
        if sum <= limit {
            Ok(sum)
        } else {
            Err(Corrupt { what: "there are more items than fit in its memory" })
        }
    }
}

/// The pieces of an item in extent after extent.
struct Pieces<'s> {
    stream: &'s Stream,
    extent: u32,
}

impl Spans for Pieces<'_> {
    fn next_span(&mut self) -> Result<Span, Corrupt> {
        let extents = &self.stream.extents;
        self.extent = extents.next(self.extent)?;
        Ok(Span { at: extents.address(self.extent, 0), len: extents.usable() })
    }
}
