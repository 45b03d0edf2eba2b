//! Packets, with descriptors attached, between two processes; pipes; plain reads and writes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pipe::PipeFlags;

mod wake_socket;

pub use wake_socket::{MANY, WakeSocket, wake};

/// The most descriptors that one packet can carry here. The kernel allows more; nobody here needs them.
pub const MAX_FDS: usize = 8;

/// Room for a control message with [`MAX_FDS`] descriptors.
const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_FDS));

/// A connected pair of sockets that keep packets apart: one send is one receive. When one end is closed, the other
/// reads an empty packet.
///
/// # Errors
/// When descriptors run out.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok(pair)
}

/// A pipe: (read end, write end).
///
/// # Errors
/// When descriptors run out.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Sends one packet and duplicates of `fds`.
///
/// ```
/// use manyhands_os::socket;
/// use std::os::fd::AsFd;
///
/// let (here, there) = socket::seqpacket_pair()?;
/// let (reader, writer) = socket::pipe()?;
/// socket::send_packet(&here, b"a pipe for you", &[writer.as_fd()])?;
///
/// let mut buffer = [0; 64];
/// let (len, fds) = socket::recv_packet(&there, &mut buffer)?;
/// assert_eq!(&buffer[..len], b"a pipe for you");
/// socket::write(&fds[0], b"thanks")?;
/// assert_eq!(socket::read(&reader, &mut buffer)?, 6);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `WouldBlock` on a nonblocking socket whose buffer is full, `BrokenPipe` when the other end is closed,
/// `ConnectionReset` when it was closed with packets unread, `InvalidInput` for more than [`MAX_FDS`] descriptors.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        let text = format!("{} descriptors do not fit in one packet (at most {MAX_FDS})", fds.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let parts = [IoSlice::new(bytes)];
    // Without NOSIGNAL a closed other end would be a SIGPIPE for the whole program.
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one packet into `buffer`: its length, and the descriptors that came with it (close-on-exec). Length zero
/// means that the other end is closed.
///
/// # Errors
/// `WouldBlock` on a nonblocking socket without a packet; `InvalidData` when the packet was longer than `buffer` or
/// carried more than [`MAX_FDS`] descriptors (the packet is gone, the descriptors that came are closed);
/// `ConnectionReset` when the other end died with unread packets.
pub fn recv_packet(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if received.flags.intersects(cut) {
        let text = "a packet was longer than the buffer for it";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok((received.bytes, fds))
}

/// Makes reads and writes on `fd` return `WouldBlock` instead of waiting, or wait again. A property of the open file,
/// shared with every duplicate of the descriptor.
///
/// # Errors
/// What the kernel says.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(&fd)?;
    flags.set(OFlags::NONBLOCK, nonblocking);
    Ok(rustix::fs::fcntl_setfl(&fd, flags)?)
}

/// Reads what there is into `buffer`: the number of bytes, zero at the end of the stream.
///
/// # Errors
/// `WouldBlock` on a nonblocking descriptor with nothing to read, otherwise what the kernel says.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut *buffer))?)
}

/// Writes what fits: the number of bytes. Writing to a pipe nobody reads raises SIGPIPE, which CPython ignores.
///
/// # Errors
/// `WouldBlock` on a nonblocking descriptor without room, `BrokenPipe` when nobody reads.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::write(&fd, bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stay_apart_and_the_end_is_seen() {
        let (here, there) = seqpacket_pair().expect("a pair");
        send_packet(&here, b"one", &[]).expect("sent");
        send_packet(&here, b"two!", &[]).expect("sent");
        drop(here);
        let mut buffer = [0; 16];
        assert_eq!(recv_packet(&there, &mut buffer).expect("received").0, 3);
        assert_eq!(recv_packet(&there, &mut buffer).expect("received").0, 4);
        assert_eq!(&buffer[..4], b"two!");
        assert_eq!(recv_packet(&there, &mut buffer).expect("the end").0, 0);
        let error = send_packet(&there, b"hello?", &[]).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_packet_that_is_too_long_is_an_error() {
        let (here, there) = seqpacket_pair().expect("a pair");
        send_packet(&here, b"longer than four", &[here.as_fd()]).expect("sent");
        let error = recv_packet(&there, &mut [0; 4]).expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (here, _there) = seqpacket_pair().expect("a pair");
        let fds = vec![here.as_fd(); 200];
        let error = send_packet(&here, b"x", &fds).expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn received_descriptors_are_close_on_exec() {
        let (here, there) = seqpacket_pair().expect("a pair");
        let (_reader, writer) = pipe().expect("a pipe");
        send_packet(&here, b"x", &[writer.as_fd(), writer.as_fd()]).expect("sent");
        let (_, fds) = recv_packet(&there, &mut [0; 4]).expect("received");
        assert_eq!(fds.len(), 2);
        for fd in fds {
            let flags = rustix::io::fcntl_getfd(&fd).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn nonblocking_says_so() {
        let (reader, writer) = pipe().expect("a pipe");
        set_nonblocking(&reader, true).expect("set");
        let error = read(&reader, &mut [0; 4]).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(write(&writer, b"ab").expect("written"), 2);
        assert_eq!(read(&reader, &mut [0; 4]).expect("read"), 2);
        drop(writer);
        set_nonblocking(&reader, false).expect("reset");
        assert_eq!(read(&reader, &mut [0; 4]).expect("end"), 0);
    }
}
