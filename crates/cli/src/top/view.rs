//! What somebody wants to see of a snapshot, as keys have said: in which order, whose names, which page, how far down.

use std::collections::HashMap;

use super::grid::{party, shown_name};
use super::keys::Key;
use super::server::{Numbers, Server, Serving};
use super::{Label, Object, Party, Pool, Queue, Snapshot, Waiter, Worker};

/// The order of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What is waited for first, then what is busy: as a snapshot has it.
    #[default]
    Waiting,
    /// By name; pools by their program, workers by their task.
    Name,
    /// By class; pools and workers by process id.
    Kind,
    /// The largest first: most unfinished tasks, most items, most holders and waiters, most memory.
    Size,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Waiting => Self::Name,
            Self::Name => Self::Kind,
            Self::Kind => Self::Size,
            Self::Size => Self::Waiting,
        }
    }

    /// The order in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Name => "name",
            Self::Kind => "kind",
            Self::Size => "size",
        }
    }
}

/// What a key has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Draw again.
    Draw,
    /// Look again, and draw.
    Look,
    /// End.
    Quit,
}

/// What somebody wants to see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The order of rows.
    pub order: Order,
    /// Rows without this text are left out, whatever its case.
    pub filter: String,
    /// Whether the filter is being typed.
    pub is_typing: bool,
    /// The pool whose page it is; `None` for the page of everything.
    pub page: Option<(u64, u64)>,
    /// The first line of the list that is shown; `None` shows some of each section.
    pub offset: Option<usize>,
    /// Lines that were shown of the list when it was drawn last.
    pub(super) room: usize,
    /// Lines from the beginning that sections shown in part have in common with the whole list.
    pub(super) common: usize,
    /// The pools that the filter leaves, in their order, when it was drawn last.
    pub(super) pools: Vec<(u64, u64)>,
    /// CPU seconds of workers at the look before, and when that was.
    before: HashMap<i32, f64>,
    /// What servers and their processes had counted at the look before, by the server's place and the process.
    counted: HashMap<(u64, Option<i32>), Numbers>,
    looked: f64,
}

impl View {
    /// Does what a key says.
    pub fn press(&mut self, key: Key) -> Answer {
        if self.is_typing {
            return self.type_filter(key);
        }
        let page = self.room.saturating_sub(2).max(1);
        let at = self.offset.unwrap_or(0);
        match key {
            Key::Letter('q' | 'Q') => return Answer::Quit,
            Key::Letter('s') => self.order = self.order.next(),
            Key::Letter('/') => self.is_typing = true,
            Key::Letter('p') | Key::Right => self.turn(1),
            Key::Left if self.page.is_some() => self.turn(-1),
            Key::Escape | Key::Backspace => self.step_back(),
            Key::Down | Key::Letter('j') => self.offset = Some(at + 1),
            Key::Up | Key::Letter('k') => self.offset = at.checked_sub(1).filter(|at| *at > 0),
            Key::PageDown | Key::Letter(' ') => {
                self.offset = Some(self.offset.map_or(self.common.saturating_sub(1), |at| at + page));
            }
            Key::PageUp | Key::Letter('b') => self.offset = at.checked_sub(page).filter(|at| *at > 0),
            Key::Home | Key::Letter('g') => self.offset = None,
            Key::End | Key::Letter('G') => self.offset = Some(usize::MAX),
            _ => return Answer::Look,
        }
        Answer::Draw
    }

    fn type_filter(&mut self, key: Key) -> Answer {
        self.offset = None;
        match key {
            Key::Letter(letter) => self.filter.push(letter),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.is_typing = false,
            Key::Escape => (self.is_typing, self.filter) = (false, String::new()),
            _ => {}
        }
        Answer::Draw
    }

    /// Goes to the page of the next pool, or of the one before.
    fn turn(&mut self, by: isize) {
        let at = self.pools.iter().position(|pool| Some(*pool) == self.page);
        let last = self.pools.len().checked_sub(1);
        let next = match (at, last) {
            (_, None) => return,
            (None, Some(_)) => 0,
            (Some(at), Some(last)) => (at + last + 1).wrapping_add_signed(by) % (last + 1),
        };
        (self.page, self.offset) = (Some(self.pools[next]), None);
    }

    /// Out of a page, then out of a filter.
    fn step_back(&mut self) {
        self.offset = None;
        if self.page.take().is_none() {
            self.filter.clear();
        }
    }

    /// Takes in a new look, made at `seconds` of some clock: how much CPU time workers have had,
    /// and how many connections servers, since the one before.
    pub fn take_in(&mut self, snapshot: &mut Snapshot, seconds: f64) {
        let passed = seconds - self.looked;
        let before = std::mem::take(&mut self.before);
        for worker in snapshot.pools.iter_mut().flat_map(|pool| &mut pool.crew) {
            let used = before.get(&worker.pid).map(|before| (worker.cpu_s - before).max(0.0));
            worker.cpu_share = used.filter(|_| passed > 0.0).map(|used| used / passed);
            self.before.insert(worker.pid, worker.cpu_s);
        }
        let before = std::mem::take(&mut self.counted);
        let mut note = |key, serving: &mut Serving| {
            let earlier = before.get(&key).filter(|_| passed > 0.0);
            serving.rates = earlier.map(|before| serving.numbers.rates(before, passed));
            self.counted.insert(key, serving.numbers);
        };
        for server in &mut snapshot.servers {
            note((server.place, None), &mut server.whole);
            for process in &mut server.processes {
                note((server.place, Some(process.pid)), process);
            }
        }
        self.looked = seconds;
    }

    /// What to show of a snapshot, in order.
    #[must_use]
    pub fn of(&self, snapshot: &Snapshot) -> Snapshot {
        let wanted = Wanted::new(&self.filter);
        let mut shown = Snapshot {
            pools: kept(&snapshot.pools, |pool| wanted.pool(pool)),
            servers: kept(&snapshot.servers, |server| wanted.server(server)),
            queues: kept(&snapshot.queues, |queue| wanted.queue(queue)),
            objects: kept(&snapshot.objects, |object| wanted.object(object)),
            unreadable: kept(&snapshot.unreadable, |each| {
                wanted.is_in(&each.name) || each.users.iter().any(|user| wanted.party(user))
            }),
        };
        match self.order {
            Order::Waiting => {}
            Order::Name => {
                shown.pools.sort_by(|a, b| a.parent.process.cmp(&b.parent.process));
                shown.servers.sort_by(|a, b| a.address.cmp(&b.address));
                shown.queues.sort_by_key(|queue| shown_name(&queue.label));
                shown.objects.sort_by_key(|object| shown_name(&object.label));
            }
            Order::Kind => {
                shown.pools.sort_by_key(|pool| pool.parent.pid);
                shown.servers.sort_by(|a, b| a.workers.cmp(&b.workers));
                shown.queues.sort_by(|a, b| a.label.kind.cmp(&b.label.kind));
                shown.objects.sort_by(|a, b| a.label.kind.cmp(&b.label.kind));
            }
            Order::Size => {
                let tasks = |pool: &Pool| pool.running.saturating_add(pool.queued);
                shown.pools.sort_by_key(|pool| std::cmp::Reverse(tasks(pool)));
                shown.servers.sort_by_key(|server| std::cmp::Reverse(server.whole.numbers.open()));
                shown.queues.sort_by_key(|queue| std::cmp::Reverse(queue.size));
                let parties = |object: &Object| object.holders.len() + object.waiters.len();
                shown.objects.sort_by_key(|object| std::cmp::Reverse(parties(object)));
            }
        }
        shown
    }

    /// The workers of a pool to show, in order.
    #[must_use]
    pub fn crew(&self, pool: &Pool) -> Vec<Worker> {
        let wanted = Wanted::new(&self.filter);
        // Whoever filters by a program sees all of its pools' workers.
        let is_whole = wanted.party(&pool.parent);
        let mut crew = kept(&pool.crew, |worker| is_whole || wanted.worker(worker));
        match self.order {
            Order::Waiting => {
                let share = |worker: &Worker| worker.cpu_share.unwrap_or(0.0);
                crew.sort_by(|a, b| {
                    let by_task = b.task.is_some().cmp(&a.task.is_some());
                    by_task.then(share(b).total_cmp(&share(a))).then(a.pid.cmp(&b.pid))
                });
            }
            Order::Name => crew.sort_by(|a, b| a.task.cmp(&b.task).then(a.pid.cmp(&b.pid))),
            Order::Kind => crew.sort_by_key(|worker| worker.pid),
            Order::Size => crew.sort_by_key(|worker| std::cmp::Reverse(worker.rss_bytes)),
        }
        crew
    }
}

fn kept<T: Clone>(all: &[T], is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
    all.iter().filter(|each| is_wanted(each)).cloned().collect()
}

/// What a filter lets pass.
struct Wanted(String);

impl Wanted {
    fn new(filter: &str) -> Self {
        Self(filter.to_lowercase())
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.is_empty() || text.to_lowercase().contains(&self.0)
    }

    fn party(&self, who: &Party) -> bool {
        self.is_in(&party(who))
    }

    fn label(&self, label: &Label) -> bool {
        let is_used = || label.users.iter().any(|user| self.party(user));
        self.is_in(&shown_name(label)) || self.is_in(&label.kind) || is_used()
    }

    fn waiters(&self, waiters: &[Waiter]) -> bool {
        waiters.iter().any(|waiter| self.party(&waiter.party))
    }

    fn worker(&self, worker: &Worker) -> bool {
        self.is_in(&worker.pid.to_string()) || worker.task.as_ref().is_some_and(|task| self.is_in(task))
    }

    fn pool(&self, pool: &Pool) -> bool {
        self.party(&pool.parent) || pool.crew.iter().any(|worker| self.worker(worker))
    }

    fn server(&self, server: &Server) -> bool {
        let is_one = |process: &Serving| self.is_in(&process.pid.to_string());
        self.party(&server.parent)
            || self.is_in(&server.address)
            || self.is_in(&server.workers)
            || server.processes.iter().any(is_one)
    }

    fn queue(&self, queue: &Queue) -> bool {
        self.label(&queue.label) || self.waiters(&queue.waiters)
    }

    fn object(&self, object: &Object) -> bool {
        let is_held = object.holders.iter().any(|holder| self.party(&holder.party));
        self.label(&object.label) || is_held || self.waiters(&object.waiters)
    }
}

#[cfg(test)]
mod tests;
