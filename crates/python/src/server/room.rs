//! The connections of one event loop: by the names that its poller has for them, and those that have something to send.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use manyhands_os::poll::Poller;
use pyo3::prelude::*;
use slotmap::{DefaultKey, Key as _, KeyData, SlotMap};

use crate::interpreter::lock::lock;

/// What a connection is called in its room.
pub(super) type Key = DefaultKey;

/// Something whose output can be sent.
pub(super) trait Settle {
    /// Sends what there is room for, and wakes those who wait for that.
    fn settle(&self, py: Python<'_>) -> PyResult<()>;
}

/// The connections of one loop.
pub(super) struct Room<C> {
    /// Gone with the loop: whoever keeps a connection, as a traceback may, keeps no descriptor.
    poller: Mutex<Option<Arc<Poller>>>,
    pub(super) event_loop: Py<PyAny>,
    connections: Mutex<SlotMap<Key, Arc<C>>>,
    /// Whether a handler runs that was called back from here. Only the loop's thread sets it.
    is_stepping: AtomicBool,
    /// Those whose output is sent when its step is over.
    due: Mutex<Vec<Arc<C>>>,
}

impl<C: Settle> Room<C> {
    pub(super) fn new(event_loop: Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            poller: Mutex::new(Some(Arc::new(Poller::new()?))),
            event_loop,
            connections: Mutex::default(),
            is_stepping: AtomicBool::new(false),
            due: Mutex::default(),
        })
    }

    /// What looks for connections that are ready.
    ///
    /// # Errors
    /// The loop has ended.
    pub(super) fn poller(&self) -> io::Result<Arc<Poller>> {
        lock(&self.poller).clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Looks for connections no more.
    pub(super) fn close(&self) {
        lock(&self.poller).take();
    }

    pub(super) fn enter(&self, connection: &Arc<C>) -> Key {
        lock(&self.connections).insert(Arc::clone(connection))
    }

    pub(super) fn leave(&self, key: Key) {
        lock(&self.connections).remove(key);
    }

    /// The connection that the poller calls so, unless it has left.
    pub(super) fn find(&self, name: u64) -> Option<Arc<C>> {
        lock(&self.connections).get(Key::from(KeyData::from_ffi(name))).cloned()
    }

    /// The poller's name for a connection.
    #[expect(clippy::unused_self, reason = "names have a meaning in one room only")]
    pub(super) fn name(&self, key: Key) -> u64 {
        key.data().as_ffi()
    }

    /// Has a connection's output be sent when the current step is over; false if nothing steps, and it has to be sent now.
    pub(super) fn puts_off(&self, connection: &Arc<C>, is_due: &mut bool) -> bool {
        if !self.is_stepping.load(Ordering::Relaxed) {
            return false;
        }
        if !std::mem::replace(is_due, true) {
            lock(&self.due).push(Arc::clone(connection));
        }
        true
    }

    /// Does something in which handlers run, and sends what they say.
    pub(super) fn step(&self, py: Python<'_>, run: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
        self.is_stepping.store(true, Ordering::Relaxed);
        let result = run();
        self.is_stepping.store(false, Ordering::Relaxed);
        let due = std::mem::take(&mut *lock(&self.due));
        let settled = due.iter().try_for_each(|connection| connection.settle(py));
        result.and(settled)
    }

    /// In the child of a fork: nothing is looked for, since the poller is the parent's, and what is written is sent at once.
    pub(super) fn leave_to_parent(&self) {
        self.close();
        self.is_stepping.store(false, Ordering::Relaxed);
        let due = std::mem::take(&mut *lock(&self.due));
        drop(due);
    }

    /// All that are here.
    pub(super) fn all(&self) -> Vec<Arc<C>> {
        lock(&self.connections).values().cloned().collect()
    }
}
