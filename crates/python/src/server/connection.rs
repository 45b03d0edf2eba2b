//! One connection of an event loop: bytes in, bytes out, and the tasks that wait for them.
//!
//! All of it happens in the loop's thread, between two waits of the loop. The locks are there since nothing keeps a program from
//! calling from elsewhere; none is held while Python code runs.

mod sealed;
mod watch;

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};

use manyhands_os::poll::{Interest, Readiness};
use manyhands_os::stream::{self, Peer};
use manyhands_server::input::{Found, Input, Want};
use manyhands_server::output::Output;
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError};
use pyo3::prelude::*;

use super::exchange::Exchange;
use super::room::{Key, Room, Settle};
use super::tls::Session;
use super::wait::Pause;
use crate::interpreter::lock::lock;

/// How much is read at a time.
const SCRATCH: usize = 64 << 10;
/// A writer that has more than the first waiting for its client waits until it is less than the second.
const OUTPUT: (usize, usize) = (64 << 10, 16 << 10);
/// From here bytes are not copied that can be sent at once.
const LARGE: usize = 16 << 10;

thread_local! {
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The client says something.
    Input,
    /// The client has taken what was written.
    Drained,
    /// The connection is closed.
    Closed,
}

/// What serves a connection by being called when there is something to serve.
pub(super) trait Turn: Send + Sync {
    /// Serves what is there.
    fn run(&self, py: Python<'_>) -> PyResult<()>;
    /// The connection is closed: it is called no more.
    fn end(&self, py: Python<'_>) -> PyResult<()>;
}

/// A connection.
pub(super) struct Connection {
    pub(super) room: Arc<Room<Self>>,
    /// How long a line may be; reading stops while twice as much waits for the reader.
    pub(super) limit: usize,
    pub(super) exchange: Exchange,
    state: Mutex<State>,
    /// What serves it, if that is not a coroutine that reads.
    turn: Mutex<Option<Arc<dyn Turn>>>,
}

pub(super) struct State {
    /// None once it is closed.
    fd: Option<OwnedFd>,
    key: Key,
    /// The client, or for whom it has connected.
    pub(super) peer: Peer,
    /// TLS, from its handshake on.
    pub(super) session: Option<Arc<Session>>,
    pub(super) input: Input,
    output: Output,
    /// What has to be encrypted before.
    unsealed: Vec<u8>,
    /// What the room's poller looks for.
    watched: Option<Interest>,
    /// Why nothing can be read or written any more.
    broken: Option<io::Error>,
    /// It is closed once its output has been sent.
    closing: bool,
    /// The client is told that nothing more will come, once its output has been sent.
    write_ended: bool,
    told_end: bool,
    /// Whether it is among those whose output is sent when the current step is over.
    is_due: bool,
    reader: Option<Py<Pause>>,
    drains: Vec<Py<Pause>>,
    closes: Vec<Py<Pause>>,
}

impl Connection {
    /// One that `room` looks after.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(
        room: &Arc<Room<Self>>,
        fd: OwnedFd,
        peer: Peer,
        limit: usize,
    ) -> io::Result<Arc<Self>> {
        let state = State {
            fd: None,
            key: Key::default(),
            peer,
            session: None,
            input: Input::default(),
            output: Output::default(),
            unsealed: Vec::new(),
            watched: None,
            broken: None,
            closing: false,
            write_ended: false,
            told_end: false,
            is_due: false,
            reader: None,
            drains: Vec::new(),
            closes: Vec::new(),
        };
        let connection = Arc::new(Self {
            room: Arc::clone(room),
            limit,
            exchange: Exchange::new(),
            state: Mutex::new(state),
            turn: Mutex::default(),
        });
        let key = room.enter(&connection);
        let mut state = connection.lock();
        (state.fd, state.key) = (Some(fd), key);
        let watched = state.watch(room, Some(Interest::Readable));
        drop(state);
        if let Err(error) = watched {
            room.leave(key);
            return Err(error);
        }
        Ok(connection)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The descriptor is ready for something.
    pub(super) fn ready(self: &Arc<Self>, py: Python<'_>, readiness: Readiness) -> PyResult<()> {
        if readiness.readable {
            self.receive(py)?;
        }
        if readiness.writable || readiness.closed {
            self.settle(py)?;
        }
        let turn = lock(&self.turn).clone();
        match turn {
            Some(turn) => turn.run(py),
            None => self.wake_reader(py),
        }
    }

    /// Has it served by calls from now on, until it is closed.
    pub(super) fn set_turn(&self, py: Python<'_>, turn: Arc<dyn Turn>) -> PyResult<()> {
        let before = lock(&self.turn).replace(Arc::clone(&turn));
        drop(before);
        let has_something = self.lock().has_something();
        if has_something { turn.run(py) } else { Ok(()) }
    }

    /// Reads what is there, once.
    pub(super) fn receive(&self, py: Python<'_>) -> PyResult<()> {
        let mut bytes = BYTES.take();
        bytes.resize(SCRATCH, 0);
        let mut state = self.lock();
        let wants = state.wants_input(self.limit);
        let mut sealed = 0;
        if let Some(fd) = state.fd.as_ref().filter(|_| wants) {
            match stream::receive(fd, &mut bytes, 0) {
                Ok(0) => state.input.end(),
                Ok(count) => {
                    self.exchange.heard();
                    match state.session {
                        None => state.input.feed(&bytes[..count]),
                        Some(_) => sealed = count,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => state.break_off(error),
            }
        }
        state.watch_what_is_needed(&self.room, self.limit);
        drop(state);
        let taken = if sealed > 0 { self.take_sealed(py, &bytes[..sealed]) } else { Ok(()) };
        BYTES.set(bytes);
        taken
    }

    /// Takes all that the client has said; whether it will say no more.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn take_input(&self, consume: impl FnOnce(&[u8])) -> PyResult<bool> {
        let mut state = self.lock();
        if !state.input.is_empty()
            && let Some(Found::Bytes(range)) = state.input.take(&Want::Some(usize::MAX), 0)
        {
            consume(state.input.bytes(range));
        }
        state.watch_what_is_needed(&self.room, self.limit);
        state.error().map_or_else(|| Ok(state.input.has_ended() || state.is_closing()), Err)
    }

    /// Wakes the reader if there is what it wants.
    pub(super) fn wake_reader(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        let State { reader, input, broken, .. } = &mut *state;
        let is_there = |pause: &mut Py<Pause>| broken.is_some() || pause.get().is_satisfied(input);
        let woken = reader.take_if(is_there);
        drop(state);
        woken.map_or(Ok(()), |pause| Pause::wake(pause.bind(py)))
    }

    /// Has `wake` wake those whose output has gone, or never will.
    fn wake_writers(&self, py: Python<'_>, wake: fn(&Bound<'_, Pause>) -> PyResult<()>) -> PyResult<()> {
        let mut state = self.lock();
        let mut woken = Vec::new();
        if state.broken.is_some() || state.fd.is_none() || state.unsent() <= OUTPUT.1 {
            woken.append(&mut state.drains);
        }
        if state.fd.is_none() {
            woken.append(&mut state.closes);
        }
        let is_closed = state.fd.is_none();
        let reader = if is_closed { state.reader.take() } else { None };
        drop(state);
        let turn = if is_closed { lock(&self.turn).take() } else { None };
        let ended = turn.map_or(Ok(()), |turn| turn.end(py));
        woken.iter().chain(&reader).fold(ended, |outcome, pause| outcome.and(wake(pause.bind(py))))
    }

    /// As [`Settle::settle`], for a handler: no other can run before that waits.
    fn settle_amid(&self, py: Python<'_>) -> PyResult<()> {
        self.flush(py)?;
        self.wake_writers(py, Pause::wake_soon)
    }

    /// Sends what there is room for, and closes the connection if that is due.
    pub(super) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.is_due = false;
        if let Some(session) = state.session.clone() {
            drop(state);
            self.seal(py, &session)?;
            state = self.lock();
        }
        state.send();
        if state.closing && (state.unsent() == 0 || state.broken.is_some()) {
            state.close(&self.room);
        } else {
            state.watch_what_is_needed(&self.room, self.limit);
        }
        Ok(())
    }

    /// Sends bytes: now, or when the current step of a handler is over, together with what else it says.
    pub(super) fn write(self: &Arc<Self>, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        let mut state = self.lock();
        if state.write_ended {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        if state.closing || state.broken.is_some() {
            return Ok(()); // as in asyncio, where `drain` tells
        }
        self.exchange.answered();
        let mut rest = bytes;
        if state.session.is_some() {
            state.unsealed.extend_from_slice(bytes);
            rest = &[];
        } else if state.unsent() == 0
            && bytes.len() >= LARGE
            && let Some(fd) = &state.fd
        {
            match stream::send(fd, bytes, 0) {
                Ok(count) => rest = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => state.break_off(error),
            }
        }
        state.output.add(rest);
        let waits = state.unsent() < OUTPUT.0 && self.room.puts_off(self, &mut state.is_due);
        drop(state);
        if waits { Ok(()) } else { self.settle_amid(py) }
    }

    /// Tells the client that nothing more will come, once it has got what was written.
    pub(super) fn end_writing(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.write_ended |= !state.closing;
        drop(state);
        self.settle_amid(py)
    }

    /// Closes it once what was written has been sent.
    pub(super) fn close(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.closing = true;
        let waits = self.room.puts_off(self, &mut state.is_due);
        drop(state);
        if waits { Ok(()) } else { self.settle_amid(py) }
    }

    /// Closes it now, whatever has not been sent.
    pub(super) fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.lock();
        state.closing = true;
        state.forget_output();
        state.close(&self.room);
        drop(state);
        self.wake_writers(py, Pause::wake_soon)
    }

    /// In the child of a fork: what has not been sent is the parent's to send, and all of the connection unless it `stays`.
    pub(super) fn leave_to_parent(&self, stays: bool) {
        let mut state = self.lock();
        state.forget_output();
        state.is_due = false;
        if !stays {
            state.fd = None;
        }
    }

    /// Ends reading and writing, as if the client had.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.say_goodbye(py)?;
        if let Some(fd) = &self.lock().fd {
            _ = stream::end(fd); // the client has gone already
        }
        Ok(())
    }

    /// Has somebody wait for what the client says, unless somebody does that would lose by it.
    pub(super) fn enlist_reader(&self, pause: Py<Pause>) -> bool {
        let mut state = self.lock();
        let is_first = state.enlist(Event::Input, pause);
        // More than the limit, if that is what it wants.
        state.watch_what_is_needed(&self.room, self.limit);
        is_first
    }

    /// Forgets somebody that waits no more; whether it did.
    pub(super) fn forget(&self, event: Event, pause: &Bound<'_, Pause>) -> bool {
        let mut state = self.lock();
        let forgotten = match event {
            Event::Input => state.reader.take_if(|each| each.is(pause)),
            Event::Drained => without(&mut state.drains, pause),
            Event::Closed => without(&mut state.closes, pause),
        };
        drop(state);
        forgotten.is_some()
    }

    /// Whether a reader waits for another request: nothing of it is here, and all that was written is sent.
    pub(super) fn is_idle(&self) -> bool {
        let is_called = lock(&self.turn).is_some();
        let state = self.lock();
        (is_called || state.reader.is_some())
            && state.input.is_empty()
            && state.unsent() == 0
            && state.fd.as_ref().is_some_and(|fd| self.exchange.is_over(fd))
    }
}

impl Settle for Connection {
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.flush(py)?;
        self.wake_writers(py, Pause::wake)
    }
}

impl State {
    fn unsent(&self) -> usize {
        self.output.len() + self.unsealed.len()
    }

    /// The number of its descriptor; -1 once it is closed.
    pub(super) fn fileno(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Whether it is closed, or will be.
    pub(super) fn is_closing(&self) -> bool {
        self.closing || self.fd.is_none()
    }

    /// Whether it is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.fd.is_none()
    }

    /// Whether a writer has to wait for its client.
    pub(super) fn is_full(&self) -> bool {
        self.unsent() > OUTPUT.0
    }

    /// Whether somebody waits for what the client says.
    pub(super) fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Whether the client has gone, or says no more.
    pub(super) fn has_lost_client(&self) -> bool {
        self.broken.is_some() || self.input.has_ended()
    }

    /// Whether the client has said something, or has gone.
    fn has_something(&self) -> bool {
        !self.input.is_empty() || self.has_lost_client()
    }

    /// Whether `drain` has nothing to wait for, and nothing to tell.
    pub(super) fn needs_no_drain(&self) -> bool {
        self.fd.is_some() && self.broken.is_none() && !self.is_full()
    }

    /// Why nothing can be read or written any more.
    pub(super) fn error(&self) -> Option<PyErr> {
        let broken = self.broken.as_ref()?;
        // An io::Error cannot be copied.
        Some(match broken.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number).into(),
            None if broken.get_ref().is_some() => PyConnectionResetError::new_err(broken.to_string()),
            None => PyConnectionResetError::new_err("Connection lost"),
        })
    }

    /// Has somebody wait, unless somebody does that would lose by it.
    pub(super) fn enlist(&mut self, event: Event, pause: Py<Pause>) -> bool {
        match event {
            Event::Input if self.reader.is_some() => return false,
            Event::Input => self.reader = Some(pause),
            Event::Drained => self.drains.push(pause),
            Event::Closed => self.closes.push(pause),
        }
        true
    }

    fn break_off(&mut self, error: io::Error) {
        self.broken.get_or_insert(error);
        self.forget_output();
    }

    /// Sends nothing of what is not sent yet.
    fn forget_output(&mut self) {
        self.output.clear();
        self.unsealed.clear();
    }

    fn send(&mut self) {
        while !self.output.is_empty() {
            let Some(fd) = &self.fd else { return };
            match stream::send(fd, self.output.rest(), 0) {
                Ok(count) => self.output.take(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.break_off(error),
            }
        }
        if self.write_ended && !self.told_end {
            self.told_end = true;
            if let Some(fd) = &self.fd {
                _ = stream::end_sending(fd); // the client has gone already
            }
        }
    }

    fn close(&mut self, room: &Room<Connection>) {
        if self.fd.is_some() {
            // Only what was closed behind our back is not in the set.
            _ = self.watch(room, None);
            self.fd = None;
            room.leave(self.key);
        }
    }
}

fn without(list: &mut Vec<Py<Pause>>, pause: &Bound<'_, Pause>) -> Option<Py<Pause>> {
    list.iter().position(|each| each.is(pause)).map(|place| list.swap_remove(place))
}
