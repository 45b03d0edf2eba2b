//! What `/proc/<pid>/stat` says of a process or thread (`proc(5)`).

use std::fs;
use std::io;

/// What the kernel calls `PF_EXITING`: the thread runs no instruction of its program any more.
const EXITING: u64 = 0x4;

/// Some of its fields.
pub(crate) struct Stat {
    state: u8,
    flags: u64,
    /// The number of its parent, 0 when that is outside of the PID namespace.
    pub(crate) parent: i32,
    /// The number of the process that made the session it is in.
    pub(super) session: i32,
    /// When it started, in the kernel's clock ticks since boot.
    pub(super) start: u64,
}

impl Stat {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `InvalidData` when it is no such file, otherwise what reading it says.
    pub(crate) fn read(path: &str) -> io::Result<Self> {
        let text = fs::read(path)?;
        Self::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may contain anything, also parentheses.
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let flags = fields.nth(2)?.parse().ok()?;
        let start = fields.nth(12)?.parse().ok()?;
        Some(Self { state, flags, parent, session, start })
    }

    /// Whether it is a zombie or on its way to be one.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') || self.flags & EXITING != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_anything_in_them_are_passed_over() {
        let text = "7 (a) Z (b)) S 1 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        let stat = Stat::parse(text).expect("well formed");
        assert_eq!((stat.state, stat.flags, stat.start), (b'S', 4_194_560, 12345));
        assert_eq!((stat.parent, stat.session), (1, 9));
        assert!(Stat::parse("7 (a) S 1").is_none());
    }
}
