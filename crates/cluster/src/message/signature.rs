//! A task that follows another one, as that one's message carries it.

use super::json::Json;
use super::unreadable::Unreadable;

/// A task, its arguments and options, to be sent when its time has come. Everything in it stays as it came, and in its order.
///
/// ```
/// use manyhands_cluster::message::{Json, Signature};
///
/// let json = Json::parse(r#"{"task": "add", "args": [2], "kwargs": {}, "options": {"queue": "fast"}, "immutable": false}"#)?;
/// let signature = Signature::parse(&json, "callbacks")?;
/// assert_eq!(signature.task(), "add");
/// assert_eq!(signature.option("queue").and_then(Json::text).as_deref(), Some("fast"));
/// assert_eq!(signature.to_json(), json);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    task: String,
    members: Vec<(String, Json)>,
    options: Vec<(String, Json)>,
}

impl Signature {
    /// Reads one; `part` says of what it is a part.
    ///
    /// # Errors
    /// It is no object, names no task, or has options that are no object.
    pub fn parse(json: &Json, part: &'static str) -> Result<Self, Unreadable> {
        let members = json.members().map_err(Unreadable::json(part))?;
        let task = last(&members, "task").and_then(Json::text).ok_or(Unreadable::Signature(part))?;
        let options = match last(&members, "options") {
            Some(options) if !options.is_null() => options.members().map_err(Unreadable::json(part))?,
            _ => Vec::new(),
        };
        Ok(Self { task, members, options })
    }

    /// Reads a list of them, or `null`; a single one, too, as Celery takes it.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn parse_all(json: &Json, part: &'static str) -> Result<Vec<Self>, Unreadable> {
        if json.is_null() {
            return Ok(Vec::new());
        }
        if json.as_str().starts_with('{') {
            return Ok(vec![Self::parse(json, part)?]);
        }
        let elements = json.elements().map_err(Unreadable::json(part))?;
        elements.iter().map(|element| Self::parse(element, part)).collect()
    }

    /// Returns the signature of a plain task.
    #[must_use]
    pub fn new(task: &str, args: Json, kwargs: Json, options: Vec<(String, Json)>, immutable: bool) -> Self {
        let members = [
            ("task", task.into()),
            ("args", args),
            ("kwargs", kwargs),
            ("options", Json::object(options.iter().map(|(key, value)| (key, value.clone())))),
            ("subtask_type", Json::NULL),
            ("immutable", immutable.into()),
        ];
        let members = members.map(|(key, value)| (key.to_owned(), value)).into();
        Self { task: task.to_owned(), members, options }
    }

    /// Returns the name of its task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Returns its arguments.
    #[must_use]
    pub fn args(&self) -> Json {
        self.member("args").filter(|args| !args.is_null()).cloned().unwrap_or(Json::EMPTY_ARRAY)
    }

    /// Returns its keyword arguments.
    #[must_use]
    pub fn kwargs(&self) -> Json {
        self.member("kwargs").filter(|kwargs| !kwargs.is_null()).cloned().unwrap_or(Json::EMPTY_OBJECT)
    }

    /// Returns the options that it has.
    #[must_use]
    pub fn options(&self) -> &[(String, Json)] {
        &self.options
    }

    /// Returns one of its options, or `None`, also where it is `null`.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&Json> {
        last(&self.options, name).filter(|value| !value.is_null())
    }

    /// Returns one of its members, as `chord_size`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Json> {
        last(&self.members, name)
    }

    /// Returns what it is besides a plain task: `group`, `chain`, `chord`, `xmap` …
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        self.member("subtask_type").and_then(Json::text)
    }

    /// Whether it gets nothing of what has come before.
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        self.member("immutable").and_then(Json::boolean).unwrap_or(false)
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::object(self.members.iter().map(|(key, value)| (key, value.clone())))
    }
}

/// Returns the value of a key: the last one, as in Python.
fn last<'a>(members: &'a [(String, Json)], key: &str) -> Option<&'a Json> {
    members.iter().rev().find(|(each, _)| each == key).map(|(_, value)| value)
}
