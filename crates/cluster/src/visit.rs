//! A short visit to a broker, by a person: what is there, whether it is as it should be, and what lies among the dead letters.
//!
//! Each call waits for the broker. Nothing is tried again: the visitor is told, and decides.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::runtime::Runtime;

use crate::address::Address;
use crate::declaration::Declaration;
use crate::link::{Options, connect, words_of};
use crate::message::{DELIVERIES, read_text};
use crate::topology::{QueueKind, WorkQueue};
use crate::worker::{DEAD_BECAUSE, DEAD_FROM};

/// How full a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait.
    pub messages: u32,
    /// How many consumers it has.
    pub consumers: u32,
}

/// A message in a queue of dead letters. It stays there unless it is dropped or sent back: when the visit ends, it is as if nobody had looked.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The broker's number for it, in this visit.
    pub number: u64,
    /// Why it is one; none if another program has put it there.
    pub because: Option<String>,
    /// The queue that it is from.
    pub from: Option<String>,
    /// Its headers and the like.
    pub properties: BasicProperties,
    /// The message itself.
    pub body: Vec<u8>,
}

impl Letter {
    /// Returns a header that is a text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        }
    }
}

/// A connection for as long as a visit takes. What goes wrong is told in the words of the broker or the system.
#[derive(Debug)]
pub struct Visit {
    runtime: Runtime,
    connection: Connection,
    letters: Channel,
}

impl Visit {
    /// Connects and logs in.
    ///
    /// # Errors
    /// There is no broker, or it does not let us in.
    pub fn begin(address: Address, name: String, within: Duration) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("manyhands-visit")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error: io::Error| error.to_string())?;
        let options = Options { address, name, connect_within: within };
        let begun = runtime.block_on(async {
            let connection = connect(&options).await?;
            let letters = connection.create_channel().await?;
            letters.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((connection, letters))
        });
        let (connection, letters) = begun.map_err(|error: lapin::Error| words_of(&error))?;
        Ok(Self { runtime, connection, letters })
    }

    /// Looks how full a queue is.
    ///
    /// # Errors
    /// There is none of this name, or it is another connection's own.
    pub fn depth(&self, queue: &str) -> Result<Depth, String> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.wait(async {
            let channel = self.connection.create_channel().await?;
            let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
            channel.close(200, "looked".into()).await?;
            Ok(Depth { messages: found.message_count(), consumers: found.consumer_count() })
        })
    }

    /// Declares a queue as Celery's programs do, even if it is there: a way to find out whether it is there with other properties.
    ///
    /// # Errors
    /// The broker refuses it.
    pub fn declare(&self, name: &str, kind: QueueKind) -> Result<(), String> {
        for mut declaration in (WorkQueue { kind, ..WorkQueue::new(name) }).declarations() {
            if let Declaration::Queue { any, .. } = &mut declaration {
                *any = false;
                self.wait(declaration.declare(&self.connection))?;
            }
        }
        Ok(())
    }

    /// Takes the next message of a queue, until the visit ends.
    ///
    /// # Errors
    /// There is no such queue.
    pub fn next_letter(&self, queue: &str) -> Result<Option<Letter>, String> {
        let got = self.wait(self.letters.basic_get(queue.into(), BasicGetOptions::default()))?;
        Ok(got.map(|got| {
            let delivery = got.delivery;
            let (number, properties, body) = (delivery.delivery_tag, delivery.properties, delivery.data);
            let headers = properties.headers().clone().unwrap_or_default();
            let text = |name| read_text(&headers, name).ok().flatten();
            let (because, from) = (text(DEAD_BECAUSE), text(DEAD_FROM));
            Letter { number, because, from, properties, body }
        }))
    }

    /// Publishes a letter to a queue, without what made it one, and drops it once that is confirmed.
    ///
    /// # Errors
    /// The broker does not take it: the letter stays where it is.
    pub fn send_back(&self, letter: &Letter, queue: &str) -> Result<(), String> {
        let headers = letter.properties.headers().clone().unwrap_or_default();
        let mut headers: BTreeMap<_, _> = headers.inner().clone();
        headers.retain(|name, _| ![DEAD_BECAUSE, DEAD_FROM, DELIVERIES].contains(&name.as_str()));
        let properties = letter.properties.clone().with_headers(headers.into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = async {
            let channel = &self.letters;
            channel.basic_publish("".into(), queue.into(), options, &letter.body, properties).await?.await
        };
        match self.wait(publishing)? {
            Confirmation::Ack(None) | Confirmation::NotRequested => self.drop_letter(letter.number),
            Confirmation::Ack(Some(_)) => Err(format!("there is no queue {queue}")),
            Confirmation::Nack(_) => {
                Err(format!("queue {queue} takes nothing: it is full, or could not store it"))
            }
        }
    }

    /// Removes a letter from its queue.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn drop_letter(&self, number: u64) -> Result<(), String> {
        self.wait(self.letters.basic_ack(number, BasicAckOptions::default()))
    }

    /// Ends the visit: letters that were only looked at are in their queue again.
    pub fn end(&self) {
        // It ends even if the broker does not say goodbye.
        let _ = self.wait(self.connection.close(200, "looked around".into()));
    }

    fn wait<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
        self.runtime.block_on(asked).map_err(|error| words_of(&error))
    }
}
