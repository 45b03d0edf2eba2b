//! The packets between the parent and its zygote, the single-threaded process that forks workers.
//!
//! | from | packet | meaning |
//! |---|---|---|
//! | parent | `S` u64 block, text | set-up: a block with what the zygote and its workers need; the parent's [`VERSION`] |
//! | parent | `F` u32 participant, u32 generation, u64 control, u64 status, u32 index + 3 descriptors | fork a worker; offsets of the pool's and the worker slot's block; its place in the pool; stdout, stderr, reports |
//! | parent | `K` u32 participant, u32 generation, u32 signal | send a worker this signal: the parent may not |
//! | parent | `Q` | quit when the workers have gone |
//! | zygote | `R` | ready |
//! | zygote | `E` text | could not be set up; it exits |
//! | zygote | `W` u32 participant, u32 generation, i32 pid | a worker has started |
//! | zygote | `X` u32 participant, u32 generation, i32 pid, i32 wait status, u64 resident bytes | a worker has ended and been reaped |
//! | zygote | `N` u32 participant, u32 generation, i32 errno | a worker could not be forked |
//!
//! Numbers are little-endian, texts UTF-8 to the end of the packet. When the parent's end closes, the zygote kills its workers
//! and exits.
//!
//! The zygote is a Python program, `python/manyhands/_worker/zygote.py`; it has its packets read and written here. Its files may
//! have been replaced since the parent was started, so it asks for the parent's version first. `S` and `E` must therefore
//! keep their form in every version.

use std::os::fd::RawFd;

use manyhands_os::process;

/// The version of everything that a zygote and its workers must know as their parent does: packets, the frames of reports,
/// numbers of descriptors, and what lies where in shared memory.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The number under which a zygote finds its end of the socket.
pub const CONTROL_FD: RawFd = process::FIRST_FD;
/// That of its parent's segment.
pub const SEGMENT_FD: RawFd = CONTROL_FD + 1;
/// The first of those that it inherits besides.
pub const INHERITED_FD: RawFd = SEGMENT_FD + 1;

/// How many descriptors come with the packet that asks for a worker.
pub const PIPES: usize = 3;

/// Longest packet either side sends, in bytes.
pub const LONGEST: usize = 4096;

/// What a zygote is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To become what the settings say.
    SetUp {
        /// Refers to the block that they are in.
        block: u64,
        /// The parent's [`VERSION`].
        version: String,
    },
    /// To fork a worker.
    Fork {
        /// Its participant number.
        participant: u16,
        /// Which worker of its worker slot.
        generation: u32,
        /// Where the pool's block is.
        control: u64,
        /// Where the worker's [status](crate::control::WorkerStatus) is.
        status: u64,
        /// Its place in the pool.
        index: u32,
    },
    /// To send a worker a signal.
    Signal {
        /// Its participant number.
        participant: u16,
        /// Which worker of its worker slot.
        generation: u32,
        /// The signal.
        signal: u32,
    },
    /// To end once the workers have gone.
    Quit,
}

impl Request {
    /// The packet that says so.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        match self {
            Self::SetUp { block, version } => Packet::new(b'S').word64(*block).text(version),
            Self::Fork { participant, generation, control, status, index } => Packet::new(b'F')
                .worker(*participant, *generation)
                .word64(*control)
                .word64(*status)
                .word(*index),
            Self::Signal { participant, generation, signal } => {
                Packet::new(b'K').worker(*participant, *generation).word(*signal)
            }
            Self::Quit => Packet::new(b'Q'),
        }
        .0
    }

    /// Reads a packet of the parent's; `None` when it is none.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (kind, body) = packet.split_first()?;
        let mut body = Body(body);
        match kind {
            b'S' => Some(Self::SetUp { block: body.word64()?, version: body.text() }),
            b'F' => Some(Self::Fork {
                participant: body.participant()?,
                generation: body.word()?,
                control: body.word64()?,
                status: body.word64()?,
                index: body.word()?,
            }),
            b'K' => Some(Self::Signal {
                participant: body.participant()?,
                generation: body.word()?,
                signal: body.word()?,
            }),
            b'Q' => Some(Self::Quit),
            _ => None,
        }
    }
}

/// What a zygote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Set up and ready.
    Ready,
    /// It could not be set up.
    Failed(String),
    /// A worker has started.
    Started {
        /// Its participant number.
        participant: u16,
        /// Which worker of its worker slot.
        generation: u32,
        /// Its process id.
        pid: i32,
    },
    /// A worker could not be forked.
    NotForked {
        /// The participant number it would have had.
        participant: u16,
        /// Which worker of its worker slot it would have been.
        generation: u32,
        /// The system's reason.
        errno: i32,
    },
    /// A worker has ended.
    Ended {
        /// Its participant number.
        participant: u16,
        /// Which worker of its worker slot.
        generation: u32,
        /// Its process id.
        pid: i32,
        /// As `waitpid` gave it.
        wait_status: i32,
        /// Its largest resident size.
        rss_bytes: u64,
    },
}

impl News {
    /// The packet that says so; of a long text the end.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        match self {
            Self::Ready => Packet::new(b'R'),
            Self::Failed(text) => Packet::new(b'E').text(text),
            Self::Started { participant, generation, pid } => {
                Packet::new(b'W').worker(*participant, *generation).word(pid.cast_unsigned())
            }
            Self::NotForked { participant, generation, errno } => {
                Packet::new(b'N').worker(*participant, *generation).word(errno.cast_unsigned())
            }
            Self::Ended { participant, generation, pid, wait_status, rss_bytes } => Packet::new(b'X')
                .worker(*participant, *generation)
                .word(pid.cast_unsigned())
                .word(wait_status.cast_unsigned())
                .word64(*rss_bytes),
        }
        .0
    }

    /// Reads a packet of a zygote's; `None` when it is none.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (kind, body) = packet.split_first()?;
        let mut body = Body(body);
        match kind {
            b'R' => Some(Self::Ready),
            b'E' => Some(Self::Failed(body.text())),
            b'W' => Some(Self::Started {
                participant: body.participant()?,
                generation: body.word()?,
                pid: body.word()?.cast_signed(),
            }),
            b'N' => Some(Self::NotForked {
                participant: body.participant()?,
                generation: body.word()?,
                errno: body.word()?.cast_signed(),
            }),
            b'X' => Some(Self::Ended {
                participant: body.participant()?,
                generation: body.word()?,
                pid: body.word()?.cast_signed(),
                wait_status: body.word()?.cast_signed(),
                rss_bytes: body.word64()?,
            }),
            _ => None,
        }
    }
}

/// A packet that is being written.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn word(mut self, word: u32) -> Self {
        self.0.extend(word.to_le_bytes());
        self
    }

    fn word64(mut self, word: u64) -> Self {
        self.0.extend(word.to_le_bytes());
        self
    }

    fn worker(self, participant: u16, generation: u32) -> Self {
        self.word(participant.into()).word(generation)
    }

    fn text(mut self, text: &str) -> Self {
        let mut start = text.len().saturating_sub(LONGEST - self.0.len());
        while !text.is_char_boundary(start) {
            start += 1;
        }
        self.0.extend(&text.as_bytes()[start..]);
        self
    }
}

/// What has not been read yet of a packet.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn word64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// All that is left.
    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }

    fn participant(&mut self) -> Option<u16> {
        u16::try_from(self.word()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_arrives() {
        let fork = Request::Fork { participant: 3, generation: 9, control: 1 << 40, status: 64, index: 2 };
        for request in [
            Request::SetUp { block: u64::MAX, version: "1.2.3".to_owned() },
            fork.clone(),
            Request::Signal { participant: 3, generation: 9, signal: 15 },
            Request::Quit,
        ] {
            let packet = request.packet();
            assert_eq!(Request::parse(&packet), Some(request));
            assert_eq!(News::parse(&packet), None, "no letter means something in both directions");
        }
        assert_eq!(Request::parse(&fork.packet()[..28]), None, "a cut packet is no request");
        assert_eq!(Request::parse(b""), None);
    }

    #[test]
    fn a_set_up_and_a_failure_are_understood_by_every_version() {
        let set_up = Request::SetUp { block: 7, version: "0.1.0".to_owned() };
        assert_eq!(set_up.packet(), b"S\x07\0\0\0\0\0\0\x000.1.0");
        assert_eq!(News::Failed("so".to_owned()).packet(), b"Eso");
    }

    #[test]
    fn what_a_zygote_says_is_read() {
        let ended =
            News::Ended { participant: 3, generation: 9, pid: 4711, wait_status: 11, rss_bytes: 4096 };
        for news in [
            News::Ready,
            News::Failed("Traceback …".to_owned()),
            News::Started { participant: 3, generation: 9, pid: 4711 },
            News::NotForked { participant: 3, generation: 9, errno: 24 },
            ended.clone(),
        ] {
            let packet = news.packet();
            assert_eq!(News::parse(&packet), Some(news));
            assert_eq!(Request::parse(&packet), None, "no letter means something in both directions");
        }
        assert_eq!(News::parse(&ended.packet()[..24]), None, "a cut packet is no news");
        assert_eq!(News::parse(b""), None);
        assert_eq!(News::parse(b"?"), None);
    }

    #[test]
    fn of_a_long_text_the_end_is_said() {
        let packet = News::Failed("é".repeat(LONGEST)).packet();
        assert!(packet.len() <= LONGEST);
        assert_eq!(News::parse(&packet), Some(News::Failed("é".repeat(LONGEST / 2 - 1))));
        assert_eq!(News::Failed("x".repeat(LONGEST)).packet().len(), LONGEST);
    }
}
