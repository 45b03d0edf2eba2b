//! What a server has counted, in memory that others can look at while it goes on: its parent, and `manyhands top`.
//!
//! A *ledger* is a page of shared memory for one process that serves. A server of processes has one of its own, too, in which its parent
//! notes what concerns all of them. Each number is right by itself; two that are read one after the other may belong to different
//! moments. What stands in a ledger stays when its process is killed, as long as anybody else has it.
//!
//! | word | meaning | set by |
//! |---|---|---|
//! | 0 | [`MARK`], once the rest is there | its maker |
//! | 1 | the process, an [`Identity`] | its maker, then the process that serves |
//! | 2 | the number of the server's own ledger; 0 in that | its maker |
//! | 3 | [`Phase`] | the process that serves |
//! | 4 | when it was last certain that it answers, by [`clock::now`]; 0: never | the acceptor |
//! | 8 … | the numbers of [`TABLE`] | the process that serves |
//! | 32 … | the address, and from 48 on the kind of workers: a length, then bytes | its maker |

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::clock;
use manyhands_os::memory::Segment;
use manyhands_os::process::{Identity, identity};

/// What the memfd of a ledger is called: as everything of ours that can be found, and the word for it.
pub const KIND: &str = "Server";
const NAME: &std::ffi::CStr = c"manyhands:Server";

/// Says that it is a ledger, and the version of the layout.
const MARK: u64 = u64::from_le_bytes(*b"mhServ01");

const PROCESS: usize = 1;
const SERVER: usize = 2;
const PHASE: usize = 3;
const ANSWERED: usize = 4;
const NUMBERS: usize = 8;
const ADDRESS: usize = 32;
const WORKERS: usize = 48;
/// Bytes of a text at most.
const TEXT: usize = 8 * (WORKERS - ADDRESS - 1);
const BYTES: usize = 4096;

const _: () = assert!(NUMBERS + TABLE.len() <= ADDRESS);

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// It counts what has happened, and only grows.
    Total,
    /// It is so at the moment.
    Now,
    /// The most that it has been.
    Most,
}

impl Sort {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Now => "now",
            Self::Most => "most",
        }
    }
}

/// Which number; [`TABLE`] says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table has their meaning")]
pub enum Count {
    Accepted,
    Refused,
    Served,
    Dropped,
    Failed,
    Disconnected,
    TimedOut,
    Stuck,
    Unproxied,
    Requests,
    Lost,
    Replaced,
    Queued,
    Active,
    Busiest,
    Workers,
    Idle,
    Processes,
}

/// One number of a server: its name wherever it is shown, how it behaves, and what it means.
pub type Row = (Count, &'static str, Sort, &'static str);

/// All numbers of a server, in their order. They are named here and nowhere else.
pub const TABLE: [Row; 18] = [
    (Count::Accepted, "accepted", Sort::Total, "connections accepted, refused ones included"),
    (Count::Refused, "refused", Sort::Total, "connections closed unserved since the queue was full"),
    (Count::Served, "served", Sort::Total, "connections served to their end, however that was"),
    (Count::Dropped, "dropped", Sort::Total, "connections closed unserved since the server ended"),
    (Count::Failed, "failed", Sort::Total, "connections whose handler raised an exception"),
    (Count::Disconnected, "disconnected", Sort::Total, "connections whose client went away"),
    (Count::TimedOut, "timed_out", Sort::Total, "connections that took too long"),
    (Count::Stuck, "stuck", Sort::Total, "handlers reported since they neither waited nor returned"),
    (Count::Unproxied, "unproxied", Sort::Total, "connections closed without a trusted proxy's header"),
    (Count::Requests, "requests", Sort::Total, "requests that a web application has answered"),
    (Count::Lost, "lost", Sort::Total, "connections that ended with their process"),
    (Count::Replaced, "replaced", Sort::Total, "processes that died and were replaced"),
    (Count::Queued, "queued", Sort::Now, "connections that wait for a worker"),
    (Count::Active, "active", Sort::Now, "connections that are being served"),
    (Count::Busiest, "busiest", Sort::Most, "the most connections that were being served at a time"),
    (Count::Workers, "workers", Sort::Now, "workers that there are"),
    (Count::Idle, "idle", Sort::Now, "workers that have nothing to do"),
    (Count::Processes, "processes", Sort::Now, "processes that serve"),
];

const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].0 as usize == index, "a row of the table is not where its number says");
        index += 1;
    }
};

/// The number with this name.
///
/// ```
/// use manyhands_server::ledger::{Count, named};
/// assert_eq!(named("timed_out"), Some(Count::TimedOut));
/// assert_eq!(named("nothing"), None);
/// ```
#[must_use]
pub fn named(name: &str) -> Option<Count> {
    TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not serve yet.
    Starting,
    /// It serves.
    Serving,
    /// It accepts nothing more.
    Ending,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Starting, Self::Serving, Self::Ending];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Ending => "ending",
        }
    }
}

/// The page of one process that serves, or of a server of processes.
///
/// ```
/// use manyhands_server::ledger::{Count, Ledger, Phase};
///
/// let ledger = Ledger::create("127.0.0.1:9000", "thread", 0)?;
/// ledger.add(Count::Failed, 1);
/// ledger.enter(Phase::Serving);
/// let seen = Ledger::attach(ledger.fd_to_pass()?.try_clone_to_owned()?)?; // in another process, as a rule
/// assert_eq!((seen.get(Count::Failed), seen.phase()), (1, Phase::Serving));
/// assert_eq!((seen.address().as_str(), seen.pid()), ("127.0.0.1:9000", ledger.pid()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Ledger(Segment);

impl Ledger {
    /// Makes one for this process. Texts that are too long are cut.
    ///
    /// # Errors
    /// When memory or descriptors run out.
    pub fn create(address: &str, workers: &str, server: u64) -> io::Result<Self> {
        let ledger = Self(Segment::create(NAME, BYTES)?);
        ledger.0.commit(0..BYTES)?;
        ledger.write(ADDRESS, address);
        ledger.write(WORKERS, workers);
        ledger.word(SERVER).store(server, Ordering::Relaxed);
        ledger.take_over();
        // Release: the words before. pairs with: attach (Acquire)
        ledger.word(0).store(MARK, Ordering::Release);
        Ok(ledger)
    }

    /// Maps one that another process has made.
    ///
    /// # Errors
    /// `InvalidData` when it is none, or of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Self> {
        let segment = Segment::attach(fd)?;
        if segment.len() < BYTES || segment.word64(0).load(Ordering::Acquire) != MARK {
            let text = "not a server of this version of manyhands";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self(segment))
    }

    /// Notes that it is this process that serves.
    pub fn take_over(&self) {
        self.word(PROCESS).store(identity().to_bits(), Ordering::Relaxed);
    }

    /// The descriptor to pass to another process.
    ///
    /// # Errors
    /// When somebody in this process has closed it.
    pub fn fd_to_pass(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.fd_to_pass()
    }

    /// Shows it to nobody any more; its numbers can still be read and written here.
    pub fn hide(&self) {
        self.0.close_descriptor();
    }

    /// What tells it from all others: no two that are there at a time have the same.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number()
    }

    /// The number of the server's own ledger; `None` in that.
    #[must_use]
    pub fn server(&self) -> Option<u64> {
        Some(self.word(SERVER).load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// The process that serves; `None` in a damaged one.
    #[must_use]
    pub fn process(&self) -> Option<Identity> {
        Identity::from_bits(self.word(PROCESS).load(Ordering::Relaxed))
    }

    /// The number of that process, 0 if it is not known.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process().map_or(0, Identity::pid)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.read(ADDRESS)
    }

    /// What kind of workers serve.
    #[must_use]
    pub fn workers(&self) -> String {
        self.read(WORKERS)
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = self.word(PHASE).load(Ordering::Relaxed);
        usize::try_from(phase).ok().and_then(|at| Phase::ALL.get(at).copied()).unwrap_or(Phase::Starting)
    }

    /// Notes how far it is.
    pub fn enter(&self, phase: Phase) {
        self.word(PHASE).store(phase as u64, Ordering::Relaxed);
    }

    /// How many nanoseconds ago it was last certain that it answers; `None`: never.
    #[must_use]
    pub fn answered(&self) -> Option<u64> {
        let at = self.word(ANSWERED).load(Ordering::Relaxed);
        (at != 0).then(|| clock::now().saturating_sub(at))
    }

    /// Notes that it answers.
    pub fn answers(&self) {
        self.word(ANSWERED).store(clock::now(), Ordering::Relaxed);
    }

    /// A number.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.number_of(count).load(Ordering::Relaxed)
    }

    /// Sets a number that one thread at a time knows.
    pub fn set(&self, count: Count, value: u64) {
        self.number_of(count).store(value, Ordering::Relaxed);
    }

    /// Adds to a number; any thread may.
    pub fn add(&self, count: Count, more: u64) {
        self.number_of(count).fetch_add(more, Ordering::Relaxed);
    }

    /// Adds the totals of a process that has ended; what was open there has been lost.
    pub fn absorb(&self, ended: &Self) {
        for (count, _, sort, _) in TABLE {
            match sort {
                Sort::Total => self.add(count, ended.get(count)),
                Sort::Most => self.set(count, self.get(count).max(ended.get(count))),
                Sort::Now => {}
            }
        }
        self.add(Count::Lost, ended.get(Count::Active) + ended.get(Count::Queued));
    }

    fn number_of(&self, count: Count) -> &AtomicU64 {
        self.word(NUMBERS + count as usize)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.0.word64(8 * index)
    }

    fn write(&self, at: usize, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(TEXT)];
        self.0.copy_in(8 * (at + 1), bytes);
        self.word(at).store(bytes.len() as u64, Ordering::Relaxed);
    }

    fn read(&self, at: usize) -> String {
        let len = usize::try_from(self.word(at).load(Ordering::Relaxed)).unwrap_or(TEXT).min(TEXT);
        let mut bytes = vec![0; len];
        self.0.copy_out(8 * (at + 1), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_address_is_cut_and_nothing_behind_it_is_touched() {
        let ledger = Ledger::create(&"é".repeat(500), "process", 7).expect("a ledger");
        assert_eq!(ledger.address(), "é".repeat(TEXT / 2));
        assert_eq!((ledger.workers().as_str(), ledger.server()), ("process", Some(7)));
        assert!(TABLE.iter().all(|row| ledger.get(row.0) == 0));
    }

    #[test]
    fn what_a_process_had_open_when_it_ended_is_lost() {
        let [all, ended] = [0, 1].map(|server| Ledger::create("here", "process", server).expect("a ledger"));
        for (count, value) in
            [(Count::Served, 5), (Count::Active, 2), (Count::Queued, 1), (Count::Busiest, 3)]
        {
            ended.set(count, value);
        }
        all.absorb(&ended);
        all.absorb(&ended);
        let numbers = [Count::Served, Count::Lost, Count::Busiest, Count::Active].map(|count| all.get(count));
        assert_eq!(numbers, [10, 6, 3, 0]);
    }

    #[test]
    fn other_memory_is_no_ledger() {
        for len in [1, BYTES] {
            let segment = Segment::create(c"something", len).expect("a segment");
            let fd = segment.fd().try_clone_to_owned().expect("a descriptor");
            let error = Ledger::attach(fd).expect_err("it is none");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn damage_is_read_as_something_harmless() {
        let ledger = Ledger::create("here", "thread", 0).expect("a ledger");
        for index in 1..BYTES / 8 {
            ledger.word(index).store(u64::MAX, Ordering::Relaxed);
        }
        assert_eq!((ledger.pid(), ledger.phase()), (0, Phase::Starting));
        assert!(ledger.address().chars().count() <= TEXT && ledger.answered() == Some(0));
    }
}
