//! What a client has said and nobody has read yet, and what a reader gets of it.
//!
//! Pure. The rules are those of `asyncio.StreamReader`, which users know.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

/// What a reader waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// At least one byte, at most so many; nothing at the end of the stream.
    Some(usize),
    /// At least one byte, or the end of the stream; all of it stays there.
    Any,
    /// Everything up to the end of the stream.
    All,
    /// Exactly so many bytes.
    Exactly(usize),
    /// Everything up to this, and with it; there must be no more than the limit. At the end of the stream, `or_rest` is
    /// content with what there is.
    Until {
        /// What to look for; not empty.
        separator: Cow<'static, [u8]>,
        /// Whether the rest will do at the end.
        or_rest: bool,
    },
    /// The same, up to the end of whichever of these ends first. None is empty, and the shortest stand first.
    UntilAny(Vec<Vec<u8>>),
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These of the bytes.
    Bytes(Range<usize>),
    /// The stream has ended before what was wanted: these are the rest.
    Incomplete(Range<usize>),
    /// No separator was found in more bytes than the limit: so many, which stay there.
    TooLong(usize),
    /// What ends with the separator is longer than the limit: so many bytes before it, which stay there.
    TooFar(usize),
}

/// The bytes.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    begin: usize,
    /// How many of them are known not to hold what a reader looks for.
    searched: usize,
    ended: bool,
}

impl Input {
    /// How many bytes are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the client will say no more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The client has said something.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.begin > 0 {
            self.bytes.drain(..self.begin);
            self.begin = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The client will say no more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Has `consume` take as many bytes off the front as it says, at most all.
    pub fn consume(&mut self, consume: impl FnOnce(&[u8]) -> usize) {
        let used = consume(&self.bytes[self.begin..]);
        self.begin += used.min(self.len());
        self.searched = 0;
    }

    /// Somebody else asks from now on, who may want something else.
    pub fn begin_search(&mut self) {
        self.searched = 0;
    }

    /// Takes what somebody wants, if it is there.
    pub fn take(&mut self, want: &Want, limit: usize) -> Option<Found> {
        let found = self.look(want, limit);
        match &found {
            Some(Found::Bytes(range) | Found::Incomplete(range)) => {
                self.begin = range.end;
                self.searched = 0;
            }
            Some(_) => self.searched = 0,
            None => {}
        }
        found
    }

    /// Whether [`Self::take`] would find an answer.
    pub fn has(&mut self, want: &Want, limit: usize) -> bool {
        self.look(want, limit).is_some()
    }

    /// The bytes of what was found; before the next [`Self::feed`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    fn look(&mut self, want: &Want, limit: usize) -> Option<Found> {
        let (begin, all) = (self.begin, self.begin..self.bytes.len());
        match want {
            Want::Some(most) => {
                let length = all.len().min(*most);
                (length > 0 || self.ended || *most == 0).then(|| Found::Bytes(begin..begin + length))
            }
            Want::Any => (!all.is_empty() || self.ended).then_some(Found::Bytes(begin..begin)),
            Want::All => self.ended.then_some(Found::Bytes(all)),
            Want::Exactly(length) if all.len() >= *length => Some(Found::Bytes(begin..begin + length)),
            Want::Exactly(_) => self.ended.then_some(Found::Incomplete(all)),
            Want::Until { separator, or_rest } => {
                self.look_for(std::slice::from_ref(separator), *or_rest, limit)
            }
            Want::UntilAny(separators) => self.look_for(separators, false, limit),
        }
    }

    /// Looks for the separator that ends first; of two that end together, for the first.
    fn look_for(&mut self, separators: &[impl AsRef<[u8]>], or_rest: bool, limit: usize) -> Option<Found> {
        let (begin, all) = (self.begin, self.begin..self.bytes.len());
        let rest = &self.bytes[all.clone()];
        let mut first: Option<Range<usize>> = None;
        for separator in separators.iter().map(AsRef::as_ref) {
            let Some(found) = memmem::find(&rest[self.searched..], separator) else { continue };
            let before = self.searched + found;
            let end = before + separator.len();
            if first.as_ref().is_none_or(|first| end < first.end) {
                first = Some(before..end);
            }
        }
        if let Some(Range { start, end }) = first {
            return Some(if start > limit { Found::TooFar(start) } else { Found::Bytes(begin..begin + end) });
        }
        // It may have begun with the last of the bytes.
        let longest = separators.last().map_or(1, |separator| separator.as_ref().len());
        self.searched = (rest.len() + 1).saturating_sub(longest).min(rest.len());
        if self.searched > limit {
            return Some(Found::TooLong(self.searched));
        }
        self.ended.then_some(if or_rest { Found::Bytes(all) } else { Found::Incomplete(all) })
    }

    /// Throws away what a line that is too long consists of, up to its end if that is here, as `readline` does.
    pub fn skip_line(&mut self, found: &Found, separator: &[u8]) {
        match found {
            Found::TooFar(before) => self.begin += before + separator.len(),
            Found::TooLong(_) => self.begin = self.bytes.len(),
            Found::Bytes(_) | Found::Incomplete(_) => {}
        }
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(separator: &[u8], or_rest: bool) -> Want {
        Want::Until { separator: separator.to_vec().into(), or_rest }
    }

    fn taken(input: &mut Input, want: &Want) -> Option<Vec<u8>> {
        match input.take(want, 8)? {
            Found::Bytes(range) => Some(input.bytes(range).to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_separator_is_found_wherever_the_bytes_are_split() {
        let stream = b"ab\r\r\ncd";
        for split in 0..stream.len() {
            let mut input = Input::default();
            input.feed(&stream[..split]);
            let early = taken(&mut input, &until(b"\r\n", false));
            input.feed(&stream[split..]);
            let found = early.or_else(|| taken(&mut input, &until(b"\r\n", false)));
            assert_eq!(found.as_deref(), Some(&b"ab\r\r\n"[..]), "split at {split}");
            assert_eq!(taken(&mut input, &Want::Some(10)).as_deref(), Some(&b"cd"[..]));
        }
    }

    #[test]
    fn of_several_separators_the_one_that_ends_first_counts() {
        let any = |separators: &[&str]| {
            Want::UntilAny(separators.iter().map(|each| each.as_bytes().to_vec()).collect())
        };
        let mut input = Input::default();
        input.feed(b"1\n2\r\n3--4");
        assert_eq!(taken(&mut input, &any(&["\r\n", "\n2\r\n3--4"])).as_deref(), Some(&b"1\n2\r\n"[..]));
        assert_eq!(taken(&mut input, &any(&["--4", "3--4"])).as_deref(), Some(&b"3--4"[..]));
        input.feed(b"ab");
        assert_eq!(input.take(&any(&["\n", "bcd"]), 8), None);
        input.feed(b"cd");
        assert_eq!(taken(&mut input, &any(&["\n", "bcd"])).as_deref(), Some(&b"abcd"[..]));
        input.feed(b"123456789\n");
        assert_eq!(taken(&mut input, &any(&["\n", "78"])).as_deref(), Some(&b"12345678"[..]));
        assert_eq!(taken(&mut input, &any(&["\n", "78"])).as_deref(), Some(&b"9\n"[..]));
        input.feed(b"123456789\n");
        assert_eq!(input.take(&any(&["\n", "x"]), 8), Some(Found::TooFar(9)));
    }

    #[test]
    fn the_end_of_the_stream_gives_what_there_is() {
        let mut input = Input::default();
        input.feed(b"rest");
        assert_eq!(input.take(&Want::All, 8), None);
        assert_eq!(input.take(&Want::Any, 8), Some(Found::Bytes(0..0)));
        assert_eq!(input.take(&until(b"\n", true), 8), None);
        input.end();
        assert_eq!(taken(&mut input, &until(b"\n", true)).as_deref(), Some(&b"rest"[..]));
        assert_eq!(taken(&mut input, &Want::Some(3)).as_deref(), Some(&b""[..]));
        assert_eq!(input.take(&Want::Exactly(2), 8), Some(Found::Incomplete(4..4)));
        assert_eq!(taken(&mut input, &Want::Exactly(0)).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn a_line_that_is_too_long_can_be_skipped() {
        let mut input = Input::default();
        input.feed(b"123456789\nnext\n");
        let line = until(b"\n", true);
        let found = input.take(&line, 8).expect("an answer");
        assert_eq!(found, Found::TooFar(9));
        input.skip_line(&found, b"\n");
        assert_eq!(taken(&mut input, &line).as_deref(), Some(&b"next\n"[..]));
        input.feed(b"1234567890");
        let found = input.take(&line, 8).expect("an answer");
        assert_eq!(found, Found::TooLong(10));
        input.skip_line(&found, b"\n");
        assert!(input.is_empty());
    }
}
