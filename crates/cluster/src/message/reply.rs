//! What a worker answers: a task's state, and its result.

use std::fmt;

use lapin::BasicProperties;

use super::content::{Body, Content, JSON, Limits};
use super::headers;
use super::iso_time::Moment;
use super::json::{self, Json};
use super::unreadable::Unreadable;

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It runs.
    Started,
    /// It has failed, and is sent once more.
    Retry,
    /// It has returned.
    Success,
    /// It has raised.
    Failure,
    /// It was revoked, and has not run, or not to its end.
    Revoked,
    /// Another one, which tasks may set themselves.
    Other(String),
}

impl State {
    /// Returns the state of a name, as `SUCCESS`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let known = [Self::Started, Self::Retry, Self::Success, Self::Failure, Self::Revoked];
        known.into_iter().find(|state| state.name() == name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Started => "STARTED",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
            Self::Other(name) => name,
        }
    }

    /// Whether nothing follows it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// An exception of Python as JSON has it: its class by name, and its arguments.
///
/// ```
/// use manyhands_cluster::message::{Json, Raised};
///
/// let raised = Raised::new("builtins", "ValueError", Json::parse(r#"["too small"]"#)?);
/// assert_eq!(Raised::parse(&raised.to_json()), Some(raised));
/// # Ok::<(), manyhands_cluster::message::BadJson>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The class's module, or `None`.
    pub module: Option<String>,
    /// The class's qualified name.
    pub name: String,
    /// The exception's arguments: a list; some answers have a text instead.
    pub args: Json,
}

impl Raised {
    /// Returns an exception of a class.
    #[must_use]
    pub fn new(module: &str, name: &str, args: Json) -> Self {
        Self { module: Some(module.to_owned()), name: name.to_owned(), args }
    }

    /// Reads one, or returns `None`.
    #[must_use]
    pub fn parse(json: &Json) -> Option<Self> {
        let members = json.members().ok()?;
        let get = |name: &str| members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
        Some(Self {
            module: get("exc_module").and_then(Json::text),
            name: get("exc_type")?.text()?,
            args: get("exc_message").cloned().unwrap_or(Json::EMPTY_ARRAY),
        })
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::object([
            ("exc_type", self.name.as_str().into()),
            ("exc_message", self.args.clone()),
            ("exc_module", self.module.as_deref().into()),
        ])
    }
}

/// An answer to the producer of a task.
///
/// ```
/// use manyhands_cluster::message::{Answer, Json, Limits, Moment, Reply, State};
///
/// let reply = Reply::success("7d0c", Json::from(4), Moment(0));
/// let (properties, body) = reply.to_amqp("7d0c");
/// let Answer::Reply(answer) = Answer::parse(&properties, &body, &Limits::default())?.1 else { panic!("it is JSON") };
/// assert_eq!((answer.state, answer.result.integer()), (State::Success, Some(4)));
/// # Ok::<(), manyhands_cluster::message::Unreadable>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The task that it is about.
    pub task_id: String,
    /// How far that is.
    pub state: State,
    /// What it has returned, or has raised (see [`Raised`]), or says besides.
    pub result: Json,
    /// Where it was raised, as text for people.
    pub traceback: Option<String>,
    /// The tasks that it has sent: a list of `[[id, parent], null]`, or `null`.
    pub children: Json,
    /// When it has ended.
    pub date_done: Option<Moment>,
    /// The group that it belongs to.
    pub group_id: Option<String>,
    /// The task that has sent it.
    pub parent_id: Option<String>,
    /// What `result_extended` adds, and others may.
    pub others: Vec<(String, Json)>,
}

impl Reply {
    /// Returns the answer of a task in a state.
    #[must_use]
    pub fn new(task_id: &str, state: State, result: Json) -> Self {
        Self {
            task_id: task_id.to_owned(),
            state,
            result,
            traceback: None,
            children: Json::EMPTY_ARRAY,
            date_done: None,
            group_id: None,
            parent_id: None,
            others: Vec::new(),
        }
    }

    /// Returns the answer of a task that runs in the process `pid` of the worker `hostname`.
    #[must_use]
    pub fn started(task_id: &str, pid: u32, hostname: &str) -> Self {
        let result = Json::object([("pid", i64::from(pid).into()), ("hostname", hostname.into())]);
        Self::new(task_id, State::Started, result)
    }

    /// Returns the answer of a task that has returned.
    #[must_use]
    pub fn success(task_id: &str, result: Json, now: Moment) -> Self {
        Self { date_done: Some(now), ..Self::new(task_id, State::Success, result) }
    }

    /// Returns the answer of a task that has raised.
    #[must_use]
    pub fn failure(task_id: &str, raised: &Raised, traceback: Option<String>, now: Moment) -> Self {
        Self { date_done: Some(now), traceback, ..Self::new(task_id, State::Failure, raised.to_json()) }
    }

    /// Returns the answer of a task that was revoked.
    #[must_use]
    pub fn revoked(task_id: &str, reason: &str, now: Moment) -> Self {
        let raised = Raised::new("celery.exceptions", "TaskRevokedError", Json::array([reason.into()]));
        Self { date_done: Some(now), ..Self::new(task_id, State::Revoked, raised.to_json()) }
    }

    /// Returns the answer of a task that has raised and is sent once more: its own child.
    #[must_use]
    pub fn retry(task_id: &str, raised: &Raised, traceback: Option<String>) -> Self {
        let children = Json::array([child(task_id, Json::NULL)]);
        Self { traceback, children, ..Self::new(task_id, State::Retry, raised.to_json()) }
    }

    /// Returns it as a message for the queue that the task's `reply_to` names.
    #[must_use]
    pub fn to_amqp(&self, correlation_id: &str) -> (BasicProperties, Vec<u8>) {
        let properties = BasicProperties::default()
            .with_content_type(JSON.into())
            .with_content_encoding("utf-8".into())
            .with_headers(Default::default())
            .with_delivery_mode(1)
            .with_priority(0)
            .with_correlation_id(headers::property(correlation_id));
        (properties, self.to_json().as_str().as_bytes().to_vec())
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let date_done = self.date_done.map(|moment| moment.to_string());
        let mut members = vec![
            ("status", self.state.name().into()),
            ("result", self.result.clone()),
            ("traceback", self.traceback.as_deref().into()),
            ("children", self.children.clone()),
            ("date_done", date_done.as_deref().into()),
        ];
        let ids = [("group_id", &self.group_id), ("parent_id", &self.parent_id)];
        members.extend(ids.into_iter().filter_map(|(key, id)| Some((key, id.as_deref()?.into()))));
        members.extend(self.others.iter().map(|(key, value)| (key.as_str(), value.clone())));
        members.push(("task_id", self.task_id.as_str().into()));
        Json::object(members)
    }

    /// Reads one that is JSON.
    fn from_json(text: &str) -> Result<Self, Unreadable> {
        let wrong = |part, expected| Unreadable::Json { part, error: json::BadJson::not(expected) };
        let mut reply = Self::new("", State::Other(String::new()), Json::NULL);
        for (key, value) in json::members(text).map_err(Unreadable::json("answer"))? {
            match key.as_str() {
                "status" => reply.state = State::of(&value.text().ok_or_else(|| wrong("status", "a text"))?),
                "result" => reply.result = value,
                "traceback" => reply.traceback = value.text(),
                "children" => reply.children = value,
                "date_done" => reply.date_done = value.text().and_then(|text| Moment::parse(&text)),
                "group_id" => reply.group_id = value.text(),
                "parent_id" => reply.parent_id = value.text(),
                "task_id" => reply.task_id = value.text().ok_or_else(|| wrong("task_id", "a text"))?,
                _ => reply.others.push((key, value)),
            }
        }
        if reply.state.name().is_empty() {
            return Err(wrong("answer", "an object with a status"));
        }
        Ok(reply)
    }
}

/// Returns a task, or a group with its members, as an answer names it: without a parent.
pub(crate) fn child(id: &str, members: Json) -> Json {
    Json::array([Json::array([id.into(), Json::NULL]), members])
}

/// What has come to a reply queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As JSON.
    Reply(Reply),
    /// In a form that only Python decodes.
    Opaque(Content),
}

impl Answer {
    /// Reads an answer; the first that it returns is the correlation id, by which the task is found.
    ///
    /// # Errors
    /// It is none, or nobody can say of which task.
    pub fn parse(
        properties: &BasicProperties,
        body: &[u8],
        limits: &Limits,
    ) -> Result<(String, Self), Unreadable> {
        let correlation_id =
            properties.correlation_id().as_ref().map(ToString::to_string).filter(|id| !id.is_empty());
        let answer = match Body::read(properties, body, *limits)? {
            Body::Json(text) => Self::Reply(Reply::from_json(&text)?),
            Body::Opaque(content) => Self::Opaque(content),
        };
        let own = match &answer {
            Self::Reply(reply) => Some(reply.task_id.clone()).filter(|id| !id.is_empty()),
            Self::Opaque(_) => None,
        };
        Ok((correlation_id.or(own).ok_or(Unreadable::NoId)?, answer))
    }
}
