//! A worker's duties, as Python calls them: it gets tasks in batches, and says how they have ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use manyhands_cluster::address::Address;
use manyhands_cluster::control::Profile;
use manyhands_cluster::message::{Embed, Json, Limits, Raised, TimeLimits};
use manyhands_cluster::worker::{Driver, Finish, JobId, Known, News, Plan, Shutdown, TaskOrder, Workplace};
use manyhands_os::{clock, process, procfs, random};
use pyo3::exceptions::{PyConnectionRefusedError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::interpreter::lock::lock;
use crate::interpreter::parker::{Expect, Parker};

/// What Python knows of a task: whether nobody is told its result, and its hard and soft time limit in seconds.
type Facts = (bool, Option<f64>, Option<f64>);

/// The half of a worker that has messages and no Python.
#[pyclass(frozen, module = "manyhands._native")]
pub(super) struct ClusterWorker {
    driver: Driver,
    parker: Arc<Parker>,
    orders: Mutex<HashMap<JobId, Arc<TaskOrder>>>,
}

#[pymethods]
impl ClusterWorker {
    #[new]
    #[pyo3(signature = (url, *, name, hostname, origin, kind, queues, slots, most_deaths, tasks, accepts, utc_offset, events))]
    #[expect(clippy::too_many_arguments, reason = "keywords")]
    fn new(
        url: &str,
        name: String,
        hostname: String,
        origin: String,
        kind: String,
        queues: Vec<String>,
        slots: u16,
        most_deaths: u32,
        tasks: HashMap<String, Facts>,
        accepts: Vec<String>,
        utc_offset: f64,
        events: bool,
    ) -> PyResult<Self> {
        let known = |(ignores_result, hard, soft): Facts| Known {
            ignores_result,
            time_limits: TimeLimits { hard, soft },
        };
        let Some(default_queue) = queues.first().cloned() else {
            return Err(PyValueError::new_err("a worker needs a queue"));
        };
        let workplace = Workplace {
            origin,
            tasks: tasks.into_iter().map(|(name, facts)| (name, known(facts))).collect(),
            accepts,
            default_queue,
            limits: Limits::default(),
            time: milliseconds,
            new_id: random::uuid,
        };
        let address = Address::parse(url)
            .map_err(|why| PyValueError::new_err(format!("the URL of the broker cannot be used: {why}")))?;
        let mut names: Vec<String> = workplace.tasks.keys().cloned().collect();
        names.sort_unstable();
        let profile = Profile {
            hostname,
            pid: process::pid().unsigned_abs(),
            kind,
            utc_offset,
            began: clock::seconds(clock::since_1970()),
            broker: address.to_string(),
            queues: queues.clone(),
            slots,
            tasks: names,
            accepts: workplace.accepts.clone(),
        };
        let plan = Plan {
            address,
            name,
            queues,
            slots,
            most_deaths,
            workplace,
            now: clock::now,
            since_1970: clock::since_1970,
            load: procfs::load_average,
            profile,
            tells_tasks: events,
        };
        let parker: Arc<Parker> = Arc::default();
        let wakes = Arc::clone(&parker);
        let driver = Driver::start(plan, move || wakes.unpark())?;
        Ok(Self { driver, parker, orders: Mutex::default() })
    }

    /// Waits until there is something to do: a list of it, empty after `timeout` seconds; `None` when the worker has ended.
    ///
    /// `("run", job, task, content, serializer, soft limit, hard limit, about)`, `("stop", job)`, `("consuming",)`, `("shut down",)`, `("trouble", text)`.
    #[pyo3(signature = (timeout))]
    fn take<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyList>>> {
        let deadline = timeout.and_then(clock::after);
        loop {
            self.parker.reset();
            let tick = self.driver.tick();
            let news = self.driver.take();
            let late = deadline.is_some_and(|deadline| clock::now() >= deadline);
            if !news.is_empty() || late {
                return self.told(py, news);
            }
            let until = [deadline, tick].into_iter().flatten().min();
            self.parker.wait(py, until, Expect::Perhaps)?;
        }
    }

    /// A task has ended by itself: `outcome` is what `manyhands._cluster.outcome.run` returns.
    ///
    /// Returns tasks to run, as [`Self::take`] does.
    fn finished<'py>(
        &self,
        py: Python<'py>,
        job: JobId,
        outcome: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (finish, embed) = finish_of(outcome)?;
        let list = PyList::empty(py);
        let Some(order) = lock(&self.orders).remove(&job) else { return Ok(list) };
        for (job, order) in py.detach(|| self.driver.finished(job, &order, &finish, embed.as_ref())) {
            list.append(self.run(py, job, order)?)?;
        }
        Ok(list)
    }

    /// The process that ran a task has died.
    fn crashed(&self, py: Python<'_>, job: JobId) {
        lock(&self.orders).remove(&job);
        py.detach(|| self.driver.crashed(job));
    }

    /// A task was not begun, or stopped as asked for.
    fn returned(&self, py: Python<'_>, job: JobId) {
        lock(&self.orders).remove(&job);
        py.detach(|| self.driver.returned(job));
    }

    /// These tasks must not run any more; with `stops`, those that run are stopped.
    #[pyo3(signature = (ids, *, stops))]
    fn revoke(&self, py: Python<'_>, ids: Vec<String>, stops: bool) {
        py.detach(|| self.driver.revoke(ids.iter().map(String::as_str), stops));
    }

    /// Ends once what runs has ended, within `grace` seconds; with 0 at once: what runs goes back to its queue.
    fn shut_down(&self, py: Python<'_>, grace: Option<f64>) {
        let how = match grace {
            Some(grace) if grace <= 0.0 => Shutdown::Cold,
            grace => Shutdown::Warm(grace.and_then(clock::after)),
        };
        py.detach(|| self.driver.shut_down(how));
    }

    /// What it does and has done, in numbers; `consuming` and `blocked` are booleans.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| self.driver.report());
        let counts = report.counts;
        let statistics = PyDict::new(py);
        for (name, count) in [
            ("received", counts.received),
            ("finished", counts.finished),
            ("deaths", counts.deaths),
            ("dead", counts.dead),
            ("revoked", counts.revoked),
            ("returned", counts.returned),
            ("unheard", counts.unheard),
            ("running", report.running as u64),
            ("waiting", report.waiting as u64),
        ] {
            statistics.set_item(name, count)?;
        }
        statistics.set_item("consuming", report.is_consuming)?;
        statistics.set_item("blocked", report.is_blocked)?;
        Ok(statistics)
    }
}

impl ClusterWorker {
    fn told<'py>(&self, py: Python<'py>, news: Vec<News>) -> PyResult<Option<Bound<'py, PyList>>> {
        let list = PyList::empty(py);
        for each in news {
            match each {
                News::Run(job, order) => list.append(self.run(py, job, order)?)?,
                News::Stop(job) => list.append(("stop", job))?,
                News::Consuming => list.append(("consuming",))?,
                News::Trouble(text) => list.append(("trouble", text))?,
                News::Refused(text) => return Err(PyConnectionRefusedError::new_err(text)),
                News::ShutDown => list.append(("shut down",))?,
                News::Ended => return Ok(None),
            }
        }
        Ok(Some(list))
    }

    fn run<'py>(&self, py: Python<'py>, job: JobId, order: Arc<TaskOrder>) -> PyResult<Bound<'py, PyTuple>> {
        let task = order.task().expect("what cannot be read is not run");
        let about = (&task.id, task.retries, task.deliveries, &task.root_id, &task.parent_id, &task.group)
            .into_pyobject(py)?;
        let limits = order.time_limits();
        let (content, serializer) = order.arguments().expect("it was read");
        let content = PyBytes::new(py, &content);
        let run = ("run", job, &task.task, content, serializer, limits.soft, limits.hard, about)
            .into_pyobject(py)?;
        lock(&self.orders).insert(job, order);
        Ok(run)
    }
}

/// What `manyhands._cluster.outcome` says, and what follows the task if only Python could read that.
fn finish_of(outcome: &Bound<'_, PyTuple>) -> PyResult<(Finish, Option<Embed>)> {
    let word: String = outcome.get_item(0)?.extract()?;
    let raised = |from: usize| -> PyResult<(Raised, Option<String>)> {
        let text = |at: usize| outcome.get_item(from + at)?.extract::<String>();
        let raised = Raised::new(&text(2)?, &text(0)?, Json::from_encoder(text(1)?));
        Ok((raised, outcome.get_item(from + 3)?.extract()?))
    };
    let (finish, end) = match word.as_str() {
        "success" => (Finish::Success(Json::from_encoder(outcome.get_item(1)?.extract()?)), 2),
        "failure" => {
            let (raised, traceback) = raised(1)?;
            (Finish::Failure(raised, traceback), 5)
        }
        "retry" => {
            let at: Option<f64> = outcome.get_item(1)?.extract()?;
            let (raised, traceback) = raised(2)?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whoever wants it in a million years gets it then"
            )]
            (Finish::Retry(at.map(|at| (at * 1000.0) as i64), raised, traceback), 6)
        }
        _ => return Err(PyValueError::new_err(format!("{word:?} is no outcome"))),
    };
    let embed = match outcome.get_item(end) {
        Ok(text) => {
            let json = Json::from_encoder(text.extract()?);
            Some(Embed::parse(&json).map_err(|error| PyValueError::new_err(error.to_string()))?)
        }
        Err(_) => None,
    };
    Ok((finish, embed))
}

/// The time, in milliseconds since 1970.
fn milliseconds() -> i64 {
    i64::try_from(clock::since_1970() / clock::MILLISECOND).unwrap_or(i64::MAX)
}
