//! What a stream that is shown to somebody can show.

use std::os::fd::AsFd;

use rustix::termios;

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
