//! The directory: which process has which named segment, as descriptor of what number. One for each user, in memory that
//! all processes of that user with a named segment have attached ([`sysv`]). So a look costs the same however many names
//! there are, and the holders of a name are known even where they may not be inspected.
//!
//! It has a page, a *bucket*, for each remainder of names, with *rows* for which process has what. A row is written in
//! steps of which only the last makes it count, and names the process in the first; so whatever a killed process
//! leaves behind is a row that nobody is behind.

pub(crate) mod error;
pub(crate) mod turn;

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::{io, ptr};

use manyhands_os::process::{Identity, identity};
use manyhands_os::sysv::{Claim, Common, Outcome};
use manyhands_os::{clock, memfd, park};

use self::error::NameError;
use self::turn::{Moving, moving};
use crate::site_error::SiteError;

/// How long the making of a segment by another process is waited for, which takes it microseconds unless it is stopped,
/// in nanoseconds.
pub(crate) const PATIENCE: u64 = 10 * clock::SECOND;

/// Length of a bucket in bytes. Not the machine's page size: the layout is the same everywhere.
const PAGE: usize = 4096;

const BUCKETS: usize = 4096;

/// Nothing else of ours has this length.
const LEN: usize = PAGE * (1 + BUCKETS);

/// Bytes of a row.
const ROW: usize = 32;

/// Where the rows of a bucket begin, in bytes.
const ROWS: usize = 64;

/// Processes beyond so many that have names of the same bucket have no row.
const MOST_ROWS: usize = (PAGE - ROWS) / ROW;

/// Changes with every change of what two processes have to agree on here.
const VERSION: u64 = 1;

/// Byte offsets of the words of the heading.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | magic | [`MAGIC`], once it can be used | the creator, last |
/// | version | [`VERSION`] | the creator |
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;

/// "mhnames" and a zero byte.
const MAGIC: u64 = u64::from_le_bytes(*b"mhnames\0");

/// Byte offsets in a bucket.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | claim | the process that makes or opens a name of this bucket; 0: none | that process at its start: 0→own, or dead→own; at its end: own→0 |
/// | crowded | 1: somebody found no row free, once | who found it so |
const CLAIM: usize = 0;
const CROWDED: usize = 8;

/// Byte offsets in a row.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | holder | 0: free; else the identity of the process that has the segment, with [`WRITING`] while the rest is written | a process that takes it: 0 or dead→own with the flag→own; that process, or whoever finds it dead: →0 |
/// | name | the fingerprint of the name | who takes it |
/// | inode | the number of the memfd | who takes it |
/// | fd | the number of the descriptor there | who takes it |
const HOLDER: usize = 0;
const NAME: usize = 8;
const INODE: usize = 16;
const FD: usize = 24;

const WRITING: u64 = 1 << 63;

/// As so many at a time claim the right to make a directory: one is enough, unless other users have it.
const CLAIMS: u32 = 8;

/// One user's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    common: Common,
    user: u32,
}

/// The one that this process has attached, if it has; never freed, as sites refer to it.
static CURRENT: AtomicPtr<Directory> = AtomicPtr::new(ptr::null_mut());

/// A process that has a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) holder: Identity,
    pub(crate) fd: i32,
    pub(crate) inode: u64,
    at: usize,
}

/// That of the user in whose name this process makes and opens files now.
pub(crate) fn current() -> Result<&'static Directory, NameError> {
    // Acquire: what it points to. pairs with: the exchange below (Release)
    let known = CURRENT.load(Ordering::Acquire);
    // SAFETY: null, or from `Box::into_raw` and never freed.
    let of_user = unsafe { known.as_ref() }.filter(|directory| directory.is_current());
    if let Some(directory) = of_user {
        return Ok(directory);
    }
    let found = Directory::find_or_make()?;
    let new = Box::into_raw(Box::new(found));
    // Release: what it points to. pairs with: current (Acquire)
    match CURRENT.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just made, and never freed.
        Ok(_) => Ok(unsafe { &*new }),
        Err(_) => {
            // SAFETY: just made here, and nobody else knows of it. Another thread was faster.
            drop(unsafe { Box::from_raw(new) });
            current()
        }
    }
}

impl Directory {
    /// Whether it is that of the user whom this process is now.
    pub(crate) fn is_current(&self) -> bool {
        self.user == memfd::user()
    }

    fn find_or_make() -> Result<Self, NameError> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        let claims = claim_all()?;
        let found = match Self::find()? {
            Some(found) => found,
            None => Self::make()?,
        };
        drop(claims);
        Ok(found)
    }

    fn find() -> Result<Option<Self>, NameError> {
        // Acquire: all of the heading. pairs with: make (Release)
        let is_ready = |common: &Common| common.word64(AT_MAGIC).load(Ordering::Acquire) == MAGIC;
        let Some(common) = Common::find(LEN, is_ready).map_err(refused)? else { return Ok(None) };
        let found = common.word64(AT_VERSION).load(Ordering::Relaxed);
        if found != VERSION {
            let error = SiteError::Version { library: None, found: found as u32, ours: VERSION as u32 };
            return Err(NameError::Unusable { name: "the directory of names".to_owned(), error });
        }
        Ok(Some(Self { common, user: memfd::user() }))
    }

    fn make() -> Result<Self, NameError> {
        let common = Common::create(LEN).map_err(refused)?;
        common.commit(0..PAGE)?;
        common.word64(AT_VERSION).store(VERSION, Ordering::Relaxed);
        // Release: the version. pairs with: find (Acquire)
        common.word64(AT_MAGIC).store(MAGIC, Ordering::Release);
        Ok(Self { common, user: memfd::user() })
    }

    /// Where the bucket of a name is, which can be used from now on.
    fn bucket(&self, name: u64) -> io::Result<usize> {
        let start = PAGE * (1 + name as usize % BUCKETS);
        self.common.commit(start..start + PAGE)?;
        Ok(start)
    }

    /// Has nobody else make or open this name, nor this process fork, while the value lives.
    pub(crate) fn claim(&'static self, name: &str) -> Result<Claimed, NameError> {
        let start = self.bucket(fingerprint(name.as_bytes()))?;
        let deadline = clock::now() + PATIENCE;
        let mut pause = clock::MILLISECOND / 20;
        loop {
            let moving = moving();
            let (word, me) = (self.common.word64(start + CLAIM), identity());
            // Acquire: the rows as the last one left them. pairs with: Claimed::drop (Release)
            let outcome = word.compare_exchange(0, me.to_bits(), Ordering::Acquire, Ordering::Relaxed);
            let Err(held) = outcome else {
                return Ok(Claimed { directory: self, start, _moving: moving });
            };
            drop(moving);
            let holder = Identity::from_bits(held);
            if holder.is_none_or(|holder| holder != me && holder.is_dead()) {
                // Rows that it has left half-written count for nothing.
                let _ = word.compare_exchange(held, 0, Ordering::Acquire, Ordering::Relaxed);
                continue;
            }
            if clock::now() > deadline {
                return Err(NameError::Busy { name: name.to_owned() });
            }
            park::sleep_until(clock::now() + pause);
            // Short: there is no order among those who wait, so who asks seldom comes late.
            pause = (2 * pause).min(2 * clock::MILLISECOND);
        }
    }

    /// Notes that this process has a segment of this name. Zero when there is no row for it: then it is found only by
    /// looking through all processes.
    pub(crate) fn note(&self, name: &str, inode: u64, fd: i32) -> usize {
        let name = fingerprint(name.as_bytes());
        let Ok(start) = self.bucket(name) else { return 0 };
        let me = identity().to_bits();
        let is_free = |at: &usize| self.common.word64(at + HOLDER).load(Ordering::Relaxed) == 0;
        let mut free = rows_of(start).filter(is_free);
        let row = free.find(|at| self.take(*at, me));
        // Asking who lives costs more, and is seldom needed.
        let row = row.or_else(|| rows_of(start).find(|at| self.take(*at, me))).unwrap_or(0);
        if row == 0 {
            self.common.word64(start + CROWDED).store(1, Ordering::Relaxed);
            return 0;
        }
        let word = |at| self.common.word64(row + at);
        word(NAME).store(name, Ordering::Relaxed);
        word(INODE).store(inode, Ordering::Relaxed);
        word(FD).store(u64::from(fd.cast_unsigned()), Ordering::Relaxed);
        // Release: the above. pairs with: rows (Acquire)
        word(HOLDER).store(me, Ordering::Release);
        row
    }

    /// Makes a row this process's, if nobody is behind it.
    fn take(&self, at: usize, me: u64) -> bool {
        let word = self.common.word64(at + HOLDER);
        let held = word.load(Ordering::Relaxed);
        let is_left = || Identity::from_bits(held & !WRITING).is_none_or(Identity::is_dead);
        (held == 0 || is_left())
            && word.compare_exchange(held, me | WRITING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that this process has the segment of that row no more.
    pub(crate) fn strike(&self, row: usize, inode: u64) {
        // Struck by others, because its descriptor was closed here, the row may be another segment's by now.
        if row != 0 && self.common.word64(row + INODE).load(Ordering::Relaxed) == inode {
            self.free(row, identity());
        }
    }

    fn free(&self, at: usize, holder: Identity) {
        let word = self.common.word64(at + HOLDER);
        let _ = word.compare_exchange(holder.to_bits(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Where the rows of a bucket are.
fn rows_of(start: usize) -> impl Iterator<Item = usize> {
    (0..MOST_ROWS).map(move |index| start + ROWS + index * ROW)
}

/// The right to make or open a name. Others of the same bucket wait for it, too.
#[must_use]
pub(crate) struct Claimed {
    directory: &'static Directory,
    start: usize,
    _moving: Moving,
}

impl Claimed {
    /// The processes that have a segment of this name.
    pub(crate) fn rows(&self, name: &str) -> Vec<Row> {
        let name = fingerprint(name.as_bytes());
        let read = |at: usize| {
            let word = |offset| self.directory.common.word64(at + offset);
            // Acquire: the rest of the row. pairs with: note (Release)
            let holder = Identity::from_bits(word(HOLDER).load(Ordering::Acquire))?;
            if word(NAME).load(Ordering::Relaxed) != name {
                return None;
            }
            let (fd, inode) = (word(FD).load(Ordering::Relaxed), word(INODE).load(Ordering::Relaxed));
            Some(Row { holder, fd: i32::try_from(fd).ok()?, inode, at })
        };
        rows_of(self.start).filter_map(read).collect()
    }

    /// Whether somebody may have a name of this bucket without a row.
    pub(crate) fn is_crowded(&self) -> bool {
        self.directory.common.word64(self.start + CROWDED).load(Ordering::Relaxed) != 0
    }

    /// Strikes a row of a process that has died, or has let go.
    pub(crate) fn strike(&self, row: &Row) {
        self.directory.free(row.at, row.holder);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let word: &AtomicU64 = self.directory.common.word64(self.start + CLAIM);
        // A child that was forked in the middle of it has no claim.
        let mine = identity().to_bits();
        // Release: what was done to the rows. pairs with: claim (Acquire)
        let _ = word.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// The right to make the directory: all claims that no other user has. With fewer, one that such a user gave up
/// in between would be a second right.
fn claim_all() -> Result<Vec<Claim>, NameError> {
    let deadline = clock::now() + PATIENCE;
    let mut claims = Vec::new();
    let mut others = None;
    for number in 0..CLAIMS {
        loop {
            match Claim::on(number).map_err(refused)? {
                Outcome::Granted(claim) => break claims.push(claim),
                Outcome::Foreign(user) => break others = others.or(user),
                Outcome::Busy if clock::now() > deadline => {
                    return Err(NameError::Busy { name: "the directory of names".to_owned() });
                }
                Outcome::Busy => {
                    park::sleep_until(clock::now() + clock::MILLISECOND / 10);
                }
            }
        }
    }
    if claims.is_empty() {
        let who = others.map_or_else(|| "another user".to_owned(), |user| format!("user {user}"));
        let text = format!(
            "{who} has taken every System V key under which this user's directory of names can be created"
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text).into());
    }
    Ok(claims)
}

/// Why there can be no directory.
fn refused(error: io::Error) -> NameError {
    let text = format!("objects with names need System V shared memory, which the system refuses ({error})");
    io::Error::new(error.kind(), text).into()
}

/// FNV-1a: the same in every build, which the hash of the standard library does not promise.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
