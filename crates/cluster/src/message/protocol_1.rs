//! Protocol 1: no headers, and all in one object as the body.

use super::content::{Body, Content, Embed};
use super::headers::LONGEST_NAME;
use super::iso_time::Moment;
use super::json::{self, BadJson, Json};
use super::signature::Signature;
use super::task::{TaskMessage, TimeLimits};
use super::unreadable::Unreadable;

/// Reads a task from a body.
pub(crate) fn parse(body: Body) -> Result<TaskMessage, Unreadable> {
    // What only Python decodes would have to be decoded to know what it is.
    let Body::Json(text) = body else { return Err(Unreadable::NoTask) };
    // A whole body of protocol 2 that has lost its headers names no task; neither does a number.
    let members = json::members(&text).map_err(|error| match Json::parse(&text) {
        Ok(_) => Unreadable::NoTask,
        Err(_) => Unreadable::Json { part: "body", error },
    })?;
    let fields = Fields(members);
    let task = fields.text("task")?.filter(|task| !task.is_empty()).ok_or(Unreadable::NoTask)?;
    let id = fields.text("id")?.filter(|id| !id.is_empty()).ok_or(Unreadable::NoId)?;
    let embed = Embed {
        callbacks: fields.signatures("callbacks")?,
        errbacks: fields.signatures("errbacks")?,
        chain: Vec::new(),
        chord: fields.get("chord").map(|chord| Signature::parse(chord, "chord")).transpose()?,
    };
    let args = fields.get("args").cloned().unwrap_or(Json::EMPTY_ARRAY);
    let kwargs = fields.get("kwargs").cloned().unwrap_or(Json::EMPTY_OBJECT);
    let retries = fields.get("retries").map_or(Some(0), |retries| u32::try_from(retries.integer()?).ok());
    let group = if fields.get("group").is_some() { "group" } else { "taskset" };
    Ok(TaskMessage {
        group: fields.text(group)?,
        root_id: fields.text("root_id")?,
        parent_id: fields.text("parent_id")?,
        retries: retries.ok_or_else(|| wrong("retries", "a count"))?,
        eta: fields.moment("eta")?,
        expires: fields.moment("expires")?,
        time_limits: fields.time_limits()?,
        ignore_result: None,
        ..TaskMessage::new(&task, &id, Content::checked(args, kwargs, embed)?)
    })
}

fn wrong(part: &'static str, expected: &'static str) -> Unreadable {
    Unreadable::Json { part, error: BadJson::not(expected) }
}

/// The members of the body.
struct Fields(Vec<(String, Json)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Json> {
        let found = self.0.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Returns a name or an id.
    fn text(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.text().ok_or_else(|| wrong(name, "a text"))?;
        if text.len() > LONGEST_NAME {
            return Err(Unreadable::TooLarge { what: name, bytes: text.len(), most: LONGEST_NAME });
        }
        Ok(Some(text))
    }

    fn signatures(&self, name: &'static str) -> Result<Vec<Signature>, Unreadable> {
        self.get(name).map_or(Ok(Vec::new()), |value| Signature::parse_all(value, name))
    }

    fn moment(&self, name: &'static str) -> Result<Option<Moment>, Unreadable> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let moment = text.text().and_then(|text| Moment::parse(&text));
        moment.map(Some).ok_or_else(|| wrong(name, "a time as ISO 8601 writes it"))
    }

    fn time_limits(&self) -> Result<TimeLimits, Unreadable> {
        let wrong = || wrong("timelimit", "a list of two times in seconds");
        let limit = |value: &Json| match value.is_null() {
            true => Ok(None),
            false => value.number().filter(|limit| *limit >= 0.0).map(Some).ok_or_else(wrong),
        };
        let Some(limits) = self.get("timelimit") else { return Ok(TimeLimits::default()) };
        match limits.elements().map_err(|_| wrong())?.as_slice() {
            [] => Ok(TimeLimits::default()),
            [hard, soft] => Ok(TimeLimits { hard: limit(hard)?, soft: limit(soft)? }),
            _ => Err(wrong()),
        }
    }
}
