//! The way of a task through exchanges.

use super::json::Json;
use super::signature::Signature;

/// Where a task goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Where the sender's own tasks of this name go.
    #[default]
    Default,
    /// To a queue.
    Queue(String),
    /// To an exchange, by a key.
    Exchange {
        /// Its name.
        exchange: String,
        /// The key.
        routing_key: String,
    },
}

impl Route {
    /// Returns the way by which a message has come, for sending it once more; `queue` is that from which it was consumed.
    ///
    /// ```
    /// use manyhands_cluster::message::Route;
    ///
    /// let celery = || "celery".to_owned();
    /// assert_eq!(Route::of_delivery("", "celery", "celery"), Route::Queue(celery()));
    /// let by_topic = Route::Exchange { exchange: "topics".to_owned(), routing_key: "a.b".to_owned() };
    /// assert_eq!(Route::of_delivery("topics", "a.b", "celery"), by_topic);
    /// let delayed = format!("{}1.celery", "0.".repeat(27));
    /// assert_eq!(Route::of_delivery("celery_delayed_delivery", &delayed, "celery"), Route::Queue(celery()));
    /// ```
    #[must_use]
    pub fn of_delivery(exchange: &str, routing_key: &str, queue: &str) -> Self {
        // Not by the ladder of delays: it is one of its steps that the message has come from, and these lead nowhere without a delay.
        if exchange.is_empty() || has_delay(routing_key) {
            return Self::Queue(queue.to_owned());
        }
        Self::Exchange { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() }
    }

    /// Returns the way that a signature's options name.
    pub(crate) fn of_options(signature: &Signature) -> Self {
        let text = |name| signature.option(name).and_then(Json::text).filter(|text| !text.is_empty());
        match (text("queue"), text("exchange"), text("routing_key")) {
            (Some(queue), _, _) => Self::Queue(queue),
            (None, Some(exchange), routing_key) => {
                Self::Exchange { exchange, routing_key: routing_key.unwrap_or_default() }
            }
            (None, None, _) => Self::Default,
        }
    }
}

/// Whether a routing key begins with the 28 digits by which a ladder of delays has led its message, each followed by a dot.
fn has_delay(routing_key: &str) -> bool {
    let digits = routing_key.as_bytes().get(..2 * 28);
    digits.is_some_and(|digits| digits.chunks(2).all(|step| matches!(step, [b'0' | b'1', b'.'])))
}
