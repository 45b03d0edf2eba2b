//! What keys of a terminal mean, put together from the bytes that they send.

/// A key, as far as the screen has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter, digit or sign.
    Letter(char),
    /// Return.
    Enter,
    /// Escape, by itself.
    Escape,
    /// Rubs out the last letter.
    Backspace,
    /// The arrow up.
    Up,
    /// The arrow down.
    Down,
    /// The arrow to the left.
    Left,
    /// The arrow to the right.
    Right,
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Anything else.
    Other,
}

const ESCAPE: u8 = 0x1b;
/// Longer sequences are nobody's.
const MOST_BYTES: usize = 16;

/// The bytes of a key that is not complete.
#[derive(Clone, Debug, Default)]
pub struct Typing(Vec<u8>);

impl Typing {
    /// Takes the next byte; the key that it completes, if it does.
    pub fn byte(&mut self, byte: u8) -> Option<Key> {
        if byte == ESCAPE && !self.0.is_empty() {
            // The one before was a key by itself, or will never be one.
            self.0 = vec![ESCAPE];
            return Some(Key::Escape);
        }
        self.0.push(byte);
        let key = key_of(&self.0)?;
        self.0.clear();
        Some(key)
    }

    /// Nothing has followed for a while: what has come so far is all.
    pub fn pause(&mut self) -> Option<Key> {
        let bytes = std::mem::take(&mut self.0);
        match bytes.as_slice() {
            [] => None,
            [ESCAPE] => Some(Key::Escape),
            _ => Some(Key::Other),
        }
    }

    /// Whether a key has begun: then it is worth to wait a moment for the rest of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The key that these bytes are; `None` as long as more may follow.
fn key_of(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [ESCAPE] | [ESCAPE, b'O'] => None,
        // CSI: parameters, then a letter or ~ (ECMA-48, section 5.4).
        [ESCAPE, b'[', parameters @ ..] => match parameters.split_last() {
            Some((last @ 0x40..=0x7e, before)) => Some(sequence(before, *last)),
            _ if bytes.len() >= MOST_BYTES => Some(Key::Other),
            _ => None,
        },
        [ESCAPE, b'O', last] => Some(sequence(&[], *last)),
        [ESCAPE, ..] => Some(Key::Other),
        [b'\r' | b'\n'] => Some(Key::Enter),
        [0x08 | 0x7f] => Some(Key::Backspace),
        [control] if control.is_ascii_control() => Some(Key::Other),
        text => match std::str::from_utf8(text) {
            Ok(text) => text.chars().next().map(Key::Letter),
            Err(error) if error.error_len().is_none() => None,
            Err(_) => Some(Key::Other),
        },
    }
}

fn sequence(parameters: &[u8], last: u8) -> Key {
    match (parameters, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut typing = Typing::default();
        let mut found: Vec<Key> = bytes.iter().filter_map(|byte| typing.byte(*byte)).collect();
        found.extend(typing.pause());
        assert!(!typing.is_open());
        found
    }

    #[test]
    fn letters_are_themselves() {
        assert_eq!(keys("qé注".as_bytes()), ['q', 'é', '注'].map(Key::Letter));
        assert_eq!(
            keys(b"\r\n\x7f\x08\x01"),
            [Key::Enter, Key::Enter, Key::Backspace, Key::Backspace, Key::Other]
        );
    }

    #[test]
    fn sequences_of_terminals_are_keys() {
        for (bytes, key) in [
            ("\x1b[A", Key::Up),
            ("\x1bOB", Key::Down),
            ("\x1b[1;5C", Key::Right),
            ("\x1b[D", Key::Left),
            ("\x1b[5~", Key::PageUp),
            ("\x1b[6~", Key::PageDown),
            ("\x1b[H", Key::Home),
            ("\x1b[1~", Key::Home),
            ("\x1bOF", Key::End),
            ("\x1b[4~", Key::End),
            ("\x1b[200~", Key::Other),
            ("\x1bx", Key::Other),
        ] {
            assert_eq!(keys(bytes.as_bytes()), [key], "{bytes:?}");
        }
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut typing = Typing::default();
        assert_eq!(typing.byte(ESCAPE), None);
        assert!(typing.is_open());
        assert_eq!(typing.pause(), Some(Key::Escape));
        assert_eq!(typing.pause(), None);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Escape, Key::Up]);
        assert_eq!(keys(b"\x1b[12"), [Key::Other]);
    }

    #[test]
    fn whatever_comes_ends_somewhere() {
        let endless: Vec<u8> = b"\x1b[".iter().copied().chain([b'1'; 40]).collect();
        let found = keys(&endless);
        assert_eq!(found[0], Key::Other);
        assert!(found[1..].iter().all(|key| *key == Key::Letter('1')));
        assert_eq!(keys(&[0xff, 0xc3, 0x28, b'a'])[0], Key::Other);
    }
}
