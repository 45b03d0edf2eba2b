//! What a pool of either kind has done and is doing, as the dict that `Executor.statistics` describes.

use manyhands_pool::statistics::{Statistics, WorkerStatistics};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The dict, with what [`of_worker`] has made of each worker.
pub(super) fn of_pool<'py>(
    py: Python<'py>,
    statistics: &Statistics,
    workers: Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item(intern!(py, "queued"), statistics.queued)?;
    all.set_item(intern!(py, "running"), statistics.running)?;
    all.set_item(intern!(py, "done"), statistics.done)?;
    all.set_item(intern!(py, "failed"), statistics.failed)?;
    all.set_item(intern!(py, "retried"), statistics.retried)?;
    all.set_item(intern!(py, "cancelled"), statistics.cancelled)?;
    all.set_item(intern!(py, "workers"), workers)?;
    Ok(all)
}

/// The dict of one worker.
pub(super) fn of_worker<'py>(py: Python<'py>, worker: &WorkerStatistics) -> PyResult<Bound<'py, PyDict>> {
    let one = PyDict::new(py);
    one.set_item(intern!(py, "pid"), worker.pid)?;
    one.set_item(intern!(py, "state"), worker.state.name())?;
    one.set_item(intern!(py, "task"), &worker.task)?;
    one.set_item(intern!(py, "task_s"), worker.task_s)?;
    one.set_item(intern!(py, "tasks_done"), worker.tasks_done)?;
    one.set_item(intern!(py, "cpu_s"), worker.cpu_s)?;
    one.set_item(intern!(py, "rss_bytes"), worker.rss_bytes)?;
    one.set_item(intern!(py, "restarts"), worker.restarts)?;
    Ok(one)
}
