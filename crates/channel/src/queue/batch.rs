//! Many items as one run of bytes, as they stand in a stream: put in and taken out by copying the run.

use super::item::Header;

/// Items in the order in which they go in or came out; in memory of this process.
///
/// ```
/// use manyhands_channel::queue::Batch;
///
/// let mut batch = Batch::default();
/// batch.push(1, &[b"one"]);
/// batch.push_with(2, |bytes| bytes.extend(b"two"));
/// let items: Vec<(u16, &[u8])> = batch.iter().collect();
/// assert_eq!(items, [(1, &b"one"[..]), (2, b"two")]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where the first item begins: those before it have gone in.
    pub(super) front: usize,
    pub(super) count: usize,
}

impl Batch {
    /// Takes everything out of it; keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.front = 0;
        self.count = 0;
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The memory that all of them take, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() - self.front
    }

    /// Appends an item.
    pub fn push(&mut self, tag: u16, parts: &[&[u8]]) {
        self.push_with(tag, |bytes| parts.iter().for_each(|part| bytes.extend_from_slice(part)));
    }

    /// Appends an item whose bytes `write` appends to what it is given. What stands there already is not its business.
    pub fn push_with(&mut self, tag: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let written = self.try_push_with(tag, |bytes| {
            write(bytes);
            Ok::<(), std::convert::Infallible>(())
        });
        match written {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Appends an item like [`push_with`](Self::push_with), or nothing when `write` fails.
    ///
    /// # Errors
    /// What `write` returns.
    ///
    /// # Panics
    /// When `write` takes away what stood there before.
    pub fn try_push_with<E>(
        &mut self,
        tag: u16,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let content = start + Header::BYTES;
        self.bytes.extend([0; Header::BYTES]);
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let len = self.bytes.len().checked_sub(content).expect("only appended to");
        self.bytes.resize(content + len.next_multiple_of(8), 0);
        self.bytes[start..content].copy_from_slice(&Header { len, tag }.pack().to_ne_bytes());
        self.count += 1;
        Ok(())
    }

    /// The items: tag and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = self.rest();
        std::iter::from_fn(move || {
            let header = header_of(rest)?;
            let item = rest.get(Header::BYTES..Header::BYTES + header.len)?;
            rest = rest.get(header.padded()..)?;
            Some((header.tag, item))
        })
    }

    /// The items as they stand in a stream.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.front..]
    }

    /// The first items have gone in.
    pub(super) fn advance(&mut self, bytes: usize, count: usize) {
        self.front += bytes;
        self.count -= count;
        if self.count == 0 {
            self.clear();
        }
    }
}

/// The header at the beginning of `bytes`.
pub(super) fn header_of(bytes: &[u8]) -> Option<Header> {
    let word = bytes.first_chunk::<8>()?;
    let header = Header::unpack(u64::from_ne_bytes(*word)).ok()?;
    (header.padded() <= bytes.len()).then_some(header)
}
