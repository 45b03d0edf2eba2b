//! Servers: what their ledgers say, and the rows for it.

use manyhands_os::clock;
use manyhands_server::ledger::{Count, Ledger, Sort, TABLE};

use super::Party;
use super::figure::{counted, duration, number};
use super::line::Line;
use crate::ink::Tone;

/// A server that has not answered for so long, in seconds, is said not to. While anybody wants to know it, that is looked at each second.
const LATE: f64 = 5.0;

/// All numbers of a server or of one of its processes, as [`TABLE`] has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers([u64; TABLE.len()]);

impl Numbers {
    /// What a ledger says.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        Self(TABLE.map(|(count, ..)| ledger.get(count)))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// The same with another value for one of them.
    #[must_use]
    pub fn with(mut self, count: Count, value: u64) -> Self {
        self.0[count as usize] = value;
        self
    }

    /// Adds those of a process.
    pub fn add(&mut self, other: &Self) {
        for (index, (.., sort, _)) in TABLE.iter().enumerate() {
            let (here, more) = (self.0[index], other.0[index]);
            self.0[index] = if *sort == Sort::Most { here.max(more) } else { here.saturating_add(more) };
        }
    }

    /// Each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TABLE.iter().zip(self.0).map(|((_, name, ..), value)| (*name, value))
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.get(Count::Active).saturating_add(self.get(Count::Queued))
    }

    /// How often a second things have happened since the look before, `seconds` ago.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "it is shown with a few digits")]
    pub fn rates(&self, before: &Self, seconds: f64) -> Rates {
        let rate = |count| self.get(count).saturating_sub(before.get(count)) as f64 / seconds;
        Rates { accepted: rate(Count::Accepted), served: rate(Count::Served), refused: rate(Count::Refused) }
    }
}

/// How many connections there have been each second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Accepted ones.
    pub accepted: f64,
    /// Those that have been served.
    pub served: f64,
    /// Refused ones.
    pub refused: f64,
}

/// A process that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Serving {
    /// Process id.
    pub pid: i32,
    /// How far it is: `starting`, `serving` or `ending`.
    pub phase: &'static str,
    /// How many seconds ago it was last certain that it answers; `None` where nobody looks.
    pub answered_s: Option<f64>,
    /// What it has counted.
    pub numbers: Numbers,
    /// Since the look before; `None` at the first look.
    pub rates: Option<Rates>,
}

impl Serving {
    /// What a ledger says.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let answered_s = ledger.answered().map(clock::seconds);
        let (phase, numbers) = (ledger.phase().word(), Numbers::of(ledger));
        Self { pid: ledger.pid(), phase, answered_s, numbers, rates: None }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The number of its memory file. Nothing else has the same.
    pub place: u64,
    /// The process that listens.
    pub parent: Party,
    /// Where it listens.
    pub address: String,
    /// What kind of workers it has.
    pub workers: String,
    /// All of it: its numbers are the sums of those of its processes.
    pub whole: Serving,
    /// Its processes, if it has any beside its parent.
    pub processes: Vec<Serving>,
}

impl Server {
    /// How many workers of which kind there are, in words.
    pub(super) fn team(&self) -> String {
        let workers = self.whole.numbers.get(Count::Workers);
        let workers = usize::try_from(workers).unwrap_or(usize::MAX);
        match self.workers.as_str() {
            "process" => counted(self.processes.len(), "process", "processes"),
            "thread" => counted(workers, "thread", "threads"),
            "coroutine" => counted(workers, "event loop", "event loops"),
            "greenlet" => counted(workers, "event loop of greenlets", "event loops of greenlets"),
            other => other.to_owned(),
        }
    }

    /// The lines below its row: what concerns all of it, after the name of its parent, then each process.
    pub(super) fn details(&self, parent: &str, indent: &str) -> Vec<Line> {
        let all = line_of(indent, parent, &self.whole, true);
        let of_each = self.processes.iter().map(|each| line_of(indent, &each.pid.to_string(), each, false));
        std::iter::once(all).chain(of_each).collect()
    }
}

/// A process, and what is worth a word of it.
fn line_of(indent: &str, who: &str, serving: &Serving, is_whole: bool) -> Line {
    let numbers = &serving.numbers;
    let mut facts = Vec::new();
    if serving.phase != "serving" {
        facts.push(serving.phase.to_owned());
    }
    if !is_whole {
        facts.push(format!("{} open", number(numbers.open())));
        facts.push(format!("{} active", number(numbers.get(Count::Active))));
    }
    match serving.rates {
        Some(Rates { accepted, served, refused }) => {
            facts.push(format!("{} accepted/s", per_second(accepted)));
            facts.push(format!("{} served/s", per_second(served)));
            if is_whole {
                facts.push(format!("{} refused/s", per_second(refused)));
            }
        }
        None => facts.push(format!("{} accepted", number(numbers.get(Count::Accepted)))),
    }
    let seldom = [
        (Count::Failed, "failed"),
        (Count::Stuck, "stuck"),
        (Count::Lost, "lost"),
        (Count::Replaced, "replaced"),
    ];
    let seldom = seldom.map(|(count, word)| (numbers.get(count), word));
    facts.extend(
        seldom.iter().filter(|each| each.0 > 0).map(|(count, word)| format!("{} {word}", number(*count))),
    );
    let line = |tone, text| Line::toned(tone, format!("{indent}{indent}{who}  {text}"));
    match serving.answered_s.filter(|seconds| *seconds > LATE) {
        Some(seconds) => {
            facts.insert(0, format!("no answer for {}", duration(seconds)));
            line(Tone::Bad, facts.join(" · "))
        }
        None => line(Tone::Plain, facts.join(" · ")),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { number(rate.round() as u64) }
}

#[cfg(test)]
pub(super) mod tests;
