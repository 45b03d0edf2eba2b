//! Colour, where it is wanted: the few tones of the command and when they are used.

use std::ffi::OsStr;

/// What a piece of text means; [`Ink`] decides how that looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Names and titles.
    Strong,
    /// What explains and may be skipped.
    Faint,
    /// One measured thing among others.
    Plain,
    /// The best of several.
    Good,
    /// Something is wrong.
    Bad,
}

impl Tone {
    // Only the sixteen colours that every terminal theme defines, so that the user's theme decides
    // how they look on its background.
    fn escape(self) -> &'static str {
        match self {
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Plain => "\x1b[34m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Text goes out as it is.
    Colourless,
    /// Text is wrapped in ANSI escape sequences.
    Coloured,
}

impl Ink {
    /// Chooses for one output stream.
    ///
    /// Colours need a terminal, a `TERM` that is not `dumb`, and no `NO_COLOR` in the environment
    /// (set and not empty, see <https://no-color.org>).
    #[must_use]
    pub fn choose(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        let dumb = term.is_none_or(|name| name == "dumb");
        if is_terminal && !refused && !dumb { Self::Coloured } else { Self::Colourless }
    }

    /// Wraps `text` in the tone's escape sequences, or returns it as it is.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        match self {
            Self::Coloured if !text.is_empty() => format!("{}{text}\x1b[0m", tone.escape()),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ink, Tone};
    use std::ffi::OsStr;

    fn choose(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Ink {
        Ink::choose(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new))
    }

    #[test]
    fn colour_needs_a_terminal_that_can_and_a_user_who_wants_it() {
        assert_eq!(choose(true, None, Some("xterm-256color")), Ink::Coloured);
        assert_eq!(choose(true, Some(""), Some("xterm")), Ink::Coloured);
        assert_eq!(choose(false, None, Some("xterm")), Ink::Colourless);
        assert_eq!(choose(true, Some("1"), Some("xterm")), Ink::Colourless);
        assert_eq!(choose(true, None, Some("dumb")), Ink::Colourless);
        assert_eq!(choose(true, None, None), Ink::Colourless);
    }

    #[test]
    fn paint_resets_what_it_sets() {
        assert_eq!(Ink::Coloured.paint(Tone::Good, "fast"), "\x1b[32mfast\x1b[0m");
        assert_eq!(Ink::Coloured.paint(Tone::Good, ""), "");
        assert_eq!(Ink::Colourless.paint(Tone::Bad, "wrong"), "wrong");
    }
}
