//! A worker that waits for what its own pool has queued.

use std::sync::Arc;

use pyo3::prelude::*;

use super::Pool;

/// While this lives, the pool may have one worker more: one of them waits for the others.
pub(crate) struct Blocked {
    pool: Arc<Pool>,
}

impl Blocked {
    pub(crate) fn enter(py: Python<'_>, pool: &Arc<Pool>) -> PyResult<Self> {
        pool.lock().blocked += 1;
        let this = Self { pool: Arc::clone(pool) };
        pool.summon_all(py)?;
        Ok(this)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let mut inner = self.pool.lock();
        // The count began again if the process has forked since.
        inner.blocked = inner.blocked.saturating_sub(1);
    }
}
