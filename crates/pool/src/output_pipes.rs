//! What workers say: their standard output and error, and the reports (log records, warnings, calls for help) that they send
//! in frames.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use manyhands_os::poll::{Interest, Poller};
use manyhands_os::{process, socket};

use crate::task::{Output, Stream};

/// Kinds of report. The parent itself acts upon the first ones; the others are for the caller.
pub mod kind {
    /// The worker's initializer failed; the text says how.
    pub const BROKEN: u8 = b'B';
    /// The worker finds no tasks while the parent may have some left; nothing goes with it.
    pub const STARVING: u8 = b'H';
    /// The parent cannot start workers at present; the text says why. It comes from no worker.
    pub const SHORTAGE: u8 = b'S';
    /// What a task has logged. What is in it, the caller knows.
    pub const LOG: u8 = b'L';
    /// What a task has warned about. What is in it, the caller knows.
    pub const WARNING: u8 = b'W';
}

/// A report as it goes through the pipe: `u32` length of what follows, `u8` kind, and the payload. `None` when the parent
/// would not read one that long.
#[must_use]
pub fn frame(kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len() + 1).ok().filter(|length| *length <= LONGEST_REPORT)?;
    Some([&length.to_le_bytes()[..], &[kind], payload].concat())
}

/// A longer report is not believed: its length, kind included.
const LONGEST_REPORT: u32 = 64 << 20;
const CHUNK: usize = 64 * 1024;
/// How many chunks are read in one go. A pipe holds one; a worker that writes faster than we read must
/// not keep us forever.
const MOST_CHUNKS: usize = 4;

struct OutputPipe {
    fd: OwnedFd,
    worker_slot: usize,
    pid: i32,
    stream: Stream,
    // Bytes of a report that has not come whole.
    partial: Vec<u8>,
}

/// The read ends of all workers' pipes.
pub struct OutputPipes {
    pipes: HashMap<u64, OutputPipe>,
    next_key: u64,
}

impl OutputPipes {
    /// No output pipes yet; keys of the poller below `first_key` belong to others.
    #[must_use]
    pub fn new(first_key: u64) -> Self {
        Self { pipes: HashMap::new(), next_key: first_key }
    }

    /// Makes the three pipes of a new worker and gives their write ends.
    ///
    /// # Errors
    /// When descriptors run out; then there are none.
    pub fn add(&mut self, poller: &Poller, worker_slot: usize) -> io::Result<[OwnedFd; 3]> {
        let first = self.next_key;
        let made = self.make(poller, worker_slot);
        if made.is_err() {
            self.drop_from(poller, first);
        }
        made
    }

    /// Drops the output pipes with keys from `first` on.
    fn drop_from(&mut self, poller: &Poller, first: u64) {
        for (_, pipe) in self.pipes.extract_if(|key, _| *key >= first) {
            let _ = poller.remove(&pipe.fd);
        }
    }

    /// Drops the output pipes of a worker that has not come into being: the newest of the worker slot, which have no
    /// process id.
    pub fn drop_unborn(&mut self, poller: &Poller, worker_slot: usize) {
        for (_, pipe) in self.pipes.extract_if(|_, pipe| pipe.worker_slot == worker_slot && pipe.pid == 0) {
            let _ = poller.remove(&pipe.fd);
        }
    }

    fn make(&mut self, poller: &Poller, worker_slot: usize) -> io::Result<[OwnedFd; 3]> {
        let mut make = |stream| {
            let (fd, write) = socket::pipe()?;
            socket::set_nonblocking(&fd, true)?;
            poller.add(&fd, self.next_key, Interest::Readable)?;
            self.pipes
                .insert(self.next_key, OutputPipe { fd, worker_slot, pid: 0, stream, partial: Vec::new() });
            self.next_key += 1;
            Ok::<_, io::Error>(write)
        };
        Ok([make(Stream::Stdout)?, make(Stream::Stderr)?, make(Stream::Reports)?])
    }

    /// The worker that took the worker slot's newest pipes has this process id.
    pub fn set_pid(&mut self, worker_slot: usize, pid: i32) {
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.worker_slot == worker_slot && pipe.pid == 0) {
            pipe.pid = pid;
        }
    }

    /// Reads what there is from the output pipe with this key; at its end it is removed.
    pub fn read(&mut self, poller: &Poller, key: u64, outputs: &mut Vec<Output>) {
        let Some(pipe) = self.pipes.get_mut(&key) else { return };
        if pipe.read(outputs) {
            return;
        }
        // Removed from the poller first: another process may hold a duplicate of the write end.
        if let Some(pipe) = self.pipes.remove(&key) {
            let _ = poller.remove(&pipe.fd);
            outputs.push(pipe.output(Vec::new()));
        }
    }

    /// Reads what there is from the workers of some worker slots.
    pub fn read_worker_slots(&mut self, poller: &Poller, worker_slots: &[usize], outputs: &mut Vec<Output>) {
        let mut keys: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| worker_slots.contains(&pipe.worker_slot))
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        for key in keys {
            self.read(poller, key, outputs);
        }
    }

    /// Closes everything, after one last look.
    pub fn close(&mut self, poller: &Poller, outputs: &mut Vec<Output>) {
        let mut keys: Vec<u64> = self.pipes.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.read(poller, key, outputs);
            if let Some(pipe) = self.pipes.remove(&key) {
                let _ = poller.remove(&pipe.fd);
                outputs.push(pipe.output(Vec::new()));
            }
        }
    }
}

impl AsFd for OutputPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OutputPipe {
    fn output(&self, bytes: Vec<u8>) -> Output {
        Output { worker_slot: self.worker_slot, pid: self.pid, stream: self.stream, bytes }
    }

    /// False at the end of the stream.
    fn read(&mut self, outputs: &mut Vec<Output>) -> bool {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..MOST_CHUNKS {
            match socket::read(&self.fd, &mut chunk) {
                Ok(0) => return false,
                Ok(length) if self.stream == Stream::Reports => {
                    self.partial.extend(&chunk[..length]);
                    if !self.cut_reports(outputs) {
                        return false;
                    }
                }
                Ok(length) => outputs.push(self.output(chunk[..length].to_vec())),
                Err(error) if error.raw_os_error().is_some_and(process::is_shortage) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Cuts whole reports off the front, as [`frame`] has made them; false when it is no report.
    fn cut_reports(&mut self, outputs: &mut Vec<Output>) -> bool {
        let mut start = 0;
        while let Some(head) = self.partial.get(start..start + 4) {
            let length = u32::from_le_bytes(head.try_into().expect("four bytes"));
            if length == 0 || length > LONGEST_REPORT {
                return false;
            }
            let length = length as usize;
            let Some(report) = self.partial.get(start + 4..start + 4 + length) else { break };
            outputs.push(self.output(report.to_vec()));
            start += 4 + length;
        }
        self.partial.drain(..start);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends bytes through the reports pipe of a worker; returns what its parent reads of them.
    fn read(sent: &[u8]) -> Vec<Vec<u8>> {
        let poller = Poller::new().expect("a poller can be made");
        let mut pipes = OutputPipes::new(1);
        let [_stdout, _stderr, reports] = pipes.add(&poller, 0).expect("pipes can be made");
        socket::write(&reports, sent).expect("the pipe has room");
        let mut outputs = Vec::new();
        pipes.read_worker_slots(&poller, &[0], &mut outputs);
        let of_reports = outputs.into_iter().filter(|output| output.stream == Stream::Reports);
        of_reports.map(|output| output.bytes).collect()
    }

    #[test]
    fn what_is_framed_is_read() {
        let first = frame(kind::LOG, b"a report").expect("it is short");
        let second = frame(kind::STARVING, &[]).expect("it is short");
        assert_eq!(read(&[&first[..], &second, &first[..6]].concat()), [&b"La report"[..], b"H"]);
    }

    #[test]
    fn no_report_is_framed_that_would_not_be_read() {
        let longest = LONGEST_REPORT as usize;
        assert!(frame(kind::LOG, &vec![0; longest]).is_none());
        let framed = frame(kind::LOG, &vec![0; longest - 1]).expect("it is just short enough");
        assert_eq!(framed[..4], LONGEST_REPORT.to_le_bytes());
        // After what is no report, nothing is believed, and the pipe is closed.
        let too_long = (LONGEST_REPORT + 1).to_le_bytes();
        assert_eq!(read(&too_long), [b""]);
    }
}
