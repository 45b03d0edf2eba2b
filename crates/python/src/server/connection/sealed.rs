//! A connection with TLS: what it receives is decrypted, and what a handler writes is encrypted, once a step of it is over.

use std::io;
use std::sync::Arc;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::{Connection, State};
use crate::server::tls::Session;

impl Connection {
    fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    /// Takes what has been received.
    pub(super) fn take_sealed(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        let Some(session) = self.session() else { return Ok(()) };
        session.take(py, bytes)?;
        if !session.is_open() {
            return Ok(()); // whoever waits for the handshake looks at it
        }
        self.unseal(py)?;
        // What could not be encrypted before the client had said this.
        let has_more = !self.lock().unsealed.is_empty();
        if has_more { self.flush(py) } else { Ok(()) }
    }

    /// Has what was received be there for readers.
    pub(in super::super) fn unseal(&self, py: Python<'_>) -> PyResult<()> {
        let Some(session) = self.session() else { return Ok(()) };
        let mut bytes = Vec::new();
        let decrypted = session.decrypt(py, &mut bytes);
        // Alerts, and what belongs to other keys.
        self.send_sealed(py)?;
        let mut state = self.lock();
        if !bytes.is_empty() {
            self.exchange.heard();
            state.input.feed(&bytes);
        }
        match decrypted {
            Ok(true) => state.input.end(),
            Ok(false) => {}
            Err(error) => return state.break_off_tls(py, error),
        }
        state.watch_what_is_needed(&self.room, self.limit);
        Ok(())
    }

    /// Sends what TLS wants to say.
    pub(in super::super) fn send_sealed(&self, py: Python<'_>) -> PyResult<()> {
        let Some(session) = self.session() else { return Ok(()) };
        let sealed = session.sealed(py)?;
        let mut state = self.lock();
        state.output.add(sealed.as_bytes(py));
        state.send();
        state.watch_what_is_needed(&self.room, self.limit);
        Ok(())
    }

    /// Tells the client that nothing more will come.
    pub(super) fn say_goodbye(&self, py: Python<'_>) -> PyResult<()> {
        let Some(session) = self.session().filter(|session| session.is_open()) else { return Ok(()) };
        session.say_goodbye(py);
        self.send_sealed(py)
    }

    /// Encrypts what was written, and a farewell if that is all.
    pub(super) fn seal(&self, py: Python<'_>, session: &Session) -> PyResult<()> {
        let mut state = self.lock();
        let mut unsealed = std::mem::take(&mut state.unsealed);
        let says_goodbye = state.closing && !state.told_end;
        state.told_end |= says_goodbye;
        drop(state);
        let encrypted = match session.is_open() {
            true => session.encrypt(py, &unsealed),
            // It never will be, if it is being closed.
            false if says_goodbye => Ok(unsealed.len()),
            false => Ok(0),
        };
        if says_goodbye {
            session.say_goodbye(py);
        }
        let sealed = session.sealed(py)?;
        let mut state = self.lock();
        state.output.add(sealed.as_bytes(py));
        match encrypted {
            Ok(count) => {
                unsealed.drain(..count);
                state.unsealed = unsealed;
                Ok(())
            }
            Err(error) => state.break_off_tls(py, error),
        }
    }
}

impl State {
    /// Nothing can be read or written any more, for what `ssl` has said; if that is no end of the program.
    pub(in super::super) fn break_off_tls(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        self.break_off(io::Error::new(io::ErrorKind::ConnectionReset, error.value(py).to_string()));
        Ok(())
    }
}
