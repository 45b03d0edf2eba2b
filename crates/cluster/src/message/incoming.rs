//! Reads a task from its message.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::content::{Body, Content, Limits};
use super::headers;
use super::iso_time::Moment;
use super::protocol_1;
use super::task::{DELIVERIES, TaskMessage, TimeLimits};
use super::unreadable::Unreadable;

/// What protocol 2 puts into headers, and this crate into fields.
const KNOWN: [&str; 19] = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
];

impl TaskMessage {
    /// Reads a message that has come, of protocol 2 or 1.
    ///
    /// # Errors
    /// It is no task that can be run. Nothing in a message makes this panic, or take more memory than a few times its size or
    /// `limits.body`.
    pub fn parse(properties: &BasicProperties, body: &[u8], limits: &Limits) -> Result<Self, Unreadable> {
        let nothing = FieldTable::default();
        let table = properties.headers().as_ref().unwrap_or(&nothing);
        let name = headers::name(table, "task")?;
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let body = Body::read(properties, body, *limits).map_err(|error| match error {
                // What has no headers at all, and is nothing that Celery knows, lacks the task first of all.
                Unreadable::ContentType(_) => Unreadable::NoTask,
                error => error,
            })?;
            return Ok(protocol_1::parse(body)?.with_properties(properties));
        };
        let id = headers::name(table, "id")?.filter(|id| !id.is_empty()).ok_or(Unreadable::NoId)?;
        let content = Content::parse(Body::read(properties, body, *limits)?)?;
        let task = Self::new(&name, &id, content).with_headers(table)?;
        Ok(task.with_properties(properties))
    }

    fn with_properties(self, properties: &BasicProperties) -> Self {
        let property =
            |text: &Option<_>| text.as_ref().map(ToString::to_string).filter(|text| !text.is_empty());
        Self {
            reply_to: property(properties.reply_to()),
            correlation_id: property(properties.correlation_id()),
            priority: properties.priority().unwrap_or(0),
            ..self
        }
    }

    fn with_headers(self, table: &FieldTable) -> Result<Self, Unreadable> {
        let moment = |name, text: Option<String>| match text.map(|text| Moment::parse(&text)) {
            Some(None) => Err(Unreadable::Header { name, expected: "a time as ISO 8601 writes it" }),
            moment => Ok(moment.flatten()),
        };
        let stamps = match table.inner().get("stamps") {
            Some(AMQPValue::FieldTable(stamps)) => stamps.clone(),
            None | Some(AMQPValue::Void) => FieldTable::default(),
            Some(_) => return Err(Unreadable::Header { name: "stamps", expected: "a table" }),
        };
        let others = table.inner().iter().filter(|(name, _)| {
            !KNOWN.contains(&name.as_str()) && !["compression", DELIVERIES].contains(&name.as_str())
        });
        Ok(Self {
            root_id: headers::name(table, "root_id")?,
            parent_id: headers::name(table, "parent_id")?,
            group: headers::name(table, "group")?,
            group_index: headers::count(table, "group_index")?,
            retries: headers::count(table, "retries")?.unwrap_or(0),
            eta: moment("eta", headers::text(table, "eta")?)?,
            expires: moment("expires", headers::text(table, "expires")?)?,
            time_limits: time_limits(table)?,
            ignore_result: headers::flag(table, "ignore_result")?,
            origin: headers::text(table, "origin")?,
            shadow: headers::text(table, "shadow")?,
            argsrepr: headers::text(table, "argsrepr")?,
            kwargsrepr: headers::text(table, "kwargsrepr")?,
            replaced_task_nesting: headers::count(table, "replaced_task_nesting")?.unwrap_or(0),
            stamped_headers: stamped_headers(table)?,
            stamps,
            deliveries: headers::count(table, DELIVERIES)?.unwrap_or(0),
            headers: others
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>()
                .into(),
            ..self
        })
    }
}

/// Returns the limits of the header, where the hard one is first, other than in Celery's documentation.
fn time_limits(table: &FieldTable) -> Result<TimeLimits, Unreadable> {
    let wrong = Unreadable::Header { name: "timelimit", expected: "a list of two times in seconds" };
    let limit = |value: &AMQPValue| match value {
        AMQPValue::Void => Ok(None),
        value => headers::number(value)
            .filter(|limit| limit.is_finite() && *limit >= 0.0)
            .map(Some)
            .ok_or(wrong.clone()),
    };
    match headers::list(table, "timelimit")? {
        None | Some([]) => Ok(TimeLimits::default()),
        Some([hard, soft]) => Ok(TimeLimits { hard: limit(hard)?, soft: limit(soft)? }),
        Some(_) => Err(wrong),
    }
}

fn stamped_headers(table: &FieldTable) -> Result<Option<Vec<String>>, Unreadable> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => headers::as_text(text),
        _ => None,
    };
    let Some(names) = headers::list(table, "stamped_headers")? else { return Ok(None) };
    let names: Option<Vec<String>> = names.iter().map(text).collect();
    names.map(Some).ok_or(Unreadable::Header { name: "stamped_headers", expected: "a list of texts" })
}
