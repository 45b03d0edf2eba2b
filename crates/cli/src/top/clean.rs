//! Gives back what dead processes have left behind, where no living one has come by to do it.
//!
//! A lock whose owner died is left as it is: its next owner has to be told.

use std::collections::BTreeSet;
use std::sync::Arc;

use manyhands_os::process::Identity;
use manyhands_sync::barrier::Barrier;
use manyhands_sync::names::{self, Entry, Kind};
use manyhands_sync::semaphore::Semaphore;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::words::SegmentWords;

use super::state::State;
use super::survey::open;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// A line for each thing.
    pub said: Vec<String>,
    /// Whether everything that bears one of the names was found.
    pub is_complete: bool,
}

/// Does it; and takes these names from what has them.
#[must_use]
pub fn clean(names: &[String]) -> Cleaned {
    let mut said = Vec::new();
    let mut missing: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for (inode, entry) in names::entries() {
        let Ok(site) = open(inode, &entry) else { continue };
        let dead = strike(&site);
        // A shared heap is looked after by the process whose it is, and goes with it.
        let Some(kind) = Kind::from_number(site.kind()).filter(|kind| *kind != Kind::SharedHeap) else {
            continue;
        };
        let name = entry.name.as_deref().filter(|_| !site.is_retired());
        let what = match name {
            Some(name) => format!("{kind} {name:?}"),
            None => format!("{kind} ({inode}:{SITE_BYTES:#x})"),
        };
        let mut tell = |text: String| said.push(format!("{what}: {text}"));
        for identity in &dead {
            tell(format!("removed the entries of process {}, which is dead", identity.pid()));
        }
        if let Some(text) = give_back(&site, kind) {
            tell(text);
        }
        let Some(name) = name else { continue };
        let wanted = names.iter().any(|each| each == name);
        missing.remove(name);
        if wanted || !is_used(&site, kind, &entry) {
            site.retire();
            tell(format!("name released{}", users(&entry)));
        }
    }
    let is_complete = missing.is_empty();
    said.extend(missing.into_iter().map(|name| format!("no object is named {name:?}")));
    Cleaned { said, is_complete }
}

/// The processes that go on with an object whose name is taken away.
fn users(entry: &Entry) -> String {
    let mut pids: Vec<String> = entry.users.iter().map(|(pid, _)| pid.to_string()).collect();
    pids.dedup();
    let process = if pids.len() == 1 { "process" } else { "processes" };
    format!("; still in use by {process} {}", pids.join(", "))
}

/// Takes the dead off the lists of a site; returns which they were. Participant slots in a shared heap are left to its
/// owner, as blocks of memory go with them.
fn strike(site: &Arc<Site>) -> BTreeSet<Identity> {
    let waiters = site.waiters().map(|entry| entry.identity);
    let slots = site.participants().map(|(_, slot)| slot.identity);
    let is_heap = site.kind() == Kind::SharedHeap.number();
    let dead: BTreeSet<Identity> = waiters.chain(slots).filter(|who| site.is_dead(*who)).collect();
    for identity in &dead {
        site.forget(*identity);
    }
    if !is_heap {
        site.sweep(|_| {});
    }
    dead
}

/// Has permits come back and barriers break as any waiter would; says so if there was something to do.
fn give_back(site: &Arc<Site>, kind: Kind) -> Option<String> {
    let count = (site.segment().len() - SITE_BYTES) / 8;
    let words = SegmentWords::new(Arc::clone(site.segment()), SITE_BYTES, count);
    match kind {
        Kind::Semaphore | Kind::BoundedSemaphore => {
            let permits = Semaphore::open(Arc::clone(site), words).ok()?.recover();
            (permits > 0).then(|| format!("permits of dead processes released: {permits}"))
        }
        Kind::Barrier => {
            let barrier = Barrier::open(Arc::clone(site), words).ok()?;
            barrier.break_if_dead().then(|| "broken, because a party has died".to_owned())
        }
        _ => None,
    }
}

/// Whether a living process takes part in it.
fn is_used(site: &Arc<Site>, kind: Kind, entry: &Entry) -> bool {
    let alive = |who: Identity| !site.is_dead(who);
    let creator = site.creator().filter(|who| entry.users.iter().any(|(pid, _)| *pid == who.pid()));
    creator.is_some_and(alive)
        || site.participants().any(|(_, slot)| alive(slot.identity))
        || site.waiters().any(|entry| alive(entry.identity))
        || State::of(site, kind, SITE_BYTES as u64, 0).holders.iter().any(|held| alive(held.identity))
}
