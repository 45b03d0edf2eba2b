//! Remote control: what `celery inspect`, `celery control` and Flower ask workers, and what these answer.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::content::{Body, JSON, Limits};
use super::headers;
use super::json::{self, BadJson, Json};
use super::unreadable::Unreadable;

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The exchange: direct, neither durable nor auto-deleted.
    pub exchange: String,
    /// The routing key of whoever has asked.
    pub routing_key: String,
}

/// What workers are asked to do, or to tell.
///
/// ```
/// use manyhands_cluster::message::{ControlRequest, Json, Limits};
///
/// let request = ControlRequest::new("ping", Json::EMPTY_OBJECT);
/// let (properties, body) = request.to_amqp(5, None);
/// assert_eq!(ControlRequest::parse(&properties, &body, &Limits::default())?, ControlRequest { clock: 5, ..request });
/// # Ok::<(), manyhands_cluster::message::Unreadable>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ControlRequest {
    /// The command, as `ping`.
    pub method: String,
    /// Its arguments: an object.
    pub arguments: Json,
    /// The workers that are asked; all where it is `None`, and there is no pattern.
    pub destination: Option<Vec<String>>,
    /// The names of workers that are asked, and how they are matched: `glob` or `pcre`.
    pub pattern: Option<(String, String)>,
    /// What the answer is found by.
    pub ticket: Option<String>,
    /// Where the answer goes, if one is wanted.
    pub reply_to: Option<ReplyTo>,
    /// The asking process's clock, by which the worker advances its own.
    pub clock: u64,
    /// When nobody waits any longer, in seconds since 1970.
    pub expires: Option<f64>,
}

impl ControlRequest {
    /// Returns a request to all workers.
    #[must_use]
    pub fn new(method: &str, arguments: Json) -> Self {
        Self {
            method: method.to_owned(),
            arguments,
            destination: None,
            pattern: None,
            ticket: None,
            reply_to: None,
            clock: 0,
            expires: None,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(properties: &BasicProperties, body: &[u8], limits: &Limits) -> Result<Self, Unreadable> {
        let text = Body::read(properties, body, *limits)?.into_text()?;
        let members = json::members(&text).map_err(Unreadable::json("request"))?;
        let get = |name: &str| {
            let found = members.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value).filter(|value| !value.is_null())
        };
        let text =
            |name| get(name).map(|value| value.text().ok_or_else(|| wrong(name, "a text"))).transpose();
        let arguments = get("arguments").cloned().unwrap_or(Json::EMPTY_OBJECT);
        arguments.members().map_err(Unreadable::json("arguments"))?;
        let reply_to = get("reply_to").map(ReplyTo::parse).transpose()?;
        Ok(Self {
            method: text("method")?.ok_or_else(|| wrong("method", "a text"))?,
            arguments,
            destination: get("destination").map(names).transpose()?.filter(|names| !names.is_empty()),
            pattern: text("pattern")?.zip(text("matcher")?),
            ticket: text("ticket")?,
            reply_to,
            clock: clock_of(properties),
            expires: expires_of(properties),
        })
    }

    /// Returns it as a message for the fanout exchange `celery.pidbox`.
    #[must_use]
    pub fn to_amqp(&self, clock: u64, expires: Option<f64>) -> (BasicProperties, Vec<u8>) {
        let destination = self
            .destination
            .as_ref()
            .map(|names| Json::array(names.iter().map(|name| Json::from(name.as_str()))));
        let (pattern, matcher) = self.pattern.as_ref().map(|(a, b)| (a.as_str(), b.as_str())).unzip();
        let mut members = vec![
            ("method", self.method.as_str().into()),
            ("arguments", self.arguments.clone()),
            ("destination", destination.into()),
            ("pattern", pattern.into()),
            ("matcher", matcher.into()),
        ];
        if let Some(ReplyTo { exchange, routing_key }) = &self.reply_to {
            let place =
                [("exchange", exchange.as_str().into()), ("routing_key", routing_key.as_str().into())];
            members.extend([("ticket", self.ticket.as_deref().into()), ("reply_to", Json::object(place))]);
        }
        let expires = expires.map_or(AMQPValue::LongInt(0), AMQPValue::Double);
        let table = [("clock", of_clock(clock)), ("expires", expires)];
        // Celery sends requests to be kept, and answers not.
        (properties(table, 2), Json::object(members).as_str().as_bytes().to_vec())
    }

    /// Whether a worker of this name is asked; `matches` says so of a pattern: it gets the pattern, and how it is matched.
    pub fn is_for(&self, hostname: &str, matches: impl FnOnce(&str, &str) -> bool) -> bool {
        match (&self.destination, &self.pattern) {
            (Some(names), _) => names.iter().any(|name| name == hostname),
            (None, Some((pattern, matcher))) => matches(pattern, matcher),
            (None, None) => true,
        }
    }
}

impl ReplyTo {
    fn parse(json: &Json) -> Result<Self, Unreadable> {
        let members = json.members().map_err(Unreadable::json("reply_to"))?;
        let get = |name: &str| {
            let value = members.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| value.text());
            let value = value.filter(|value| value.len() <= headers::LONGEST_NAME);
            value.ok_or_else(|| wrong("reply_to", "an object with an exchange and a routing key"))
        };
        Ok(Self { exchange: get("exchange")?, routing_key: get("routing_key")? })
    }
}

/// What a worker answers: its name, and what it was asked.
///
/// ```
/// use manyhands_cluster::message::{ControlReply, Json};
///
/// let reply = ControlReply::error("w@host", "KeyError('fly')");
/// assert_eq!(reply.to_amqp("ticket", 6).1, br#"{"w@host": {"error": "KeyError('fly')"}}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlReply {
    /// The worker.
    pub hostname: String,
    /// Its answer.
    pub value: Json,
}

impl ControlReply {
    /// Returns the answer to what a worker does not know, or has failed to do.
    #[must_use]
    pub fn error(hostname: &str, error: &str) -> Self {
        Self { hostname: hostname.to_owned(), value: Json::object([("error", Json::from(error))]) }
    }

    /// Returns it as a message to what the request's [`ReplyTo`] names.
    #[must_use]
    pub fn to_amqp(&self, ticket: &str, clock: u64) -> (BasicProperties, Vec<u8>) {
        let body = Json::object([(self.hostname.as_str(), self.value.clone())]);
        let table = [("ticket", headers::of_text(ticket)), ("clock", of_clock(clock))];
        (properties(table, 1), body.as_str().as_bytes().to_vec())
    }

    /// Reads the answers of a message, one for each worker in it, and the ticket of their request.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(
        properties: &BasicProperties,
        body: &[u8],
        limits: &Limits,
    ) -> Result<(Option<String>, Vec<Self>), Unreadable> {
        let text = Body::read(properties, body, *limits)?.into_text()?;
        let ticket =
            properties.headers().as_ref().map(|table| headers::text(table, "ticket")).transpose()?.flatten();
        let members = json::members(&text).map_err(Unreadable::json("answer"))?;
        Ok((ticket, members.into_iter().map(|(hostname, value)| Self { hostname, value }).collect()))
    }
}

/// Returns the clock of the process that has sent a message of remote control, or 0.
#[must_use]
pub fn clock_of(properties: &BasicProperties) -> u64 {
    let clock = properties.headers().as_ref().and_then(|table| table.inner().get("clock"));
    clock.and_then(headers::integer).and_then(|clock| u64::try_from(clock).ok()).unwrap_or(0)
}

fn expires_of(properties: &BasicProperties) -> Option<f64> {
    let expires = properties.headers().as_ref().and_then(|table| table.inner().get("expires"));
    expires.and_then(headers::number).filter(|expires| *expires > 0.0)
}

fn names(json: &Json) -> Result<Vec<String>, Unreadable> {
    let wrong = || wrong("destination", "a list of texts");
    json.elements().map_err(|_| wrong())?.iter().map(|name| name.text().ok_or_else(wrong)).collect()
}

fn wrong(part: &'static str, expected: &'static str) -> Unreadable {
    Unreadable::Json { part, error: BadJson::not(expected) }
}

/// A clock as a header: 32 bits as long as they do, as others write it.
fn of_clock(clock: u64) -> AMQPValue {
    match i32::try_from(clock) {
        Ok(clock) => AMQPValue::LongInt(clock),
        Err(_) => AMQPValue::LongLongInt(i64::try_from(clock).unwrap_or(i64::MAX)),
    }
}

fn properties<const N: usize>(table: [(&'static str, AMQPValue); N], delivery_mode: u8) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in table {
        headers::insert(&mut headers, name, value);
    }
    BasicProperties::default()
        .with_content_type(JSON.into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers)
        .with_delivery_mode(delivery_mode)
        .with_priority(0)
}
