//! The screens of `manyhands demo`: measured rows in, lines out.

use crate::bar::bar;
use crate::ink::Tone;
use crate::page::Page;

// "  sequential  " before the bar, "   999.99 s    99.99×" behind it.
const BEFORE_BAR: usize = 14;
const TIME: usize = 10;
const SPEED_UP: usize = 10;
// A bar of fewer columns shows little; then the number of the run makes room for it.
const NARROWEST_BAR: usize = 8;

/// Where and on what the jobs run.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The interpreter, such as `CPython 3.12.1`.
    pub python: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Source files that are worked on.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// One job, run in every kind of worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name on the command line.
    pub name: String,
    /// What it does and what that means for workers.
    pub description: String,
    /// Tasks in each run.
    pub tasks: usize,
    /// The runs, in the order in which they were made.
    pub runs: Vec<Run>,
    /// The kind to take, by these times.
    pub best: String,
    /// The kind that `auto` chose, if it was asked.
    pub choice: Option<String>,
    /// Why it did; of a job without it, what the runs have achieved.
    pub reason: String,
    /// What differs from the sequential run's results; empty when nothing does.
    pub differences: Vec<String>,
}

/// One run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// `sequential`, or the word for `workers=`.
    pub kind: String,
    /// Wall-clock time in seconds.
    pub seconds: f64,
    /// Time of the sequential run divided by this one's.
    pub speed_up: f64,
}

/// Which kind suits a job, by the times measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// The job.
    pub job: String,
    /// The kind to take.
    pub kind: String,
    /// Its speed-up.
    pub speed_up: f64,
}

/// The other programs that wanted the CPUs while the jobs ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Threads of other programs that wanted a CPU, on average.
    pub others: f64,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Whether that makes the times uncertain.
    pub is_busy: bool,
}

/// What is being done at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment<'a> {
    /// The job that runs.
    pub job: &'a str,
    /// The kind of worker that runs it.
    pub kind: &'a str,
    /// Share of the run's tasks that are done, 0..=1.
    pub share: f64,
    /// Number of this run, from 1.
    pub run: usize,
    /// Runs in all.
    pub runs: usize,
}

/// The lines above the jobs.
#[must_use]
pub fn heading(setting: &Setting, page: Page) -> Vec<String> {
    let cpus = if setting.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", setting.cpus) };
    let facts = format!(
        "{} · {cpus} · {} files of its library, {}",
        setting.python,
        setting.files,
        megabytes(setting.bytes)
    );
    page.paragraph(
        &format!("{}  ", page.paint(Tone::Strong, "manyhands demo")),
        "manyhands demo  ".len(),
        Tone::Faint,
        &facts,
    )
}

/// One job's block, an empty line above it included.
#[must_use]
pub fn job(job: &Job, page: Page) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(title(job, page));
    let longest = job.runs.iter().map(|run| run.seconds).fold(0.0, f64::max);
    for run in &job.runs {
        lines.push(row(run, run.seconds / longest, run.kind == job.best, page));
    }
    lines.extend(reason(job, page));
    for difference in &job.differences {
        let lead = page.paint(Tone::Bad, "  different: ");
        lines.extend(page.paragraph(&lead, "  different: ".len(), Tone::Bad, difference));
    }
    lines
}

/// The lines below the jobs: which kind for which job, which other programs wanted the CPUs, and whether all
/// results were equal.
#[must_use]
pub fn closing(advice: &[Advice], load: Load, equal: bool, seconds: f64, page: Page) -> Vec<String> {
    let advised: Vec<String> = advice
        .iter()
        .map(|advice| match advice.kind.as_str() {
            "sequential" => format!("no workers for {}", advice.job),
            kind => format!("{kind} for {} ({})", advice.job, times(advice.speed_up)),
        })
        .map(|phrase| phrase.replace(' ', "\u{a0}"))
        .collect();
    let lead = page.paint(Tone::Strong, "Best here");
    let mut lines = vec![String::new()];
    lines.extend(page.paragraph(
        &format!("{lead}  "),
        "Best here  ".len(),
        Tone::Good,
        &advised.join("\u{a0}· "),
    ));
    let indent = " ".repeat("Best here  ".len());
    if load.is_busy {
        let cpus = if load.cpus == 1 { "CPU".to_owned() } else { format!("{} CPUs", load.cpus) };
        let said = format!(
            "The machine is busy: {:.1} threads of other programs competed for its {cpus}. Times vary; only \
             large differences count. Run it again when it is idle.",
            load.others
        );
        lines.extend(page.paragraph(&indent, indent.len(), Tone::Strong, &said));
    }
    let (tone, verdict) = if equal {
        (Tone::Faint, format!("All results are equal. {seconds:.1} s in total."))
    } else {
        (Tone::Bad, "Results differ: see the lines marked \"different\" above.".to_owned())
    };
    lines.extend(page.paragraph(&indent, indent.len(), tone, &verdict));
    lines
}

/// The line that shows progress, to be written over the one before it: so a terminal must not break it.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn progress(moment: &Moment<'_>, page: Page) -> String {
    // Some terminals begin a new line after the last column.
    let room = page.unbroken().saturating_sub(1);
    let name = format!("{:<21} ", format!("{} · {}", moment.job, moment.kind));
    let percent = format!(" {:>3} %", (moment.share.clamp(0.0, 1.0) * 100.0).floor() as usize);
    let mut run = format!("  run {} of {}", moment.run, moment.runs);
    let taken = name.chars().count() + percent.chars().count();
    if taken + NARROWEST_BAR + run.chars().count() > room {
        run.clear();
    }
    let columns = (page.columns() / 3).min(room.saturating_sub(taken + run.chars().count()));
    if columns == 0 {
        return format!("{name}{percent}").chars().take(room).collect();
    }
    let drawn = bar(moment.share, columns);
    let rest = " ".repeat(columns - drawn.chars().count());
    format!("{name}{}{rest}{percent}{}", page.paint(Tone::Plain, &drawn), page.paint(Tone::Faint, &run))
}

fn title(job: &Job, page: Page) -> Vec<String> {
    let described = format!("{} · {} tasks", job.description, job.tasks);
    let lead_columns = job.name.chars().count().max(8) + 2;
    let headings = format!("{:>TIME$}{:>SPEED_UP$}", "time", "speed-up");
    // The headings stand over their columns where the description leaves them room.
    let gap = (page.columns() - TIME - SPEED_UP).checked_sub(lead_columns + described.chars().count());
    let tail = gap.map_or_else(String::new, |gap| "\u{a0}".repeat(gap) + &headings.replace(' ', "\u{a0}"));
    let lead = format!(
        "{}{}",
        page.paint(Tone::Strong, &job.name),
        " ".repeat(lead_columns - job.name.chars().count()),
    );
    page.paragraph(&lead, lead_columns, Tone::Faint, &format!("{described}{tail}"))
}

fn reason(job: &Job, page: Page) -> Vec<String> {
    let Some(choice) = &job.choice else {
        return page.paragraph("  ", 2, Tone::Faint, &job.reason);
    };
    let lead = "  auto → ";
    let lead_columns = lead.chars().count() + choice.chars().count() + 2;
    let chosen = page.paint(Tone::Strong, choice);
    let lead = format!("{}{chosen}{}", page.paint(Tone::Faint, lead), page.paint(Tone::Faint, ": "));
    page.paragraph(&lead, lead_columns, Tone::Faint, &job.reason)
}

fn row(run: &Run, share: f64, best: bool, page: Page) -> String {
    let columns = page.columns() - BEFORE_BAR - TIME - SPEED_UP;
    let drawn = bar(share, columns);
    let rest = " ".repeat(columns - drawn.chars().count());
    let time = format!("{:>TIME$}", format!("{:.2} s", run.seconds));
    let speed_up = format!("{:>SPEED_UP$}", times(run.speed_up));
    let (bar_tone, figures) = match (best, run.kind.as_str()) {
        (true, _) => (Tone::Good, page.paint(Tone::Good, &format!("{time}{speed_up}"))),
        (false, "sequential") => (Tone::Faint, format!("{time}{speed_up}")),
        (false, _) => (Tone::Plain, format!("{time}{speed_up}")),
    };
    format!("  {:<12}{}{rest}{figures}", run.kind, page.paint(bar_tone, &drawn))
}

fn times(speed_up: f64) -> String {
    let digits = if speed_up < 9.995 { 2 } else { 1 };
    format!("{speed_up:.digits$}×")
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests;
