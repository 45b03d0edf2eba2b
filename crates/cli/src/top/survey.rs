//! Looks at what this user's processes share. It takes part in nothing: it maps what others have made, reads words that
//! may change under its eyes, and believes none of them further than it has to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use manyhands_channel::arena::Arena;
use manyhands_channel::queue::Queue as SharedQueue;
use manyhands_memory::layout;
use manyhands_os::process::Identity;
use manyhands_os::{clock, memfd, park, procfs};
use manyhands_pool::control::Control;
use manyhands_pool::slots::RunningTask;
use manyhands_server::ledger::{self, Count, Ledger};
use manyhands_sync::names::{self, Entry, Kind, NameError};
use manyhands_sync::site::{self, SITE_BYTES, Site, WaitKind};

use super::server::{Server, Serving};
use super::state::State;
use super::{Holder, Label, Object, Party, Pool, Queue, Snapshot, Unreadable, Waiter, Worker};

/// Records begin at multiples of this, so that the rest of a key is what is waited for at that record.
const RECORD: u64 = 64;

/// Threads beyond this number are asyncio tasks.
const MOST_THREADS: u32 = 1 << 22;

/// Everything that this user's processes share now.
#[must_use]
pub fn look() -> Snapshot {
    let mut survey = Survey::default();
    for (inode, entry) in names::entries() {
        survey.visit(inode, &entry);
    }
    survey.servers();
    survey.snapshot.sort();
    survey.snapshot
}

/// Opens the segment of an entry, as whoever still has it open gives it.
///
/// # Errors
/// [`NameError::Gone`] when nobody has it any more; otherwise why it cannot be used.
pub(super) fn open(inode: u64, entry: &Entry) -> Result<Arc<Site>, NameError> {
    let mut gone = NameError::Gone { pid: 0, here: 0 };
    for (pid, fd) in &entry.users {
        match names::open(*pid, *fd, inode) {
            Err(error @ NameError::Gone { .. }) => gone = error,
            found => return found,
        }
    }
    Err(gone)
}

/// As [`open`], but looks again at what is no site yet: one that is being made has a name for some microseconds before it
/// has a heading. What stays so has been damaged.
fn open_made(inode: u64, entry: &Entry) -> Result<Arc<Site>, NameError> {
    const LOOKS: usize = 10;
    const PAUSE: u64 = 2 * clock::MILLISECOND;
    for _ in 0..LOOKS {
        match open(inode, entry) {
            Err(NameError::Unusable { error: site::SiteError::NotASite, .. }) => {
                park::sleep_until(clock::now() + PAUSE);
            }
            found => return found,
        }
    }
    open(inode, entry)
}

/// The workers of a pool, as far as they live.
fn crew(site: &Site, control: &Control) -> Vec<Worker> {
    let now = clock::now();
    let mut tasks: HashMap<u16, RunningTask> =
        control.tasks().into_iter().map(|task| (task.participant, task)).collect();
    let members = control.crew().filter_map(|number| {
        let pid = site.participant_slot(number).filter(|slot| !slot.reserved)?.identity.pid();
        let (cpu_s, rss_bytes) = (procfs::cpu_seconds(pid)?, procfs::rss_bytes(pid)?);
        let (task, begun) = tasks.remove(&number).map_or((None, None), |task| (Some(task.name), task.begun));
        let task_s = begun.map(|begun| clock::seconds(now.saturating_sub(begun)));
        Some(Worker { pid, task, task_s, cpu_s, cpu_share: None, rss_bytes })
    });
    members.collect()
}

#[derive(Default)]
struct Survey {
    /// What processes run, as far as it was asked for.
    programs: HashMap<i32, Option<String>>,
    ledgers: Vec<Ledger>,
    snapshot: Snapshot,
}

impl Survey {
    fn visit(&mut self, inode: u64, entry: &Entry) {
        let mut pids: Vec<i32> = entry.users.iter().map(|(pid, _)| *pid).collect();
        pids.dedup();
        let users: Vec<Party> = pids.into_iter().map(|pid| self.process(pid)).collect();
        if entry.kind == ledger::KIND {
            return self.ledger(inode, entry, users);
        }
        let site = match open_made(inode, entry) {
            Ok(site) => site,
            // Nobody has it any more, or it is only being made.
            Err(NameError::Gone { .. } | NameError::Unusable { error: site::SiteError::NotReady, .. }) => {
                return;
            }
            Err(error) => return self.report(entry, users, reason(error)),
        };
        let name = entry.name.clone().filter(|_| !site.is_retired());
        let label =
            |kind: Kind| Label { kind: kind.to_string(), name, place: (inode, SITE_BYTES as u64), users };
        match Kind::from_number(site.kind()) {
            Some(Kind::SharedHeap) => {
                self.pools(inode, &site);
                self.unnamed(inode, &site, &label(Kind::SharedHeap).users);
            }
            Some(
                kind @ (Kind::Queue
                | Kind::JoinableQueue
                | Kind::SimpleQueue
                | Kind::PriorityQueue
                | Kind::LifoQueue),
            ) => self.queue(&site, entry, label(kind)),
            Some(kind) => {
                let waiters = self.waiters(&site, |_| true);
                self.object(&site, kind, SITE_BYTES as u64, label(kind), waiters);
            }
            None => self.report(
                entry,
                label(Kind::SharedHeap).users,
                "of a kind that this version of manyhands does not know".into(),
            ),
        }
    }

    fn ledger(&mut self, inode: u64, entry: &Entry, users: Vec<Party>) {
        let mut opened = entry.users.iter().filter_map(|(pid, fd)| memfd::open(*pid, *fd, inode).ok());
        match opened.next().map(Ledger::attach) {
            Some(Ok(ledger)) => self.ledgers.push(ledger),
            Some(Err(error)) => self.report(entry, users, error.to_string()),
            // Nobody has it any more.
            None => {}
        }
    }

    /// Puts the ledgers of processes to those of their servers.
    fn servers(&mut self) {
        let (parts, wholes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ledgers).into_iter().partition(|ledger| ledger.server().is_some());
        // A child that a handler has forked may keep one that is over.
        for ledger in wholes.into_iter().filter(|ledger| !ledger.process().is_none_or(Identity::is_dead)) {
            let own = parts.iter().filter(|part| part.server() == Some(ledger.number()));
            let processes: Vec<Serving> = own.map(Serving::of).collect();
            let mut whole = Serving::of(&ledger);
            for each in &processes {
                whole.numbers.add(&each.numbers);
            }
            whole.numbers = whole.numbers.with(Count::Processes, processes.len() as u64);
            let parent = self.process(ledger.pid());
            let (address, workers) = (ledger.address(), ledger.workers());
            let server = Server { place: ledger.number(), parent, address, workers, whole, processes };
            self.snapshot.servers.push(server);
        }
    }

    fn report(&mut self, entry: &Entry, users: Vec<Party>, reason: String) {
        let name =
            entry.name.as_ref().map_or_else(|| entry.kind.clone(), |name| format!("{}:{name}", entry.kind));
        self.snapshot.unreadable.push(Unreadable { name, users, reason });
    }

    fn pools(&mut self, inode: u64, site: &Arc<Site>) {
        let segment = site.segment();
        let Some(creator) = site.creator().filter(|_| layout::region(segment).start < segment.len()) else {
            return;
        };
        for control in layout::pools(segment).into_iter().filter_map(|at| Control::find(segment, at)) {
            let (account, running) = (control.account(), control.running());
            let pool = Pool {
                place: (inode, control.offset() as u64),
                parent: self.party(site, creator, None),
                workers: account.workers,
                running,
                queued: account.unfinished.saturating_sub(running),
                ended: account.submitted.saturating_sub(account.unfinished),
                crew: crew(site, &control),
            };
            self.snapshot.pools.push(pool);
        }
    }

    /// What has no name and is held or waited for. The rest is left out: a program may have a hundred thousand locks.
    fn unnamed(&mut self, inode: u64, site: &Arc<Site>, users: &[Party]) {
        let kinds = kinds_in(site);
        let label = |record, kind: Kind| {
            let (kind, users) = (kind.to_string(), users.to_vec());
            Label { kind, name: None, place: (inode, record), users }
        };
        let mut records: BTreeMap<(u64, &str), WaitKind> = BTreeMap::new();
        for entry in site.waiters() {
            records.entry((entry.key / RECORD * RECORD, entry.kind.verb())).or_insert(entry.kind);
        }
        let mut shown: BTreeSet<u64> = BTreeSet::new();
        for ((record, _), wait) in records {
            let Some(kind) = wait.object() else { continue };
            let kind = kinds.get(&record).copied().unwrap_or(kind);
            let here = |entry: &site::Entry| entry.key / RECORD * RECORD == record && entry.kind == wait;
            let waiters = self.waiters(site, here);
            if !waiters.is_empty() {
                self.object(site, kind, record, label(record, kind), waiters);
                shown.insert(record);
            }
        }
        for (record, kind) in kinds {
            if kind.is_held()
                && !shown.contains(&record)
                && !State::of(site, kind, record, 0).holders.is_empty()
            {
                self.object(site, kind, record, label(record, kind), Vec::new());
            }
        }
    }

    fn queue(&mut self, site: &Arc<Site>, entry: &Entry, label: Label) {
        let queue = match SharedQueue::attach(Arc::clone(site), SITE_BYTES..site.segment().len()) {
            Ok(queue) => queue,
            Err(error) => return self.report(entry, label.users, error.to_string()),
        };
        let statistics = queue.statistics();
        let maxsize = u64::from(queue.options().maxsize);
        let waiters = self.waiters(site, |_| true);
        self.snapshot.queues.push(Queue {
            label,
            size: statistics.len as u64,
            maxsize: Some(maxsize).filter(|most| *most > 0),
            puts: statistics.puts,
            gets: statistics.gets,
            is_closed: queue.is_closed(),
            waiters,
        });
    }

    fn object(&mut self, site: &Arc<Site>, kind: Kind, record: u64, label: Label, waiters: Vec<Waiter>) {
        let State { text, holders } = State::of(site, kind, record, waiters.len());
        let holders = holders
            .into_iter()
            .map(|held| Holder { party: self.party(site, held.identity, held.thread), count: held.count });
        let holders: Vec<Holder> = holders.collect();
        let is_left = kind != Kind::Semaphore && holders.iter().any(|holder| holder.party.is_dead);
        let state = if is_left { "owner died".to_owned() } else { text };
        self.snapshot.objects.push(Object { label, state, holders, waiters });
    }

    /// Those who wait, without the dead.
    fn waiters(&mut self, site: &Arc<Site>, wanted: impl Fn(&site::Entry) -> bool) -> Vec<Waiter> {
        let now = clock::now();
        let waiting: Vec<site::Entry> =
            site.waiters().filter(|entry| wanted(entry) && !entry.called).collect();
        let waiters = waiting.into_iter().map(|entry| Waiter {
            party: self.party(site, entry.identity, Some(entry.thread).filter(|_| !entry.by_socket)),
            purpose: entry.kind.verb(),
            is_async: entry.by_socket,
            seconds: clock::seconds(now.saturating_sub(entry.since)),
        });
        waiters.filter(|waiter| !waiter.party.is_dead).collect()
    }

    fn party(&mut self, site: &Site, who: Identity, thread: Option<u32>) -> Party {
        if site.is_dead(who) {
            let thread = thread.filter(|thread| (1..MOST_THREADS).contains(thread));
            return Party { pid: who.pid(), process: String::new(), thread, is_dead: true };
        }
        let thread = thread.filter(|thread| (1..MOST_THREADS).contains(thread));
        Party { thread, ..self.process(who.pid()) }
    }

    fn process(&mut self, pid: i32) -> Party {
        let program = self.programs.entry(pid).or_insert_with(|| procfs::program(pid));
        Party { pid, process: program.clone().unwrap_or_default(), thread: None, is_dead: program.is_none() }
    }
}

/// What the records of a shared heap are, by where they are.
fn kinds_in(site: &Site) -> BTreeMap<u64, Kind> {
    let segment = site.segment();
    let blocks = Arena::tagged(segment, layout::region(segment)).into_iter();
    blocks.filter_map(|block| Some((block.offset as u64, Kind::from_number(block.tag.into())?))).collect()
}

fn reason(error: NameError) -> String {
    match error {
        NameError::Unusable { error, .. } => error.to_string(),
        error => error.to_string(),
    }
}
