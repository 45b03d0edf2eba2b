//! A task as it travels, and its message.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use super::content::{Content, Embed};
use super::headers;
use super::iso_time::Moment;

/// Our own header: how often the message was given out, and sent again because its worker died.
pub const DELIVERIES: &str = "mh-deliveries";
/// What brokers add; a message that is sent again begins without it.
const OF_BROKERS: [&str; 6] =
    ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-"];

/// How long a task may run, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeLimits {
    /// After this it is killed.
    pub hard: Option<f64>,
    /// After this it gets an exception.
    pub soft: Option<f64>,
}

/// One task of protocol 2, with all that its message says.
///
/// ```
/// use manyhands_cluster::message::{Content, Json, Limits, Moment, TaskMessage};
///
/// let task = TaskMessage {
///     reply_to: Some("answers".to_owned()),
///     ..TaskMessage::new("shop.price", "7d0c", Content::json(Json::parse("[2]")?, Json::EMPTY_OBJECT))
/// };
/// let (properties, body) = task.to_amqp(Moment(0));
/// assert_eq!(body, br#"[[2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#);
/// assert_eq!(TaskMessage::parse(&properties, &body, &Limits::default())?, task);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TaskMessage {
    /// The name of the task.
    pub task: String,
    /// Its id, at most 255 bytes.
    pub id: String,
    /// Its arguments, and what follows it.
    pub content: Content,
    /// The first task of which it is a consequence; itself where nothing else is said.
    pub root_id: Option<String>,
    /// The task that has sent it.
    pub parent_id: Option<String>,
    /// The group it belongs to.
    pub group: Option<String>,
    /// Its place in the group.
    pub group_index: Option<u32>,
    /// How often it was tried and sent again at its own wish.
    pub retries: u32,
    /// Not to run before this.
    pub eta: Option<Moment>,
    /// Not to run after this.
    pub expires: Option<Moment>,
    /// How long it may run.
    pub time_limits: TimeLimits,
    /// Whether nobody waits for its result; `None` where the task's own setting holds.
    pub ignore_result: Option<bool>,
    /// The queue that its result goes to.
    pub reply_to: Option<String>,
    /// What the result is found by; its id where nothing else is said.
    pub correlation_id: Option<String>,
    /// From 0 to 255; what it means is up to the queue.
    pub priority: u8,
    /// The process that has sent it, as `gen<pid>@<host>`.
    pub origin: Option<String>,
    /// Another name for logs.
    pub shadow: Option<String>,
    /// The arguments for people.
    pub argsrepr: Option<String>,
    /// The keyword arguments for people.
    pub kwargsrepr: Option<String>,
    /// How often a task has put another one into its own place.
    pub replaced_task_nesting: u32,
    /// The names of its stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// Its stamps.
    pub stamps: FieldTable,
    /// How often a worker has died of it, as far as we have counted ourselves.
    pub deliveries: u32,
    /// Its other headers: users', and brokers', which are not sent again.
    pub headers: FieldTable,
}

impl TaskMessage {
    /// Returns a task with nothing but what each has.
    #[must_use]
    pub fn new(task: &str, id: &str, content: Content) -> Self {
        Self {
            task: task.to_owned(),
            id: id.to_owned(),
            content,
            root_id: Some(id.to_owned()),
            parent_id: None,
            group: None,
            group_index: None,
            retries: 0,
            eta: None,
            expires: None,
            time_limits: TimeLimits::default(),
            ignore_result: Some(false),
            reply_to: None,
            correlation_id: Some(id.to_owned()),
            priority: 0,
            origin: None,
            shadow: None,
            argsrepr: None,
            kwargsrepr: None,
            replaced_task_nesting: 0,
            stamped_headers: None,
            stamps: FieldTable::default(),
            deliveries: 0,
            headers: FieldTable::default(),
        }
    }

    /// Returns it as a message: its properties, headers among them, and its body.
    ///
    /// `now` is for what expires: the broker gets the time that is left.
    #[must_use]
    pub fn to_amqp(&self, now: Moment) -> (BasicProperties, Vec<u8>) {
        let (content_type, content_encoding) = self.content.types();
        let correlation_id = self.correlation_id.as_ref().unwrap_or(&self.id);
        let mut properties = BasicProperties::default()
            .with_content_type(headers::property(content_type))
            .with_content_encoding(headers::property(content_encoding))
            .with_headers(self.to_headers())
            .with_delivery_mode(2)
            .with_priority(self.priority)
            .with_correlation_id(headers::property(correlation_id))
            .with_reply_to(headers::property(self.reply_to.as_deref().unwrap_or_default()));
        if let Some(expires) = self.expires {
            let left = expires.0.saturating_sub(now.0).clamp(0, u32::MAX.into());
            properties = properties.with_expiration(left.to_string().into());
        }
        (properties, self.content.to_bytes())
    }

    /// Returns what follows it, or `None` where only Python can read that.
    #[must_use]
    pub fn embed(&self) -> Option<&Embed> {
        match &self.content {
            Content::Json { embed, .. } => Some(embed),
            Content::Opaque { .. } => None,
        }
    }

    /// Returns how often the broker says that it has come back, or `None` where it does not count.
    #[must_use]
    pub fn returns(&self) -> Option<u32> {
        headers::count(&self.headers, "x-delivery-count").ok().flatten()
    }

    /// Returns it as it is sent once more at its own wish: the same task, one retry on, and a child of itself if it has no parent.
    #[must_use]
    pub fn retried(&self, eta: Option<Moment>) -> Self {
        let parent_id = self.parent_id.clone().or_else(|| Some(self.id.clone()));
        Self { parent_id, retries: self.retries.saturating_add(1), eta, deliveries: 0, ..self.clone() }
    }

    /// Returns it as it is sent once more because its worker has died.
    #[must_use]
    pub fn redelivered(&self) -> Self {
        Self { deliveries: self.deliveries.saturating_add(1), ..self.clone() }
    }

    fn to_headers(&self) -> FieldTable {
        let text = |text: &Option<String>| headers::of_option(text.as_deref(), headers::of_text);
        let moment = |moment: Option<Moment>| {
            headers::of_option(moment, |moment| headers::of_text(&moment.to_string()))
        };
        let second = |limit: Option<f64>| headers::of_option(limit, seconds);
        let limits = vec![second(self.time_limits.hard), second(self.time_limits.soft)];
        let mut table = FieldTable::default();
        for (name, value) in self.headers.inner() {
            if !OF_BROKERS.iter().any(|of_broker| name.as_str().starts_with(of_broker)) {
                table.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in [
            ("lang", headers::of_text("py")),
            ("task", headers::of_text(&self.task)),
            ("id", headers::of_text(&self.id)),
            ("shadow", text(&self.shadow)),
            ("eta", moment(self.eta)),
            ("expires", moment(self.expires)),
            ("group", text(&self.group)),
            ("group_index", headers::of_option(self.group_index, headers::of_count)),
            ("retries", headers::of_count(self.retries)),
            ("timelimit", AMQPValue::FieldArray(FieldArray::from(limits))),
            ("root_id", headers::of_text(self.root_id.as_ref().unwrap_or(&self.id))),
            ("parent_id", text(&self.parent_id)),
            ("argsrepr", text(&self.argsrepr)),
            ("kwargsrepr", text(&self.kwargsrepr)),
            ("origin", text(&self.origin)),
            ("ignore_result", headers::of_option(self.ignore_result, AMQPValue::Boolean)),
            ("replaced_task_nesting", headers::of_count(self.replaced_task_nesting)),
            ("stamped_headers", headers::of_option(self.stamped_headers.as_deref(), headers::of_texts)),
            ("stamps", AMQPValue::FieldTable(self.stamps.clone())),
        ] {
            headers::insert(&mut table, name, value);
        }
        if self.deliveries > 0 {
            headers::insert(&mut table, DELIVERIES, headers::of_count(self.deliveries));
        }
        table
    }
}

/// Returns seconds as a header: an integer where they are one, as producers mostly send them.
fn seconds(limit: f64) -> AMQPValue {
    #[expect(clippy::cast_possible_truncation)]
    let whole = limit as i32;
    if f64::from(whole) == limit { AMQPValue::LongInt(whole) } else { AMQPValue::Double(limit) }
}
