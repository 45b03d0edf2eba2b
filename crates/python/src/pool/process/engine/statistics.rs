//! What a pool has done and is doing, as a dict.

use manyhands_pool::statistics::Statistics;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// As `Executor.statistics` describes it.
pub(super) fn shown(py: Python<'_>, statistics: Statistics) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    all.set_item(intern!(py, "queued"), statistics.queued)?;
    all.set_item(intern!(py, "running"), statistics.running)?;
    all.set_item(intern!(py, "done"), statistics.done)?;
    all.set_item(intern!(py, "failed"), statistics.failed)?;
    all.set_item(intern!(py, "retried"), statistics.retried)?;
    all.set_item(intern!(py, "cancelled"), statistics.cancelled)?;
    let workers = PyList::empty(py);
    for worker in statistics.workers {
        let one = PyDict::new(py);
        one.set_item(intern!(py, "pid"), worker.pid)?;
        one.set_item(intern!(py, "state"), worker.state)?;
        one.set_item(intern!(py, "task"), worker.task)?;
        one.set_item(intern!(py, "task_s"), worker.task_s)?;
        one.set_item(intern!(py, "tasks_done"), worker.tasks_done)?;
        one.set_item(intern!(py, "cpu_s"), worker.cpu_s)?;
        one.set_item(intern!(py, "rss_bytes"), worker.rss_bytes)?;
        one.set_item(intern!(py, "restarts"), worker.restarts)?;
        workers.append(one)?;
    }
    all.set_item(intern!(py, "workers"), workers)?;
    Ok(all)
}
