//! The rows of the table: where columns begin on a sheet of some width, and what stands in them.

use manyhands_server::ledger::Count;

use super::figure::{WIDE, counted, duration, figure, number};
use super::line::{Line, cell, width};
use super::server::Server;
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter};
use crate::ink::Tone;

/// How many waiters of one thing are shown where room is short.
const WAITERS_SHOWN: usize = 3;

/// Sheets below so many columns have narrow figures, and no blanks to spare.
const NARROW: usize = 60;
/// Sheets below so many have no column for classes.
const NARROWEST: usize = 48;

/// A part of the table: its titles, and what stands below them, each in as many lines as it takes.
pub(super) struct Section {
    pub(super) titles: Line,
    pub(super) entries: Vec<Vec<Line>>,
}

/// Where columns begin on a sheet.
pub(super) struct Grid {
    columns: usize,
    short: bool,
    /// Blanks before the first column, and before the state.
    indent: &'static str,
    /// What a name has beside figures, and beside a state.
    name: usize,
    kind: usize,
    state: usize,
    figure: usize,
}

impl Grid {
    /// `short`: of many waiters only the first are shown.
    pub(super) fn of(columns: usize, short: bool) -> Self {
        if columns < NARROW {
            // Four figures of six digits and their blanks take 28 of 50 columns, four of five take 24 of 40.
            let (figure, kind) = if columns < NARROWEST { (6, 0) } else { (7, 6) };
            let name = columns.saturating_sub(4 * figure + kind).max(10);
            return Self { columns, short, indent: " ", name, kind, state: 12, figure };
        }
        // At 80 columns: 20 for the name, 17 for the class, 16 for the state, 27 for the process. Narrower sheets take
        // it from the first two, so that figures stay in sight.
        let spare = columns.saturating_sub(80);
        let missing = 77_usize.saturating_sub(columns).min(17);
        let (name, state) = (20 + spare * 2 / 5 - missing / 2, 16 + spare / 5);
        Self { columns, short, indent: "  ", name, kind: 17 - missing.div_ceil(2), state, figure: WIDE }
    }

    /// Whether figures and titles are short.
    fn is_narrow(&self) -> bool {
        self.figure < WIDE
    }

    /// All sections that have something in them.
    pub(super) fn sections(&self, snapshot: &Snapshot) -> Vec<Section> {
        let pools = snapshot.pools.iter().map(|pool| self.pool(pool)).collect();
        let servers = snapshot.servers.iter().map(|server| self.server(server)).collect();
        let queues = snapshot.queues.iter().map(|queue| self.queue(queue)).collect();
        let objects = snapshot.objects.iter().map(|object| self.object(object)).collect();
        let unreadable = snapshot.unreadable.iter().map(|each| self.unreadable(each)).collect();
        let sections = [
            Section { titles: self.pool_titles(), entries: pools },
            Section { titles: self.server_titles(), entries: servers },
            Section { titles: self.queue_titles(), entries: queues },
            Section { titles: self.object_titles(), entries: objects },
            Section { titles: self.unreadable_titles(), entries: unreadable },
        ];
        sections.into_iter().filter(|section| !section.entries.is_empty()).collect()
    }

    /// The title, what there is, and the hint at the right end. Where room is short, less is said.
    pub(super) fn heading(&self, snapshot: &Snapshot, hint: &str) -> Line {
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
        if !snapshot.servers.is_empty() {
            facts.insert(2, counted(snapshot.servers.len(), "server", "servers"));
        }
        let title = "manyhands top  ";
        let room = self.columns.saturating_sub(width(title) + width(hint));
        // The sections below have pools, queues and objects one by one.
        while facts.len() > 2 && width(&facts.join(" · ")) + 2 > room {
            facts.remove(facts.len() - 2);
        }
        let facts = cell(&facts.join(" · "), room);
        Line::toned(Tone::Strong, title).and(Tone::Faint, facts + hint)
    }

    fn titles(&self, names: &[(&str, usize)], figures: &[&str]) -> Line {
        let names: String = names.iter().map(|(text, columns)| cell(text, *columns)).collect();
        let columns = self.figure;
        let figures: String = figures.iter().map(|text| format!("{text:>columns$}")).collect();
        Line::toned(Tone::Strong, names + &figures)
    }

    fn figures(&self, values: &[u64]) -> String {
        values.iter().map(|value| figure(*value, self.figure)).collect()
    }

    fn pool_titles(&self) -> Line {
        let figures = match self.is_narrow() {
            true => ["work", "run", "queue", "ended"],
            false => ["workers", "running", "queued", "ended"],
        };
        self.titles(&[("POOLS", self.name + self.kind)], &figures)
    }

    fn pool(&self, pool: &Pool) -> Vec<Line> {
        let who = cell(&format!("{}{}", self.indent, party(&pool.parent)), self.name + self.kind);
        vec![Line::of(who + &self.figures(&[pool.workers, pool.running, pool.queued, pool.ended]))]
    }

    fn server_titles(&self) -> Line {
        let figures = match self.is_narrow() {
            true => ["open", "act", "queue", "serv"],
            false => ["open", "active", "queued", "served"],
        };
        self.titles(&[("SERVERS", self.name), ("", self.kind)], &figures)
    }

    fn server(&self, server: &Server) -> Vec<Line> {
        let numbers = &server.whole.numbers;
        let [active, queued, served] =
            [Count::Active, Count::Queued, Count::Served].map(|count| numbers.get(count));
        let names =
            cell(&format!("{}{}", self.indent, server.address), self.name) + &cell(&server.team(), self.kind);
        let mut lines = vec![Line::of(names + &self.figures(&[numbers.open(), active, queued, served]))];
        lines.extend(server.details(&party(&server.parent), self.indent));
        lines
    }

    fn queue_titles(&self) -> Line {
        let maxsize = if self.is_narrow() { "max" } else { "maxsize" };
        self.titles(&[("QUEUES", self.name), ("", self.kind)], &["size", maxsize, "puts", "gets"])
    }

    fn queue(&self, queue: &Queue) -> Vec<Line> {
        let columns = self.figure;
        let maxsize =
            queue.maxsize.map_or_else(|| format!("{:>columns$}", "–"), |most| figure(most, columns));
        let figures = self.figures(&[queue.size]) + &maxsize + &self.figures(&[queue.puts, queue.gets]);
        let mut lines = vec![Line::of(self.label(&queue.label) + &figures)];
        if queue.is_closed {
            lines.push(Line::toned(Tone::Faint, format!("{0}{0}shut down", self.indent)));
        }
        lines.extend(self.waiters(&queue.waiters));
        lines
    }

    /// The blanks before the text of a column in the middle.
    fn gap(&self) -> &'static str {
        if self.is_narrow() { "" } else { self.indent }
    }

    fn object_titles(&self) -> Line {
        let state = format!("{}state", self.gap());
        self.titles(&[("OBJECTS", self.name), ("", self.kind), (&state, self.state), ("held by", 27)], &[])
    }

    fn object(&self, object: &Object) -> Vec<Line> {
        let indent = " ".repeat(self.name + self.kind + self.state);
        let state = cell(&format!("{}{}", self.gap(), object.state), self.state);
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
        let users = format!("{}open in", self.gap());
        self.titles(&[("UNREADABLE", self.name), ("", self.kind), (&users, self.state), ("why", 27)], &[])
    }

    fn unreadable(&self, each: &Unreadable) -> Vec<Line> {
        let users = each.users.iter().map(|user| user.pid.to_string()).collect::<Vec<_>>().join(" ");
        let name = cell(&format!("{}{}", self.indent, each.name), self.name + self.kind);
        let users = cell(&format!("{}{users}", self.gap()), self.state);
        vec![Line::toned(Tone::Bad, format!("{name}{users}{}", each.reason))]
    }

    fn waiters(&self, waiters: &[Waiter]) -> Vec<Line> {
        let (shown, hidden) = self.some(waiters);
        let tone = |waiter: &Waiter| if waiter.party.is_dead { Tone::Bad } else { Tone::Plain };
        let indent = self.indent.repeat(2);
        let line = |waiter: &Waiter| Line::toned(tone(waiter), format!("{indent}{}", wait(waiter)));
        let mut lines: Vec<Line> = shown.iter().map(line).collect();
        if hidden > 0 {
            lines.push(Line::toned(Tone::Faint, format!("{indent}and {} more", number(hidden as u64))));
        }
        lines
    }

    /// The part of a list that is shown, and how many are not.
    fn some<'a, T>(&self, all: &'a [T]) -> (&'a [T], usize) {
        let shown = if self.short && all.len() > WAITERS_SHOWN + 1 { WAITERS_SHOWN } else { all.len() };
        (&all[..shown], all.len() - shown)
    }

    fn label(&self, label: &Label) -> String {
        let name = format!("{}{}", self.indent, shown_name(label));
        let kind = if self.is_narrow() { short_kind(&label.kind) } else { &label.kind };
        cell(&name, self.name) + &cell(kind, self.kind)
    }
}

/// A class in five letters, where it has more.
fn short_kind(kind: &str) -> &str {
    match kind {
        "Semaphore" => "Sem",
        "BoundedSemaphore" => "BSem",
        "Condition" => "Cond",
        "Barrier" => "Barr",
        "JoinableQueue" => "JoinQ",
        "SimpleQueue" => "SimpQ",
        "PriorityQueue" => "PrioQ",
        "LifoQueue" => "LifoQ",
        other => other,
    }
}

/// What a thing is called: its name, or its place if it has none.
pub(super) fn shown_name(label: &Label) -> String {
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
pub(super) fn party(party: &Party) -> String {
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
    format!("{} waiting {}{purpose}{coroutine}", party(&waiter.party), duration(waiter.seconds))
}
