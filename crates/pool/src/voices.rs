//! What workers say: their standard output and error, and the records (log, warnings, calls for help)
//! that they send in frames.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use manyhands_os::poll::{Interest, Poller};
use manyhands_os::{process, socket};

use crate::task::{Speech, Stream};

/// Kinds of record that the parent itself acts upon; every other is for the caller.
pub mod kind {
    /// The worker's initializer failed; the text says how.
    pub const BROKEN: u8 = b'B';
    /// Tasks run low while the parent has a backlog.
    pub const HUNGRY: u8 = b'H';
    /// The parent cannot start workers at present; the text says why. It comes from no worker.
    pub const SHORTAGE: u8 = b'S';
}

/// A longer record is not believed.
const LONGEST_RECORD: usize = 64 << 20;
const CHUNK: usize = 64 * 1024;
/// How many chunks are read in one go. A pipe holds one; a worker that writes faster than we read must
/// not keep us forever.
const MOST_CHUNKS: usize = 4;

struct Voice {
    fd: OwnedFd,
    seat: usize,
    pid: i32,
    stream: Stream,
    // Bytes of a record that has not come whole.
    partial: Vec<u8>,
}

/// The read ends of all workers' pipes.
pub struct Voices {
    voices: HashMap<u64, Voice>,
    next_key: u64,
}

impl Voices {
    /// No voices yet; keys of the poller below `first_key` belong to others.
    #[must_use]
    pub fn new(first_key: u64) -> Self {
        Self { voices: HashMap::new(), next_key: first_key }
    }

    /// Makes the three pipes of a new worker and gives their write ends.
    ///
    /// # Errors
    /// When descriptors run out; then there are none.
    pub fn add(&mut self, poller: &Poller, seat: usize) -> io::Result<[OwnedFd; 3]> {
        let first = self.next_key;
        let made = self.make(poller, seat);
        if made.is_err() {
            self.drop_from(poller, first);
        }
        made
    }

    /// Drops the voices with keys from `first` on.
    fn drop_from(&mut self, poller: &Poller, first: u64) {
        for (_, voice) in self.voices.extract_if(|key, _| *key >= first) {
            let _ = poller.remove(&voice.fd);
        }
    }

    /// Drops the voices of a worker that has not come into being: the newest of the seat, which have no process id.
    pub fn drop_unborn(&mut self, poller: &Poller, seat: usize) {
        for (_, voice) in self.voices.extract_if(|_, voice| voice.seat == seat && voice.pid == 0) {
            let _ = poller.remove(&voice.fd);
        }
    }

    fn make(&mut self, poller: &Poller, seat: usize) -> io::Result<[OwnedFd; 3]> {
        let mut make = |stream| {
            let (fd, write) = socket::pipe()?;
            socket::set_nonblocking(&fd, true)?;
            poller.add(&fd, self.next_key, Interest::Readable)?;
            self.voices.insert(self.next_key, Voice { fd, seat, pid: 0, stream, partial: Vec::new() });
            self.next_key += 1;
            Ok::<_, io::Error>(write)
        };
        Ok([make(Stream::Stdout)?, make(Stream::Stderr)?, make(Stream::Records)?])
    }

    /// The worker that took the seat's newest pipes has this process id.
    pub fn set_pid(&mut self, seat: usize, pid: i32) {
        for voice in self.voices.values_mut().filter(|voice| voice.seat == seat && voice.pid == 0) {
            voice.pid = pid;
        }
    }

    /// Reads what there is from the voice with this key; at its end it is removed.
    pub fn read(&mut self, poller: &Poller, key: u64, heard: &mut Vec<Speech>) {
        let Some(voice) = self.voices.get_mut(&key) else { return };
        if voice.read(heard) {
            return;
        }
        // Removed from the poller first: another process may hold a duplicate of the write end.
        if let Some(voice) = self.voices.remove(&key) {
            let _ = poller.remove(&voice.fd);
            heard.push(voice.speech(Vec::new()));
        }
    }

    /// Reads what there is from the workers of some seats.
    pub fn read_seats(&mut self, poller: &Poller, seats: &[usize], heard: &mut Vec<Speech>) {
        let mut keys: Vec<u64> = self
            .voices
            .iter()
            .filter(|(_, voice)| seats.contains(&voice.seat))
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        for key in keys {
            self.read(poller, key, heard);
        }
    }

    /// Closes everything, after one last look.
    pub fn close(&mut self, poller: &Poller, heard: &mut Vec<Speech>) {
        let mut keys: Vec<u64> = self.voices.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.read(poller, key, heard);
            if let Some(voice) = self.voices.remove(&key) {
                let _ = poller.remove(&voice.fd);
                heard.push(voice.speech(Vec::new()));
            }
        }
    }
}

impl AsFd for Voice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Voice {
    fn speech(&self, bytes: Vec<u8>) -> Speech {
        Speech { seat: self.seat, pid: self.pid, stream: self.stream, bytes }
    }

    /// False at the end of the stream.
    fn read(&mut self, heard: &mut Vec<Speech>) -> bool {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..MOST_CHUNKS {
            match socket::read(&self.fd, &mut chunk) {
                Ok(0) => return false,
                Ok(length) if self.stream == Stream::Records => {
                    self.partial.extend(&chunk[..length]);
                    if !self.cut_records(heard) {
                        return false;
                    }
                }
                Ok(length) => heard.push(self.speech(chunk[..length].to_vec())),
                Err(error) if error.raw_os_error().is_some_and(process::is_shortage) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Cuts whole records (`u32 length, u8 kind, payload`) off the front; false when it is no record.
    fn cut_records(&mut self, heard: &mut Vec<Speech>) -> bool {
        let mut start = 0;
        while let Some(head) = self.partial.get(start..start + 4) {
            let length = u32::from_le_bytes(head.try_into().expect("four bytes")) as usize;
            if length == 0 || length > LONGEST_RECORD {
                return false;
            }
            let Some(record) = self.partial.get(start + 4..start + 4 + length) else { break };
            heard.push(self.speech(record.to_vec()));
            start += 4 + length;
        }
        self.partial.drain(..start);
        true
    }
}
