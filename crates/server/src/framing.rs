//! Where messages begin and end in a stream of bytes.
//!
//! Pure: bytes go in as they come, messages come out whole. No length is believed beyond the limit, before any memory is
//! taken for it.

use std::ops::Range;

use memchr::memchr;

/// How messages are told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A message ends with a line feed, or a carriage return and a line feed, which are no part of it; replies get a line feed.
    Lines,
    /// A message is preceded by its length: four bytes, the highest first. So are replies.
    U32,
    /// What has come together is a message; replies go as they are.
    Raw,
}

/// A client has sent a message that is longer than the limit, or begun to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How many bytes there may be.
    pub limit: usize,
}

/// Takes a stream apart.
///
/// ```
/// use manyhands_server::framing::{Framer, Framing};
///
/// let mut framer = Framer::new(Framing::Lines, 100);
/// framer.feed(b"one\r\ntw");
/// assert_eq!(framer.next_message(), Ok(Some(&b"one"[..])));
/// assert_eq!(framer.next_message(), Ok(None));
/// framer.feed(b"o\n");
/// assert_eq!(framer.next_message(), Ok(Some(&b"two"[..])));
/// ```
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    limit: usize,
    bytes: Vec<u8>,
    /// Where the next message begins.
    begin: usize,
    /// How many of its bytes are known to have no line feed.
    searched: usize,
}

impl Framer {
    /// Nothing has come yet; a message may have `limit` bytes.
    #[must_use]
    pub fn new(framing: Framing, limit: usize) -> Self {
        Self { framing, limit, bytes: Vec::new(), begin: 0, searched: 0 }
    }

    /// Bytes have come.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.begin > 0 {
            self.bytes.drain(..self.begin);
            self.begin = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether bytes are here that are no message yet.
    #[must_use]
    pub fn is_amid_message(&self) -> bool {
        self.begin < self.bytes.len()
    }

    /// The next message, if all of it has come.
    ///
    /// # Errors
    /// It is too long: nothing that follows has a meaning.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let found = match self.framing {
            Framing::Lines => self.next_line()?,
            Framing::U32 => self.next_counted()?,
            Framing::Raw => self.all_there_is(),
        };
        Ok(found.map(|range| &self.bytes[range]))
    }

    /// The stream has ended: what remains, if that is a message. A last line needs no line feed.
    pub fn last_message(&mut self) -> Option<&[u8]> {
        if self.framing != Framing::Lines || !self.is_amid_message() {
            return None;
        }
        let begin = std::mem::replace(&mut self.begin, self.bytes.len());
        self.searched = 0;
        Some(&self.bytes[begin..])
    }

    fn next_line(&mut self) -> Result<Option<Range<usize>>, TooLong> {
        let rest = &self.bytes[self.begin..];
        let Some(length) = memchr(b'\n', &rest[self.searched..]).map(|found| found + self.searched) else {
            self.searched = rest.len();
            return if rest.len() > self.limit { Err(self.too_long()) } else { Ok(None) };
        };
        if length > self.limit {
            return Err(self.too_long());
        }
        let without = length - usize::from(rest[..length].ends_with(b"\r"));
        let begin = self.begin;
        self.begin += length + 1;
        self.searched = 0;
        Ok(Some(begin..begin + without))
    }

    fn next_counted(&mut self) -> Result<Option<Range<usize>>, TooLong> {
        let Some((header, rest)) = self.bytes[self.begin..].split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.limit {
            return Err(self.too_long());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let begin = self.begin + header.len();
        self.begin = begin + length;
        Ok(Some(begin..self.begin))
    }

    fn all_there_is(&mut self) -> Option<Range<usize>> {
        let begin = self.begin;
        self.begin = self.bytes.len().min(begin + self.limit);
        (begin < self.begin).then_some(begin..self.begin)
    }

    fn too_long(&self) -> TooLong {
        TooLong { limit: self.limit }
    }
}

impl Framing {
    /// Appends a reply to the output.
    ///
    /// # Errors
    /// It is longer than four bytes can tell.
    pub fn frame(self, reply: &[u8], output: &mut Vec<u8>) -> Result<(), TooLong> {
        if self == Self::U32 {
            let length = u32::try_from(reply.len()).map_err(|_| TooLong { limit: u32::MAX as usize })?;
            output.extend_from_slice(&length.to_be_bytes());
        }
        output.extend_from_slice(reply);
        if self == Self::Lines {
            output.push(b'\n');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framer: &mut Framer) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut messages = Vec::new();
        while let Some(message) = framer.next_message()? {
            messages.push(message.to_vec());
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_the_same_however_they_are_split() {
        let lines = (Framing::Lines, &b"a\nbc\r\n\n\r\r\nlast"[..]);
        let counted = (Framing::U32, &b"\0\0\0\x01a\0\0\0\0\0\0\0\x03\nbc\0\0"[..]);
        for (framing, stream) in [lines, counted] {
            let mut whole = Framer::new(framing, 10);
            whole.feed(stream);
            let expected = all(&mut whole).expect("short ones");
            for first in 0..stream.len() {
                for second in first..stream.len() {
                    let mut framer = Framer::new(framing, 10);
                    let mut found = Vec::new();
                    for part in [&stream[..first], &stream[first..second], &stream[second..]] {
                        framer.feed(part);
                        found.extend(all(&mut framer).expect("short ones"));
                    }
                    assert_eq!(found, expected, "{framing:?} split at {first} and {second}");
                    assert_eq!(framer.is_amid_message(), whole.is_amid_message());
                    assert_eq!(framer.last_message(), (framing == Framing::Lines).then_some(&b"last"[..]));
                    assert_eq!(framer.next_message(), Ok(None), "that was the last");
                }
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_all_of_it_has_come() {
        let mut lines = Framer::new(Framing::Lines, 3);
        lines.feed(b"abc\nabc");
        assert_eq!(lines.next_message(), Ok(Some(&b"abc"[..])));
        assert_eq!(lines.next_message(), Ok(None));
        lines.feed(b"d");
        assert_eq!(lines.next_message(), Err(TooLong { limit: 3 }));
        let mut counted = Framer::new(Framing::U32, 3);
        counted.feed(&u32::MAX.to_be_bytes());
        assert_eq!(counted.next_message(), Err(TooLong { limit: 3 }));
    }

    #[test]
    fn raw_messages_are_what_has_come_in_pieces_of_the_limit() {
        let mut raw = Framer::new(Framing::Raw, 2);
        raw.feed(b"abc");
        assert_eq!(all(&mut raw), Ok(vec![b"ab".to_vec(), b"c".to_vec()]));
    }

    #[test]
    fn replies_are_framed_as_messages_are() {
        for framing in [Framing::Lines, Framing::U32, Framing::Raw] {
            let mut sent = Vec::new();
            framing.frame(b"yes", &mut sent).expect("short");
            let mut framer = Framer::new(framing, 10);
            framer.feed(&sent);
            assert_eq!(framer.next_message(), Ok(Some(&b"yes"[..])));
            assert!(!framer.is_amid_message());
        }
    }
}
