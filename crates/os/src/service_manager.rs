//! Telling the service manager how a service is: the protocol of `sd_notify(3)`, a datagram to the socket that it names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state, such as `READY=1`, to the socket at `address`: a path, or an abstract name that begins with `@`.
///
/// ```
/// use std::os::unix::net::UnixDatagram;
/// let path = std::env::temp_dir().join(format!("manager-{}", std::process::id()));
/// let manager = UnixDatagram::bind(&path)?;
/// manyhands_os::service_manager::tell(path.as_os_str(), "READY=1", true)?;
/// let mut text = [0; 16];
/// let len = manager.recv(&mut text)?;
/// assert_eq!(&text[..len], b"READY=1");
/// std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When nobody has that socket; `WouldBlock` when its owner has not read for long, unless `wait` says that we wait for it.
pub fn tell(address: &OsStr, state: &str, wait: bool) -> io::Result<()> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(!wait)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
