//! The producers' side of a stream.

use manyhands_sync::atomic::Ordering;

use super::super::batch::{Batch, header_of};
use super::super::error::{Corrupt, PutError};
use super::super::extents::Shortage;
use super::super::item::{Header, Message};
use super::super::latch::Guard;
use super::super::layout::{KEEP, head};
use super::{Commit, Position, Stream};

impl Stream {
    /// How many items more there may be, of at most `limit` (0: any number).
    fn room(&self, count: u32, limit: u32) -> u32 {
        if limit == 0 {
            return u32::MAX;
        }
        let seen = self.word(head::SEEN_GOT);
        let used = count.wrapping_sub(seen.load(Ordering::Relaxed) as u32);
        if used < limit {
            return limit - used;
        }
        // pairs with: take_to
        let got = self.word(head::GOT_COMMIT).load(Ordering::Acquire);
        seen.store(got, Ordering::Relaxed);
        limit.saturating_sub(count.wrapping_sub(got as u32))
    }

    /// Puts `message` in if fewer than `limit` items are there (0: any number). The caller holds the producers' latch.
    #[inline]
    pub(crate) fn put(&self, _guard: &Guard<'_>, message: &Message<'_>, limit: u32) -> Result<(), PutError> {
        let commit = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        if self.room(commit.count, limit) == 0 {
            return Err(PutError::Full);
        }
        let header = Header { len: message.size(), tag: message.tag };
        let position = self.write(commit.position, header, message.parts)?;
        self.put_to(commit, position, 1, header.padded());
        Ok(())
    }

    /// Puts the items of `batch` in, as many as there is room for; takes them out of the batch and returns how many.
    pub(crate) fn put_batch(
        &self,
        _guard: &Guard<'_>,
        batch: &mut Batch,
        limit: u32,
    ) -> Result<usize, PutError> {
        let commit = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        let room = self.room(commit.count, limit) as usize;
        let mut position = commit.position;
        let (mut bytes, mut count) = (0, 0);
        let mut refused = PutError::Full;
        while count < room && count < batch.len() {
            let (run, items) = self.run(position, &batch.rest()[bytes..], room - count);
            let written = if items > 0 {
                self.copy_run(position, run);
                Ok((Position { byte: position.byte + run.len(), ..position }, run.len()))
            } else {
                self.write_first(position, &batch.rest()[bytes..])
            };
            match written {
                Ok((end, len)) => (position, bytes, count) = (end, bytes + len, count + items.max(1)),
                Err(error) => {
                    refused = error;
                    break;
                }
            }
        }
        if count == 0 {
            return if batch.is_empty() { Ok(0) } else { Err(refused) };
        }
        self.put_to(commit, position, count as u32, bytes);
        batch.advance(bytes, count);
        Ok(count)
    }

    /// The items at the beginning of `bytes`, at most `most`, that fit into the rest of the extent.
    fn run<'a>(&self, position: Position, bytes: &'a [u8], most: usize) -> (&'a [u8], usize) {
        let room = self.extents.usable() - position.byte;
        let (mut end, mut items) = (0, 0);
        while items < most
            && let Some(header) = header_of(&bytes[end..])
            && end + header.padded() <= room
        {
            (end, items) = (end + header.padded(), items + 1);
        }
        (&bytes[..end], items)
    }

    fn copy_run(&self, position: Position, run: &[u8]) {
        self.extents.segment.copy_in(self.extents.address(position.extent, position.byte), run);
    }

    /// Writes the first item of `bytes`, which does not fit into the rest of the extent. Returns the position behind it
    /// and its length.
    fn write_first(&self, position: Position, bytes: &[u8]) -> Result<(Position, usize), PutError> {
        let header = header_of(bytes).ok_or(Corrupt { what: "a batch is malformed" })?;
        let content = &bytes[Header::BYTES..Header::BYTES + header.len];
        Ok((self.write(position, header, &[content])?, header.padded()))
    }

    /// Writes an item from `position` on and returns the position behind it.
    #[inline]
    fn write(&self, position: Position, header: Header, parts: &[&[u8]]) -> Result<Position, PutError> {
        let segment = &self.extents.segment;
        if header.padded() > self.extents.usable() - position.byte {
            return self.write_across(position, header, parts);
        }
        let mut at = self.extents.address(position.extent, position.byte);
        segment.word64(at).store(header.pack(), Ordering::Relaxed);
        at += Header::BYTES;
        for part in parts {
            segment.copy_in(at, part);
            at += part.len();
        }
        Ok(Position { byte: position.byte + header.padded(), ..position })
    }

    /// Writes an item that does not fit into the rest of the extent.
    #[cold]
    fn write_across(
        &self,
        position: Position,
        header: Header,
        parts: &[&[u8]],
    ) -> Result<Position, PutError> {
        if header.len > self.largest() {
            return Err(PutError::TooLarge { size: header.len, limit: self.largest() });
        }
        let usable = self.extents.usable();
        let more = (header.padded() - (usable - position.byte)).div_ceil(usable);
        // pairs with: take_to. The consumer has read what it left behind.
        let got = self.unpack(self.word(head::GOT_COMMIT).load(Ordering::Acquire))?;
        if self.most < usize::MAX && self.len() > 0 {
            let used = self.extents.distance(got.position.extent, position.extent, self.most)?;
            if used + more > self.most {
                return Err(PutError::Full);
            }
        }
        let steps = self.word(head::STEPS);
        steps.store(steps.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
        let keep = (KEEP / self.extents.len()).max(2);
        if steps.load(Ordering::Relaxed) as usize > keep {
            steps.store(0, Ordering::Relaxed);
            self.extents.trim(position.extent, got.position.extent, keep.max(more), keep)?;
        }
        self.extents.reserve(position.extent, more, got.position.extent).map_err(
            |shortage| match shortage {
                Shortage::Full => PutError::Full,
                Shortage::OutOfMemory(error) => PutError::OutOfMemory(error),
                Shortage::Corrupt(corrupt) => PutError::Corrupt(corrupt),
            },
        )?;
        let mut position = self.flow_in(position, &header.pack().to_ne_bytes())?;
        for part in parts {
            position = self.flow_in(position, part)?;
        }
        // The end of an extent is a multiple of eight, so this stays inside.
        position.byte = position.byte.next_multiple_of(8);
        Ok(position)
    }

    /// Writes bytes, over the ends of extents; the links are there.
    fn flow_in(&self, mut position: Position, mut bytes: &[u8]) -> Result<Position, Corrupt> {
        while !bytes.is_empty() {
            let room = self.extents.usable() - position.byte;
            if room == 0 {
                position = Position { extent: self.extents.next(position.extent)?, byte: 0 };
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.extents.segment.copy_in(self.extents.address(position.extent, position.byte), now);
            position.byte += now.len();
            bytes = later;
        }
        Ok(position)
    }

    /// Makes what was written up to `position` a part of the stream.
    #[inline]
    fn put_to(&self, commit: Commit, position: Position, items: u32, bytes: usize) {
        let next = Commit { position, count: commit.count.wrapping_add(items) };
        // Release: the items, and the links that lead to them. pairs with: first, take_batch (Acquire)
        self.word(head::PUT_COMMIT).store(self.pack(next), Ordering::Release);
        self.add(head::PUTS, u64::from(items));
        self.add(head::BYTES_PUT, bytes as u64);
    }
}
