//! Where a broker is, and as whom to log in: an URL whose secrets nothing prints.

use std::fmt;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

/// So many seconds without a word from the broker mean that it is gone, where the URL says nothing else.
const HEARTBEAT_S: u16 = 30;

/// Where a broker is, and as whom to log in. It is shown without name and password.
///
/// ```
/// use manyhands_cluster::address::Address;
///
/// let address = Address::parse("amqp://me:secret@example.org/shop")?;
/// assert_eq!(address.to_string(), "amqp://example.org:5672/shop");
/// assert_eq!(format!("{address:?}"), "Address(amqp://example.org:5672/shop)");
/// assert!(Address::parse("http://me:secret@example.org").is_err_and(|error| !error.contains("secret")));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Address {
    pub(crate) uri: AMQPUri,
    pub(crate) tls: OwnedTLSConfig,
}

impl Address {
    /// Reads an URL, `amqp://name:password@host:port/vhost` or `amqps://…`, as Celery's users write it: no vhost means `/`, and so does
    /// a second slash.
    ///
    /// # Errors
    /// It is none; the text says why, and nothing secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let plain = url.strip_prefix("py").filter(|rest| rest.starts_with("amqp")).unwrap_or(url);
        let has_scheme = plain.starts_with("amqp://") || plain.starts_with("amqps://");
        if !has_scheme {
            return Err("it must begin with amqp:// or amqps://".into());
        }
        // The parser's own words may have the whole URL in them.
        let mut uri: AMQPUri = plain.parse().map_err(|_| {
            "it is no URL of the form amqp://name:password@host:port/vhost (special characters are written as %XX)".to_owned()
        })?;
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(Self { uri, tls: OwnedTLSConfig::default() })
    }

    /// Trusts these certificates (PEM) instead of the system's.
    #[must_use]
    pub fn trusting(mut self, certificates: String) -> Self {
        self.tls.cert_chain = Some(certificates);
        self
    }

    /// Shows this certificate with this key, both PEM.
    #[must_use]
    pub fn identified_by(mut self, certificate: Vec<u8>, key: Vec<u8>) -> Self {
        self.tls.identity = Some(OwnedIdentity::PKCS8 { pem: certificate, key });
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let (host, port) = (&self.uri.authority.host, self.uri.authority.port);
        write!(formatter, "{scheme}://{host}:{port}/{}", self.uri.vhost.trim_start_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vhost(url: &str) -> String {
        Address::parse(url).expect("an URL").uri.vhost
    }

    #[test]
    fn virtual_hosts_are_those_that_celery_finds() {
        assert_eq!(vhost("amqp://host"), "/");
        assert_eq!(vhost("amqp://host/"), "/");
        assert_eq!(vhost("pyamqp://guest@host//"), "/");
        assert_eq!(vhost("amqp://host/%2f"), "/");
        assert_eq!(vhost("amqp://host/shop"), "shop");
    }

    #[test]
    fn nothing_secret_is_said() {
        for url in ["amqp://me:secret@ho st", "me:secret@host", "amqp://me:secret@host:port/"] {
            let error = Address::parse(url).expect_err("no URL");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
