//! The consumers of one connection.

use std::collections::{BTreeSet, HashMap};

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};

use super::{ConsumerKey, Delivery, Event, Subscription, Tag};

/// What comes to a consumer: a message, or why nothing comes any more.
type Arrival = (ConsumerKey, u64, Result<Message, String>);

/// A consumer that the broker knows.
#[derive(Debug)]
struct Consumer {
    generation: u64,
    channel: Channel,
    tag: String,
    /// Deliveries that are neither acknowledged nor rejected. A broker closes the channel of whoever does that twice.
    unsettled: BTreeSet<u64>,
    /// Deliveries to acknowledge with the next batch.
    acknowledged: BTreeSet<u64>,
    is_cancelled: bool,
}

impl Consumer {
    /// Acknowledges what waits for that: all up to the first that is not in one frame, the others each by itself. Not awaited: frames are on
    /// their way, and what goes wrong ends the channel.
    fn flush(&mut self) {
        let mut first = std::mem::take(&mut self.acknowledged);
        let others = self.unsettled.first().map(|number| first.split_off(number)).unwrap_or_default();
        let last = first.pop_last().map(|number| (number, !first.is_empty()));
        for (number, multiple) in last.into_iter().chain(others.into_iter().map(|number| (number, false))) {
            let _ = self.channel.basic_ack(number, BasicAckOptions { multiple }).now_or_never();
        }
    }
}

/// All consumers of a connection.
pub(super) struct Consumers {
    open: HashMap<ConsumerKey, Consumer>,
    arrivals: SelectAll<BoxStream<'static, Arrival>>,
}

impl Consumers {
    pub(super) fn new() -> Self {
        Self { open: HashMap::new(), arrivals: SelectAll::new() }
    }

    /// Opens a consumer, on a channel of its own: what goes wrong with one is nothing to the others.
    pub(super) async fn consume(
        &mut self,
        connection: &Connection,
        key: ConsumerKey,
        generation: u64,
        wanted: &Subscription,
    ) -> lapin::Result<()> {
        for declaration in &wanted.declarations {
            declaration.declare(connection).await?;
        }
        let channel = connection.create_channel().await?;
        channel.basic_qos(wanted.prefetch, BasicQosOptions::default()).await?;
        let options =
            BasicConsumeOptions { exclusive: wanted.is_exclusive, ..BasicConsumeOptions::default() };
        // The broker chooses the tag.
        let (queue, arguments) = (wanted.queue.as_str().into(), FieldTable::default());
        let consumer = channel.basic_consume(queue, "".into(), options, arguments).await?;
        let tag = consumer.tag().to_string();
        let end = futures_util::stream::once(async {
            Err("the broker has cancelled the consumer: its queue is gone".into())
        });
        let arrivals = consumer.map(|arrival| arrival.map_err(|error| error.to_string())).chain(end);
        self.arrivals.push(arrivals.map(move |arrival| (key, generation, arrival)).boxed());
        self.open.insert(
            key,
            Consumer {
                generation,
                channel,
                tag,
                unsettled: BTreeSet::new(),
                acknowledged: BTreeSet::new(),
                is_cancelled: false,
            },
        );
        Ok(())
    }

    /// What comes next; ends never while a consumer is open.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if self.arrivals.is_empty() {
                return None;
            }
            let (key, generation, arrival) = self.arrivals.next().await?;
            let Some(consumer) = self.open.get_mut(&key).filter(|open| open.generation == generation) else {
                continue;
            };
            match arrival {
                Ok(message) => {
                    consumer.unsettled.insert(message.delivery_tag);
                    let tag = Tag { consumer: key, generation, number: message.delivery_tag };
                    return Some(Event::Delivered(Box::new(delivery(tag, message))));
                }
                Err(_) if consumer.is_cancelled => {}
                Err(reason) => {
                    self.open.remove(&key);
                    return Some(Event::ConsumerLost { consumer: key, reason });
                }
            }
        }
    }

    /// Asks for no more deliveries. Whether the consumer was open.
    pub(super) async fn cancel(&mut self, key: ConsumerKey) -> bool {
        let Some(consumer) = self.open.get_mut(&key) else { return false };
        consumer.is_cancelled = true;
        let _ =
            consumer.channel.basic_cancel(consumer.tag.as_str().into(), BasicCancelOptions::default()).await;
        self.close_what_is_done(key).await;
        true
    }

    /// Acknowledges with the next [flush](Self::flush), if the delivery is of this connection.
    pub(super) fn ack(&mut self, tag: Tag, multiple: bool) {
        let Some(consumer) = self.of(tag) else { return };
        if multiple {
            let later = consumer.unsettled.split_off(&(tag.number + 1));
            consumer.acknowledged.append(&mut consumer.unsettled);
            consumer.unsettled = later;
        } else {
            consumer.unsettled.remove(&tag.number);
            consumer.acknowledged.insert(tag.number);
        }
    }

    /// Sends the acknowledgements that were asked for.
    pub(super) async fn flush(&mut self) {
        let waiting = self.open.iter_mut().filter(|(_, consumer)| !consumer.acknowledged.is_empty());
        let done: Vec<_> = waiting
            .map(|(key, consumer)| {
                consumer.flush();
                *key
            })
            .collect();
        for key in done {
            self.close_what_is_done(key).await;
        }
    }

    /// Gives back, if the delivery is of this connection.
    pub(super) async fn reject(&mut self, tag: Tag, requeue: bool) {
        let Some(consumer) = self.of(tag) else { return };
        consumer.unsettled.remove(&tag.number);
        let options = BasicNackOptions { multiple: false, requeue };
        let _ = match requeue {
            // A broker counts how often a message is rejected, and this says nothing against the message.
            true => consumer.channel.basic_nack(tag.number, options).now_or_never(),
            false => consumer.channel.basic_reject(tag.number, BasicRejectOptions { requeue }).now_or_never(),
        };
        self.close_what_is_done(tag.consumer).await;
    }

    /// The consumer that has this delivery and has not settled it.
    fn of(&mut self, tag: Tag) -> Option<&mut Consumer> {
        let is_unsettled =
            |open: &&mut Consumer| open.generation == tag.generation && open.unsettled.contains(&tag.number);
        self.open.get_mut(&tag.consumer).filter(is_unsettled)
    }

    /// Closes the channel of a cancelled consumer once nothing of it is unsettled.
    async fn close_what_is_done(&mut self, key: ConsumerKey) {
        let is_done = |consumer: &Consumer| {
            consumer.is_cancelled && consumer.unsettled.is_empty() && consumer.acknowledged.is_empty()
        };
        if self.open.get(&key).is_some_and(is_done) {
            let consumer = self.open.remove(&key).expect("it is open");
            let _ = consumer.channel.close(200, "cancelled".into()).await;
        }
    }
}

fn delivery(tag: Tag, message: Message) -> Delivery {
    Delivery {
        tag,
        is_redelivered: message.redelivered,
        exchange: message.exchange.to_string(),
        routing_key: message.routing_key.to_string(),
        properties: message.properties,
        body: message.data,
    }
}
