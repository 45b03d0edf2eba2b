//! A claim on a word that one process of the machine can have at a time, and that no death can leave behind: an
//! abstract socket address, which the kernel frees with the descriptor.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Given up when dropped, and when the process ends. A child forked meanwhile has it, too, until it execs, ends or drops
/// its copy.
///
/// ```
/// use manyhands_os::claim::Claim;
///
/// let word = format!("an example {}", std::process::id());
/// let claim = Claim::on(&word)?.expect("nobody else has it");
/// assert!(Claim::on(&word)?.is_none());
/// drop(claim);
/// assert!(Claim::on(&word)?.is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Claim {
    _socket: OwnedFd,
}

impl Claim {
    /// Claims `word` (at most 107 bytes); `None` while somebody has it, whoever's process that is.
    ///
    /// # Errors
    /// `InvalidInput` for a word that is too long, otherwise when descriptors run out.
    pub fn on(word: &str) -> io::Result<Option<Self>> {
        let address = SocketAddrUnix::new_abstract_name(word.as_bytes())?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        match rustix::net::bind(&socket, &address) {
            Ok(()) => Ok(Some(Self { _socket: socket })),
            Err(Errno::ADDRINUSE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
