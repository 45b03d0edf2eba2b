//! Doors: places at which any process of this machine can knock. A listener (an event loop, say) gets a readable
//! descriptor; knocking needs no connection and never waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::process::{Identity, identity};

/// A place to knock at, named by the process that opened it and a number: a datagram socket with an abstract address,
/// which vanishes with its process.
///
/// ```
/// use manyhands_os::process::identity;
/// use manyhands_os::socket::{Door, knock};
///
/// let door = Door::open()?;
/// assert!(door.drain().is_empty(), "nobody has knocked");
/// knock(identity(), door.number(), 7);
/// assert_eq!(door.drain(), [7]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Door {
    socket: OwnedFd,
    number: u32,
}

impl Door {
    /// Opens a door with a number that no other door of this process has.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let mut number = 1;
        // The kernel knows which numbers are taken, also by doors that a forked child inherited.
        loop {
            match rustix::net::bind(&socket, &address(identity(), number)?) {
                Err(Errno::ADDRINUSE) => number += 1,
                outcome => break outcome?,
            }
        }
        Ok(Self { socket, number })
    }

    /// The number to knock with, never 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Takes note of all knocks so far: what each was about. Not readable again until the next one.
    ///
    /// When many come at once some are lost (see [`knock`]): [`MANY`] or more may stand for any.
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

/// So many knocks may mean that there were more: the fewest that a kernel keeps for a socket.
pub const MANY: usize = 8;

impl AsFd for Door {
    /// Readable when somebody has knocked since the last [`Door::drain`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Knocks at the door `number` of the process `who`, saying what it is about; returns whether the door exists. Never
/// waits: at a door with so many knocks that no more fit, it is lost.
pub fn knock(who: Identity, number: u32, about: u64) -> bool {
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

/// The socket to knock with, which is kept; `None` while there is no descriptor for it.
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
    SocketAddrUnix::new_abstract_name(format!("manyhands:door:{:x}:{number:x}", who.to_bits()).as_bytes())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn doors_have_their_own_numbers() {
        let (one, two) = (Door::open().expect("a door"), Door::open().expect("a door"));
        assert_ne!(one.number(), two.number());
        assert!(knock(identity(), two.number(), 5));
        assert!(knock(identity(), two.number(), 6));
        assert!(one.drain().is_empty());
        assert_eq!(two.drain(), [5, 6]);
        assert!(two.drain().is_empty(), "noted once");
    }

    #[test]
    fn many_knocks_never_wait() {
        let door = Door::open().expect("a door");
        for about in 0..100_000 {
            assert!(knock(identity(), door.number(), about));
        }
        assert!(door.drain().len() >= MANY);
    }

    #[test]
    fn a_door_that_is_closed_is_none() {
        let door = Door::open().expect("a door");
        let number = door.number();
        drop(door);
        assert!(!knock(identity(), number, 1));
    }
}
