//! Where a broker is, and as whom to log in: an URL whose secrets nothing prints.

use std::borrow::Cow;
use std::path::Path;
use std::{fmt, fs};

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
    /// a second slash. After a `?` it may name files of certificates in PEM, by the words of RabbitMQ's own clients: `cacertfile` to trust
    /// besides the system's, and `certfile` with `keyfile` to show. They are read here.
    ///
    /// # Errors
    /// It is none, or a file cannot be used; the text says why, and nothing secret.
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
        let address = Self { uri, tls: OwnedTLSConfig::default() };
        match plain.split_once('?') {
            Some((_, query)) => address.with_files(query),
            None => Ok(address),
        }
    }

    /// Takes the certificates that the part of an URL after `?` names.
    fn with_files(mut self, query: &str) -> Result<Self, String> {
        let (mut certificate, mut key) = (None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let path = percent_decoded(value);
            match name {
                "cacertfile" => {
                    let text = read(name, &path)?;
                    let text =
                        String::from_utf8(text).map_err(|_| format!("{name}: {path} is no PEM file"))?;
                    self = self.trusting(text);
                }
                "certfile" => certificate = Some(read(name, &path)?),
                "keyfile" => key = Some(read(name, &path)?),
                "verify" if path != "verify_peer" => {
                    return Err(
                        "verify: certificates are always checked; name the authority by cacertfile".into()
                    );
                }
                _ => {}
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(self.identified_by(certificate, key)),
            (None, None) => Ok(self),
            _ => Err("certfile and keyfile belong together".into()),
        }
    }

    /// Trusts these certificates (PEM) besides the system's.
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

fn read(name: &str, path: &str) -> Result<Vec<u8>, String> {
    fs::read(Path::new(path)).map_err(|error| format!("{name}: {path} cannot be read: {error}"))
}

/// What `%XX` stands for; an odd `%` stays.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
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
    fn certificates_come_from_files() {
        let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let url = format!(
            "amqps://host/shop?heartbeat=5&cacertfile={pem}&certfile={pem}&keyfile={}",
            pem.replace('/', "%2F")
        );
        let address = Address::parse(&url).expect("files that are there");
        assert!(address.tls.cert_chain.is_some() && address.tls.identity.is_some());
        assert_eq!((address.uri.vhost.as_str(), address.uri.query.heartbeat), ("shop", Some(5)));
        for (query, word) in [
            ("cacertfile=/nowhere.pem", "/nowhere.pem"),
            (&format!("certfile={pem}"), "belong together"),
            ("verify=verify_none", "always checked"),
        ] {
            let error = Address::parse(&format!("amqps://me:secret@host/?{query}")).expect_err("of no use");
            assert!(error.contains(word) && !error.contains("secret"), "{error}");
        }
        assert!(Address::parse("amqps://host/?verify=verify_peer").is_ok());
    }

    #[test]
    fn nothing_secret_is_said() {
        for url in ["amqp://me:secret@ho st", "me:secret@host", "amqp://me:secret@host:port/"] {
            let error = Address::parse(url).expect_err("no URL");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
