//! The consumers of one queue: how many messages the broker may have delivered here. Pure.
//!
//! One consumer is there all the time, and gets as many messages as can run. What is wanted beyond comes to a second one: for a running
//! consumer the number cannot be changed where the queue is of type quorum. So that one is opened with another number, and the former is cancelled,
//! which keeps what it has.

use super::Action;
use crate::link::ConsumerKey;

/// A number of messages is taken back no sooner than this after the last change, in nanoseconds: tasks come in waves.
const CALM: u64 = 2_000_000_000;
/// A second consumer is left alone until it could have had this many times as many messages as are wanted.
const TOO_MANY: u16 = 4;

/// A consumer that was asked for.
#[derive(Clone, Copy, Debug)]
struct Consumer {
    key: ConsumerKey,
    prefetch: u16,
    is_confirmed: bool,
}

/// The consumers of one queue.
#[derive(Debug)]
pub(super) struct Intake {
    queue: usize,
    first: Consumer,
    second: Option<Consumer>,
    changed: u64,
}

impl Intake {
    /// Asks for the first consumer of queue number `queue`.
    pub(super) fn open<O>(
        queue: usize,
        key: ConsumerKey,
        prefetch: u16,
        actions: &mut Vec<Action<O>>,
    ) -> Self {
        let first = Consumer { key, prefetch, is_confirmed: false };
        actions.push(Action::Consume { consumer: key, queue, prefetch });
        Self { queue, first, second: None, changed: 0 }
    }

    /// Whether the broker has confirmed the first consumer.
    #[must_use]
    pub(super) fn is_confirmed(&self) -> bool {
        self.first.is_confirmed
    }

    /// The broker has confirmed a consumer, or ended it.
    pub(super) fn confirm(&mut self, key: ConsumerKey, is_confirmed: bool) {
        for consumer in std::iter::once(&mut self.first).chain(&mut self.second) {
            if consumer.key == key {
                consumer.is_confirmed = is_confirmed;
            }
        }
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self) {
        for consumer in std::iter::once(&mut self.first).chain(&mut self.second) {
            consumer.is_confirmed = false;
        }
    }

    /// Has the second consumer get `wanted` messages or a few more. `next` is the name of the next consumer.
    pub(super) fn adjust<O>(
        &mut self,
        wanted: usize,
        now: u64,
        next: &mut ConsumerKey,
        actions: &mut Vec<Action<O>>,
    ) {
        let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
        let had = self.second.map_or(0, |consumer| consumer.prefetch);
        let is_too_much = had > wanted.saturating_mul(TOO_MANY) && now.saturating_sub(self.changed) >= CALM;
        if wanted <= had && !is_too_much {
            return;
        }
        self.changed = now;
        if let Some(former) = self.second.take() {
            actions.push(Action::Cancel(former.key));
        }
        if wanted > 0 {
            let prefetch = wanted.checked_next_power_of_two().unwrap_or(u16::MAX);
            self.second = Some(Consumer { key: *next, prefetch, is_confirmed: false });
            actions.push(Action::Consume { consumer: *next, queue: self.queue, prefetch });
            *next += 1;
        }
    }

    /// Takes no more messages.
    pub(super) fn close<O>(&mut self, actions: &mut Vec<Action<O>>) {
        for consumer in std::iter::once(self.first).chain(self.second.take()) {
            actions.push(Action::Cancel(consumer.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_consumer_follows_what_is_wanted() {
        let mut actions: Vec<Action<()>> = Vec::new();
        let (mut intake, mut next) = (Intake::open(0, 7, 2, &mut actions), 8);
        let mut adjusted = |wanted, now| {
            let mut actions: Vec<Action<()>> = Vec::new();
            intake.adjust(wanted, now, &mut next, &mut actions);
            actions
                .iter()
                .map(|action| match action {
                    Action::Consume { prefetch, .. } => i32::from(*prefetch),
                    Action::Cancel(key) => -i32::try_from(*key).expect("few"),
                    _ => panic!("neither opens nor closes"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(adjusted(0, CALM), [0; 0]);
        assert_eq!(adjusted(100, CALM), [128]);
        assert_eq!(adjusted(120, CALM), [0; 0], "enough");
        assert_eq!(adjusted(129, CALM), [-8, 256], "more at once");
        assert_eq!(adjusted(3, CALM + 1), [0; 0], "fewer when it is calm");
        assert_eq!(adjusted(3, 2 * CALM), [-9, 4]);
        assert_eq!(adjusted(0, 3 * CALM), [-10]);
        assert_eq!(adjusted(1_000_000, 3 * CALM), [65535], "there is no more");
    }
}
