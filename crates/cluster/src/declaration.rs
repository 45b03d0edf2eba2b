//! What must be there before anything is published or consumed.

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};

/// A queue, an exchange or a binding.
#[derive(Clone, Debug, PartialEq)]
pub enum Declaration {
    /// A queue.
    Queue {
        /// Its name.
        name: String,
        /// Its flags.
        options: QueueDeclareOptions,
        /// Its arguments, `x-…`.
        arguments: FieldTable,
        /// Whether one that is there already is taken as it is.
        any: bool,
    },
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// What it does with routing keys.
        kind: ExchangeKind,
        /// Whether it is there after the broker has started again.
        durable: bool,
    },
    /// What an exchange passes on to another one.
    Passage {
        /// The exchange that passes it on.
        from: String,
        /// The other one.
        to: String,
        /// The routing key.
        key: String,
    },
    /// What an exchange passes on to a queue.
    Binding {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
    },
}

impl Declaration {
    /// The queue or exchange that it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue { name, .. } | Self::Exchange { name, .. } => name,
            Self::Binding { queue: name, .. } | Self::Passage { to: name, .. } => name,
        }
    }

    /// Declares it. A channel is opened for it, since the broker closes the channel of one that it refuses.
    ///
    /// # Errors
    /// When the broker refuses it or is gone.
    pub(crate) async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        if let Self::Queue { name, any: true, .. } = self {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let channel = connection.create_channel().await?;
            if channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await.is_ok() {
                return close(&channel).await;
            }
        }
        let channel = connection.create_channel().await?;
        match self {
            Self::Queue { name, options, arguments, .. } => {
                channel.queue_declare(name.as_str().into(), *options, arguments.clone()).await?;
            }
            Self::Exchange { name, kind, durable } => {
                let options =
                    ExchangeDeclareOptions { durable: *durable, ..ExchangeDeclareOptions::default() };
                let name = name.as_str().into();
                channel.exchange_declare(name, kind.clone(), options, FieldTable::default()).await?;
            }
            Self::Passage { from, to, key } => {
                let (from, to, key) = (from.as_str().into(), to.as_str().into(), key.as_str().into());
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to, from, key, options, FieldTable::default()).await?;
            }
            Self::Binding { queue, exchange, key } => {
                let (queue, exchange, key) =
                    (queue.as_str().into(), exchange.as_str().into(), key.as_str().into());
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await?;
            }
        }
        close(&channel).await
    }
}

async fn close(channel: &Channel) -> lapin::Result<()> {
    channel.close(200, "declared".into()).await
}
