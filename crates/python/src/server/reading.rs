//! What coroutines await of a connection, and what they get.

use std::borrow::Cow;
use std::sync::{Arc, MutexGuard};

use manyhands_server::input::{Found, Input, Want};
use pyo3::exceptions::{PyConnectionResetError, PyStopAsyncIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use super::connection::{Connection, Event, State};
use super::wait::{Awaited, Pause};

/// How a reader is told of lines that are too long, and of the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As `readuntil` and its like: what is too long stays there.
    Plain,
    /// As `readline`: what is too long is thrown away.
    Line,
    /// As `async for`, which ends with the stream.
    NextLine,
}

/// Bytes that the client says.
pub(super) struct Reading {
    connection: Arc<Connection>,
    want: Want,
    manner: Manner,
}

impl Reading {
    pub(super) fn new(connection: &Arc<Connection>, want: Want, manner: Manner) -> Self {
        Self { connection: Arc::clone(connection), want, manner }
    }

    /// A line, or what there is at the end.
    pub(super) fn line(connection: &Arc<Connection>, manner: Manner) -> Self {
        let separator = Cow::Borrowed(&b"\n"[..]);
        Self::new(connection, Want::Until { separator, or_rest: true }, manner)
    }

    fn result<'py>(
        &self,
        py: Python<'py>,
        mut state: MutexGuard<'_, State>,
        found: &Found,
    ) -> PyResult<Bound<'py, PyAny>> {
        let connection = &self.connection;
        let bytes = match found {
            Found::Bytes(range) | Found::Incomplete(range) => {
                Some(PyBytes::new(py, state.input.bytes(range.clone())))
            }
            Found::TooLong(_) | Found::TooFar(_) => None,
        };
        if self.manner != Manner::Plain {
            state.input.skip_line(found, b"\n");
        }
        state.watch_what_is_needed(&connection.room, connection.limit);
        drop(state);
        match bytes {
            None => Err(self.too_long(py, found)),
            Some(partial) if matches!(found, Found::Incomplete(_)) => Err(self.incomplete(&partial)),
            Some(line) if self.manner == Manner::NextLine && line.as_bytes().is_empty() => {
                Err(PyStopAsyncIteration::new_err(()))
            }
            Some(bytes) => Ok(bytes.into_any()),
        }
    }

    fn too_long(&self, py: Python<'_>, found: &Found) -> PyErr {
        static OVERRUN: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let (text, length) = match found {
            Found::TooFar(length) => ("Separator is found, but chunk is longer than limit", *length),
            Found::TooLong(length) => ("Separator is not found, and chunk exceed the limit", *length),
            Found::Bytes(_) | Found::Incomplete(_) => unreachable!("that was not too long"),
        };
        if self.manner != Manner::Plain {
            return PyValueError::new_err(text);
        }
        match OVERRUN.import(py, "asyncio", "LimitOverrunError") {
            Ok(class) => PyErr::from_type(class.clone(), (text, length)),
            Err(error) => error,
        }
    }

    fn incomplete(&self, partial: &Bound<'_, PyBytes>) -> PyErr {
        static INCOMPLETE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let expected = match self.want {
            Want::Exactly(length) => Some(length),
            _ => None,
        };
        match INCOMPLETE.import(partial.py(), "asyncio", "IncompleteReadError") {
            Ok(class) => PyErr::from_type(class.clone(), (partial.clone().unbind(), expected)),
            Err(error) => error,
        }
    }
}

impl Awaited for Reading {
    fn attempt<'py>(&self, py: Python<'py>, begins: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut state = self.connection.lock();
        if begins && !state.has_reader() {
            state.input.begin_search();
        }
        if let Some(found) = state.input.take(&self.want, self.connection.limit) {
            return self.result(py, state, &found).map(Some);
        }
        match state.error() {
            Some(error) => Err(error),
            None if state.is_closed() => Err(connection_lost()),
            None => Ok(None),
        }
    }

    fn enlist(&self, pause: Py<Pause>) -> bool {
        self.connection.enlist_reader(pause)
    }

    fn forget(&self, pause: &Bound<'_, Pause>) -> bool {
        self.connection.forget(Event::Input, pause)
    }

    fn is_satisfied(&self, input: &mut Input) -> bool {
        input.has(&self.want, self.connection.limit)
    }

    fn event_loop(&self) -> &Py<PyAny> {
        &self.connection.room.event_loop
    }
}

/// Room for more to say, or the end of the connection.
pub(super) struct Passing {
    pub(super) connection: Arc<Connection>,
    pub(super) event: Event,
}

impl Awaited for Passing {
    fn attempt<'py>(&self, py: Python<'py>, _begins: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.connection.lock();
        let has_happened = match (self.event, state.error()) {
            (Event::Closed, _) => state.is_closed(),
            (_, Some(error)) => return Err(error),
            (_, None) if state.is_closed() => return Err(connection_lost()),
            (_, None) => !state.is_full(),
        };
        Ok(has_happened.then(|| py.None().into_bound(py)))
    }

    fn enlist(&self, pause: Py<Pause>) -> bool {
        self.connection.lock().enlist(self.event, pause)
    }

    fn forget(&self, pause: &Bound<'_, Pause>) -> bool {
        self.connection.forget(self.event, pause)
    }

    fn is_satisfied(&self, _input: &mut Input) -> bool {
        false
    }

    fn event_loop(&self) -> &Py<PyAny> {
        &self.connection.room.event_loop
    }
}

fn connection_lost() -> PyErr {
    PyConnectionResetError::new_err("Connection lost")
}
