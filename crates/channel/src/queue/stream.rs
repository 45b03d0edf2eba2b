//! Items in the order in which they came: what a queue of kind `Fifo` and each direction of a pipe is made of.
//!
//! An item is a header and its bytes, rounded up to words, and items follow one another in the extents of a circle (see
//! `extents`); one that does not fit into the rest of an extent goes on in the next. Each side has a latch and *one
//! commit word*: the position up to which it has come, in words from the first extent on (32 bits), and the number of
//! items up to there (32 bits).
//!
//! A producer writes behind its commit, where nobody looks, and then stores the new commit: from that store on all it
//! wrote is in the stream, before it nothing is. A consumer copies out what it takes and then stores its commit: from
//! that store on the items are out, before it none is. So whoever is killed leaves no item half put in or half taken
//! out, and who takes over the latch has nothing to repair in the stream itself.
//!
//! The sides meet in the commit words only, and each keeps a copy of the other's in a line of its own: as long as that
//! says that there is an item, or room, it needs to look no further.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use manyhands_os::memory::Segment;
use manyhands_sync::EventCount;
use manyhands_sync::atomic::Ordering;
use manyhands_sync::words::Words;

use super::batch::{Batch, header_of};
use super::error::{Corrupt, GetError, PutError};
use super::extents::{Extents, Shortage};
use super::item::{Header, Item, Message, Span, Spans};
use super::latch::{Guard, Latch};
use super::layout::{KEEP, StreamPlan, head};

/// A place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    extent: u32,
    /// Bytes from its beginning, a multiple of 8 up to and including what is usable.
    byte: usize,
}

/// How far a side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    place: Place,
    /// Items up to there, modulo 2³².
    count: u32,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// How many items.
    pub(crate) items: usize,
    /// Whether there is more memory for others now.
    pub(crate) freed: bool,
}

/// Words of segment memory that items flow through.
pub(crate) struct Stream {
    extents: Extents,
}

impl Stream {
    /// The stream in the bytes `region`, which hold one or will ([`create`](Self::create)); `None` when they are too
    /// few.
    pub(crate) fn over(segment: &Arc<Segment>, region: Range<usize>) -> Option<Self> {
        let plan = StreamPlan::of(region)?;
        Some(Self { extents: Extents::over(segment, plan) })
    }

    /// Makes an empty stream. All words are zero.
    pub(crate) fn create(&self) -> std::io::Result<()> {
        self.extents.create()
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        self.extents.head.word(index)
    }

    fn events(&self, index: usize) -> EventCount<'_> {
        EventCount::new(self.extents.head.futex(index), self.extents.head.futex(index + 1))
    }

    #[inline]
    pub(crate) fn put_latch(&self) -> Latch<'_> {
        Latch::new(self.word(head::PUT_LATCH), self.events(head::PUT_TURN))
    }

    #[inline]
    pub(crate) fn get_latch(&self) -> Latch<'_> {
        Latch::new(self.word(head::GET_LATCH), self.events(head::GET_TURN))
    }

    /// What those wait for who want to take something out.
    #[inline]
    pub(crate) fn items(&self) -> EventCount<'_> {
        self.events(head::ITEMS)
    }

    /// What those wait for who want to put something in.
    #[inline]
    pub(crate) fn space(&self) -> EventCount<'_> {
        self.events(head::SPACE)
    }

    /// The most bytes an item can have.
    pub(crate) fn largest(&self) -> usize {
        // The consumer's extent is never free: in the worst case its end is the producer's place.
        let free = self.extents.count() as usize - 1;
        (free * self.extents.usable() - Header::BYTES).min((1 << 40) - 1)
    }

    #[inline]
    fn unpack(&self, word: u64) -> Result<Commit, Corrupt> {
        let position = (word >> 32) as usize * 8;
        let (extent, byte) = (position / self.extents.len(), position % self.extents.len());
        if extent >= self.extents.count() as usize || byte > self.extents.usable() {
            return Err(Corrupt { what: "a position outside of the queue" });
        }
        Ok(Commit { place: Place { extent: extent as u32, byte }, count: word as u32 })
    }

    #[inline]
    fn pack(&self, commit: Commit) -> u64 {
        let position = commit.place.extent as usize * self.extents.len() + commit.place.byte;
        (position as u64 / 8) << 32 | u64::from(commit.count)
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        loop {
            let got = self.word(head::GOT_COMMIT).load(Ordering::Acquire);
            let put = self.word(head::PUT_COMMIT).load(Ordering::Acquire);
            if self.word(head::GOT_COMMIT).load(Ordering::Relaxed) == got {
                return (put as u32).wrapping_sub(got as u32) as usize;
            }
        }
    }

    /// Puts right what a dead producer left behind.
    pub(crate) fn recover_put(&self) -> Result<(), Corrupt> {
        let deaths = self.word(head::PUT_DEATHS);
        deaths.store(deaths.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let commit = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        self.extents.rebuild(commit.place.extent)
    }

    /// Notes that a consumer died. It left nothing half done here.
    pub(crate) fn recover_get(&self) {
        let deaths = self.word(head::GET_DEATHS);
        deaths.store(deaths.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    // ---------------------------------------------------------------- putting in

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
        let place = self.write(commit.place, header, message.parts)?;
        self.put_to(commit, place, 1, header.padded());
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
        let mut place = commit.place;
        let (mut bytes, mut count) = (0, 0);
        let mut refused = PutError::Full;
        while count < room && count < batch.len() {
            let (run, items) = self.run(place, &batch.rest()[bytes..], room - count);
            let written = if items > 0 {
                self.copy_run(place, run);
                Ok((Place { byte: place.byte + run.len(), ..place }, run.len()))
            } else {
                self.write_first(place, &batch.rest()[bytes..])
            };
            match written {
                Ok((end, len)) => (place, bytes, count) = (end, bytes + len, count + items.max(1)),
                Err(error) => {
                    refused = error;
                    break;
                }
            }
        }
        if count == 0 {
            return if batch.is_empty() { Ok(0) } else { Err(refused) };
        }
        self.put_to(commit, place, count as u32, bytes);
        batch.advance(bytes, count);
        Ok(count)
    }

    /// The items at the beginning of `bytes`, at most `most`, that fit into the rest of the extent.
    fn run<'a>(&self, place: Place, bytes: &'a [u8], most: usize) -> (&'a [u8], usize) {
        let room = self.extents.usable() - place.byte;
        let (mut end, mut items) = (0, 0);
        while items < most
            && let Some(header) = header_of(&bytes[end..])
            && end + header.padded() <= room
        {
            (end, items) = (end + header.padded(), items + 1);
        }
        (&bytes[..end], items)
    }

    fn copy_run(&self, place: Place, run: &[u8]) {
        self.extents.segment.copy_in(self.extents.address(place.extent, place.byte), run);
    }

    /// Writes the first item of `bytes`, which does not fit into the rest of the extent. Returns the place behind it
    /// and its length.
    fn write_first(&self, place: Place, bytes: &[u8]) -> Result<(Place, usize), PutError> {
        let header = header_of(bytes).ok_or(Corrupt { what: "a batch that is none" })?;
        let content = &bytes[Header::BYTES..Header::BYTES + header.len];
        Ok((self.write(place, header, &[content])?, header.padded()))
    }

    /// Writes an item from `place` on and returns the place behind it.
    #[inline]
    fn write(&self, place: Place, header: Header, parts: &[&[u8]]) -> Result<Place, PutError> {
        let segment = &self.extents.segment;
        if header.padded() > self.extents.usable() - place.byte {
            return self.write_across(place, header, parts);
        }
        let mut at = self.extents.address(place.extent, place.byte);
        segment.word64(at).store(header.pack(), Ordering::Relaxed);
        at += Header::BYTES;
        for part in parts {
            segment.copy_in(at, part);
            at += part.len();
        }
        Ok(Place { byte: place.byte + header.padded(), ..place })
    }

    /// Writes an item that does not fit into the rest of the extent.
    #[cold]
    fn write_across(&self, place: Place, header: Header, parts: &[&[u8]]) -> Result<Place, PutError> {
        if header.len > self.largest() {
            return Err(PutError::TooLarge { size: header.len, limit: self.largest() });
        }
        let usable = self.extents.usable();
        let more = (header.padded() - (usable - place.byte)).div_ceil(usable);
        // pairs with: take_to. The consumer has read what it left behind.
        let got = self.unpack(self.word(head::GOT_COMMIT).load(Ordering::Acquire))?;
        let steps = self.word(head::STEPS);
        steps.store(steps.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
        let keep = (KEEP / self.extents.len()).max(2);
        if steps.load(Ordering::Relaxed) as usize > keep {
            steps.store(0, Ordering::Relaxed);
            self.extents.trim(place.extent, got.place.extent, keep.max(more), keep)?;
        }
        self.extents.reserve(place.extent, more, got.place.extent).map_err(|shortage| match shortage {
            Shortage::Full => PutError::Full,
            Shortage::OutOfMemory(error) => PutError::OutOfMemory(error),
            Shortage::Corrupt(corrupt) => PutError::Corrupt(corrupt),
        })?;
        let mut place = self.flow_in(place, &header.pack().to_ne_bytes())?;
        for part in parts {
            place = self.flow_in(place, part)?;
        }
        // The end of an extent is a multiple of eight, so this stays inside.
        place.byte = place.byte.next_multiple_of(8);
        Ok(place)
    }

    /// Writes bytes, over the ends of extents; the links are there.
    fn flow_in(&self, mut place: Place, mut bytes: &[u8]) -> Result<Place, Corrupt> {
        while !bytes.is_empty() {
            let room = self.extents.usable() - place.byte;
            if room == 0 {
                place = Place { extent: self.extents.next(place.extent)?, byte: 0 };
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.extents.segment.copy_in(self.extents.address(place.extent, place.byte), now);
            place.byte += now.len();
            bytes = later;
        }
        Ok(place)
    }

    /// Makes what was written up to `place` a part of the stream.
    #[inline]
    fn put_to(&self, commit: Commit, place: Place, items: u32, bytes: usize) {
        let next = Commit { place, count: commit.count.wrapping_add(items) };
        // Release: the items, and the links that lead to them. pairs with: first, take_batch (Acquire)
        self.word(head::PUT_COMMIT).store(self.pack(next), Ordering::Release);
        self.add(head::PUTS, u64::from(items));
        self.add(head::BYTES_PUT, bytes as u64);
    }

    /// Adds to a word that only the holder of a latch writes.
    #[inline]
    fn add(&self, index: usize, more: u64) {
        let word = self.word(index);
        word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    // ---------------------------------------------------------------- taking out

    /// Where the consumers are, and how many items there are, or at least `most`; `None`: none.
    #[inline]
    fn first(&self, most: usize) -> Result<Option<(Commit, u32)>, Corrupt> {
        let word = self.word(head::GOT_COMMIT).load(Ordering::Relaxed);
        let seen = self.word(head::SEEN_PUT);
        let mut there = (seen.load(Ordering::Relaxed) as u32).wrapping_sub(word as u32);
        if (there as usize) < most {
            // What was seen before is used up. As long as it is not, nothing has to be acquired: who stored it had
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
        let mut place = commit.place;
        let mut bytes = 0;
        for _ in 0..count {
            match self.show(place, &mut take)? {
                Ok((end, len)) => {
                    place = end;
                    bytes = self.sum(bytes, len)?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        before(count as u32, commit.count.wrapping_add(count as u32))?;
        Ok(Ok(self.take_to(commit, place, count, bytes)))
    }

    /// Shows the item at `place` to `take`; returns the place behind it and its length in the stream.
    #[inline]
    fn show<E>(
        &self,
        place: Place,
        take: &mut impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<Result<(Place, usize), E>, Corrupt> {
        let place = self.normal(place)?;
        let at = self.extents.address(place.extent, place.byte);
        let header = Header::unpack(self.extents.segment.word64(at).load(Ordering::Relaxed))?;
        if header.len > self.largest() {
            return Err(Corrupt { what: "an item that is longer than the queue" });
        }
        let room = self.extents.usable() - place.byte;
        let end = if header.padded() <= room {
            Place { byte: place.byte + header.padded(), ..place }
        } else {
            self.skip(place, header.padded())?
        };
        let mut pieces = Pieces { stream: self, extent: place.extent };
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
        let copied = self.copy_out(commit.place, most, bytes, batch);
        let taken = copied.and_then(|(place, count)| {
            before(count as u32, commit.count.wrapping_add(count as u32))?;
            Ok((place, count))
        });
        match taken {
            Ok((place, count)) => {
                batch.count += count;
                Ok(self.take_to(commit, place, count, batch.bytes.len() - start))
            }
            Err(corrupt) => {
                batch.bytes.truncate(start);
                Err(corrupt.into())
            }
        }
    }

    fn copy_out(
        &self,
        mut place: Place,
        most: usize,
        bytes: usize,
        batch: &mut Batch,
    ) -> Result<(Place, usize), Corrupt> {
        let start = batch.bytes.len();
        let full = start.saturating_add(bytes);
        let mut count = 0;
        while count < most && (count == 0 || batch.bytes.len() < full) {
            self.sum(batch.bytes.len() - start, 0)?;
            place = self.normal(place)?;
            let (len, items) = self.run_at(place, most - count, full - batch.bytes.len())?;
            if items > 0 {
                let start = batch.bytes.len();
                batch.bytes.resize(start + len, 0);
                self.extents
                    .segment
                    .copy_out(self.extents.address(place.extent, place.byte), &mut batch.bytes[start..]);
                (place.byte, count) = (place.byte + len, count + items);
                continue;
            }
            let shown = self.show(place, &mut |mut item: Item<'_>| {
                batch.bytes.extend_from_slice(&item.header.pack().to_ne_bytes());
                item.read_to_end(&mut batch.bytes);
                let end = batch.bytes.len().next_multiple_of(8);
                batch.bytes.resize(end, 0);
                Ok::<(), Corrupt>(())
            })?;
            (place, count) = (shown?.0, count + 1);
        }
        Ok((place, count))
    }

    /// Length and number of the items from `place` on that end in the same extent: at most `most`, and with the first
    /// that makes it more than `bytes` bytes the last.
    fn run_at(&self, place: Place, most: usize, bytes: usize) -> Result<(usize, usize), Corrupt> {
        let room = self.extents.usable() - place.byte;
        let (mut end, mut items) = (0, 0);
        while items < most && end < bytes.max(1) && end + Header::BYTES <= room {
            let at = self.extents.address(place.extent, place.byte + end);
            let header = Header::unpack(self.extents.segment.word64(at).load(Ordering::Relaxed))?;
            if end + header.padded() > room {
                break;
            }
            (end, items) = (end + header.padded(), items + 1);
        }
        Ok((end, items))
    }

    /// The same place, but not at the end of an extent.
    #[inline]
    fn normal(&self, place: Place) -> Result<Place, Corrupt> {
        if place.byte < self.extents.usable() {
            return Ok(place);
        }
        Ok(Place { extent: self.extents.next(place.extent)?, byte: 0 })
    }

    /// The place `bytes` bytes further on.
    fn skip(&self, mut place: Place, mut bytes: usize) -> Result<Place, Corrupt> {
        loop {
            let room = self.extents.usable() - place.byte;
            if bytes <= room {
                return Ok(Place { byte: place.byte + bytes, ..place });
            }
            bytes -= room;
            place = Place { extent: self.extents.next(place.extent)?, byte: 0 };
        }
    }

    /// Takes the items up to `place` out of the stream.
    #[inline]
    fn take_to(&self, commit: Commit, place: Place, items: usize, bytes: usize) -> Taken {
        let next = Commit { place, count: commit.count.wrapping_add(items as u32) };
        // Release: we have read what a producer may now overwrite. pairs with: room, write_across, trim (Acquire)
        self.word(head::GOT_COMMIT).store(self.pack(next), Ordering::Release);
        self.add(head::GETS, items as u64);
        self.add(head::BYTES_GOT, bytes as u64);
        Taken { items, freed: place.extent != commit.place.extent }
    }

    /// Adds up what a run of items takes; more than there is means going round in a circle.
    #[inline]
    fn sum(&self, bytes: usize, more: usize) -> Result<usize, Corrupt> {
        let sum = bytes + more;
        let limit = self.extents.count() as usize * self.extents.len();
        if sum <= limit { Ok(sum) } else { Err(Corrupt { what: "more items than memory for them" }) }
    }

    /// Drops all items. The caller holds both latches. Returns how many there were.
    pub(crate) fn clear(&self, _put: &Guard<'_>, _get: &Guard<'_>) -> u32 {
        let put = self.word(head::PUT_COMMIT).load(Ordering::Relaxed);
        let got = self.word(head::GOT_COMMIT).load(Ordering::Relaxed);
        // First, so that nobody ever finds it behind the commit.
        self.word(head::SEEN_PUT).store(put, Ordering::Relaxed);
        self.word(head::GOT_COMMIT).store(put, Ordering::Release);
        (put as u32).wrapping_sub(got as u32)
    }

    /// The number of the item that was taken out last, modulo 2³².
    pub(crate) fn got(&self) -> u32 {
        self.word(head::GOT_COMMIT).load(Ordering::Acquire) as u32
    }

    /// The number of the item that was put in last, modulo 2³².
    pub(crate) fn put_count(&self) -> u32 {
        self.word(head::PUT_COMMIT).load(Ordering::Acquire) as u32
    }

    /// A word of the head.
    pub(crate) fn head_word(&self, index: usize) -> &AtomicU64 {
        self.word(index)
    }

    // ---------------------------------------------------------------- memory

    /// Memory of the extents in use, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.extents.linked() * self.extents.len()
    }

    /// Whether giving memory back is worth while.
    pub(crate) fn is_fat(&self) -> bool {
        self.memory() > KEEP
    }

    /// Gives back some of the memory that was needed for more items than there are. The caller holds the producers'
    /// latch. Returns whether there may be more.
    pub(crate) fn trim(&self, _guard: &Guard<'_>) -> Result<bool, Corrupt> {
        // At a few microseconds each: producers wait meanwhile.
        const AT_ONCE: usize = 64;
        let put = self.unpack(self.word(head::PUT_COMMIT).load(Ordering::Relaxed))?;
        // pairs with: take_to
        let got = self.unpack(self.word(head::GOT_COMMIT).load(Ordering::Acquire))?;
        let keep = (KEEP / self.extents.len()).max(2);
        Ok(self.extents.trim(put.place.extent, got.place.extent, keep, AT_ONCE)? == AT_ONCE)
    }

    /// Items ever put in (`PUTS`) or taken out (`GETS`): the counter, set right by the commit that it follows.
    pub(crate) fn total(&self, counter: usize, commit: usize) -> u64 {
        let counter = self.word(counter).load(Ordering::Relaxed);
        let commit = self.word(commit).load(Ordering::Relaxed) as u32;
        counter.wrapping_add_signed(i64::from(commit.wrapping_sub(counter as u32) as i32))
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
