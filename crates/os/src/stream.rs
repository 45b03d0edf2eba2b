//! Stream sockets by which clients are served: taking a connection off a listener, and reading and writing it.
//!
//! No call here waits but [`receive_waiting`]: a descriptor may be in blocking mode, as Python's sockets mostly are, and is
//! nevertheless only asked for what there is.

use std::io;
pub use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
};

/// The client at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A host and port.
    Inet(SocketAddr),
    /// A Unix socket bound to this path (or abstract name, which begins with a zero byte); mostly empty, since few clients bind.
    Unix(Vec<u8>),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and port.
    Inet(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// Why there is no connection to be had from a listener.
#[derive(Debug)]
pub enum NotAccepted {
    /// Nobody is waiting.
    Nobody,
    /// Whoever was waiting has gone meanwhile: ask for the next.
    Gone,
    /// Descriptors or memory have run out: the client keeps waiting in the listener's queue. Ask again later.
    Shortage(io::Error),
    /// The listener is of no use any more.
    Broken(io::Error),
}

/// The flag of [`receive`] that leaves what is read where it is.
pub const PEEK: u32 = RecvFlags::PEEK.bits();

/// Takes the first connection that waits at `listener`, which should be nonblocking. Its descriptor is close-on-exec, and in
/// blocking mode.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use manyhands_os::stream::{self, NotAccepted, Peer};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// listener.set_nonblocking(true)?;
/// assert!(matches!(stream::accept(&listener), Err(NotAccepted::Nobody)));
/// let client = TcpStream::connect(listener.local_addr()?)?;
/// let (_descriptor, peer) = stream::accept(&listener).expect("a client");
/// assert_eq!(peer, Peer::Inet(client.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Why there is none.
pub fn accept(listener: impl AsFd) -> Result<(OwnedFd, Peer), NotAccepted> {
    match rustix::io::retry_on_intr(|| rustix::net::acceptfrom_with(&listener, SocketFlags::CLOEXEC)) {
        Ok((fd, address)) => Ok((fd, peer(address))),
        Err(Errno::AGAIN) => Err(NotAccepted::Nobody),
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
            Err(NotAccepted::Shortage(error.into()))
        }
        // accept(2): what went wrong with the connection is reported here, and says nothing of the listener.
        Err(
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM
            | Errno::TIMEDOUT,
        ) => Err(NotAccepted::Gone),
        Err(error) => Err(NotAccepted::Broken(error.into())),
    }
}

/// Whether a socket listens for connections.
///
/// # Errors
/// What the kernel says.
pub fn is_listener(socket: impl AsFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// The other end of a connection.
///
/// # Errors
/// `NotConnected` when it has gone.
pub fn peer_of(connection: impl AsFd) -> io::Result<Peer> {
    Ok(peer(rustix::net::getpeername(connection)?))
}

/// This end of a connection.
///
/// # Errors
/// What the kernel says.
pub fn name_of(connection: impl AsFd) -> io::Result<Peer> {
    Ok(peer(Some(rustix::net::getsockname(connection)?)))
}

pub(crate) fn peer(address: Option<SocketAddrAny>) -> Peer {
    let Some(address) = address else { return Peer::Unix(Vec::new()) };
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Peer::Inet(address);
    }
    let Ok(unix) = SocketAddrUnix::try_from(address) else { return Peer::Unix(Vec::new()) };
    // An unbound client is reported as an abstract name without a letter.
    match unix.abstract_name() {
        Some([]) => Peer::Unix(Vec::new()),
        Some(name) => Peer::Unix([b"\0", name].concat()),
        None => Peer::Unix(unix.path_bytes().map(<[u8]>::to_vec).unwrap_or_default()),
    }
}

/// Reads what has arrived: the number of bytes, zero at the end of the stream. `flags` are those of `recv(2)`.
///
/// # Errors
/// `WouldBlock` when nothing has arrived, otherwise what the kernel says.
pub fn receive(fd: impl AsFd, buffer: &mut [u8], flags: u32) -> io::Result<usize> {
    let flags = RecvFlags::from_bits_retain(flags) | RecvFlags::DONTWAIT;
    let (length, _) = rustix::io::retry_on_intr(|| rustix::net::recv(&fd, &mut *buffer, flags))?;
    Ok(length)
}

/// Whether something has arrived that has not been read. The end of the stream is nothing.
pub fn has_input(fd: impl AsFd) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|count| count > 0)
}

/// Waits until something has arrived, and reads it; a descriptor in nonblocking mode does not wait.
///
/// # Errors
/// `Interrupted` when a signal handler ran, otherwise what the kernel says.
pub fn receive_waiting(fd: impl AsFd, buffer: &mut [u8], flags: u32) -> io::Result<usize> {
    let (length, _) = rustix::net::recv(&fd, buffer, RecvFlags::from_bits_retain(flags))?;
    Ok(length)
}

/// Sends what the socket has room for: the number of bytes. `flags` are those of `send(2)`.
///
/// # Errors
/// `WouldBlock` without room, `BrokenPipe` (and never SIGPIPE) when the other end is closed, otherwise what the kernel says.
pub fn send(fd: impl AsFd, bytes: &[u8], flags: u32) -> io::Result<usize> {
    let flags = SendFlags::from_bits_retain(flags) | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(rustix::io::retry_on_intr(|| rustix::net::send(&fd, bytes, flags))?)
}

/// Listens at an address: the descriptor, and the address with the port that it has got.
///
/// # Errors
/// `AddrInUse`, `PermissionDenied` for ports below 1024, and what else the kernel says.
pub fn listen(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    Ok((listener.into(), address))
}

/// Begins to connect: the descriptor, nonblocking, becomes writable once the connection is there or has failed, which
/// [`connected`] tells. `path` is that of a Unix socket.
///
/// # Errors
/// What is known at once: `ConnectionRefused`, `NotFound`; `WouldBlock` when a Unix socket's queue is full.
pub fn connect(to: &Address) -> io::Result<OwnedFd> {
    let family = match to {
        Address::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let begun = match to {
        Address::Inet(address) => rustix::net::connect(&fd, address),
        Address::Unix(path) => rustix::net::connect(&fd, &SocketAddrUnix::new(path.as_path())?),
    };
    match begun {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// What has become of a [`connect`] whose descriptor is writable.
///
/// # Errors
/// Why there is no connection.
pub fn connected(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(fd)??)
}

/// Has the connection reset when it is closed, so that nothing of it remains: not even the port's number, which otherwise rests for a minute.
///
/// # Errors
/// What the kernel says.
pub fn reset_on_close(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO))?)
}

/// Has small pieces be sent at once, and not be kept back until what was sent before has arrived (TCP_NODELAY).
///
/// # Errors
/// What the kernel says, of sockets that are not TCP's.
pub fn send_at_once(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_nodelay(fd, true)?)
}

/// Tells the peer that nothing more will come; it can still be heard.
///
/// # Errors
/// `NotConnected` when the peer has gone already.
pub fn end_sending(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, Shutdown::Write)?)
}

/// Ends both directions of a connection: whoever waits for bytes from it reads the end.
///
/// # Errors
/// `NotConnected` when the peer has gone already.
pub fn end(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, Shutdown::Both)?)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn pair() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (client, accept(&listener).expect("a client").0)
    }

    #[test]
    fn nothing_waits_for_bytes_that_are_not_there() {
        let (client, ours) = pair();
        let mut buffer = [0; 8];
        let error = receive(&ours, &mut buffer, 0).expect_err("nothing there");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!has_input(&ours), "nothing there");
        assert_eq!(send(&client, b"hello", 0).expect("sent"), 5);
        assert_eq!(receive_waiting(&ours, &mut buffer, RecvFlags::PEEK.bits()).expect("received"), 5);
        assert!(has_input(&ours), "it was only looked at");
        assert_eq!(receive_waiting(&ours, &mut buffer, 0).expect("received"), 5);
        assert_eq!(&buffer[..5], b"hello");
        assert!(!has_input(&ours), "it has been read");
        end(&client).expect("ended");
        assert_eq!(receive_waiting(&ours, &mut buffer, 0).expect("the end"), 0);
    }

    #[test]
    fn no_room_and_nobody_there_are_errors() {
        let (client, ours) = pair();
        let bytes = vec![7; 1 << 20];
        let error = loop {
            if let Err(error) = send(&ours, &bytes, 0) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(client);
        let error = loop {
            match send(&ours, &bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
                Ok(_) => {}
            }
        };
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()), "{error}");
    }

    #[test]
    fn a_client_by_unix_socket_has_a_name_if_it_has_bound_one() {
        let folder = std::env::temp_dir().join(format!("mh-stream-{}", crate::process::pid()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let _client = UnixStream::connect(&path).expect("connected");
        assert_eq!(accept(&listener).expect("a client").1, Peer::Unix(Vec::new()));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
