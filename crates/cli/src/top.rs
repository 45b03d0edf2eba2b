//! `manyhands top`: what this user's programs share at one moment, as rows.
//!
//! | module | what it does |
//! |---|---|
//! | [`survey`] | looks: from shared memory to a [`Snapshot`] |
//! | [`view`] | what of it is wanted: order, filter, page, how far down |
//! | [`keys`] | from bytes of a keyboard to keys |
//! | [`screen`] | a snapshot as lines of a terminal |
//! | [`server`] | what servers say of themselves, and their rows |
//! | `grid`, `crew`, `figure` | all other rows, those of one pool's workers, its numbers |
//! | [`json`] | a snapshot as one JSON object |
//! | [`clean`] | gives back what the dead have left behind |

pub mod clean;
mod crew;
mod figure;
mod grid;
pub mod json;
pub mod keys;
mod line;
pub mod screen;
pub mod server;
mod state;
pub mod survey;
pub mod view;

/// A process, or one of its threads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// Process id.
    pub pid: i32,
    /// What the process runs, such as `server.py`; empty when it has gone.
    pub process: String,
    /// The thread's number in the system, where it is known.
    pub thread: Option<u32>,
    /// Whether the process is dead.
    pub is_dead: bool,
}

/// A holder of an object, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The thread or coroutine.
    pub party: Party,
    /// How many permits; 1 for locks.
    pub count: u64,
}

/// A waiter.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiter {
    /// The thread or coroutine.
    pub party: Party,
    /// For what: `acquire`, `wait`, `get`, `put`, `join`, `receive` or `send`.
    pub purpose: &'static str,
    /// Whether it is a coroutine, whose thread does other things in the meantime.
    pub is_async: bool,
    /// Seconds since the wait began.
    pub seconds: f64,
}

/// A worker process of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// Process id.
    pub pid: i32,
    /// What the task is called that it has in hand; `None` when it has none.
    pub task: Option<String>,
    /// How long it has had that task, in seconds.
    pub task_s: Option<f64>,
    /// CPU time that it has used, in seconds.
    pub cpu_s: f64,
    /// Share of a CPU that it had since the look before; `None` at the first look.
    pub cpu_share: Option<f64>,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
}

/// A pool of processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Where it is: the number of its memory file, and the byte in it. Nothing else has the same.
    pub place: (u64, u64),
    /// The parent.
    pub parent: Party,
    /// Workers that are there.
    pub workers: u64,
    /// Tasks in workers' hands.
    pub running: u64,
    /// Tasks that no worker has begun.
    pub queued: u64,
    /// Tasks that have ended, well or not.
    pub ended: u64,
    /// The workers one by one. Looked at a moment before or after `workers`, so there may be one more or less.
    pub crew: Vec<Worker>,
}

/// A queue or a pipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Which one.
    pub label: Label,
    /// Items in it.
    pub size: u64,
    /// Most items; `None` without a limit.
    pub maxsize: Option<u64>,
    /// Items put since it was made.
    pub puts: u64,
    /// Items taken since it was made.
    pub gets: u64,
    /// Whether it has been shut down.
    pub is_closed: bool,
    /// Its waiters, the longest waiting first.
    pub waiters: Vec<Waiter>,
}

/// A lock, semaphore, event, condition, barrier or piece of shared data.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which one.
    pub label: Label,
    /// In a few words, such as `held`, `2 of 5 free`, `set`.
    pub state: String,
    /// Its holders.
    pub holders: Vec<Holder>,
    /// Its waiters, the longest waiting first.
    pub waiters: Vec<Waiter>,
}

/// What tells one thing from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Its class, such as `Lock`.
    pub kind: String,
    /// Its name; `None` when it was made without one.
    pub name: Option<String>,
    /// Where it is: the number of its memory file, and the byte in it. Nothing else has the same.
    pub place: (u64, u64),
    /// The processes that have its memory open.
    pub users: Vec<Party>,
}

/// Shared memory that could not be read as what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The name of its memory file.
    pub name: String,
    /// The processes that have it open.
    pub users: Vec<Party>,
    /// What is wrong with it.
    pub reason: String,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Pools, the busiest first.
    pub pools: Vec<Pool>,
    /// Servers, those with most open connections first.
    pub servers: Vec<server::Server>,
    /// Queues and pipes: those that are waited for first, then the fullest.
    pub queues: Vec<Queue>,
    /// The rest: what is waited for first, then what is held, then by name.
    pub objects: Vec<Object>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl Snapshot {
    /// Puts everything in the order that the fields name.
    pub fn sort(&mut self) {
        self.pools.sort_by_key(|pool| (std::cmp::Reverse(pool.running + pool.queued), pool.parent.pid));
        self.servers
            .sort_by_key(|server| (std::cmp::Reverse(server.whole.numbers.open()), server.parent.pid));
        for queue in &mut self.queues {
            longest_first(&mut queue.waiters);
        }
        for object in &mut self.objects {
            longest_first(&mut object.waiters);
        }
        self.queues.sort_by(|a, b| {
            let by_wait = longest(&b.waiters).total_cmp(&longest(&a.waiters));
            by_wait.then(b.size.cmp(&a.size)).then_with(|| a.label.order().cmp(&b.label.order()))
        });
        self.objects.sort_by(|a, b| {
            let by_wait = longest(&b.waiters).total_cmp(&longest(&a.waiters));
            let by_hold = a.holders.is_empty().cmp(&b.holders.is_empty());
            by_wait.then(by_hold).then_with(|| a.label.order().cmp(&b.label.order()))
        });
        self.unreadable.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// How many processes take part in anything here.
    #[must_use]
    pub fn processes(&self) -> usize {
        let labels = self.queues.iter().map(|queue| &queue.label);
        let labels = labels.chain(self.objects.iter().map(|object| &object.label));
        let users = labels.flat_map(|label| label.users.iter().map(|user| user.pid));
        let pids = users.chain(self.pools.iter().map(|pool| pool.parent.pid));
        let serving = self.servers.iter().flat_map(|server| server.processes.iter().map(|each| each.pid));
        let pids = pids.chain(self.servers.iter().map(|server| server.parent.pid)).chain(serving);
        pids.collect::<std::collections::BTreeSet<i32>>().len()
    }
}

impl Label {
    /// Named things by name, then the others by place.
    fn order(&self) -> (bool, &Option<String>, &str, (u64, u64)) {
        (self.name.is_none(), &self.name, &self.kind, self.place)
    }
}

fn longest_first(waiters: &mut [Waiter]) {
    waiters.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.party.cmp(&b.party)));
}

/// How long the longest wait has lasted; less than nothing where nobody waits.
fn longest(waiters: &[Waiter]) -> f64 {
    waiters.iter().map(|waiter| waiter.seconds).fold(-1.0, f64::max)
}

#[cfg(test)]
mod tests;
