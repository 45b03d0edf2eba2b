//! What a pool of any kind has done and is doing, as the dict that `Executor.statistics` describes.

use manyhands_os::{process, procfs};
use manyhands_pool::statistics::{Statistics, WorkerState, WorkerStatistics};
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

/// The memory of this process, which all of its threads share.
pub(super) fn shared_rss_bytes() -> u64 {
    procfs::rss_bytes(process::pid()).unwrap_or(0)
}

/// The dict of a worker that is a `thread` of this process; it has that one's name and number, too.
pub(super) fn of_thread<'py>(
    thread: &Bound<'py, PyAny>,
    task: Option<String>,
    task_s: Option<f64>,
    tasks_done: u64,
    rss_bytes: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let py = thread.py();
    let thread_id = thread.getattr(intern!(py, "native_id"))?.extract::<Option<i32>>()?;
    let one = of_worker(
        py,
        &WorkerStatistics {
            pid: Some(process::pid()),
            state: if task.is_some() { WorkerState::Running } else { WorkerState::Idle },
            task,
            task_s,
            tasks_done,
            cpu_s: thread_id.and_then(procfs::thread_cpu_seconds).unwrap_or(0.0),
            rss_bytes,
            // Threads do not die.
            restarts: 0,
        },
    )?;
    one.set_item(intern!(py, "thread"), thread.getattr(intern!(py, "name"))?)?;
    one.set_item(intern!(py, "thread_id"), thread_id)?;
    Ok(one)
}
