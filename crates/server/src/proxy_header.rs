//! The header by which a proxy says for whom it has connected: the PROXY protocol, versions 1 (a line of text) and 2 (binary), as in
//! HAProxy's `proxy-protocol.txt`.
//!
//! Pure: it is fed with bytes in whatever pieces they arrive, and says when the header is complete, and which bytes were its last. It is
//! refused with the first byte that cannot belong to one. What it may only be fed from is in [`crate::trusted_peers`].
//!
//! ```
//! use manyhands_os::stream::Peer;
//! use manyhands_server::proxy_header::{Fed, HeaderReader};
//!
//! let mut reader = HeaderReader::default();
//! assert_eq!(reader.feed(b"PROXY TCP4 192.0.2.7 ")?, Fed::More);
//! let Fed::Done { used, endpoints } = reader.feed(b"198.51.100.1 5000 80\r\nGET /")? else { panic!("it is all") };
//! assert_eq!(used, "198.51.100.1 5000 80\r\n".len());
//! let endpoints = endpoints.expect("a proxy says for whom it connects");
//! assert_eq!(endpoints.client, Peer::Inet("192.0.2.7:5000".parse().expect("an address")));
//! # Ok::<(), manyhands_server::proxy_header::BadHeader>(())
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;
use std::io;
use std::str::FromStr;

use manyhands_os::stream::Peer;

/// What a header of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// What a header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of a header of version 2 that says how long the rest is.
const FIXED: usize = 16;
/// The longest rest of a header of version 2 that is read: 216 bytes of addresses at most, and what proxies add about TLS.
pub const LONGEST_REST: usize = 4096;
/// The bytes for each of two Unix addresses.
const UNIX: usize = 108;
/// The type of the vector that holds a checksum of the header.
const CHECKSUM: u8 = 3;

/// The two ends of the connection that a proxy has from its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client of the proxy.
    pub client: Peer,
    /// What the client has connected to.
    pub server: Peer,
}

/// What is known once a reader was fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All bytes belong to the header, and there is more to come.
    More,
    /// The header is complete.
    Done {
        /// How many of the bytes belong to it; what follows is the client's.
        used: usize,
        /// For whom the proxy has connected; `None` when it is for itself, or it does not know: the connection's own addresses hold.
        endpoints: Option<Endpoints>,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeader(&'static str);

impl fmt::Display for BadHeader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for BadHeader {}

impl From<BadHeader> for io::Error {
    fn from(error: BadHeader) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

const MISSING: BadHeader = BadHeader("it has begun without a PROXY header");
const TOO_LONG: BadHeader = BadHeader("its PROXY header is longer than is allowed");
const NOT_A_LINE: BadHeader = BadHeader("its PROXY line is not as the protocol has it");
const BAD_COMMAND: BadHeader = BadHeader("its PROXY header has an unknown version or command");
const BAD_FAMILY: BadHeader = BadHeader("its PROXY header has an unknown address family or transport");
const TOO_SHORT: BadHeader = BadHeader("its PROXY header ends within an address or a vector");
const BAD_CHECKSUM: BadHeader = BadHeader("its PROXY header does not have the checksum that it says");

/// Reads one header.
#[derive(Clone, Debug, Default)]
pub struct HeaderReader {
    /// What there is of it, and nothing else.
    bytes: Vec<u8>,
}

impl HeaderReader {
    /// Takes the bytes that have arrived, up to the end of the header.
    ///
    /// # Errors
    /// They are no header: the connection must be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, BadHeader> {
        let mut used = 0;
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                return Ok(Fed::Done { used, endpoints: self.endpoints()? });
            }
            let next = &bytes[used..bytes.len().min(used + missing)];
            if next.is_empty() {
                return Ok(Fed::More);
            }
            self.bytes.extend_from_slice(next);
            used += next.len();
        }
    }

    /// Why a connection is of no use that has ended before its header was whole: `UnexpectedEof` within it, and
    /// `ConnectionAborted` before it.
    #[must_use]
    pub fn end(&self) -> io::Error {
        match self.bytes.is_empty() {
            true => io::Error::new(io::ErrorKind::ConnectionAborted, "it has gone without a word"),
            false => io::Error::new(io::ErrorKind::UnexpectedEof, "it has gone within its PROXY header"),
        }
    }

    /// How many more bytes certainly belong to the header; 0 when it is complete.
    fn missing(&self) -> Result<usize, BadHeader> {
        let bytes = self.bytes.as_slice();
        if agree(bytes, WORD) {
            return match bytes {
                [.., b'\r', b'\n'] => Ok(0),
                [.., b'\n'] => Err(NOT_A_LINE),
                _ if bytes.len() >= LONGEST_LINE => Err(TOO_LONG),
                _ => Ok(1),
            };
        }
        if !agree(bytes, SIGNATURE) {
            return Err(MISSING);
        }
        let Some(length) = bytes.get(FIXED - 2..FIXED) else { return Ok(FIXED - bytes.len()) };
        let rest = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if rest > LONGEST_REST {
            return Err(TOO_LONG);
        }
        Ok(FIXED + rest - bytes.len())
    }

    /// What the complete header says.
    fn endpoints(&self) -> Result<Option<Endpoints>, BadHeader> {
        match self.bytes.strip_prefix(WORD) {
            Some(line) => text_endpoints(&line[..line.len() - 2]),
            None => self.binary_endpoints(),
        }
    }

    fn binary_endpoints(&self) -> Result<Option<Endpoints>, BadHeader> {
        let (command, kind, rest) = (self.bytes[12], self.bytes[13], &self.bytes[FIXED..]);
        match command {
            0x20 => return Ok(None),
            0x21 => {}
            _ => return Err(BAD_COMMAND),
        }
        let (endpoints, length) = match kind {
            0x11 => (inet_endpoints::<4>(rest), 2 * 4 + 4),
            0x21 => (inet_endpoints::<16>(rest), 2 * 16 + 4),
            0x31 => (unix_endpoints(rest), 2 * UNIX),
            // Those of datagrams, and what the proxy itself does not know.
            _ if kind >> 4 <= 3 && kind & 15 <= 2 => return Ok(None),
            _ => return Err(BAD_FAMILY),
        };
        let endpoints = endpoints.ok_or(TOO_SHORT)?;
        self.check_vectors(FIXED + length)?;
        Ok(Some(endpoints))
    }

    /// Checks that what follows the addresses are vectors, and the checksum if one of them is that.
    fn check_vectors(&self, begin: usize) -> Result<(), BadHeader> {
        let (mut at, mut checksum) = (begin, None);
        while at < self.bytes.len() {
            let &[kind, high, low, ref rest @ ..] = &self.bytes[at..] else { return Err(TOO_SHORT) };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let value = rest.get(..length).ok_or(TOO_SHORT)?;
            at += 3 + length;
            if kind == CHECKSUM {
                let sum = u32::from_be_bytes(value.try_into().map_err(|_| BAD_CHECKSUM)?);
                // One: each costs a look at all bytes.
                if checksum.replace((at - 4, sum)).is_some() {
                    return Err(BAD_CHECKSUM);
                }
            }
        }
        let Some((place, sum)) = checksum else { return Ok(()) };
        let parts = [&self.bytes[..place], &[0; 4], &self.bytes[place + 4..]];
        if crc32c(parts.into_iter().flatten().copied()) == sum { Ok(()) } else { Err(BAD_CHECKSUM) }
    }
}

/// Whether bytes begin like `start`, as far as there are any.
fn agree(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

/// What a line says, without its first word and its end.
fn text_endpoints(line: &[u8]) -> Result<Option<Endpoints>, BadHeader> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| NOT_A_LINE)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let &[family, client, server, client_port, server_port] = fields.as_slice() else {
        return Err(NOT_A_LINE);
    };
    let endpoint = |address, port| match family {
        "TCP4" => text_endpoint::<Ipv4Addr>(address, port),
        "TCP6" => text_endpoint::<Ipv6Addr>(address, port),
        _ => None,
    };
    let (client, server) = (endpoint(client, client_port), endpoint(server, server_port));
    client.zip(server).map(|(client, server)| Some(Endpoints { client, server })).ok_or(NOT_A_LINE)
}

fn text_endpoint<A: FromStr + Into<IpAddr>>(address: &str, port: &str) -> Option<Peer> {
    // A sign and zeros in front would do for `parse`.
    let canonical = port == "0" || port.starts_with(|first| matches!(first, '1'..='9'));
    let port = port.parse::<u16>().ok().filter(|_| canonical)?;
    let address: IpAddr = address.parse::<A>().ok()?.into();
    Some(Peer::Inet(SocketAddr::new(address, port)))
}

/// Two addresses of `N` bytes each, and their ports.
fn inet_endpoints<const N: usize>(bytes: &[u8]) -> Option<Endpoints>
where
    IpAddr: From<[u8; N]>,
{
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let (&ports, _) = rest.split_first_chunk::<4>()?;
    let peer = |address: &[u8; N], high, low| {
        Peer::Inet(SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes([high, low])))
    };
    Some(Endpoints { client: peer(client, ports[0], ports[1]), server: peer(server, ports[2], ports[3]) })
}

fn unix_endpoints(bytes: &[u8]) -> Option<Endpoints> {
    let (client, rest) = bytes.split_first_chunk::<UNIX>()?;
    let (server, _) = rest.split_first_chunk::<UNIX>()?;
    Some(Endpoints { client: unix_peer(client), server: unix_peer(server) })
}

/// A path, or an abstract name, which begins with a zero byte; both have zeros behind them.
fn unix_peer(bytes: &[u8; UNIX]) -> Peer {
    let is_zero = |byte: &u8| *byte == 0;
    let length = match bytes[0] {
        0 => bytes.iter().rposition(|byte| !is_zero(byte)).map_or(0, |last| last + 1),
        _ => bytes.iter().position(is_zero).unwrap_or(UNIX),
    };
    Peer::Unix(bytes[..length].to_vec())
}

/// CRC32c, as in RFC 4960, appendix B.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(usize, Option<Endpoints>), BadHeader> {
        match HeaderReader::default().feed(bytes)? {
            Fed::Done { used, endpoints } => Ok((used, endpoints)),
            Fed::More => panic!("{bytes:?} is a header"),
        }
    }

    fn binary(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, kind], &length, rest].concat()
    }

    fn inet(text: &str) -> Peer {
        Peer::Inet(text.parse().expect("an address"))
    }

    #[test]
    fn lines() {
        let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
        let expected = Endpoints { client: inet("192.168.0.1:56324"), server: inet("192.168.0.11:443") };
        assert_eq!(read(&[line, &b"GET /"[..]].concat()), Ok((line.len(), Some(expected))));
        let line = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
        let expected = Endpoints { client: inet("[2001:db8::1]:0"), server: inet("[::1]:65535") };
        assert_eq!(read(line), Ok((line.len(), Some(expected))));
        for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN \xff what\rever\r\n"] {
            assert_eq!(read(line), Ok((line.len(), None)));
        }
    }

    #[test]
    fn lines_that_are_almost_right() {
        for line in [
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
            "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 +443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 0443\r\n",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 65536\r\n",
            "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
            "PROXY TCP4 ::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(NOT_A_LINE), "{line:?}");
        }
        assert_eq!(read(&[b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat()), Err(TOO_LONG));
        let longest = [b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat();
        assert_eq!(read(&longest), Ok((LONGEST_LINE, None)));
        for bytes in ["GET / HTTP/1.1\r\n", "P ", "\r\n\r\n\r", "\u{16}"] {
            assert_eq!(read(bytes.as_bytes()), Err(MISSING), "{bytes:?}");
        }
    }

    #[test]
    fn binary_headers() {
        let v4 = binary(0x21, 0x11, &[10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0, 80]);
        let expected = Endpoints { client: inet("10.0.0.1:8080"), server: inet("10.0.0.2:80") };
        assert_eq!(read(&[&v4[..], b"\0\x01\x02"].concat()), Ok((v4.len(), Some(expected))));
        let mut addresses = [0; 36];
        (addresses[15], addresses[31], addresses[33], addresses[35]) = (1, 2, 7, 9);
        let v6 = binary(0x21, 0x21, &addresses);
        let expected = Endpoints { client: inet("[::1]:7"), server: inet("[::2]:9") };
        assert_eq!(read(&v6), Ok((v6.len(), Some(expected))));
        let mut paths = [0; 2 * UNIX];
        paths[..5].copy_from_slice(b"/run/");
        paths[UNIX..UNIX + 3].copy_from_slice(b"\0ab");
        let expected = Endpoints { client: Peer::Unix(b"/run/".into()), server: Peer::Unix(b"\0ab".into()) };
        assert_eq!(read(&binary(0x21, 0x31, &paths)), Ok((FIXED + 2 * UNIX, Some(expected))));
    }

    #[test]
    fn a_proxy_that_connects_for_itself_or_does_not_know() {
        for (command, kind) in [(0x20, 0x00), (0x20, 0xff), (0x21, 0x00), (0x21, 0x12), (0x21, 0x10)] {
            let header = binary(command, kind, b"whatever it is");
            assert_eq!(read(&header), Ok((header.len(), None)), "{command:x} {kind:x}");
        }
        for (command, kind, error) in [
            (0x11, 0x11, BAD_COMMAND),
            (0x22, 0x11, BAD_COMMAND),
            (0x21, 0x41, BAD_FAMILY),
            (0x21, 0x13, BAD_FAMILY),
        ] {
            assert_eq!(read(&binary(command, kind, &[0; 12])), Err(error), "{command:x} {kind:x}");
        }
    }

    #[test]
    fn what_follows_the_addresses() {
        let with = |vectors: &[u8]| binary(0x21, 0x11, &[&[0; 12], vectors].concat());
        assert!(read(&with(&[4, 0, 2, 9, 9, 0x20, 0, 0])).is_ok());
        for vectors in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0xff, 0xff, 1]] {
            assert_eq!(read(&with(vectors)), Err(TOO_SHORT), "{vectors:?}");
        }
        assert_eq!(read(&binary(0x21, 0x11, &[0; 11])), Err(TOO_SHORT));
        assert!(read(&with(&[&[4, 0x0f, 0xf1][..], &[0; 0xff1]].concat())).is_ok(), "the longest");
        let too_long = [SIGNATURE, &[0x21, 0x11, 0x10, 0x01]].concat();
        assert_eq!(read(&too_long), Err(TOO_LONG), "before its bytes have come");
    }

    #[test]
    fn checksums() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let mut header =
            binary(0x21, 0x11, &[&[0; 12][..], &[CHECKSUM, 0, 4, 0, 0, 0, 0, 4, 0, 1, 7]].concat());
        let sum = crc32c(header.iter().copied());
        header[31..35].copy_from_slice(&sum.to_be_bytes());
        assert!(read(&header).is_ok());
        header[20] ^= 1;
        assert_eq!(read(&header), Err(BAD_CHECKSUM));
        for vectors in
            [&[CHECKSUM, 0, 3, 0, 0, 0][..], &[CHECKSUM, 0, 4, 0, 0, 0, 0, CHECKSUM, 0, 4, 0, 0, 0, 0]]
        {
            assert_eq!(read(&binary(0x21, 0x11, &[&[0; 12], vectors].concat())), Err(BAD_CHECKSUM));
        }
    }
}
