//! The thread that takes connections off a listener.
//!
//! It takes as many as there are at a time, up to a number, until it is told that there is no room; then it leaves the
//! listener alone until it is told to look again. While connections wait for a worker it looks every millisecond, later less
//! often, whether anybody comes for them.
//!
//! Where processes share a listener, the kernel wakes all of them for a connection, and whichever was the first would have it, mostly
//! the same. So each waits a moment for each connection that it has already.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use manyhands_os::clock::{self, Deadline, MILLISECOND, SECOND};
use manyhands_os::poll::{EventFd, Interest, Poller};
use manyhands_os::stream::{self, NotAccepted, Peer};
use manyhands_os::{park, process, socket};

/// How many connections are taken before anything else is looked at; of a listener that others share.
const BATCH: (usize, usize) = (64, 8);
/// How long to leave a connection to others for each that we have, and for at most so many.
const COURTESY: (u64, u64) = (MILLISECOND / 10, 10);
/// How long to leave a listener alone when descriptors have run out: doubled from the first to the second.
const PAUSE: (u64, u64) = (10 * MILLISECOND, SECOND);
/// How often to look whether queued connections are stuck: doubled from the first to the second.
const LOOK: (u64, u64) = (MILLISECOND, 64 * MILLISECOND);

const LISTENER: u64 = 0;
const WAKER: u64 = 1;

/// Where accepted connections go.
pub trait Door: Send + Sync + 'static {
    /// Whether the next one may be taken; if not, somebody calls [`Bell::ring`] once that may have changed.
    fn may_accept(&self) -> bool;
    /// How many connections there are here, if other processes take some off the same listener: those
    /// that have fewer go first.
    fn load(&self) -> Option<usize>;
    /// Here is one.
    fn admit(&self, connection: OwnedFd, peer: Peer);
    /// Takes the next one off the listener. What comes to a socket without connections is taken by a door of its own kind.
    ///
    /// # Errors
    /// Why there is none.
    fn take(&self, listener: BorrowedFd<'_>) -> Result<(), NotAccepted> {
        let (connection, peer) = stream::accept(listener)?;
        self.admit(connection, peer);
        Ok(())
    }
    /// Whether connections wait for a worker.
    fn has_queue(&self) -> bool;
    /// They have waited a while.
    fn look_for_a_stall(&self);
    /// Nothing can be accepted: for now, or for good.
    fn trouble(&self, error: &io::Error, for_good: bool);
    /// How often to [`beat`](Self::beat), in nanoseconds; `None`: never.
    fn beat_every(&self) -> Option<u64> {
        None
    }
    /// The acceptor does its work: who wants to know it is told, at this pace, however busy the listener is.
    fn beat(&self) {}
}

/// Has an acceptor look again at what it may do.
#[derive(Clone, Debug)]
pub struct Bell {
    waker: Arc<EventFd>,
    /// Whether the acceptor must end. Set once, by whoever stops it, before the waker is signalled.
    ended: Arc<AtomicBool>,
}

impl Bell {
    /// A bell for an acceptor to come.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { waker: Arc::new(EventFd::new()?), ended: Arc::default() })
    }

    /// There may be room again.
    pub fn ring(&self) {
        // Nobody is there to be told if the descriptor has been closed by the program.
        _ = self.waker.signal();
    }
}

/// A running acceptor. Ends when it is dropped.
#[derive(Debug)]
pub struct Acceptor {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts to accept. A socket of datagrams stays in the mode that it is in: others send by it.
    ///
    /// # Errors
    /// When there can be no thread, or descriptors run out.
    pub fn start(listener: OwnedFd, bell: Bell, door: Arc<impl Door>) -> io::Result<Self> {
        if stream::is_listener(&listener)? {
            socket::set_nonblocking(&listener, true)?;
        }
        let poller = Poller::new()?;
        poller.add(&*bell.waker, WAKER, Interest::Readable)?;
        let theirs = bell.clone();
        let thread = std::thread::Builder::new().name("mh-acceptor".into()).spawn(move || {
            process::block_signals();
            Accepting { listener, poller, bell: theirs, door, watched: false }.run();
        })?;
        Ok(Self { bell, thread: Some(thread) })
    }

    /// Accepts nothing more; returns once the thread has ended.
    pub fn stop(&mut self) {
        self.bell.ended.store(true, Ordering::SeqCst);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by the thread itself.
            _ = thread.join();
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread has.
struct Accepting<D> {
    listener: OwnedFd,
    poller: Poller,
    bell: Bell,
    door: Arc<D>,
    /// Whether the listener is in the poller's set.
    watched: bool,
}

/// How long to leave something alone: from the first of two times to the second.
struct Pause {
    bounds: (u64, u64),
    length: u64,
    until: Option<Deadline>,
}

impl Pause {
    fn new(bounds: (u64, u64)) -> Self {
        Self { bounds, length: bounds.0, until: None }
    }

    fn begin(&mut self, now: Deadline) {
        self.until = Some(now + self.length);
        self.length = (2 * self.length).min(self.bounds.1);
    }

    fn is_over(&self, now: Deadline) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    fn end(&mut self) {
        *self = Self::new(self.bounds);
    }
}

impl<D: Door> Accepting<D> {
    fn run(mut self) {
        let (mut shortage, mut look) = (Pause::new(PAUSE), Pause::new(LOOK));
        let mut beat = self.door.beat_every().map(|period| (period, clock::now() + period));
        while !self.bell.ended.load(Ordering::SeqCst) {
            let now = clock::now();
            if let Some((period, due)) = &mut beat
                && *due <= now
            {
                self.door.beat();
                *due = now + *period;
            }
            let wanted = shortage.is_over(now) && self.door.may_accept();
            if let Err(error) = self.watch(wanted) {
                return self.door.trouble(&error, true);
            }
            if !self.door.has_queue() {
                look.end();
            } else if look.until.is_none() {
                look.begin(now);
            } else if look.is_over(now) {
                self.door.look_for_a_stall();
                look.begin(now);
            }
            let later = shortage.until.filter(|until| *until > now);
            let next = [later, look.until, beat.map(|(_, due)| due)].into_iter().flatten().min();
            let ready = match self.poller.wait(next) {
                Ok(ready) => ready,
                Err(error) => return self.door.trouble(&error, true),
            };
            for (key, _) in ready {
                if key == WAKER {
                    self.bell.waker.drain();
                } else if !self.accept(&mut shortage) {
                    return;
                }
            }
        }
    }

    /// Puts the listener into the set, or takes it out.
    fn watch(&mut self, wanted: bool) -> io::Result<()> {
        if wanted == self.watched {
            return Ok(());
        }
        self.watched = wanted;
        match wanted {
            true => self.poller.add(&self.listener, LISTENER, Interest::Readable),
            false => self.poller.remove(&self.listener),
        }
    }

    /// Takes what is there; false when the listener is of no use any more.
    fn accept(&self, shortage: &mut Pause) -> bool {
        let load = self.door.load();
        if let Some(load @ 1..) = load {
            park::sleep_until(clock::now() + COURTESY.0 * COURTESY.1.min(load as u64));
        }
        let batch = if load.is_some() { BATCH.1 } else { BATCH.0 };
        for _ in 0..batch {
            match self.door.take(self.listener.as_fd()) {
                Ok(()) => shortage.end(),
                Err(NotAccepted::Gone) => {}
                Err(NotAccepted::Nobody) => break,
                Err(NotAccepted::Shortage(error)) => {
                    if shortage.length == PAUSE.0 {
                        self.door.trouble(&error, false);
                    }
                    shortage.begin(clock::now());
                    break;
                }
                Err(NotAccepted::Broken(error)) => {
                    self.door.trouble(&error, true);
                    return false;
                }
            }
            if !self.door.may_accept() {
                break;
            }
        }
        true
    }
}
