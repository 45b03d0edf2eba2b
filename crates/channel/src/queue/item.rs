//! Items on their way in and out.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use manyhands_os::memory::Segment;

use super::error::Corrupt;

/// What to put in: some bytes, in parts that are joined on the way.
///
/// ```
/// use manyhands_channel::queue::Message;
///
/// let message = Message { tag: 7, priority: 0, parts: &[b"head", b"body"] };
/// assert_eq!(message.size(), 8);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// A small number that comes out with the bytes: how to read them.
    pub tag: u16,
    /// Where in a queue of kind `Priority` it belongs: the smallest first, among equals the oldest. Not used otherwise.
    pub priority: u128,
    /// The bytes.
    pub parts: &'a [&'a [u8]],
}

impl<'a> Message<'a> {
    /// A message without priority.
    #[must_use]
    pub const fn new(tag: u16, parts: &'a [&'a [u8]]) -> Self {
        Self { tag, priority: 0, parts }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }
}

/// The first word of an item: its length, its tag, and a mark by which damage is noticed.
///
/// | bits | meaning |
/// |---|---|
/// | 0-39 | bytes |
/// | 40-55 | tag |
/// | 56-63 | the mark |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) tag: u16,
}

const MARK: u64 = 0xA7;

impl Header {
    /// Bytes of a header.
    pub(super) const BYTES: usize = 8;

    #[inline]
    pub(super) fn pack(self) -> u64 {
        MARK << 56 | u64::from(self.tag) << 40 | self.len as u64
    }

    #[inline]
    pub(super) fn unpack(word: u64) -> Result<Self, Corrupt> {
        if word >> 56 != MARK {
            return Err(Corrupt { what: "no item begins where one should" });
        }
        let len = (word & ((1 << 40) - 1)) as usize;
        Ok(Self { len, tag: (word >> 40) as u16 })
    }

    /// Bytes of an item with its header, rounded up to words.
    #[inline]
    pub(super) fn padded(self) -> usize {
        Self::BYTES + self.len.next_multiple_of(8)
    }
}

/// A piece of memory that holds some of an item's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Where it is in the segment.
    pub(super) at: usize,
    /// Bytes left in it.
    pub(super) len: usize,
}

/// Finds the pieces of an item after the first one.
pub(super) trait Spans {
    /// The piece after the last one.
    fn next_span(&mut self) -> Result<Span, Corrupt>;
}

/// An item on its way out. It is out once the closure that looks at it has returned.
///
/// While that closure runs nobody else can take anything out: copy the bytes and do nothing that may wait.
pub struct Item<'q> {
    pub(super) segment: &'q Segment,
    pub(super) header: Header,
    pub(super) remaining: usize,
    pub(super) span: Span,
    pub(super) spans: &'q mut dyn Spans,
    pub(super) damage: &'q mut Option<Corrupt>,
}

impl Item<'_> {
    /// The number it was put in with.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.header.tag
    }

    /// All its bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty item is an item")]
    pub fn len(&self) -> usize {
        self.header.len
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Reads the next bytes. In a damaged queue it may find fewer than there should be; the rest is zero then, and the
    /// operation fails in the end.
    ///
    /// # Panics
    /// When not so many remain.
    pub fn read(&mut self, buffer: &mut [u8]) {
        let len = buffer.len();
        // SAFETY: a slice of initialised bytes; `read_raw` writes bytes.
        unsafe { self.read_raw(NonNull::from(buffer).cast(), len) };
    }

    /// Reads the next bytes into memory that need not be initialised, and is afterwards. See [`read`](Self::read).
    ///
    /// # Panics
    /// When not so many remain.
    pub fn read_uninit(&mut self, buffer: &mut [MaybeUninit<u8>]) {
        let len = buffer.len();
        // SAFETY: a slice of so many bytes, of which initialised ones may become.
        unsafe { self.read_raw(NonNull::from(buffer).cast(), len) };
    }

    /// Appends what remains.
    pub fn read_to_end(&mut self, bytes: &mut Vec<u8>) {
        let (before, more) = (bytes.len(), self.remaining);
        bytes.reserve(more);
        self.read_uninit(&mut bytes.spare_capacity_mut()[..more]);
        // SAFETY: reserved and initialised by the lines above.
        unsafe { bytes.set_len(before + more) };
    }

    /// # Safety
    /// `to` is valid for writing `len` bytes.
    unsafe fn read_raw(&mut self, to: NonNull<u8>, len: usize) {
        assert!(len <= self.remaining, "{len} bytes of an item that has {} left", self.remaining);
        self.remaining -= len;
        let mut done = 0;
        while done < len {
            if self.span.len == 0 {
                match self.spans.next_span() {
                    Ok(span) => self.span = span,
                    Err(damage) => {
                        *self.damage = Some(damage);
                        // SAFETY: the rest of the buffer.
                        let rest = unsafe { to.add(done) };
                        // SAFETY: promised by the caller.
                        unsafe { rest.write_bytes(0, len - done) };
                        return;
                    }
                }
                continue;
            }
            let count = self.span.len.min(len - done);
            let from = self.segment.pointer(self.span.at, count);
            // SAFETY: inside the buffer, as `done` is less than `len`.
            let target = unsafe { to.add(done) };
            // SAFETY: both have `count` bytes; a buffer of the caller's does not overlap the segment, of which nobody
            // has slices.
            unsafe { target.copy_from_nonoverlapping(from, count) };
            done += count;
            self.span.at += count;
            self.span.len -= count;
        }
    }
}
