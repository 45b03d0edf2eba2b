//! The ladder of delays: messages wait in the broker, not in workers.
//!
//! It has 28 steps, from 2²⁷ seconds down to one. A message's routing key begins with its delay in binary, a digit for each step: at a `1` it waits
//! in the step's queue, at a `0` it goes past it. Behind the last step it goes to the queue that the rest of the key names.
//!
//! ```text
//! 0.0. … .1.0.1.celery      waits in _2 for 4 s, goes past _1, waits in _0 for 1 s
//! ```

use lapin::ExchangeKind;
use lapin::types::AMQPValue;

use super::server::ServerProperties;
use super::{QueueKind, durable, table};
use crate::declaration::Declaration;

/// The steps, and digits.
const STEPS: usize = 28;
/// The longest delay, in seconds: eight and a half years.
const LONGEST_S: u64 = (1 << STEPS) - 1;
/// The longest routing key.
const LONGEST_KEY: usize = 255;

/// The exchanges and queues by which messages are delayed.
///
/// ```
/// use manyhands_cluster::topology::{Ladder, ServerProperties, Version};
///
/// let ladder = Ladder::of(&ServerProperties::rabbitmq(Version(3, 10, 8)));
/// let (exchange, key) = ladder.entry(5_900, "celery").expect("more than a second");
/// assert_eq!(exchange, "celery_delayed_27");
/// assert!(key.ends_with(".0.1.0.1.celery"));
/// assert_eq!(ladder.entry(999, "celery"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    prefix: &'static str,
    kind: QueueKind,
}

impl Ladder {
    /// Returns the ladder for a broker: the very one that Celery's workers declare, or one of ours where quorum queues cannot delay.
    #[must_use]
    pub fn of(server: &ServerProperties) -> Self {
        match server.has_quorum_delays() {
            true => Self { prefix: "", kind: QueueKind::Quorum },
            false => Self { prefix: "manyhands_", kind: QueueKind::Classic },
        }
    }

    /// Returns what to declare for the ladder itself.
    #[must_use]
    pub fn declarations(&self) -> Vec<Declaration> {
        let exchange =
            |name: String| Declaration::Exchange { name, kind: ExchangeKind::Topic, durable: true };
        let mut declarations = vec![exchange(self.delivery_exchange())];
        declarations.extend((0..STEPS).map(|level| exchange(self.step(level))));
        for level in (0..STEPS).rev() {
            let (step, next) = (self.step(level), self.below(level));
            let before = "*.".repeat(STEPS - 1 - level);
            declarations.extend([
                self.queue(level),
                Declaration::Binding {
                    queue: step.clone(),
                    exchange: step.clone(),
                    key: format!("{before}1.#"),
                },
                Declaration::Passage { from: step, to: next, key: format!("{before}0.#") },
            ]);
        }
        declarations
    }

    /// Returns what to declare for a queue, so that delayed messages come to it, and only its own.
    #[must_use]
    pub fn binding(&self, queue: &str) -> Declaration {
        // Not `#`, by which Celery binds: what is for `a.b` must not come to `b`, too.
        let key = format!("{}{queue}", "*.".repeat(STEPS));
        Declaration::Binding { queue: queue.to_owned(), exchange: self.delivery_exchange(), key }
    }

    /// Returns the exchange and the routing key for a message that must come to a queue after a delay in milliseconds, at most a second
    /// before its time. `None` where it is less than a second, or the queue's name does not fit: a worker must hold the message.
    #[must_use]
    pub fn entry(&self, delay: u64, queue: &str) -> Option<(String, String)> {
        let seconds = (delay / 1000).min(LONGEST_S);
        let has_wildcard = queue.split('.').any(|word| word == "*" || word == "#");
        if seconds == 0 || has_wildcard || 2 * STEPS + queue.len() > LONGEST_KEY {
            return None;
        }
        let digits: Vec<&str> =
            (0..STEPS).rev().map(|level| if seconds >> level & 1 == 1 { "1" } else { "0" }).collect();
        Some((self.step(STEPS - 1), format!("{}.{queue}", digits.join("."))))
    }

    fn queue(&self, level: usize) -> Declaration {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let (kind, strategy) = match self.kind {
            QueueKind::Quorum => ("quorum", Some(("x-dead-letter-strategy", text("at-least-once")))),
            QueueKind::Classic => ("classic", None),
        };
        // In its width as in all else like the one that Celery declares.
        let milliseconds = 1000_i64 << level;
        let milliseconds =
            i32::try_from(milliseconds).map_or(AMQPValue::LongLongInt(milliseconds), AMQPValue::LongInt);
        let arguments = [
            ("x-queue-type", text(kind)),
            ("x-overflow", text("reject-publish")),
            ("x-message-ttl", milliseconds),
            ("x-dead-letter-exchange", text(&self.below(level))),
        ];
        Declaration::Queue {
            name: self.step(level),
            options: durable(),
            arguments: table(arguments.into_iter().chain(strategy)),
            any: true,
        }
    }

    fn step(&self, level: usize) -> String {
        format!("{}celery_delayed_{level}", self.prefix)
    }

    /// The exchange to which messages go from a step.
    fn below(&self, level: usize) -> String {
        level.checked_sub(1).map_or_else(|| self.delivery_exchange(), |below| self.step(below))
    }

    fn delivery_exchange(&self) -> String {
        format!("{}celery_delayed_delivery", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;

    /// Returns how long a message waits in total, and where it comes out, as the broker would route it.
    fn walk(declarations: &[Declaration], exchange: &str, key: &str) -> (i64, Vec<String>) {
        let mut waits = 0;
        let mut next = vec![exchange.to_owned()];
        let mut out = Vec::new();
        while let Some(exchange) = next.pop() {
            for declaration in declarations {
                match declaration {
                    Declaration::Passage { from, to, key: pattern }
                        if *from == exchange && fits(pattern, key) =>
                    {
                        next.push(to.clone());
                    }
                    Declaration::Binding { queue, exchange: from, key: pattern }
                        if *from == exchange && fits(pattern, key) =>
                    {
                        match delay(declarations, queue) {
                            Some((milliseconds, to)) => {
                                waits += milliseconds;
                                next.push(to);
                            }
                            None => out.push(queue.clone()),
                        }
                    }
                    _ => {}
                }
            }
        }
        (waits, out)
    }

    fn delay(declarations: &[Declaration], queue: &str) -> Option<(i64, String)> {
        declarations.iter().find_map(|each| match each {
            Declaration::Queue { name, arguments, .. } if name == queue => {
                let milliseconds = match arguments.inner().get("x-message-ttl")? {
                    AMQPValue::LongInt(value) => i64::from(*value),
                    AMQPValue::LongLongInt(value) => *value,
                    _ => return None,
                };
                let Some(AMQPValue::LongString(to)) = arguments.inner().get("x-dead-letter-exchange") else {
                    return None;
                };
                Some((milliseconds, to.to_string()))
            }
            _ => None,
        })
    }

    /// Whether a key has the form of a topic: `*` is one word, `#` at the end the rest.
    fn fits(pattern: &str, key: &str) -> bool {
        let (mut words, mut keys) = (pattern.split('.'), key.split('.'));
        loop {
            match (words.next(), keys.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(word), Some(key)) if word == key => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn a_message_waits_as_long_as_it_says() {
        for version in [Version(3, 8, 0), Version(4, 0, 0)] {
            let ladder = Ladder::of(&ServerProperties::rabbitmq(version));
            let mut declarations = ladder.declarations();
            declarations.extend(["b", "a.b"].map(|queue| ladder.binding(queue)));
            for seconds in [1, 2, 5, 86_400, LONGEST_S, LONGEST_S + 1] {
                let (exchange, key) = ladder.entry(seconds * 1000 + 999, "a.b").expect("more than a second");
                let expected = i64::try_from(seconds.min(LONGEST_S) * 1000).expect("short");
                assert_eq!(walk(&declarations, &exchange, &key), (expected, vec!["a.b".to_owned()]));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_held_by_a_worker() {
        let ladder = Ladder::of(&ServerProperties::rabbitmq(Version(4, 0, 0)));
        assert!(ladder.entry(1000, &"q".repeat(199)).is_some());
        assert_eq!(ladder.entry(1000, &"q".repeat(200)), None);
        assert_eq!(ladder.entry(1000, "a.*"), None);
    }
}
