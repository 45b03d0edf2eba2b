//! What a broker says of itself, and what follows from it.

use std::collections::BTreeSet;
use std::fmt;

use lapin::types::{AMQPValue, FieldTable};

/// The version of a broker.
///
/// ```
/// use manyhands_cluster::topology::Version;
///
/// assert_eq!(Version::parse("3.12.0-rc.2"), Version(3, 12, 0));
/// assert!(Version::parse("4.3") > Version(4, 2, 9));
/// assert_eq!(Version::parse("unknown"), Version(0, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Returns the version that a text begins with; what is not there is 0.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut numbers = text.splitn(3, '.').map(|part| {
            let end = part.find(|each: char| !each.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a broker says of itself when a connection begins.
///
/// ```
/// use manyhands_cluster::topology::{ServerProperties, Version};
///
/// let server = ServerProperties::rabbitmq(Version(4, 3, 0));
/// assert!(!server.has_transient_queues());
/// assert_eq!(server.default_delivery_limit(), Some(20));
/// assert_eq!(server.default_consumer_timeout_s(), Some(1800));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerProperties {
    /// Its name: `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: Version,
    /// What it says that it can.
    pub capabilities: BTreeSet<String>,
}

impl ServerProperties {
    /// Reads the properties of a server.
    #[must_use]
    pub fn parse(table: &FieldTable) -> Self {
        let text = |name: &str| match table.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            _ => String::new(),
        };
        let capabilities = match table.inner().get("capabilities") {
            Some(AMQPValue::FieldTable(capabilities)) => {
                let can =
                    capabilities.inner().iter().filter(|(_, value)| **value == AMQPValue::Boolean(true));
                can.map(|(name, _)| name.to_string()).collect()
            }
            _ => BTreeSet::new(),
        };
        Self { product: text("product"), version: Version::parse(&text("version")), capabilities }
    }

    /// Returns what a RabbitMQ of a version is known for.
    #[must_use]
    pub fn rabbitmq(version: Version) -> Self {
        Self { product: "RabbitMQ".to_owned(), version, capabilities: BTreeSet::new() }
    }

    /// Whether it takes queues that neither outlive it nor belong to one connection. From 4.3 on it closes the connection instead.
    #[must_use]
    pub fn has_transient_queues(&self) -> bool {
        self.version < Version(4, 3, 0)
    }

    /// Whether its quorum queues can hold messages for a time, and pass them on without losing any: what a ladder of delays needs.
    #[must_use]
    pub fn has_quorum_delays(&self) -> bool {
        self.version >= Version(3, 10, 0)
    }

    /// Returns how many priorities its quorum queues tell apart.
    #[must_use]
    pub fn quorum_priorities(&self) -> u8 {
        match self.version {
            version if version >= Version(4, 3, 0) => 32,
            version if version >= Version(4, 0, 0) => 2,
            _ => 1,
        }
    }

    /// Returns how often a message of a quorum queue may come back before it is given up, where the queue does not say.
    #[must_use]
    pub fn default_delivery_limit(&self) -> Option<u32> {
        (self.version >= Version(4, 0, 0)).then_some(20)
    }

    /// Whether only what is rejected, and what was held by a worker that is gone, counts towards that limit. Before, whatever comes back does.
    #[must_use]
    pub fn counts_only_failures(&self) -> bool {
        self.version >= Version(4, 3, 0)
    }

    /// Returns how long a worker may hold a message, in seconds, where neither the queue nor the broker's configuration says it. Then the broker closes
    /// the worker's channel, and delivers the message again.
    #[must_use]
    pub fn default_consumer_timeout_s(&self) -> Option<u32> {
        (self.version >= Version(3, 8, 17)).then_some(1800)
    }

    /// Whether a queue's own time limit for its consumers counts. Before, it is taken and does nothing.
    #[must_use]
    pub fn has_consumer_timeouts(&self) -> bool {
        self.version >= Version(3, 12, 0)
    }
}
