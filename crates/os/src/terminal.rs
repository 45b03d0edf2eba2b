//! What a stream that is shown to somebody can show.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use crate::clock::{Deadline, until};

/// Columns of the terminal behind `stream`, or None if it is something else (a file, a pipe, closed).
///
/// A terminal that does not know its own width, as serial lines and some CI systems do not, counts
/// as 80 columns wide.
///
/// ```
/// let file = std::fs::File::open("/dev/null").unwrap();
/// assert_eq!(manyhands_os::terminal::columns(&file), None);
/// ```
#[must_use]
pub fn columns(stream: impl AsFd) -> Option<usize> {
    if !termios::isatty(&stream) {
        return None;
    }
    let size = termios::tcgetwinsize(&stream).ok();
    Some(size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(80))
}

/// Columns and lines of the terminal behind `stream`, or None if it is something else; what it does not know about
/// itself counts as 80 by 24.
///
/// ```
/// let file = std::fs::File::open("/dev/null").unwrap();
/// assert_eq!(manyhands_os::terminal::size(&file), None);
/// ```
#[must_use]
pub fn size(stream: impl AsFd) -> Option<(usize, usize)> {
    let columns = columns(&stream)?;
    let rows = termios::tcgetwinsize(&stream).ok().map(|size| usize::from(size.ws_row));
    Some((columns, rows.filter(|&rows| rows > 0).unwrap_or(24)))
}

/// What came from a keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    /// One byte of what a key sends.
    Key(u8),
    /// Nothing until the deadline, or until a signal handler ran.
    Nothing,
    /// The terminal has gone.
    Gone,
}

/// The keys of a terminal, one by one as they are pressed and without being shown. Ctrl-C still sends its signal. The
/// terminal is as it was again when this is dropped.
#[derive(Debug)]
pub struct Keys<F: AsFd> {
    input: F,
    before: Termios,
}

impl<F: AsFd> Keys<F> {
    /// Takes over the keys of the terminal that `input` is.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(input: F) -> io::Result<Self> {
        let before = termios::tcgetattr(&input)?;
        let mut changed = before.clone();
        changed.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        changed.special_codes[SpecialCodeIndex::VMIN] = 1;
        changed.special_codes[SpecialCodeIndex::VTIME] = 0;
        // A stopped program would leave its screen behind for whatever comes next.
        changed.special_codes[SpecialCodeIndex::VSUSP] = 0;
        termios::tcsetattr(&input, OptionalActions::Now, &changed)?;
        Ok(Self { input, before })
    }

    /// The next byte, waited for until `deadline`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self, deadline: Deadline) -> io::Result<Pressed> {
        let left = i64::try_from(until(deadline)).unwrap_or(i64::MAX);
        let timeout = rustix::time::Timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 };
        let mut waited = [PollFd::new(&self.input, PollFlags::IN)];
        match poll(&mut waited, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Pressed::Nothing),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut byte = [0];
        match rustix::io::read(&self.input, &mut byte) {
            Ok(0) | Err(Errno::IO) => Ok(Pressed::Gone),
            Ok(_) => Ok(Pressed::Key(byte[0])),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Pressed::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

impl<F: AsFd> Drop for Keys<F> {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing any more.
        let _ = termios::tcsetattr(&self.input, OptionalActions::Now, &self.before);
    }
}
