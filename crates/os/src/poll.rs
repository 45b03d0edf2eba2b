//! Waiting for many descriptors at once, and waking somebody who waits so.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll};
use rustix::io::Errno;

use crate::clock::{Deadline, to_timespec, until};

/// A counter that is readable while it is not zero: wakes a [`Poller`], or an asyncio loop, from any thread.
///
/// ```
/// use manyhands_os::poll::EventFd;
///
/// let waker = EventFd::new()?;
/// waker.signal()?;
/// waker.signal()?;
/// assert_eq!(waker.drain(), 2);
/// assert_eq!(waker.drain(), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A program may close descriptors that are not its own, as daemons do when they start, and its next file gets the number.
/// That is noticed: nothing is written to a file of the program, read from it, or closed.
#[derive(Debug)]
pub struct EventFd {
    /// Always there, but while it is dropped.
    fd: Option<OwnedFd>,
    /// Device and inode, which all descriptors without a file share, and no file, pipe or socket has.
    identity: (u64, u64),
}

impl EventFd {
    /// A new counter at zero, nonblocking.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags)?;
        let identity = identity_of(&fd)?;
        Ok(Self { fd: Some(fd), identity })
    }

    /// Adds one. Never blocks: a counter that is full is readable, which is all that matters.
    ///
    /// # Errors
    /// When somebody else has closed the descriptor.
    pub fn signal(&self) -> io::Result<()> {
        if !self.is_open() {
            return Err(Errno::BADF.into());
        }
        match rustix::io::retry_on_intr(|| rustix::io::write(self, &1u64.to_ne_bytes())) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// False when somebody else has closed the descriptor, be it that its number is in use again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match identity_of(self) {
            Ok(identity) => identity == self.identity,
            Err(error) => error != Errno::BADF,
        }
    }

    /// Sets the counter back to zero; returns what it was.
    #[expect(clippy::must_use_candidate, reason = "mostly called to make the descriptor unreadable")]
    pub fn drain(&self) -> u64 {
        let mut count = [0; 8];
        if !self.is_open() {
            return 0;
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(self, &mut count)) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("there until it is dropped").as_fd()
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        if !self.is_open() {
            // The number is not ours to close.
            std::mem::forget(self.fd.take());
        }
    }
}

fn identity_of(fd: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    let status = rustix::fs::fstat(fd)?;
    Ok((status.st_dev, status.st_ino))
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read would not wait (there is something, or the end).
    pub readable: bool,
    /// A write would not wait.
    pub writable: bool,
    /// The other end is closed, or the descriptor is in error.
    pub closed: bool,
}

/// What a caller wants to know about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// When it can be read. Process descriptors become readable when their process ends.
    Readable,
    /// When it can be written.
    Writable,
    /// Either.
    Both,
}

/// A set of descriptors to wait for; level-triggered: what was not dealt with is reported again.
///
/// ```
/// use manyhands_os::poll::{EventFd, Interest, Poller};
///
/// let (poller, waker) = (Poller::new()?, EventFd::new()?);
/// poller.add(&waker, 7, Interest::Readable)?;
/// waker.signal()?;
/// let events = poller.wait(None)?;
/// assert_eq!(events[0].0, 7);
/// assert!(events[0].1.readable);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

/// How many events one [`Poller::wait`] reports at most; the others come with the next call.
const BATCH: usize = 64;

impl Poller {
    /// A new, empty set.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Adds `fd` under a name of the caller's choice. Remove it before it is closed: the kernel watches the open file,
    /// which lives on while another process has a duplicate.
    ///
    /// # Errors
    /// `AlreadyExists` when it is in the set, otherwise what the kernel says.
    pub fn add(&self, fd: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        let (data, flags) = (epoll::EventData::new_u64(key), interest.flags());
        Ok(epoll::add(&self.fd, fd, data, flags)?)
    }

    /// Changes what is wanted of a descriptor in the set.
    ///
    /// # Errors
    /// `NotFound` when it is not in the set.
    pub fn modify(&self, fd: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        let (data, flags) = (epoll::EventData::new_u64(key), interest.flags());
        Ok(epoll::modify(&self.fd, fd, data, flags)?)
    }

    /// Takes `fd` out of the set.
    ///
    /// # Errors
    /// `NotFound` when it is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is ready or `deadline` passes (`None`: forever). Empty when the deadline passed or a
    /// signal handler ran.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, deadline: Option<Deadline>) -> io::Result<Vec<(u64, Readiness)>> {
        let timeout = deadline.map(|deadline| to_timespec(whole_milliseconds(until(deadline))));
        let mut space = [MaybeUninit::uninit(); BATCH];
        let events = match epoll::wait(&self.fd, &mut space, timeout.as_ref()) {
            Ok((events, _)) => &*events,
            Err(Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        let with_key = events.iter().map(|event| {
            let flags = event.flags;
            let closed = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            let readiness = Readiness {
                readable: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP),
                writable: flags.contains(epoll::EventFlags::OUT),
                closed: flags.intersects(closed),
            };
            (event.data.u64(), readiness)
        });
        Ok(with_key.collect())
    }
}

/// Waits until one descriptor is ready or `deadline` passes (`None`: forever); whether it is ready. An end of a
/// connection, or an error, makes it ready for anything. False early when a signal handler ran.
///
/// # Errors
/// What the kernel says.
pub fn wait_for(fd: impl AsFd, interest: Interest, deadline: Option<Deadline>) -> io::Result<bool> {
    let flags = match interest {
        Interest::Readable => PollFlags::IN,
        Interest::Writable => PollFlags::OUT,
        Interest::Both => PollFlags::IN | PollFlags::OUT,
    };
    let timeout = deadline.map(|deadline| to_timespec(until(deadline)));
    match rustix::event::poll(&mut [PollFd::new(&fd, flags)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Readable => epoll::EventFlags::IN,
            Self::Writable => epoll::EventFlags::OUT,
            Self::Both => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

/// `epoll_wait` counts milliseconds: up, so that nobody wakes before the deadline and turns in circles until it, and
/// at most a day at a time, which fits in its argument.
fn whole_milliseconds(nanoseconds: u64) -> u64 {
    const DAY: u64 = 86_400_000 * crate::clock::MILLISECOND;
    nanoseconds.min(DAY).next_multiple_of(crate::clock::MILLISECOND)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::clock;

    #[test]
    fn a_deadline_is_not_missed_nor_early() {
        let poller = Poller::new().expect("a poller");
        let deadline = clock::now() + 3 * clock::MILLISECOND / 2;
        assert_eq!(poller.wait(Some(deadline)).expect("waited"), []);
        assert!(clock::now() >= deadline);
    }

    #[test]
    fn one_descriptor_is_waited_for_by_itself() {
        let (reader, writer) = crate::socket::pipe().expect("a pipe");
        assert!(!wait_for(&reader, Interest::Readable, Some(clock::now())).expect("waited"));
        assert!(wait_for(&writer, Interest::Writable, None).expect("waited"));
        drop(writer);
        assert!(wait_for(&reader, Interest::Readable, None).expect("waited"), "its end is readable");
    }

    #[test]
    fn the_end_of_a_pipe_is_seen() {
        let (reader, writer) = crate::socket::pipe().expect("a pipe");
        let poller = Poller::new().expect("a poller");
        poller.add(&reader, 1, Interest::Readable).expect("added");
        poller.add(&writer, 2, Interest::Writable).expect("added");
        let events = poller.wait(None).expect("waited");
        assert_eq!(events.len(), 1);
        assert!(events[0].0 == 2 && events[0].1.writable && !events[0].1.closed);
        poller.remove(&writer).expect("removed");
        drop(writer);
        let events = poller.wait(None).expect("waited");
        assert!(events[0].0 == 1 && events[0].1.readable && events[0].1.closed);
    }

    #[test]
    fn a_waker_whose_number_is_a_file_of_the_program_leaves_that_alone() {
        let mut waker = EventFd::new().expect("a waker");
        let (reader, writer) = crate::socket::pipe().expect("a pipe");
        rustix::io::dup2(&writer, waker.fd.as_mut().expect("there")).expect("replaced");
        let number = waker.as_fd().as_raw_fd();
        assert!(!waker.is_open());
        assert!(waker.signal().is_err());
        assert_eq!(waker.drain(), 0);
        drop(waker);
        assert_eq!(rustix::io::ioctl_fionread(&reader).expect("a pipe"), 0, "something was written");
        let file = std::fs::read_link(format!("/proc/self/fd/{number}")).expect("still open");
        assert!(file.to_string_lossy().starts_with("pipe:"), "{file:?}");
    }

    #[test]
    fn a_waker_signalled_by_a_thread_wakes() {
        let (poller, waker) = (Poller::new().expect("a poller"), EventFd::new().expect("a waker"));
        poller.add(&waker, 9, Interest::Readable).expect("added");
        std::thread::scope(|scope| {
            scope.spawn(|| waker.signal().unwrap());
            while poller.wait(None).expect("waited").is_empty() {}
        });
        assert_eq!(waker.drain(), 1);
        assert_eq!(poller.wait(Some(clock::now())).expect("waited"), []);
    }
}
