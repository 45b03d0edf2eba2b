//! Tasks that may run only so long, or will be tried again after a while, and the thread that says when it is time.
//!
//! The thread is a Rust one: it sleeps without the interpreter, blocks all signals, and attaches only when a deadline
//! has passed. There is one per process while there are tasks with a timeout, and a little longer; it is stopped before
//! the interpreter goes down. The table is locked only by attached threads, so `fork()` cannot catch it locked.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use manyhands_os::clock::{self, Deadline};
use manyhands_os::process;
use pyo3::prelude::*;

use crate::interpreter::parker::{Expect, Parker};

/// How long the thread waits for another alarm before it ends, in nanoseconds.
const LINGER: u64 = clock::SECOND;

/// When an alarm rings, and a number that no other has.
pub(crate) type Key = (Deadline, u64);

/// What will happen at a certain moment.
pub(crate) trait Alarm: Send {
    fn ring(self: Box<Self>, py: Python<'_>);
}

#[derive(Default)]
struct Table {
    alarms: BTreeMap<Key, Box<dyn Alarm>>,
    last_number: u64,
    watch: Option<Watch>,
}

/// The thread's end of things.
struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    parker: Parker,
    stop: AtomicBool,
    /// The first deadline of the table, `u64::MAX` for none. Written under the table's lock.
    first: AtomicU64,
    /// What the thread sleeps until.
    sleeps_until: AtomicU64,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `alarm` ring at that moment, unless it is [`end`]ed before.
///
/// # Errors
/// RuntimeError when the thread cannot be started.
pub(crate) fn set(deadline: Deadline, alarm: Box<dyn Alarm>) -> PyResult<Key> {
    let mut table = lock();
    let table = table.get_or_insert_default();
    let watch = match &mut table.watch {
        Some(watch) => watch,
        none => none.insert(Watch::start()?),
    };
    table.last_number += 1;
    let key = (deadline, table.last_number);
    table.alarms.insert(key, alarm);
    watch.shared.first.store(first(&table.alarms), Ordering::SeqCst);
    if deadline < watch.shared.sleeps_until.load(Ordering::SeqCst) {
        watch.shared.parker.unpark();
    }
    Ok(key)
}

/// The task has ended in time.
pub(crate) fn end(key: Key) {
    let mut guard = lock();
    let Some(table) = guard.as_mut() else { return };
    let ended = table.alarms.remove(&key);
    if let Some(watch) = &table.watch {
        watch.shared.first.store(first(&table.alarms), Ordering::SeqCst);
    }
    drop(guard);
    drop(ended);
}

/// Ends the thread: the interpreter is about to go.
pub(crate) fn stop(py: Python<'_>) {
    let watch = lock().as_mut().and_then(|table| table.watch.take());
    let Some(watch) = watch else { return };
    // pairs with: the thread's looks at `stop` (Acquire)
    watch.shared.stop.store(true, Ordering::Release);
    watch.shared.parker.unpark();
    // Detached: the thread may be waiting for the interpreter. That it panicked has been said already.
    _ = py.detach(|| watch.thread.join());
}

/// Starts afresh in the child of a fork, where neither the thread nor the tasks are.
pub(crate) fn restart() {
    let table = lock().take();
    if let Some(Table { alarms, watch, .. }) = table {
        drop(alarms);
        // Its thread does not exist here, and cannot be joined.
        std::mem::forget(watch);
    }
}

fn first(alarms: &BTreeMap<Key, Box<dyn Alarm>>) -> u64 {
    alarms.first_key_value().map_or(u64::MAX, |((deadline, _), _)| *deadline)
}

impl Watch {
    fn start() -> PyResult<Self> {
        let shared = Arc::new(Shared {
            parker: Parker::default(),
            stop: AtomicBool::new(false),
            first: AtomicU64::new(u64::MAX),
            sleeps_until: AtomicU64::new(u64::MAX),
        });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("mh-deadlines".to_owned()).spawn(move || theirs.watch())?;
        Ok(Self { shared, thread })
    }
}

impl Shared {
    fn watch(&self) {
        process::block_signals();
        loop {
            self.parker.reset();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            // "Forever", until we know better: a thread that sets an earlier deadline calls us.
            self.sleeps_until.store(u64::MAX, Ordering::SeqCst);
            let first = self.first.load(Ordering::SeqCst);
            let now = clock::now();
            // Not longer, though the first alarm be far: nobody calls us when it is withdrawn.
            let until = first.min(now + LINGER);
            self.sleeps_until.store(until, Ordering::SeqCst);
            let idle = first == u64::MAX;
            if now < until && (self.parker.wait_detached(Some(until), Expect::Nothing) || !idle) {
                continue;
            }
            // No interpreter: it is going down, and nobody needs us.
            let goes_on = Python::try_attach(|py| if idle { self.is_needed() } else { ring(py) });
            if goes_on != Some(true) {
                return;
            }
        }
    }

    /// Whether there are alarms after all; if not, another thread will be started for the next one.
    fn is_needed(&self) -> bool {
        let mut table = lock();
        let Some(table) = table.as_mut() else { return false };
        if table.alarms.is_empty() && !self.stop.load(Ordering::Acquire) {
            table.watch = None;
        }
        table.watch.is_some()
    }
}

/// Tells every task whose time is up.
fn ring(py: Python<'_>) -> bool {
    while let Some(due) = take_due() {
        due.ring(py);
    }
    true
}

fn take_due() -> Option<Box<dyn Alarm>> {
    let mut table = lock();
    let table = table.as_mut()?;
    let entry = table.alarms.first_entry().filter(|entry| entry.key().0 <= clock::now());
    let due = entry.map(OccupiedEntry::remove);
    if let Some(watch) = &table.watch {
        watch.shared.first.store(first(&table.alarms), Ordering::SeqCst);
    }
    due
}
