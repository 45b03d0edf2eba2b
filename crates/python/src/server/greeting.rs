//! What comes before the words that a client has for a handler: a proxy's header, a handshake of TLS.

use std::io;
use std::sync::{Arc, Mutex};

use manyhands_os::stream::Peer;
use manyhands_server::input::Input;
use manyhands_server::proxy_header::{Fed, HeaderReader};
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError};
use pyo3::prelude::*;

use super::connection::{Connection, Event};
use super::hall::address;
use super::tls::Session;
use super::wait::{Awaited, Pause};
use crate::interpreter::lock::lock;

/// A greeting that is awaited.
pub(super) struct Greeting {
    connection: Arc<Connection>,
    kind: Kind,
}

enum Kind {
    Header(Mutex<HeaderReader>),
    Handshake(Arc<Session>),
}

impl Greeting {
    /// The PROXY header: its result is the address of the proxy's client, or None.
    pub(super) fn header(connection: &Arc<Connection>) -> Self {
        Self { connection: Arc::clone(connection), kind: Kind::Header(Mutex::default()) }
    }

    /// The handshake, which begins with what the client says next.
    ///
    /// # Errors
    /// RuntimeError when there was one already; what is wrong with the context.
    pub(super) fn handshake(connection: &Arc<Connection>, context: &Bound<'_, PyAny>) -> PyResult<Self> {
        let session = Arc::new(Session::new(context)?);
        let mut early = Vec::new();
        let mut state = connection.lock();
        if state.session.is_some() {
            return Err(PyRuntimeError::new_err("this connection has TLS already"));
        }
        state.session = Some(Arc::clone(&session));
        state.input.consume(|bytes| {
            early.extend_from_slice(bytes);
            bytes.len()
        });
        drop(state);
        session.take(context.py(), &early)?;
        Ok(Self { connection: Arc::clone(connection), kind: Kind::Handshake(session) })
    }

    /// For whom the proxy has connected, once that is known.
    fn client(&self, reader: &mut HeaderReader) -> PyResult<Option<Option<Peer>>> {
        let mut state = self.connection.lock();
        let mut fed = Ok(Fed::More);
        state.input.consume(|bytes| {
            fed = reader.feed(bytes);
            if let Ok(Fed::Done { used, .. }) = fed { used } else { bytes.len() }
        });
        match fed.map_err(io::Error::from)? {
            Fed::Done { endpoints, .. } => {
                let client = endpoints.map(|endpoints| endpoints.client);
                if let Some(client) = &client {
                    state.peer.clone_from(client);
                }
                Ok(Some(client))
            }
            Fed::More if state.has_lost_client() => Err(reader.end().into()),
            Fed::More => Ok(None),
        }
    }

    /// Whether both sides have shaken hands.
    fn is_open(&self, py: Python<'_>, session: &Session) -> PyResult<bool> {
        let outcome = session.shake_hands(py);
        // Alerts, too.
        self.connection.send_sealed(py)?;
        match outcome {
            Ok(true) => {
                self.connection.exchange.begin_again();
                self.connection.unseal(py)?;
                Ok(true)
            }
            Ok(false) if self.connection.lock().has_lost_client() => {
                Err(PyConnectionResetError::new_err("it has gone within its TLS handshake"))
            }
            Ok(false) => Ok(false),
            Err(error) => {
                self.connection.lock().break_off_tls(py, error.clone_ref(py))?;
                Err(error)
            }
        }
    }
}

impl Awaited for Greeting {
    fn attempt<'py>(&self, py: Python<'py>, _begins: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let result = match &self.kind {
            Kind::Header(reader) => match self.client(&mut lock(reader))? {
                Some(Some(client)) => return address(py, &client).map(Some),
                Some(None) => true,
                None => false,
            },
            Kind::Handshake(session) => self.is_open(py, session)?,
        };
        Ok(result.then(|| py.None().into_bound(py)))
    }

    fn enlist(&self, pause: Py<Pause>) -> bool {
        self.connection.enlist_reader(pause)
    }

    fn forget(&self, pause: &Bound<'_, Pause>) -> bool {
        self.connection.forget(Event::Input, pause)
    }

    /// Whatever comes may be enough.
    fn is_satisfied(&self, _input: &mut Input) -> bool {
        true
    }

    fn event_loop(&self) -> &Py<PyAny> {
        &self.connection.room.event_loop
    }
}
