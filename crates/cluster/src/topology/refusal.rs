//! What a broker refuses to declare, known before it is asked; and what it says when it has.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::server::{ServerProperties, Version};
use crate::declaration::Declaration;

/// The code by which a broker closes the channel of a declaration that cannot be.
const PRECONDITION_FAILED: u16 = 406;
/// The code by which it closes the whole connection over something that is gone.
const INTERNAL_ERROR: u16 = 541;
/// Arguments that quorum queues do not take.
const NOT_OF_QUORUM: [&str; 2] = ["x-max-priority", "x-queue-mode"];
/// Arguments that classic queues do not take.
const NOT_OF_CLASSIC: [&str; 2] = ["x-delivery-limit", "x-dead-letter-strategy"];

/// Why a broker would refuse a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code with which it would close the channel (406) or the connection (541).
    pub code: u16,
    /// What it would refuse.
    pub name: String,
    /// Why, for people.
    pub reason: String,
}

/// Returns why a broker would refuse a declaration, whatever is there already; nothing where it would not.
///
/// ```
/// use lapin::options::QueueDeclareOptions;
/// use manyhands_cluster::declaration::Declaration;
/// use manyhands_cluster::topology::{ServerProperties, Version, refusals};
///
/// let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
/// let of_old_client = Declaration::Queue { name: "answers".into(), options, arguments: Default::default(), any: false };
/// assert_eq!(refusals(&of_old_client, &ServerProperties::rabbitmq(Version(3, 10, 8))), []);
/// assert_eq!(refusals(&of_old_client, &ServerProperties::rabbitmq(Version(4, 3, 0)))[0].code, 541);
/// ```
#[must_use]
pub fn refusals(declaration: &Declaration, server: &ServerProperties) -> Vec<Refusal> {
    let Declaration::Queue { name, options, arguments, .. } = declaration else { return Vec::new() };
    let refusal = |code, reason| Refusal { code, name: name.clone(), reason };
    let mut refusals: Vec<Refusal> = of_queue(options, arguments, server)
        .into_iter()
        .map(|reason| refusal(PRECONDITION_FAILED, reason))
        .collect();
    if !options.durable && !options.exclusive && !server.has_transient_queues() {
        let reason =
            format!("RabbitMQ {} has no queues that are neither durable nor exclusive", server.version);
        refusals.push(refusal(INTERNAL_ERROR, reason));
    }
    refusals
}

fn of_queue(options: &QueueDeclareOptions, arguments: &FieldTable, server: &ServerProperties) -> Vec<String> {
    let kind = match arguments.inner().get("x-queue-type") {
        Some(AMQPValue::LongString(kind)) => kind.to_string(),
        _ => "classic".to_owned(),
    };
    let has = |name: &str| arguments.contains_key(name);
    let (flags, others): (&[(bool, &str)], &[&str]) = match kind.as_str() {
        "classic" => (&[], &NOT_OF_CLASSIC),
        "quorum" => (
            &[
                (!options.durable, "must be durable"),
                (options.exclusive, "cannot be exclusive"),
                (options.auto_delete, "cannot be deleted by itself"),
            ],
            &NOT_OF_QUORUM,
        ),
        // Streams: nothing here declares one.
        _ => (&[], &[]),
    };
    let mut reasons: Vec<String> =
        flags.iter().filter(|(is_so, _)| *is_so).map(|(_, why)| format!("a {kind} queue {why}")).collect();
    reasons.extend(
        others.iter().filter(|name| has(name)).map(|name| format!("a {kind} queue does not take {name}")),
    );
    if kind == "quorum" && has("x-message-ttl") && server.version < Version(3, 10, 0) {
        reasons.push(format!("a quorum queue of RabbitMQ {} does not take x-message-ttl", server.version));
    }
    if has("x-dead-letter-routing-key") && !has("x-dead-letter-exchange") {
        reasons.push("x-dead-letter-routing-key needs x-dead-letter-exchange".to_owned());
    }
    reasons
}

/// How a declaration differs from what is there, as the broker says when it refuses it.
///
/// ```
/// use manyhands_cluster::topology::Difference;
///
/// let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'celery' in vhost '/': received 'true' but current is 'false'";
/// let difference = Difference::parse(text).expect("it names one");
/// assert_eq!((difference.argument.as_str(), difference.name.as_str()), ("durable", "celery"));
/// assert_eq!((difference.declared.as_str(), difference.there.as_str()), ("'true'", "'false'"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The flag or argument.
    pub argument: String,
    /// The queue or exchange.
    pub name: String,
    /// What was declared, in the broker's words.
    pub declared: String,
    /// What is there, in the broker's words.
    pub there: String,
}

impl Difference {
    /// Reads what a broker has said, or returns `None` if that is about something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        let (_, rest) = rest.split_once(" '")?;
        let (name, rest) = rest.split_once("' in vhost '")?;
        let (_, rest) = rest.split_once("': received ")?;
        let (declared, there) = rest.split_once(" but current is ")?;
        let [argument, name, declared, there] = [argument, name, declared, there].map(str::to_owned);
        Some(Self { argument, name, declared, there })
    }
}
