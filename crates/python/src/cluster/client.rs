//! A producer of tasks, for `ClusterExecutor`.

use std::time::Duration;

use manyhands_cluster::address::Address;
use manyhands_cluster::client::{Client, ClientOptions, News};
use manyhands_cluster::link::Refusal;
use manyhands_cluster::message::{
    Answer, Content, ControlRequest, Embed, Json, Moment, Raised, TaskMessage, TimeLimits,
};
use manyhands_cluster::outbox::Publication;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::interpreter::system_error::system_error;

/// Where workers listen for what is asked of them besides tasks.
const CONTROL_EXCHANGE: &str = "celery.pidbox";

/// The settings of one task, by the names that Python has for them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    #[pyo3(default)]
    eta_ms: Option<i64>,
    #[pyo3(default)]
    expires_ms: Option<i64>,
    #[pyo3(default)]
    hard: Option<f64>,
    #[pyo3(default)]
    soft: Option<f64>,
    priority: u8,
    ignore_result: bool,
    #[pyo3(default)]
    retries: u32,
    #[pyo3(default)]
    shadow: Option<String>,
    #[pyo3(default)]
    embed: Option<String>,
    #[pyo3(default)]
    root_id: Option<String>,
    #[pyo3(default)]
    parent_id: Option<String>,
    #[pyo3(default)]
    group: Option<String>,
    #[pyo3(default)]
    group_index: Option<u32>,
}

/// A connection to a broker, with a queue for answers.
#[pyclass(frozen, module = "manyhands._native")]
pub(crate) struct ClusterClient {
    client: Client,
    address: Address,
    origin: String,
}

#[pymethods]
impl ClusterClient {
    /// Start to connect. `deliver` gets the news in lists of tuples, on a thread of the client's.
    #[new]
    #[pyo3(signature = (url, deliver, *, name, reply_queue, origin, connect_within, certificates = None, identity = None))]
    #[expect(clippy::too_many_arguments, reason = "by keyword")]
    fn new(
        py: Python<'_>,
        url: &str,
        deliver: Py<PyAny>,
        name: String,
        reply_queue: String,
        origin: String,
        connect_within: f64,
        certificates: Option<String>,
        identity: Option<(Vec<u8>, Vec<u8>)>,
    ) -> PyResult<Self> {
        let mut address = Address::parse(url)
            .map_err(|why| PyValueError::new_err(format!("the URL of the broker cannot be used: {why}")))?;
        if let Some(certificates) = certificates {
            address = address.trusting(certificates);
        }
        if let Some((certificate, key)) = identity {
            address = address.identified_by(certificate, key);
        }
        let connect_within = Duration::try_from_secs_f64(connect_within)
            .map_err(|_| PyValueError::new_err("connect_timeout must be seconds"))?;
        let options = ClientOptions { address: address.clone(), name, reply_queue, connect_within };
        let opened = py.detach(|| Client::open(options, move |news| tell(&deliver, news)));
        let client = opened.map_err(|error| system_error("start the thread of a connection", error))?;
        Ok(Self { client, address, origin })
    }

    /// The address of the broker, without name and password.
    #[getter]
    fn address(&self) -> String {
        self.address.to_string()
    }

    /// See to it that there is such a queue.
    fn declare(&self, queue: &str) {
        self.client.declare(queue);
    }

    /// Publish a task whose arguments are JSON.
    fn submit(
        &self,
        token: u64,
        queue: &str,
        task: (String, String),
        arguments: (String, String),
        settings: Settings,
        now_ms: i64,
    ) -> PyResult<()> {
        let (args, kwargs) = (Json::from_encoder(arguments.0), Json::from_encoder(arguments.1));
        let mut content = Content::json(args, kwargs);
        if let (Content::Json { embed, .. }, Some(text)) = (&mut content, &settings.embed) {
            let parsed = Json::parse(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
            *embed = Embed::parse(&parsed).map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        self.send(token, queue, task, content, settings, now_ms);
        Ok(())
    }

    /// Publish a task whose arguments are pickled.
    fn submit_pickle(
        &self,
        token: u64,
        queue: &str,
        task: (String, String),
        body: Vec<u8>,
        settings: Settings,
        now_ms: i64,
    ) {
        self.send(token, queue, task, Content::pickle(body), settings, now_ms);
    }

    /// Ask all workers to drop a task, and to end it if one has begun with it.
    fn revoke(&self, token: u64, task_id: &str, now_ms: i64) {
        let arguments = Json::object([
            ("task_id", task_id.into()),
            ("terminate", true.into()),
            ("signal", "SIGTERM".into()),
        ]);
        let request = ControlRequest::new("revoke", arguments);
        let expires = Moment(now_ms).0 as f64 / 1000.0 + 300.0;
        let (properties, body) = request.to_amqp(0, Some(expires));
        let (exchange, routing_key) = (CONTROL_EXCHANGE.to_owned(), String::new());
        self.client.publish(token, Publication { exchange, routing_key, properties, body, mandatory: false });
    }

    /// Close the connection once all tasks are confirmed, at the latest after so many seconds; "closed" is the last of the news.
    fn close(&self, within: f64) {
        self.client.close(Duration::try_from_secs_f64(within).unwrap_or(Duration::MAX));
    }

    /// Wait until it is closed. Not from `deliver`.
    fn join(&self, py: Python<'_>) {
        py.detach(|| self.client.join());
    }
}

impl ClusterClient {
    fn send(
        &self,
        token: u64,
        queue: &str,
        (name, id): (String, String),
        content: Content,
        settings: Settings,
        now_ms: i64,
    ) {
        let plain = TaskMessage::new(&name, &id, content);
        let task = TaskMessage {
            eta: settings.eta_ms.map(Moment),
            expires: settings.expires_ms.map(Moment),
            time_limits: TimeLimits { hard: settings.hard, soft: settings.soft },
            priority: settings.priority,
            ignore_result: Some(settings.ignore_result),
            retries: settings.retries,
            shadow: settings.shadow,
            root_id: settings.root_id.or_else(|| plain.root_id.clone()),
            parent_id: settings.parent_id,
            group: settings.group,
            group_index: settings.group_index,
            origin: Some(self.origin.clone()),
            ..plain
        };
        self.client.submit(token, queue, task, Moment(now_ms));
    }
}

/// Calls Python with the news, unless its interpreter is going down.
fn tell(deliver: &Py<PyAny>, news: Vec<News>) {
    Python::try_attach(|py| {
        let mut confirmed = Vec::new();
        let told = PyList::empty(py);
        let outcome = news.into_iter().try_for_each(|news| match news {
            News::Confirmed(token) => {
                confirmed.push(token);
                Ok(())
            }
            news => told.append(tuple_of(py, news)?),
        });
        let outcome = outcome.and_then(|()| deliver.call1(py, (confirmed, told)).map(drop));
        if let Err(error) = outcome {
            error.write_unraisable(py, None);
        }
    });
}

/// What Python reads of a piece of news: its kind, and what belongs to it.
fn tuple_of(py: Python<'_>, news: News) -> PyResult<Bound<'_, PyTuple>> {
    let tuple = match news {
        News::Answered { id, answer: Answer::Reply(reply) } => {
            let raised = Raised::parse(&reply.result)
                .map(|raised| (raised.module, raised.name, raised.args.as_str().to_owned()));
            let (state, result) = (reply.state.name().to_owned(), reply.result.as_str().to_owned());
            ("answer", id, state, result, raised, reply.traceback).into_bound_py_any(py)
        }
        News::Answered { id, answer: Answer::Opaque(Content::Opaque { content_type, bytes, .. }) } => {
            ("opaque", id, content_type, PyBytes::new(py, &bytes)).into_bound_py_any(py)
        }
        News::Answered { id, .. } => ("unreadable", Some(id), "it has no content").into_bound_py_any(py),
        News::Unreadable { id, why } => ("unreadable", id, why.to_string()).into_bound_py_any(py),
        News::Refused { token, why } => ("refused", token, words_of(why)).into_bound_py_any(py),
        News::Confirmed(token) => ("confirmed", token).into_bound_py_any(py),
        News::Listening => ("listening",).into_bound_py_any(py),
        News::Lost { reason, is_permanent } => ("lost", reason, is_permanent).into_bound_py_any(py),
        News::Blocked(reason) => ("blocked", reason).into_bound_py_any(py),
        News::Unblocked => ("unblocked",).into_bound_py_any(py),
        News::NotDeclared { name, reason } => ("not_declared", name, reason).into_bound_py_any(py),
        News::Closed { unconfirmed } => ("closed", unconfirmed).into_bound_py_any(py),
    }?;
    Ok(tuple.cast_into()?)
}

fn words_of(why: Refusal) -> String {
    match why {
        Refusal::Unroutable => "the queue does not exist".into(),
        Refusal::Nacked => "the broker has not stored it: the queue is full, or a disk has failed".into(),
        Refusal::Error(words) => words,
    }
}
