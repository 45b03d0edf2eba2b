//! Datagram sockets by which clients are served.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::stream::{NotAccepted, Peer, peer};

/// Takes the first datagram that waits at `socket`, whatever mode that is in: how many bytes it has, and who has sent it. One that has
/// more bytes than `buffer` is cut off there.
///
/// ```
/// use std::net::UdpSocket;
/// use manyhands_os::datagram;
/// use manyhands_os::stream::{NotAccepted, Peer};
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let mut buffer = [0; 4];
/// assert!(matches!(datagram::receive(&socket, &mut buffer), Err(NotAccepted::Nobody)));
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", socket.local_addr()?)?;
/// let (length, peer) = datagram::receive(&socket, &mut buffer).expect("a datagram");
/// assert_eq!((length, &buffer, peer), (5, b"hell", Peer::Inet(client.local_addr()?)));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Why there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Peer), NotAccepted> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    match rustix::io::retry_on_intr(|| rustix::net::recvfrom(&socket, &mut *buffer, flags)) {
        Ok((_, length, address)) => Ok((length, peer(address))),
        Err(Errno::AGAIN) => Err(NotAccepted::Nobody),
        Err(error @ (Errno::NOBUFS | Errno::NOMEM)) => Err(NotAccepted::Shortage(error.into())),
        // What has become of an answer is reported here, and says nothing of the socket.
        Err(
            Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::TIMEDOUT,
        ) => Err(NotAccepted::Gone),
        Err(error) => Err(NotAccepted::Broken(error.into())),
    }
}
