//! A snapshot as lines of text, cut to a size.

use super::figure::number;
use super::grid::{Grid, Section};
use super::line::{Line, cell, width};
use super::view::View;
use super::{Snapshot, crew};
use crate::ink::{Ink, Tone};

/// Room for the lines, and how they are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Columns of each line.
    pub columns: usize,
    /// Lines, or `None` for as many as it takes.
    pub rows: Option<usize>,
    /// How text is coloured.
    pub ink: Ink,
}

/// Begins a screen of its own: no cursor, and lines that are too long are cut, not continued.
pub const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// Gives back the screen that was there before.
pub const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What draws `lines` over whatever the screen shows.
///
/// Erasing comes before writing: behind the last column it would erase what is in that column.
#[must_use]
pub fn redrawn(lines: &[String]) -> String {
    let mut text = "\x1b[H".to_owned();
    for (index, line) in lines.iter().enumerate() {
        let is_last = index + 1 == lines.len();
        text.push_str(if is_last { "\x1b[J" } else { "\x1b[K" });
        text.push_str(line);
        text.push_str(if is_last { "" } else { "\n" });
    }
    text
}

/// What quits, at the right end of a screen's first line.
const QUIT: &str = "q: quit";

/// Screens with fewer lines have no line for keys.
const LEAST_ROWS: usize = 6;

/// The table; `hint` stands at the right end of its first line. No line is wider than the sheet, whatever the snapshot
/// holds: all of them are cut here.
#[must_use]
pub fn table(snapshot: &Snapshot, hint: &str, sheet: Sheet) -> Vec<String> {
    let grid = Grid::of(sheet.columns, sheet.rows.is_some());
    let mut lines = vec![grid.heading(snapshot, hint)];
    let room = sheet.rows.map(|rows| rows.saturating_sub(lines.len()));
    lines.extend(overview(grid.sections(snapshot), NOTHING, room));
    printed(&lines, sheet)
}

/// A screen as it is wanted: as many lines as the sheet has rows, the last of them about keys. What the view says of
/// lines that do not exist is corrected.
#[must_use]
pub fn screen(snapshot: &Snapshot, view: &mut View, sheet: Sheet) -> Vec<String> {
    let rows = sheet.rows.unwrap_or(usize::MAX);
    let shown = view.of(snapshot);
    view.pools = shown.pools.iter().map(|pool| pool.place).collect();
    let pool = snapshot.pools.iter().find(|pool| Some(pool.place) == view.page);
    let (mut lines, sections, nothing) = if let Some(pool) = pool {
        let account = crew::account(pool, sheet.columns);
        let sections = vec![crew::section(&view.crew(pool), sheet.columns)];
        (vec![crew::heading(pool, QUIT, sheet.columns), account], sections, "No worker.")
    } else {
        // The pool has gone, if there was one.
        view.page = None;
        let grid = Grid::of(sheet.columns, true);
        let sections = grid.sections(&shown);
        let nothing = if view.filter.is_empty() { NOTHING } else { "Nothing matches the filter." };
        (vec![grid.heading(snapshot, QUIT)], sections, nothing)
    };
    let has_footer = rows >= LEAST_ROWS;
    let room = rows.saturating_sub(lines.len() + usize::from(has_footer));
    let whole: usize = sections.iter().map(|section| 2 + section.height()).sum();
    let last = whole.saturating_sub(room);
    view.room = room;
    view.offset = view.offset.filter(|_| last > 0).map(|offset| offset.min(last));
    match view.offset {
        Some(offset) => lines.extend(listed(&sections, offset, room)),
        None => {
            let whole = listed(&sections, 0, room);
            let parts = overview(sections, nothing, Some(room));
            view.common = parts.iter().zip(&whole).take_while(|(part, whole)| part == whole).count();
            lines.extend(parts);
        }
    }
    if has_footer {
        lines.resize(rows - 1, Line::default());
        lines.push(footer(view, whole, sheet.columns));
    }
    lines.truncate(rows);
    printed(&lines, sheet)
}

fn printed(lines: &[Line], sheet: Sheet) -> Vec<String> {
    lines.iter().map(|line| line.printed(sheet.columns, sheet.ink)).collect()
}

const NOTHING: &str = "Nothing to show: no pools, no servers, no named objects, nobody waiting.";

impl Section {
    /// Lines of all its entries.
    fn height(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }
}

/// Some of each section, in `room` lines.
fn overview(sections: Vec<Section>, nothing: &str, room: Option<usize>) -> Vec<Line> {
    let mut lines = Vec::new();
    if sections.iter().all(|section| section.entries.is_empty()) {
        lines.extend([Line::default(), Line::toned(Tone::Faint, nothing)]);
    }
    let sections: Vec<Section> = sections.into_iter().filter(|section| !section.entries.is_empty()).collect();
    let wanted: Vec<usize> = sections.iter().map(Section::height).collect();
    // Each section also takes an empty line and its titles.
    let left = room.map(|room| room.saturating_sub(lines.len() + 2 * sections.len()));
    let shares = left.map_or_else(|| wanted.clone(), |left| divide(left, &wanted));
    for (section, share) in sections.into_iter().zip(shares) {
        lines.extend([Line::default(), section.titles]);
        lines.extend(cut(section.entries, share));
    }
    lines.truncate(room.unwrap_or(usize::MAX));
    lines
}

/// `room` lines of all sections one after the other, from the line `offset` on. The titles of the section in whose
/// middle that is come first.
fn listed(sections: &[Section], offset: usize, room: usize) -> Vec<Line> {
    let mut all = Vec::new();
    let mut pinned = None;
    for section in sections {
        let titles = all.len() + 1;
        all.extend([Line::default(), section.titles.clone()]);
        all.extend(section.entries.iter().flatten().cloned());
        if (titles + 1..all.len()).contains(&offset) {
            pinned = Some(section.titles.clone());
        }
    }
    let mut lines: Vec<Line> = all.into_iter().skip(offset).take(room).collect();
    if let (Some(titles), Some(first)) = (pinned, lines.first_mut()) {
        *first = titles;
    }
    lines
}

/// Which keys there are, and what they have done; as much of it as there is room for.
fn footer(view: &View, whole: usize, columns: usize) -> Line {
    if view.is_typing {
        return Line::toned(Tone::Strong, format!("/{}", view.filter))
            .and(Tone::Faint, "_  Enter: apply  Esc: clear");
    }
    // The most useful first: what there is no room for is left out at the end.
    let mut hints = Vec::new();
    if whole > view.room {
        hints.push(match view.offset {
            Some(from) => {
                format!("↑↓ {}–{} of {}", from + 1, (from + view.room).min(whole), number(whole as u64))
            }
            None => "↑↓ scroll".to_owned(),
        });
    }
    if view.page.is_some() {
        hints.push("Esc back".to_owned());
    }
    hints.push(if view.filter.is_empty() {
        "/ filter".to_owned()
    } else {
        format!("/ filter: {}", view.filter)
    });
    let sort = hints.len();
    hints.push(format!("s sort: {}", view.order.word()));
    hints.push(if view.page.is_some() { "p next" } else { "p pool" }.to_owned());
    let is_too_wide = |hints: &[String]| width(&hints.join(" · ")) > columns;
    if is_too_wide(&hints) {
        "s sort".clone_into(&mut hints[sort]);
    }
    while hints.len() > 1 && is_too_wide(&hints) {
        hints.pop();
    }
    Line::toned(Tone::Faint, cell(&hints.join(" · "), columns + 1))
}

/// Divides `room` lines between sections that want so many each: all the same, but none more than it wants.
fn divide(room: usize, wanted: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        let short: Vec<usize> = (0..wanted.len()).filter(|&n| shares[n] < wanted[n]).collect();
        if short.is_empty() {
            break;
        }
        let each = (left / short.len()).max(1);
        for section in short.into_iter().take(left) {
            let more = each.min(wanted[section] - shares[section]).min(left);
            shares[section] += more;
            left -= more;
        }
    }
    shares
}

/// As many entries as fit in `share` lines, the last one in part; the last line says how many do not.
fn cut(entries: Vec<Vec<Line>>, share: usize) -> Vec<Line> {
    let total: usize = entries.iter().map(Vec::len).sum();
    if total <= share {
        return entries.into_iter().flatten().collect();
    }
    let count = entries.len();
    let (mut lines, mut shown) = (Vec::new(), 0);
    for entry in entries {
        let room = share.saturating_sub(lines.len() + 1);
        let is_whole = entry.len() <= room;
        shown += usize::from(room > 0);
        lines.extend(entry.into_iter().take(room));
        if !is_whole {
            break;
        }
    }
    lines.push(match count - shown {
        0 => Line::toned(Tone::Faint, "    …"),
        more => Line::toned(Tone::Faint, format!("  and {} more", number(more as u64))),
    });
    lines.truncate(share);
    lines
}
