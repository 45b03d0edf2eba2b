//! A snapshot as lines of text, cut to a size.

use super::line::{Line, cell, width};
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter};
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

/// How many waiters of one thing are shown where room is short.
const WAITERS_SHOWN: usize = 3;

/// The table; `hint` stands at the right end of its first line. No line is wider than the sheet, whatever the snapshot
/// holds: all of them are cut here.
#[must_use]
pub fn table(snapshot: &Snapshot, hint: &str, sheet: Sheet) -> Vec<String> {
    let lines = Grid::of(sheet).lines(snapshot, hint, sheet.rows);
    lines.into_iter().map(|line| line.printed(sheet.columns, sheet.ink)).collect()
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

/// Where columns begin on a sheet.
struct Grid {
    columns: usize,
    short: bool,
    name: usize,
    kind: usize,
    state: usize,
}

impl Grid {
    fn of(sheet: Sheet) -> Self {
        // At 80 columns: 20 for the name, 17 for the class, 16 for the state, 27 for who it is. Narrower sheets take it from
        // the first two, so that figures stay in sight down to 60 columns.
        let spare = sheet.columns.saturating_sub(80);
        let missing = 77_usize.saturating_sub(sheet.columns).min(17);
        let (name, state) = (20 + spare * 2 / 5 - missing / 2, 16 + spare / 5);
        Self {
            columns: sheet.columns,
            short: sheet.rows.is_some(),
            name,
            kind: 17 - missing.div_ceil(2),
            state,
        }
    }

    fn lines(&self, snapshot: &Snapshot, hint: &str, rows: Option<usize>) -> Vec<Line> {
        let sections = [
            (self.pool_titles(), snapshot.pools.iter().map(|pool| self.pool(pool)).collect::<Vec<_>>()),
            (self.queue_titles(), snapshot.queues.iter().map(|queue| self.queue(queue)).collect()),
            (self.object_titles(), snapshot.objects.iter().map(|object| self.object(object)).collect()),
            (
                self.unreadable_titles(),
                snapshot.unreadable.iter().map(|each| self.unreadable(each)).collect(),
            ),
        ];
        let sections: Vec<_> = sections.into_iter().filter(|(_, entries)| !entries.is_empty()).collect();
        let mut lines = vec![self.heading(snapshot, hint)];
        if sections.is_empty() {
            let nothing = "Nothing is shared: no pool, no named object, nobody waits.";
            lines.extend([Line::default(), Line::toned(Tone::Faint, nothing)]);
        }
        let wanted: Vec<usize> =
            sections.iter().map(|(_, entries)| entries.iter().map(Vec::len).sum()).collect();
        // Each section also takes an empty line and its titles.
        let room = rows.map(|rows| rows.saturating_sub(lines.len() + 2 * sections.len()));
        let shares = room.map_or_else(|| wanted.clone(), |room| divide(room, &wanted));
        for ((titles, entries), share) in sections.into_iter().zip(shares) {
            lines.extend([Line::default(), titles]);
            lines.extend(cut(entries, share));
        }
        lines.truncate(rows.unwrap_or(usize::MAX));
        lines
    }

    /// The title, what there is, and the hint at the right end. Where room is short, less is said.
    fn heading(&self, snapshot: &Snapshot, hint: &str) -> Line {
        let at_objects = snapshot.objects.iter().map(|object| object.waiters.len());
        let at_queues = snapshot.queues.iter().map(|queue| queue.waiters.len());
        let waiters: usize = at_objects.chain(at_queues).sum();
        let mut facts = vec![
            counted(snapshot.processes(), "process", "processes"),
            counted(snapshot.pools.len(), "pool", "pools"),
            counted(snapshot.queues.len(), "queue", "queues"),
            counted(snapshot.objects.len(), "object", "objects"),
            format!("{} waiting", number(waiters as u64)),
        ];
        let title = "manyhands top  ";
        let room = self.columns.saturating_sub(width(title) + width(hint));
        // The sections below have pools, queues and objects one by one.
        while facts.len() > 2 && width(&facts.join(" · ")) + 2 > room {
            facts.remove(facts.len() - 2);
        }
        let facts = cell(&facts.join(" · "), room);
        Line::toned(Tone::Strong, title).and(Tone::Faint, facts + hint)
    }

    fn titles(&self, cells: &[(&str, usize)]) -> Line {
        let text: String = cells.iter().map(|(text, columns)| aligned(text, *columns)).collect();
        Line::toned(Tone::Strong, text)
    }

    fn pool_titles(&self) -> Line {
        let figures = ["workers", "running", "queued", "ended"].map(|title| (title, FIGURE));
        self.titles(&[&[("POOLS", self.name + self.kind)][..], &figures].concat())
    }

    fn pool(&self, pool: &Pool) -> Vec<Line> {
        let who = cell(&format!("  {}", party(&pool.parent)), self.name + self.kind);
        let figures = [pool.workers, pool.running, pool.queued, pool.ended];
        vec![Line::of(who + &figures.map(figure).concat())]
    }

    fn queue_titles(&self) -> Line {
        let figures = ["size", "maxsize", "puts", "gets"].map(|title| (title, FIGURE));
        self.titles(&[&[("QUEUES", self.name), ("", self.kind)][..], &figures].concat())
    }

    fn queue(&self, queue: &Queue) -> Vec<Line> {
        let maxsize = queue.maxsize.map_or_else(|| aligned("–", FIGURE), figure);
        let figures = [figure(queue.size), maxsize, figure(queue.puts), figure(queue.gets)].concat();
        let mut lines = vec![Line::of(self.label(&queue.label) + &figures)];
        if queue.is_closed {
            lines.push(Line::toned(Tone::Faint, "    shut down"));
        }
        lines.extend(self.waiters(&queue.waiters));
        lines
    }

    fn object_titles(&self) -> Line {
        self.titles(&[("OBJECTS", self.name), ("", self.kind), ("  state", self.state), ("held by", 27)])
    }

    fn object(&self, object: &Object) -> Vec<Line> {
        let indent = " ".repeat(self.name + self.kind + self.state);
        let state = cell(&format!("  {}", object.state), self.state);
        let (shown, hidden) = self.some(&object.holders);
        let mut before = self.label(&object.label) + &state;
        let mut lines = Vec::new();
        for each in shown {
            let before = std::mem::replace(&mut before, indent.clone());
            lines.push(match each.party.is_dead {
                true => Line::of(before).and(Tone::Bad, holder(each)),
                false => Line::of(before + &holder(each)),
            });
        }
        if shown.is_empty() {
            lines.push(Line::of(before));
        }
        if hidden > 0 {
            lines.push(Line::toned(Tone::Faint, format!("{indent}and {} more", number(hidden as u64))));
        }
        lines.extend(self.waiters(&object.waiters));
        lines
    }

    fn unreadable_titles(&self) -> Line {
        self.titles(&[("UNREADABLE", self.name), ("", self.kind), ("  open in", self.state), ("why", 27)])
    }

    fn unreadable(&self, each: &Unreadable) -> Vec<Line> {
        let users = each.users.iter().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(" ");
        let name = cell(&format!("  {}", each.name), self.name + self.kind);
        let users = cell(&format!("  {users}"), self.state);
        vec![Line::toned(Tone::Bad, format!("{name}{users}{}", each.reason))]
    }

    fn waiters(&self, waiters: &[Waiter]) -> Vec<Line> {
        let (shown, hidden) = self.some(waiters);
        let tone = |waiter: &Waiter| if waiter.party.is_dead { Tone::Bad } else { Tone::Plain };
        let line = |waiter: &Waiter| Line::toned(tone(waiter), format!("    {}", wait(waiter)));
        let mut lines: Vec<Line> = shown.iter().map(line).collect();
        if hidden > 0 {
            lines.push(Line::toned(Tone::Faint, format!("    and {} more", number(hidden as u64))));
        }
        lines
    }

    /// The part of a list that is shown, and how many are not.
    fn some<'a, T>(&self, all: &'a [T]) -> (&'a [T], usize) {
        let shown = if self.short && all.len() > WAITERS_SHOWN + 1 { WAITERS_SHOWN } else { all.len() };
        (&all[..shown], all.len() - shown)
    }

    fn label(&self, label: &Label) -> String {
        let name = format!("  {}", shown_name(label));
        cell(&name, self.name) + &cell(&label.kind, self.kind)
    }
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

/// Columns of a figure.
const FIGURE: usize = 10;

/// A number of as many digits as its column has room for; of a large one the first.
pub(super) fn figure(value: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if value < 10_000_000 {
        return aligned(&number(value), FIGURE);
    }
    let (mut thousands, mut unit) = (value / 1000, 0);
    while thousands >= 1_000_000 {
        (thousands, unit) = (thousands / 1000, unit + 1);
    }
    aligned(&format!("{} {}", number(thousands), UNITS[unit]), FIGURE)
}

/// Digits in groups of three.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count as u64), if count == 1 { one } else { many })
}

/// What a thing is called: its name, or its place if it has none.
fn shown_name(label: &Label) -> String {
    match &label.name {
        Some(name) => name.clone(),
        None => format!("({}:{:#x})", label.place.0, label.place.1),
    }
}

fn holder(holder: &Holder) -> String {
    let count = if holder.count == 1 { String::new() } else { format!(" × {}", number(holder.count)) };
    format!("{}{count}", party(&holder.party))
}

/// `pid/thread process`; the thread only where it is not the process's first.
fn party(party: &Party) -> String {
    let thread = party.thread.filter(|thread| i64::from(*thread) != i64::from(party.pid));
    let thread = thread.map_or_else(String::new, |thread| format!("/{thread}"));
    let process = if party.is_dead { "(dead)".to_owned() } else { party.process.clone() };
    format!("{}{thread} {process}", party.pid)
}

fn wait(waiter: &Waiter) -> String {
    let purpose = match waiter.purpose {
        "wait" => String::new(),
        purpose => format!(" to {purpose}"),
    };
    let coroutine = if waiter.is_async { ", in a coroutine" } else { "" };
    format!("{} waits {}{purpose}{coroutine}", party(&waiter.party), duration(waiter.seconds))
}

/// A time in the unit that suits it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time is not negative")]
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5970.0 => format!("{:.0} min", s / 60.0),
        s if s < 171_000.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86400.0),
    }
}

/// A title over its column: names at the left, figures (one word, narrow) at the right.
fn aligned(text: &str, columns: usize) -> String {
    if columns == FIGURE { format!("{text:>columns$}") } else { cell(text, columns) }
}
