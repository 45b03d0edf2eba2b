//! The page of one pool: its workers, what each does, and what it takes.

use super::figure::{bytes, counted, duration, number};
use super::grid::{Section, party};
use super::line::{Line, cell, width};
use super::{Pool, Worker};
use crate::ink::Tone;

/// Columns of a worker's number, how long it has run its task, its share of a CPU, its CPU time and its memory.
const PID: usize = 10;
const SPELL: usize = 9;
const SHARE: usize = 7;
const TIME: usize = 9;
const MEMORY: usize = 9;
/// Sheets below so many columns have no column for CPU time.
const NARROW: usize = 60;
/// Sheets below so many columns have no column for how long tasks have been running.
const NARROWEST: usize = 48;

/// Whose pool it is, and the hint at the right end.
pub(super) fn heading(pool: &Pool, hint: &str, columns: usize) -> Line {
    let title = "pool of ";
    let room = columns.saturating_sub(width(title) + width(hint));
    Line::toned(Tone::Strong, title)
        .and(Tone::Strong, cell(&party(&pool.parent), room))
        .and(Tone::Faint, hint)
}

/// What the pool has to do, in one line.
pub(super) fn account(pool: &Pool, columns: usize) -> Line {
    let mut facts = vec![
        counted(pool.workers.try_into().unwrap_or(usize::MAX), "worker", "workers"),
        format!("{} running", number(pool.running)),
        format!("{} queued", number(pool.queued)),
        format!("{} ended", number(pool.ended)),
    ];
    while facts.len() > 1 && width(&facts.join(" · ")) > columns {
        facts.pop();
    }
    Line::toned(Tone::Faint, facts.join(" · "))
}

/// A row for each worker.
pub(super) fn section(workers: &[Worker], columns: usize) -> Section {
    let rows = Rows::of(columns);
    let titles = ["WORKERS", "task", "running", "CPU", "CPU time", "memory"];
    let titles = Line::toned(Tone::Strong, rows.joined(titles));
    Section { titles, entries: workers.iter().map(|worker| vec![rows.worker(worker)]).collect() }
}

/// The columns that there is room for; 0 where there is none.
struct Rows {
    task: usize,
    spell: usize,
    time: usize,
}

impl Rows {
    fn of(columns: usize) -> Self {
        let spell = if columns < NARROWEST { 0 } else { SPELL };
        let time = if columns < NARROW { 0 } else { TIME };
        Self { task: columns.saturating_sub(PID + spell + SHARE + time + MEMORY), spell, time }
    }

    fn joined(&self, [pid, task, spell, share, time, memory]: [&str; 6]) -> String {
        let right =
            |text: &str, columns| if columns == 0 { String::new() } else { format!("{text:>columns$}") };
        let (spell, time) = (right(spell, self.spell), right(time, self.time));
        format!("{}{}{spell}{share:>SHARE$}{time}{memory:>MEMORY$}", cell(pid, PID), cell(task, self.task))
    }

    fn worker(&self, worker: &Worker) -> Line {
        let task = worker.task.as_deref().unwrap_or("–");
        let share =
            worker.cpu_share.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", 100.0 * share));
        let spell = worker.task_s.map_or_else(|| "–".to_owned(), duration);
        let (pid, time) = (format!(" {}", worker.pid), duration(worker.cpu_s));
        let row = self.joined([&pid, task, &spell, &share, &time, &bytes(worker.rss_bytes)]);
        if worker.task.is_some() { Line::of(row) } else { Line::toned(Tone::Faint, row) }
    }
}
