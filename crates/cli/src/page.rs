//! The page that lines are set on: how wide it is, how it is coloured, where words break.

use crate::ink::{Ink, Tone};

const NARROWEST: usize = 44;
const WIDEST: usize = 100;

/// Width and colour of what is written to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    columns: usize,
    line: usize,
    ink: Ink,
}

impl Page {
    /// Columns of a page whose stream has no width of its own, such as a file or a pipe.
    pub const UNBOUND: usize = 80;

    /// A page for a stream `columns` wide.
    ///
    /// Wider terminals keep a margin, since bars and text that span them are hard to follow;
    /// lines of very narrow ones are broken by the terminal.
    #[must_use]
    pub fn new(columns: usize, ink: Ink) -> Self {
        Self { columns: columns.clamp(NARROWEST, WIDEST), line: columns.min(WIDEST), ink }
    }

    /// Columns that lines may take.
    #[must_use]
    pub fn columns(self) -> usize {
        self.columns
    }

    /// Columns of the longest line that no terminal breaks: fewer than `columns()` where that is very narrow.
    #[must_use]
    pub fn unbroken(self) -> usize {
        self.line
    }

    /// How text is coloured.
    #[must_use]
    pub fn ink(self) -> Ink {
        self.ink
    }

    /// Colours `text`, or not.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        self.ink.paint(tone, text)
    }

    /// Breaks `text` between words into lines of at most `columns()` characters, the first
    /// behind `lead` and the others indented as far; the text, not the lead, is coloured in `tone`.
    ///
    /// `lead` is given as it is written and as many columns as it takes. Words longer than a
    /// line stay whole, and so do words joined by a no-break space (U+00A0, shown as a space).
    #[must_use]
    pub fn paragraph(self, lead: &str, lead_columns: usize, tone: Tone, text: &str) -> Vec<String> {
        let room = self.columns.saturating_sub(lead_columns);
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word.replace('\u{a0}', " "));
        }
        lines.push(line);
        let indent = " ".repeat(lead_columns);
        let leads = std::iter::once(lead).chain(std::iter::repeat(indent.as_str()));
        leads.zip(lines).map(|(lead, line)| format!("{lead}{}", self.paint(tone, &line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Page;
    use crate::ink::{Ink, Tone};

    #[test]
    fn columns_stay_readable() {
        let columns = |columns| Page::new(columns, Ink::Colourless).columns();
        assert_eq!([columns(20), columns(50), columns(80), columns(240)], [44, 50, 80, 100]);
    }

    #[test]
    fn paragraphs_hang_from_their_lead() {
        let page = Page::new(60, Ink::Colourless);
        let text = "two threads were no faster than one and an item takes five milliseconds";
        assert_eq!(
            page.paragraph("why: ", 5, Tone::Faint, text),
            ["why: two threads were no faster than one and an item takes", "     five milliseconds"]
        );
    }

    #[test]
    fn every_line_of_a_coloured_paragraph_is_coloured_by_itself() {
        let page = Page::new(60, Ink::Coloured);
        let lines = page.paragraph("> ", 2, Tone::Faint, &"word ".repeat(20));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains("\x1b[2mword") && line.ends_with("\x1b[0m")));
    }

    #[test]
    fn long_words_stay_whole() {
        let page = Page::new(60, Ink::Colourless);
        let word = "x".repeat(70);
        assert_eq!(page.paragraph("", 0, Tone::Plain, &format!("a {word} b")), ["a", &word, "b"]);
        let joined = "stays\u{a0}together ".repeat(5);
        let lines = page.paragraph("", 0, Tone::Plain, &joined);
        assert_eq!(lines, [["stays together"; 4].join(" "), "stays together".to_owned()]);
    }
}
