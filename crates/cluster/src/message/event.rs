//! Events: what workers tell whoever watches the fleet.

use lapin::BasicProperties;
use lapin::types::FieldTable;

use super::content::{Body, JSON, Limits};
use super::headers;
use super::json::{self, Json};
use super::unreadable::Unreadable;

/// The exchange that events go to: topic, durable.
pub const EXCHANGE: &str = "celeryev";
/// The most events of tasks that go in one message.
pub const MOST_IN_ONE: usize = 24;

/// The process that tells, and when it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Teller<'a> {
    /// Its name in the fleet, as `celery@host`.
    pub hostname: &'a str,
    /// Its process id.
    pub pid: u32,
    /// The hours by which its local time is behind UTC, as Python has it.
    pub utc_offset: f64,
    /// The time, in seconds since 1970.
    pub timestamp: f64,
}

/// One event.
///
/// ```
/// use manyhands_cluster::message::{Event, Teller};
///
/// let teller = Teller { hostname: "w@host", pid: 7, utc_offset: 0.0, timestamp: 1.5 };
/// let event = Event::new("task-started", &teller, 12, vec![("uuid", "7d0c".into())]);
/// assert_eq!(
///     event.to_json().as_str(),
///     r#"{"hostname": "w@host", "utcoffset": 0.0, "pid": 7, "clock": 12, "uuid": "7d0c", "timestamp": 1.5, "type": "task-started"}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    fields: Vec<(String, Json)>,
}

impl Event {
    /// Returns an event of a kind, as `task-received`, at a time of the fleet's clock, with fields of its own.
    #[must_use]
    pub fn new(kind: &str, teller: &Teller<'_>, clock: u64, fields: Vec<(&str, Json)>) -> Self {
        let count = |count: u64| Json::from(i64::try_from(count).unwrap_or(i64::MAX));
        let mut all = vec![
            ("hostname", teller.hostname.into()),
            ("utcoffset", teller.utc_offset.into()),
            ("pid", i64::from(teller.pid).into()),
            ("clock", count(clock)),
        ];
        all.extend(fields);
        all.extend([("timestamp", Json::from(teller.timestamp)), ("type", kind.into())]);
        Self { fields: all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    /// Returns its kind, or an empty text.
    #[must_use]
    pub fn kind(&self) -> String {
        self.field("type").and_then(Json::text).unwrap_or_default()
    }

    /// Returns one of its fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Json> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::object(self.fields.iter().map(|(key, value)| (key, value.clone())))
    }

    /// Reads the events of a message: one, or a list of them.
    ///
    /// # Errors
    /// It has none.
    pub fn parse_all(
        properties: &BasicProperties,
        body: &[u8],
        limits: &Limits,
    ) -> Result<Vec<Self>, Unreadable> {
        let text = Body::read(properties, body, *limits)?.into_text()?;
        let one =
            |text: &str| json::members(text).map(|fields| Self { fields }).map_err(Unreadable::json("event"));
        if text.trim_start().starts_with('[') {
            let elements = json::elements(&text).map_err(Unreadable::json("events"))?;
            return elements.iter().map(|element| one(element.as_str())).collect();
        }
        Ok(vec![one(&text)?])
    }

    /// Returns a message with events of tasks, for the routing key `task.multi`; at most [`MOST_IN_ONE`] belong in one.
    #[must_use]
    pub fn tasks_to_amqp(events: &[Self], hostname: &str) -> (BasicProperties, Vec<u8>) {
        (properties(hostname), Json::array(events.iter().map(Self::to_json)).as_str().as_bytes().to_vec())
    }

    /// Returns it as a message of its own; events of workers go so.
    #[must_use]
    pub fn to_amqp(&self, hostname: &str) -> (BasicProperties, Vec<u8>) {
        (properties(hostname), self.to_json().as_str().as_bytes().to_vec())
    }

    /// Returns the routing key of a message with nothing but it.
    #[must_use]
    pub fn routing_key(&self) -> String {
        self.kind().replace('-', ".")
    }
}

fn properties(hostname: &str) -> BasicProperties {
    let mut table = FieldTable::default();
    headers::insert(&mut table, "hostname", headers::of_text(hostname));
    BasicProperties::default()
        .with_content_type(JSON.into())
        .with_content_encoding("utf-8".into())
        .with_headers(table)
        .with_delivery_mode(1)
        .with_priority(0)
}
