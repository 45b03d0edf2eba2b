//! How a zygote is started.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands_channel::arena::Block;

/// How the zygote is started.
pub struct Launch {
    /// The interpreter.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Changes to its environment.
    pub environment: Vec<(OsString, Option<OsString>)>,
    /// What the zygote and its workers need to know, in a block.
    pub set_up: Block,
    /// Descriptors it inherits after the control socket and the segment. Closed when the pool has
    /// ended, since their other ends may be waiting for just that.
    pub descriptors: Mutex<Vec<OwnedFd>>,
}

impl Launch {
    pub(crate) fn descriptors(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
