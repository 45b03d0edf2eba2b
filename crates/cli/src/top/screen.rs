//! A snapshot as lines of text, cut to a size.

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

/// The table; `hint` stands at the right end of its first line.
#[must_use]
pub fn table(snapshot: &Snapshot, hint: &str, sheet: Sheet) -> Vec<String> {
    let grid = Grid::of(sheet);
    let mut sections = [
        (grid.pool_titles(), snapshot.pools.iter().map(|pool| grid.pool(pool)).collect::<Vec<_>>()),
        (grid.queue_titles(), snapshot.queues.iter().map(|queue| grid.queue(queue)).collect()),
        (grid.object_titles(), snapshot.objects.iter().map(|object| grid.object(object)).collect()),
        (grid.unreadable_titles(), snapshot.unreadable.iter().map(|each| grid.unreadable(each)).collect()),
    ]
    .into_iter()
    .filter(|(_, entries)| !entries.is_empty())
    .collect::<Vec<_>>();

    let mut lines = vec![grid.heading(snapshot, hint)];
    if sections.is_empty() {
        let nothing = "Nothing is shared: no pool, no named object, nobody waits.";
        lines.extend([String::new(), sheet.ink.paint(Tone::Faint, &fit(nothing, sheet.columns))]);
    }
    let wanted: Vec<usize> = sections.iter().map(|(_, entries)| entries.iter().map(Vec::len).sum()).collect();
    // Each section also takes an empty line and its titles.
    let room = sheet.rows.map(|rows| rows.saturating_sub(lines.len() + 2 * sections.len()));
    let shares = room.map_or_else(|| wanted.clone(), |room| divide(room, &wanted));
    for ((titles, entries), share) in sections.drain(..).zip(shares) {
        lines.extend([String::new(), titles]);
        lines.extend(grid.cut(entries, share));
    }
    lines.truncate(sheet.rows.unwrap_or(usize::MAX));
    lines
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
    ink: Ink,
}

impl Grid {
    fn of(sheet: Sheet) -> Self {
        // At 80 columns: 20 for the name, 17 for the class, 16 for the state, 27 for who it is.
        let spare = sheet.columns.saturating_sub(80);
        let (name, state) = (20 + spare * 2 / 5, 16 + spare / 5);
        Self { columns: sheet.columns, short: sheet.rows.is_some(), name, kind: 17, state, ink: sheet.ink }
    }

    fn heading(&self, snapshot: &Snapshot, hint: &str) -> String {
        let at_objects = snapshot.objects.iter().map(|object| object.waiters.len());
        let at_queues = snapshot.queues.iter().map(|queue| queue.waiters.len());
        let waiters: usize = at_objects.chain(at_queues).sum();
        let facts = [
            counted(snapshot.processes(), "process", "processes"),
            counted(snapshot.pools.len(), "pool", "pools"),
            counted(snapshot.queues.len(), "queue", "queues"),
            counted(snapshot.objects.len(), "object", "objects"),
            format!("{} waiting", number(waiters as u64)),
        ];
        let title = "manyhands top  ";
        let room = self.columns.saturating_sub(title.len() + width(hint));
        let middle = fit(&facts.join(" · "), room);
        let gap = " ".repeat(room.saturating_sub(width(&middle)));
        let rest = self.ink.paint(Tone::Faint, format!("{middle}{gap}{hint}").trim_end());
        format!("{}{rest}", self.ink.paint(Tone::Strong, title))
    }

    fn titles(&self, cells: &[(&str, usize)]) -> String {
        let text: String = cells.iter().map(|(text, columns)| aligned(text, *columns)).collect();
        self.ink.paint(Tone::Strong, fit(&text, self.columns).trim_end())
    }

    fn pool_titles(&self) -> String {
        let figures = ["workers", "running", "queued", "ended"].map(|title| (title, FIGURE));
        self.titles(&[&[("POOLS", self.name + self.kind)][..], &figures].concat())
    }

    fn pool(&self, pool: &Pool) -> Vec<String> {
        let who = left(&format!("  {}", party(&pool.parent)), self.name + self.kind);
        let figures = [pool.workers, pool.running, pool.queued, pool.ended];
        vec![self.whole(&format!("{who}{}", figures.map(figure).concat()))]
    }

    fn queue_titles(&self) -> String {
        let figures = ["size", "maxsize", "puts", "gets"].map(|title| (title, FIGURE));
        self.titles(&[&[("QUEUES", self.name), ("", self.kind)][..], &figures].concat())
    }

    fn queue(&self, queue: &Queue) -> Vec<String> {
        let maxsize = queue.maxsize.map_or_else(|| aligned("–", FIGURE), figure);
        let figures = [figure(queue.size), maxsize, figure(queue.puts), figure(queue.gets)].concat();
        let mut lines = vec![self.whole(&format!("{}{figures}", self.label(&queue.label)))];
        if queue.is_closed {
            lines.push(self.faint("    shut down"));
        }
        lines.extend(self.waiters(&queue.waiters));
        lines
    }

    fn object_titles(&self) -> String {
        self.titles(&[("OBJECTS", self.name), ("", self.kind), ("  state", self.state), ("held by", 27)])
    }

    fn object(&self, object: &Object) -> Vec<String> {
        let indent = self.name + self.kind + self.state;
        let state = left(&format!("  {}", object.state), self.state);
        let mut lines = Vec::new();
        let first = object.holders.first().map_or_else(String::new, holder);
        lines.push(self.whole(&format!("{}{state}{first}", self.label(&object.label))));
        let (shown, hidden) = self.some(&object.holders);
        for each in shown.iter().skip(1) {
            lines.push(self.whole(&format!("{}{}", " ".repeat(indent), holder(each))));
        }
        if hidden > 0 {
            lines.push(self.faint(&format!("{}and {}", " ".repeat(indent), number(hidden as u64))));
        }
        lines.extend(self.waiters(&object.waiters));
        lines
    }

    fn unreadable_titles(&self) -> String {
        self.titles(&[("UNREADABLE", self.name), ("", self.kind), ("  open in", self.state), ("why", 27)])
    }

    fn unreadable(&self, each: &Unreadable) -> Vec<String> {
        let users = each.users.iter().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(" ");
        let name = left(&format!("  {}", clean(&each.name)), self.name + self.kind);
        let users = left(&format!("  {users}"), self.state);
        vec![self.ink.paint(Tone::Bad, &fit(&format!("{name}{users}{}", each.reason), self.columns))]
    }

    fn waiters(&self, waiters: &[Waiter]) -> Vec<String> {
        let (shown, hidden) = self.some(waiters);
        let mut lines: Vec<String> = shown
            .iter()
            .map(|waiter| {
                let tone = if waiter.party.is_dead { Tone::Bad } else { Tone::Plain };
                self.ink.paint(tone, &fit(&format!("    {}", wait(waiter)), self.columns))
            })
            .collect();
        if hidden > 0 {
            lines.push(self.faint(&format!("    and {} more", number(hidden as u64))));
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
        format!("{}{}", left(&name, self.name), left(&clean(&label.kind), self.kind))
    }

    /// As many entries as fit in `share` lines; the last line says how many do not.
    fn cut(&self, entries: Vec<Vec<String>>, share: usize) -> Vec<String> {
        let total: usize = entries.iter().map(Vec::len).sum();
        if total <= share {
            return entries.into_iter().flatten().collect();
        }
        let count = entries.len();
        let (mut lines, mut shown) = (Vec::new(), 0);
        for entry in entries {
            if lines.len() + entry.len() + 1 > share {
                break;
            }
            lines.extend(entry);
            shown += 1;
        }
        lines.push(self.faint(&format!("  and {} more", number((count - shown) as u64))));
        lines.truncate(share);
        lines
    }

    fn whole(&self, text: &str) -> String {
        fit(text, self.columns).trim_end().to_owned()
    }

    fn faint(&self, text: &str) -> String {
        self.ink.paint(Tone::Faint, &fit(text, self.columns))
    }
}

/// Columns of a figure.
const FIGURE: usize = 10;

fn figure(value: u64) -> String {
    aligned(&number(value), FIGURE)
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
        Some(name) => clean(name),
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
    let process = if party.is_dead { "(dead)".to_owned() } else { clean(&party.process) };
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

/// Without what would move the cursor or change colours: names come from other programs.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// How many columns a terminal gives a letter.
fn letter_width(letter: char) -> usize {
    match letter as u32 {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

fn width(text: &str) -> usize {
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
fn left(text: &str, columns: usize) -> String {
    let text = fit(text, columns.saturating_sub(1));
    let gap = columns - width(&text).min(columns);
    format!("{text}{}", " ".repeat(gap))
}

/// A title over its column: names at the left, figures (one word, narrow) at the right.
fn aligned(text: &str, columns: usize) -> String {
    if columns == FIGURE { format!("{text:>columns$}") } else { left(text, columns) }
}
