//! One line of the table: text in tones that is cut to a width when it is printed, and not before. What goes into it may
//! be of any length and hold any letters, for names come from other programs.

use crate::ink::{Ink, Tone};

/// A line that is being put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Option<Tone>, String)>);

impl Line {
    /// A line that begins with this text, as it is.
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self(vec![(None, text.into())])
    }

    /// A line that begins with this text in a tone.
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self::default().and(tone, text)
    }

    /// The same, and more text behind it.
    pub(super) fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((Some(tone), text.into()));
        self
    }

    /// The line in at most so many columns, without blanks at its end; what is cut off leaves an ellipsis.
    pub(super) fn printed(&self, columns: usize, ink: Ink) -> String {
        let whole: String = self.0.iter().map(|(_, text)| clean(text)).collect();
        let kept = fit(whole.trim_end(), columns);
        let (mut printed, mut rest) = (String::new(), kept.as_str());
        for (index, (tone, text)) in self.0.iter().enumerate() {
            // The ellipsis stands in the place of a letter, so it has the tone of that.
            let letters = clean(text).chars().count();
            let end = rest.char_indices().nth(letters).map_or(rest.len(), |(at, _)| at);
            let (part, others) = rest.split_at(if index + 1 == self.0.len() { rest.len() } else { end });
            printed.push_str(&tone.map_or_else(|| part.to_owned(), |tone| ink.paint(tone, part)));
            rest = others;
        }
        printed
    }
}

/// Without what moves the cursor, changes colours, breaks lines or turns their direction round. What a terminal shows as
/// nothing is left out, or as something else, depending on the terminal: then nobody knows how wide it is.
pub(super) fn clean(text: &str) -> String {
    let shown = |letter: char| match letter as u32 {
        0xad
        | 0x61c
        | 0x180b..=0x180f
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xfff0..=0xfffb
        | 0xe0000..=0xe0fff => None,
        0x2028 | 0x2029 => Some('\u{fffd}'),
        _ => Some(if letter.is_control() { '\u{fffd}' } else { letter }),
    };
    text.chars().filter_map(shown).collect()
}

/// Letters of two columns: East Asian Width W and F (Unicode Standard Annex 11, version 15.1). What is not assigned yet counts as its
/// neighbours do.
const WIDE: [(u32, u32); 84] = [
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x2329, 0x232a),
    (0x23e9, 0x23ec),
    (0x23f0, 0x23f0),
    (0x23f3, 0x23f3),
    (0x25fd, 0x25fe),
    (0x2614, 0x2615),
    (0x2648, 0x2653),
    (0x267f, 0x267f),
    (0x2693, 0x2693),
    (0x26a1, 0x26a1),
    (0x26aa, 0x26ab),
    (0x26bd, 0x26be),
    (0x26c4, 0x26c5),
    (0x26ce, 0x26ce),
    (0x26d4, 0x26d4),
    (0x26ea, 0x26ea),
    (0x26f2, 0x26f3),
    (0x26f5, 0x26f5),
    (0x26fa, 0x26fa),
    (0x26fd, 0x26fd),
    (0x2705, 0x2705),
    (0x270a, 0x270b),
    (0x2728, 0x2728),
    (0x274c, 0x274c),
    (0x274e, 0x274e),
    (0x2753, 0x2755),
    (0x2757, 0x2757),
    (0x2795, 0x2797),
    (0x27b0, 0x27b0),
    (0x27bf, 0x27bf),
    (0x2b1b, 0x2b1c),
    (0x2b50, 0x2b50),
    (0x2b55, 0x2b55),
    (0x2e80, 0x3029),
    (0x302e, 0x303e),
    (0x3041, 0x3096),
    (0x309b, 0x3247),
    (0x3250, 0x4dbf),
    (0x4e00, 0xa4c6),
    (0xa960, 0xa97c),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe10, 0xfe19),
    (0xfe30, 0xfe6b),
    (0xff01, 0xff60),
    (0xffe0, 0xffe6),
    (0x16fe0, 0x16fe3),
    (0x16ff0, 0x1b2fb),
    (0x1f004, 0x1f004),
    (0x1f0cf, 0x1f0cf),
    (0x1f18e, 0x1f18e),
    (0x1f191, 0x1f19a),
    (0x1f200, 0x1f320),
    (0x1f32d, 0x1f335),
    (0x1f337, 0x1f37c),
    (0x1f37e, 0x1f393),
    (0x1f3a0, 0x1f3ca),
    (0x1f3cf, 0x1f3d3),
    (0x1f3e0, 0x1f3f0),
    (0x1f3f4, 0x1f3f4),
    (0x1f3f8, 0x1f43e),
    (0x1f440, 0x1f440),
    (0x1f442, 0x1f4fc),
    (0x1f4ff, 0x1f53d),
    (0x1f54b, 0x1f54e),
    (0x1f550, 0x1f567),
    (0x1f57a, 0x1f57a),
    (0x1f595, 0x1f596),
    (0x1f5a4, 0x1f5a4),
    (0x1f5fb, 0x1f64f),
    (0x1f680, 0x1f6c5),
    (0x1f6cc, 0x1f6cc),
    (0x1f6d0, 0x1f6d2),
    (0x1f6d5, 0x1f6df),
    (0x1f6eb, 0x1f6ec),
    (0x1f6f4, 0x1f6fc),
    (0x1f7e0, 0x1f7f0),
    (0x1f90c, 0x1f93a),
    (0x1f93c, 0x1f945),
    (0x1f947, 0x1f9ff),
    (0x1fa70, 0x1faf8),
    (0x20000, 0x3fffd),
];

/// How many columns a terminal gives a letter, at most.
fn letter_width(letter: char) -> usize {
    let code = letter as u32;
    match code {
        // Accents over the letter before. Other scripts have more; taken for letters they cost a column where the terminal
        // needs none.
        0x300..=0x36f | 0x1ab0..=0x1ace | 0x1dc0..=0x1dff | 0x20d0..=0x20f0 | 0xfe20..=0xfe2f => 0,
        0..0x1100 => 1,
        _ => {
            let after = WIDE.partition_point(|(first, _)| *first <= code);
            1 + usize::from(after > 0 && code <= WIDE[after - 1].1)
        }
    }
}

/// Columns of a text.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(letter_width).sum()
}

/// `text` in at most so many columns; what is cut off leaves an ellipsis.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for letter in text.chars() {
        taken += letter_width(letter);
        if taken > columns {
            break;
        }
        kept.push(letter);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// A cell of its column: at least one blank behind it.
pub(super) fn cell(text: &str, columns: usize) -> String {
    let text = fit(&clean(text), columns.saturating_sub(1));
    let gap = columns - width(&text).min(columns);
    format!("{text}{}", " ".repeat(gap))
}
