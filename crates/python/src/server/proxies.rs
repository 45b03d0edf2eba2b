//! Proxies: which are trusted, as Python has it.

use manyhands_os::stream;
use manyhands_server::trusted_peers::{NoPeers, TrustedPeers};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::interpreter::ffi::borrow_descriptor;

/// The peers whose PROXY headers a server reads.
#[pyclass(frozen, module = "manyhands._native", name = "TrustedPeers")]
pub(super) struct Trusted(TrustedPeers);

#[pymethods]
impl Trusted {
    #[new]
    fn new(peers: &str) -> PyResult<Self> {
        peers.parse().map(Self).map_err(|error: NoPeers| PyValueError::new_err(error.to_string()))
    }

    /// Whether the peer at the other end of a connection is one of them.
    fn trusts(&self, connection: i32) -> PyResult<bool> {
        Ok(self.0.trusts(&stream::peer_of(borrow_descriptor(connection))?))
    }
}
