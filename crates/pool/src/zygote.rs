//! The packets between the parent and its zygote, the single-threaded process that forks workers.
//!
//! | from | packet | meaning |
//! |---|---|---|
//! | parent | `S` u64 block | set-up: a block with what the zygote and its workers need |
//! | parent | `F` u32 participant, u32 generation, u64 control, u64 record, u32 index + 3 descriptors | fork a worker; offsets of the pool's and the worker slot's block; stdout, stderr, records |
//! | parent | `K` u32 participant, u32 generation, u32 signal | send a worker this signal: the parent may not |
//! | parent | `Q` | quit when the workers have gone |
//! | zygote | `R` | ready |
//! | zygote | `E` text | could not be set up; it exits |
//! | zygote | `W` u32 participant, u32 generation, i32 pid + pidfd | a worker has started |
//! | zygote | `X` u32 participant, u32 generation, i32 pid, i32 wait status, u64 resident bytes | a worker has ended and been reaped |
//! | zygote | `N` u32 participant, u32 generation, i32 errno | a worker could not be forked |
//!
//! Numbers are little-endian. When the parent's end closes, the zygote kills its workers and exits.

/// Longest packet either side sends.
pub const MOST_BYTES: usize = 64 * 1024;

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
        /// As `waitpid` gave it.
        wait_status: i32,
        /// Its largest resident size.
        rss_bytes: u64,
    },
}

/// The set-up packet.
#[must_use]
pub fn set_up(block: u64) -> Vec<u8> {
    [&b"S"[..], &block.to_le_bytes()].concat()
}

/// The packet that asks for a worker, which is told its `index` in the pool.
#[must_use]
pub fn fork(participant: u16, generation: u32, control: usize, record: usize, index: u32) -> Vec<u8> {
    let mut packet = vec![b'F'];
    packet.extend(u32::from(participant).to_le_bytes());
    packet.extend(generation.to_le_bytes());
    packet.extend((control as u64).to_le_bytes());
    packet.extend((record as u64).to_le_bytes());
    packet.extend(index.to_le_bytes());
    packet
}

/// The packet that asks for a signal to a worker.
#[must_use]
pub fn signal(participant: u16, generation: u32, signal: u32) -> Vec<u8> {
    let mut packet = vec![b'K'];
    for word in [participant.into(), generation, signal] {
        packet.extend(word.to_le_bytes());
    }
    packet
}

/// The packet that ends a zygote without workers.
pub const QUIT: &[u8] = b"Q";

/// Reads a zygote's packet; `None` when it is malformed.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<News> {
    let (kind, body) = packet.split_first()?;
    let word = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let participant = || u16::try_from(word(0)?).ok();
    match kind {
        b'R' => Some(News::Ready),
        b'E' => Some(News::Failed(String::from_utf8_lossy(body).into_owned())),
        b'W' => Some(News::Started {
            participant: participant()?,
            generation: word(4)?,
            pid: word(8)?.cast_signed(),
        }),
        b'N' => Some(News::NotForked {
            participant: participant()?,
            generation: word(4)?,
            errno: word(8)?.cast_signed(),
        }),
        b'X' => Some(News::Ended {
            participant: participant()?,
            generation: word(4)?,
            wait_status: word(12)?.cast_signed(),
            rss_bytes: u64::from_le_bytes(body.get(16..24)?.try_into().ok()?),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_zygote_says_is_read() {
        let mut ended = b"X".to_vec();
        for word in [3_u32, 9, 4711, 11] {
            ended.extend(word.to_le_bytes());
        }
        assert_eq!(parse(&ended), None, "a cut packet is no news");
        ended.extend(4096_u64.to_le_bytes());
        let news = News::Ended { participant: 3, generation: 9, wait_status: 11, rss_bytes: 4096 };
        assert_eq!(parse(&ended), Some(news));
        assert_eq!(parse(b"R"), Some(News::Ready));
        let mut failed = b"N".to_vec();
        for word in [3_u32, 9, 24] {
            failed.extend(word.to_le_bytes());
        }
        assert_eq!(parse(&failed), Some(News::NotForked { participant: 3, generation: 9, errno: 24 }));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"?"), None);
    }
}
