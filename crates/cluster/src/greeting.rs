//! What a broker says of itself before anybody has logged in.

use std::io::{self, Read, Write};
use std::time::Duration;

use lapin::protocol::connection::{AMQPMethod, Start};
use lapin::protocol::{AMQPClass, parse_class};
use lapin::tcp::{AMQPUriTcpExt, HandshakeError};
use lapin::types::FieldTable;

use crate::address::Address;
use crate::message::read_text;
use crate::topology::ServerProperties;

/// Of a frame: its type, its channel, and how long it is.
const HEAD: usize = 7;
/// More than a broker has to say.
const LONGEST: usize = 1 << 20;

/// What a broker says of itself.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// What it is, and what follows from that.
    pub server: ServerProperties,
    /// What it runs on: `Erlang/OTP 25.2.3`.
    pub platform: String,
    /// What its cluster is called.
    pub cluster: String,
}

impl Greeting {
    /// Connects, hears the greeting, and leaves again without logging in.
    ///
    /// # Errors
    /// Nobody is there, or it is no broker of AMQP 0-9-1.
    pub fn of(address: &Address, within: Duration) -> io::Result<Self> {
        let mut uri = address.uri.clone();
        uri.query.connection_timeout = Some(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let mut stream = match uri.connect_with_config(address.tls.as_ref()) {
            Ok(stream) => stream,
            Err(HandshakeError::Failure(error)) => return Err(error),
            Err(HandshakeError::WouldBlock(_)) => return Err(io::ErrorKind::WouldBlock.into()),
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(within))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut head = [0; HEAD];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if head[0] != 1 || length > LONGEST {
            return Err(no_broker());
        }
        let mut method = vec![0; length];
        stream.read_exact(&mut method)?;
        match parse_class(method.as_slice()) {
            Ok((_, AMQPClass::Connection(AMQPMethod::Start(Start { server_properties, .. })))) => {
                Ok(Self::from_properties(&server_properties))
            }
            _ => Err(no_broker()),
        }
    }

    fn from_properties(properties: &FieldTable) -> Self {
        let text = |name| read_text(properties, name).ok().flatten().unwrap_or_default();
        let server = ServerProperties::parse(properties);
        Self { server, platform: text("platform"), cluster: text("cluster_name") }
    }
}

fn no_broker() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers there does not speak AMQP 0-9-1")
}
