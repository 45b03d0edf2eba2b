//! Reads a PROXY header off a socket, and not a byte more.

use std::io;
use std::os::fd::AsFd;

use manyhands_os::stream;

use crate::proxy_header::{Endpoints, Fed, HeaderReader};

/// How much of a header is taken at a time. Most are shorter.
const PIECE: usize = 512;

/// Takes what has come of a header: for whom the proxy has connected, as [`Fed::Done`] has it. What follows stays in the socket, whoever
/// reads it next.
///
/// ```
/// use std::io::{ErrorKind, Read, Write};
/// use std::os::unix::net::UnixStream;
/// use manyhands_server::proxy_header::HeaderReader;
/// use manyhands_server::proxy_socket;
///
/// let (mut proxy, mut ours) = UnixStream::pair()?;
/// let mut reader = HeaderReader::default();
/// proxy.write_all(b"PROXY TCP4 192.0.2.7 ")?;
/// assert_eq!(proxy_socket::receive(&ours, &mut reader).expect_err("more to come").kind(), ErrorKind::WouldBlock);
/// proxy.write_all(b"198.51.100.1 5000 80\r\nhello")?;
/// assert!(proxy_socket::receive(&ours, &mut reader)?.is_some());
/// let mut rest = [0; 5];
/// ours.read_exact(&mut rest)?;
/// assert_eq!(&rest, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `WouldBlock` while there is more to come: call again with the same reader once the socket is readable. `InvalidData` when it is no
/// header, `UnexpectedEof` when the connection has ended within it and `ConnectionAborted` when before, as those that only look whether a
/// server is there do; and what the kernel says. Then close the connection.
pub fn receive(socket: impl AsFd, reader: &mut HeaderReader) -> io::Result<Option<Endpoints>> {
    let mut buffer = [0; PIECE];
    loop {
        let there = stream::receive(&socket, &mut buffer, stream::PEEK)?;
        if there == 0 {
            return Err(reader.end());
        }
        let fed = reader.feed(&buffer[..there])?;
        let used = if let Fed::Done { used, .. } = fed { used } else { there };
        stream::receive(&socket, &mut buffer[..used], 0)?;
        if let Fed::Done { endpoints, .. } = fed {
            return Ok(endpoints);
        }
    }
}
