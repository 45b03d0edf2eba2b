//! Wake sockets: any process of this machine can send a wake-up to one. A listener (an event loop, say) gets a readable
//! descriptor; waking needs no connection and never waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::process::{Identity, identity};

/// A socket to send wake-ups to, named by the process that opened it and a number: a datagram socket with an abstract
/// address, which vanishes with its process.
///
/// ```
/// use manyhands_os::process::identity;
/// use manyhands_os::socket::{WakeSocket, wake};
///
/// let socket = WakeSocket::open()?;
/// assert!(socket.drain().is_empty(), "nobody has woken it");
/// wake(identity(), socket.number(), 7);
/// assert_eq!(socket.drain(), [7]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WakeSocket {
    socket: OwnedFd,
    number: u32,
}

/// How many numbers this process has given out. Only goes up (and wraps): each step takes one number, and none carries
/// other memory with it, so all are `Relaxed`.
static TAKEN: AtomicU32 = AtomicU32::new(0);

impl WakeSocket {
    /// Opens a socket with a number that no other wake socket of this process has or had: a late wake-up for one that
    /// is closed reaches none that was opened since.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        loop {
            let number = TAKEN.fetch_add(1, Ordering::Relaxed);
            if number == 0 {
                continue;
            }
            // In use only once the numbers have come round again.
            match rustix::net::bind(&socket, &address(identity(), number)?) {
                Err(Errno::ADDRINUSE) => {}
                outcome => return outcome.map(|()| Self { socket, number }).map_err(io::Error::from),
            }
        }
    }

    /// The number to wake it by, never 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Takes note of all wake-ups so far: what each was about. Not readable again until the next one.
    ///
    /// When many come at once some are lost (see [`wake`]): [`MANY`] or more may stand for any.
    #[must_use]
    pub fn drain(&self) -> Vec<u64> {
        let mut about = Vec::new();
        let mut bytes = [0; 8];
        loop {
            match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok(_) => about.push(u64::from_ne_bytes(bytes)),
                Err(Errno::INTR) => {}
                Err(_) => return about,
            }
        }
    }
}

/// So many wake-ups may mean that there were more: the fewest that a kernel keeps for a socket.
pub const MANY: usize = 8;

impl AsFd for WakeSocket {
    /// Readable when a wake-up has come since the last [`WakeSocket::drain`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends a wake-up to the wake socket `number` of the process `who`, saying what it is about; returns whether the
/// socket exists. Never waits: where so many wake-ups are queued that no more fit, it is lost.
pub fn wake(who: Identity, number: u32, about: u64) -> bool {
    let (Some(sender), Ok(address)) = (sender(), address(who, number)) else { return false };
    loop {
        match rustix::net::sendto(
            sender,
            &about.to_ne_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            &address,
        ) {
            Err(Errno::INTR) => {}
            outcome => break matches!(outcome, Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS)),
        }
    }
}

/// The socket to send with, which is kept; `None` while there is no descriptor for it.
fn sender() -> Option<&'static OwnedFd> {
    static SENDER: OnceLock<OwnedFd> = OnceLock::new();
    if SENDER.get().is_none() {
        // Made outside: nobody waits for whoever makes one, and a failure is not remembered.
        let made =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        // Another thread may have been faster: one is as good as the other.
        let _ = SENDER.set(made.ok()?);
    }
    SENDER.get()
}

fn address(who: Identity, number: u32) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new_abstract_name(format!("manyhands:wake:{:x}:{number:x}", who.to_bits()).as_bytes())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn sockets_have_their_own_numbers() {
        let (one, two) =
            (WakeSocket::open().expect("a wake socket"), WakeSocket::open().expect("a wake socket"));
        assert_ne!(one.number(), two.number());
        assert!(wake(identity(), two.number(), 5));
        assert!(wake(identity(), two.number(), 6));
        assert!(one.drain().is_empty());
        assert_eq!(two.drain(), [5, 6]);
        assert!(two.drain().is_empty(), "noted once");
    }

    #[test]
    fn many_wakes_never_wait() {
        let socket = WakeSocket::open().expect("a wake socket");
        for about in 0..100_000 {
            assert!(wake(identity(), socket.number(), about));
        }
        assert!(socket.drain().len() >= MANY);
    }

    #[test]
    fn a_socket_that_is_closed_is_none() {
        let socket = WakeSocket::open().expect("a wake socket");
        let number = socket.number();
        drop(socket);
        let later = WakeSocket::open().expect("a wake socket");
        // A child that another test has just forked holds a copy of it for a moment.
        let deadline = Instant::now() + Duration::from_secs(20);
        while wake(identity(), number, 1) {
            assert!(Instant::now() < deadline, "still there");
            std::thread::yield_now();
        }
        assert!(later.drain().is_empty(), "what was for the first one reached a later one");
    }
}
