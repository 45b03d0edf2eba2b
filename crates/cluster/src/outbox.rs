//! Publications, until the broker has confirmed them. Pure.
//!
//! A publication is *waiting*, then *sent*, and gone once the broker confirms or refuses it. When the connection is lost, what was sent waits
//! again: whether the broker had it is unknown, so it may be there twice.
//!
//! A broker closes the channel of whoever publishes what it will not take, says why, but not which one. Then all that was sent is *suspect*
//! and goes again one at a time: the one that is alone on its way when the channel closes once more is the one.

use std::collections::HashMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use lapin::BasicProperties;

/// The name of a publication, given by whoever wants it published: no two at a time have the same.
pub type Token = u64;

/// One message for the broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The exchange; `""` is the one that has all queues by their names.
    pub exchange: String,
    /// The routing key: with the exchange `""` the name of the queue.
    pub routing_key: String,
    /// Headers and the like.
    pub properties: BasicProperties,
    /// The message itself.
    pub body: Vec<u8>,
    /// Whether it is refused when no queue is there for it, instead of vanishing.
    pub mandatory: bool,
}

/// A publication and how it fares.
#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    times_sent: u32,
    is_suspect: bool,
}

/// Publications in the order in which they were given.
///
/// ```
/// use lapin::BasicProperties;
/// use manyhands_cluster::outbox::{Outbox, Publication};
///
/// let mut outbox = Outbox::default();
/// let (exchange, routing_key) = (String::new(), "celery".to_owned());
/// let body = b"{}".to_vec();
/// outbox.add(7, Publication { exchange, routing_key, properties: BasicProperties::default(), body, mandatory: true });
/// let (token, _publication) = outbox.next().expect("one waits");
/// outbox.connection_lost();
/// assert_eq!(outbox.next().expect("again").0, token);
/// assert_eq!(outbox.settled(token), Some(2), "sent twice");
/// assert!(outbox.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    entries: HashMap<Token, Entry>,
    waiting: VecDeque<Token>,
    sent: BTreeSet<(u64, Token)>,
    /// The places of those sent, in their order.
    places: HashMap<Token, u64>,
    next_place: u64,
    suspects: usize,
}

impl Outbox {
    /// Takes a publication, to be sent after all others that wait.
    pub fn add(&mut self, token: Token, publication: impl Into<Arc<Publication>>) {
        let entry = Entry { publication: publication.into(), times_sent: 0, is_suspect: false };
        self.entries.insert(token, entry);
        self.waiting.push_back(token);
    }

    /// The next publication to send now, which counts as sent from here on; `None` when none waits or may go yet.
    #[expect(clippy::should_implement_trait, reason = "one may come after `None`")]
    pub fn next(&mut self) -> Option<(Token, Arc<Publication>)> {
        if self.suspects > 0 && !self.sent.is_empty() {
            return None;
        }
        let token = self.waiting.pop_front()?;
        let entry = self.entries.get_mut(&token).expect("what waits is there");
        entry.times_sent += 1;
        self.sent.insert((self.next_place, token));
        self.places.insert(token, self.next_place);
        self.next_place += 1;
        Some((token, Arc::clone(&entry.publication)))
    }

    /// The broker has taken or refused this one: it is forgotten. How often it was sent; `None` if it is unknown.
    pub fn settled(&mut self, token: Token) -> Option<u32> {
        let entry = self.entries.remove(&token)?;
        match self.places.remove(&token) {
            Some(place) => drop(self.sent.remove(&(place, token))),
            None => self.waiting.retain(|waiting| *waiting != token),
        }
        self.suspects -= usize::from(entry.is_suspect);
        Some(entry.times_sent)
    }

    /// All that was sent waits again, before what waited already.
    pub fn connection_lost(&mut self) {
        while let Some((_, token)) = self.sent.pop_last() {
            self.waiting.push_front(token);
        }
        self.places.clear();
    }

    /// The broker has closed the channel over something that was sent: all of it waits again. The one to blame, if that is certain; it is forgotten.
    pub fn channel_closed(&mut self) -> Option<Token> {
        if self.sent.len() == 1 {
            let (_, culprit) = *self.sent.first().expect("one");
            self.settled(culprit);
            return Some(culprit);
        }
        for (_, token) in &self.sent {
            let entry = self.entries.get_mut(token).expect("what was sent is there");
            self.suspects += usize::from(!entry.is_suspect);
            entry.is_suspect = true;
        }
        self.connection_lost();
        None
    }

    /// How many the broker has not settled yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the broker has settled all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn publication(number: u64) -> Publication {
        Publication {
            exchange: String::new(),
            routing_key: "queue".into(),
            properties: BasicProperties::default(),
            body: number.to_ne_bytes().to_vec(),
            mandatory: true,
        }
    }

    #[test]
    fn what_was_sent_goes_again_in_its_order() {
        let mut outbox = Outbox::default();
        (0..5).for_each(|number| outbox.add(number, publication(number)));
        (0..3).for_each(|number| assert_eq!(outbox.next().expect("one").0, number));
        assert_eq!(outbox.settled(1), Some(1));
        outbox.connection_lost();
        let again: Vec<Token> = std::iter::from_fn(|| outbox.next()).map(|(token, _)| token).collect();
        assert_eq!(again, [0, 2, 3, 4]);
        assert_eq!((outbox.settled(0), outbox.settled(3), outbox.settled(1)), (Some(2), Some(1), None));
    }

    #[test]
    fn the_one_to_blame_is_found() {
        let mut outbox = Outbox::default();
        (0..6).for_each(|number| outbox.add(number, publication(number)));
        let mut blamed = Vec::new();
        let mut taken = Vec::new();
        // A broker that closes the channel over numbers 2 and 4, and takes the others.
        while !outbox.is_empty() {
            let sent: Vec<Token> = std::iter::from_fn(|| outbox.next()).map(|(token, _)| token).collect();
            match sent.iter().position(|token| [2, 4].contains(token)) {
                None => sent.iter().for_each(|token| {
                    outbox.settled(*token);
                    taken.push(*token);
                }),
                // It closes before it has confirmed any.
                Some(_) => blamed.extend(outbox.channel_closed()),
            }
        }
        assert_eq!((blamed, taken), (vec![2, 4], vec![0, 1, 3, 5]));
    }

    proptest! {
        /// Whatever happens to connection and channel, each is settled once and none vanishes.
        #[test]
        fn nothing_is_lost(steps in proptest::collection::vec(0_u8..6, 0..200)) {
            let (mut outbox, mut added, mut settled) = (Outbox::default(), 0, Vec::new());
            let mut sent = Vec::new();
            for step in steps {
                match step {
                    0 | 1 => {
                        outbox.add(added, publication(added));
                        added += 1;
                    }
                    2 | 3 => sent.extend(outbox.next().map(|(token, _)| token)),
                    4 => if let Some(token) = sent.pop() {
                        prop_assert!(outbox.settled(token).is_some());
                        settled.push(token);
                    },
                    _ => {
                        settled.extend(outbox.channel_closed());
                        sent.clear();
                    }
                }
                prop_assert_eq!(outbox.len() + settled.len(), usize::try_from(added).expect("few"));
            }
            while let Some((token, publication)) = outbox.next() {
                prop_assert_eq!(&publication.body, &token.to_ne_bytes());
                settled.push(token);
                outbox.settled(token);
            }
            settled.extend(sent.into_iter().filter(|token| outbox.settled(*token).is_some()));
            while let Some((token, _)) = outbox.next() {
                outbox.settled(token);
                settled.push(token);
            }
            settled.sort_unstable();
            prop_assert_eq!(settled, (0..added).collect::<Vec<_>>());
        }
    }
}
