//! Memory that processes of one user find without a descriptor, a file or `/proc`: System V shared memory.
//!
//! It is marked for removal as soon as it is made, so that it goes with the last process that has it attached, however
//! that ended. Until then the kernel lists it, and says whose it is. A forked child has it, too; after `exec` it is gone.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use crate::memfd::user;
use crate::memory::page_size;

/// The owner may read and write, nobody else anything.
const PRIVATE: libc::c_int = 0o600;

/// What the C library's headers call so; musl marks such commands by a bit.
const SHM_STAT: libc::c_int = 13 | libc::IPC_STAT & 0x100;
const SHM_INFO: libc::c_int = 14;

/// Set in the mode of what goes with its last user.
const DOOMED: u32 = 0o1000;

/// After so many seconds what nobody has attached was left by a process that was killed while it made it.
const STALE: i64 = 60;

/// A piece of such memory, attached to this process until the value is dropped.
#[derive(Debug)]
pub struct Common {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and lives as long as the value.
unsafe impl Send for Common {}
// SAFETY: through a shared reference one gets atomics only.
unsafe impl Sync for Common {}

impl Common {
    /// Makes one of `len` bytes, all zero, of which none takes memory yet.
    ///
    /// ```
    /// use manyhands_os::sysv::Common;
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// let len = (1 << 20) + 12_288;
    /// let made = Common::create(len)?;
    /// made.commit(0..8)?;
    /// made.word64(0).store(7 + u64::from(std::process::id()), Relaxed);
    /// let is_it = |common: &Common| common.word64(0).load(Relaxed) == 7 + u64::from(std::process::id());
    /// assert!(Common::find(len, is_it)?.is_some(), "as in another process");
    /// drop(made);
    /// assert!(Common::find(len, is_it)?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the kernel says: `Unsupported` where it has no such memory, `StorageFull` when there is too much already.
    pub fn create(len: usize) -> io::Result<Self> {
        let flags = PRIVATE | libc::IPC_CREAT | libc::IPC_EXCL | libc::SHM_NORESERVE;
        // SAFETY: plain system call.
        let id = checked(unsafe { libc::shmget(libc::IPC_PRIVATE, len, flags) })?;
        let attached = Self::attach(id, len);
        remove(id);
        attached
    }

    /// The first of this user's pieces of `len` bytes that is `wanted`.
    ///
    /// # Errors
    /// `Unsupported` where the kernel has no such memory, or does not let this process use it.
    pub fn find(len: usize, wanted: impl Fn(&Self) -> bool) -> io::Result<Option<Self>> {
        for index in 0..=highest()? {
            // SAFETY: the kernel writes what it is about, unless it fails.
            let mut status = unsafe { MaybeUninit::<libc::shmid_ds>::zeroed().assume_init() };
            // SAFETY: room for what the kernel writes.
            let id = unsafe { libc::shmctl(index, SHM_STAT, &raw mut status) };
            // Another user may give away what is theirs, but they have made it.
            let of_user = status.shm_perm.uid == user() && status.shm_perm.cuid == user();
            if id < 0 || !of_user || status.shm_segsz != len {
                continue;
            }
            if u32::from(status.shm_perm.mode) & DOOMED == 0 {
                if status.shm_nattch == 0 && is_old(&status) {
                    remove(id);
                }
                continue;
            }
            // It may have gone since.
            let Ok(common) = Self::attach(id, len) else { continue };
            if wanted(&common) {
                return Ok(Some(common));
            }
        }
        Ok(None)
    }

    fn attach(id: libc::c_int, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { libc::shmat(id, ptr::null(), 0) };
        if base as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Makes sure that the pages of `range` exist, so that touching them cannot fail.
    ///
    /// # Errors
    /// `OutOfMemory` when memory is short.
    ///
    /// # Panics
    /// When `range` is not inside.
    pub fn commit(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.end <= self.len, "bytes {range:?} of {}", self.len);
        let start = range.start / page_size() * page_size();
        // SAFETY: inside the mapping.
        let address = unsafe { self.base.as_ptr().add(start) };
        // SAFETY: the pages are inside the mapping, and their contents are not changed.
        let outcome = unsafe { libc::madvise(address.cast(), range.end - start, libc::MADV_POPULATE_WRITE) };
        match checked(outcome) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                Err(io::ErrorKind::OutOfMemory.into())
            }
            // Where the advice is unknown or refused, the first touch does the same.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Err(error),
            _ => Ok(()),
        }
    }

    /// The word at byte `offset`.
    ///
    /// # Panics
    /// When it is not inside or `offset` is not a multiple of 8.
    #[must_use]
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < self.len, "word at {offset} of {}", self.len);
        // SAFETY: inside the mapping.
        let word = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: inside the mapping and aligned, and nobody accesses it in another way.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        // SAFETY: attached by `attach`, and nobody uses it any more.
        unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

/// The highest index in the kernel's list.
fn highest() -> io::Result<libc::c_int> {
    let mut info = MaybeUninit::<[u64; 64]>::zeroed();
    // SAFETY: more room than the kernel needs for what it writes.
    checked(unsafe { libc::shmctl(0, SHM_INFO, info.as_mut_ptr().cast()) })
}

fn is_old(status: &libc::shmid_ds) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    now.saturating_sub(status.shm_ctime) > STALE
}

fn remove(id: libc::c_int) {
    // SAFETY: plain system call; what is attached stays.
    unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) };
}

fn checked(outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome >= 0 { Ok(outcome) } else { Err(io::Error::last_os_error()) }
}

/// What one process of a user has at a time: the kernel's name for a piece of such memory. Another user can have the
/// name first; that process can be identified. Given up when dropped; one whose holder has died is taken over.
#[derive(Debug)]
pub struct Claim {
    id: libc::c_int,
}

/// What came of asking for a [`Claim`].
#[derive(Debug)]
pub enum Outcome {
    /// This process has it.
    Granted(Claim),
    /// A living process of this user has it.
    Busy,
    /// This other user has it, or has something else of that name; `None` when the kernel does not say who.
    Foreign(Option<u32>),
}

impl Claim {
    /// Claims the name that this user has for `number`, unless somebody has it.
    ///
    /// ```
    /// use manyhands_os::sysv::{Claim, Outcome};
    ///
    /// let number = 1000 + std::process::id();
    /// let granted = Claim::on(number)?;
    /// assert!(matches!(granted, Outcome::Granted(_)));
    /// assert!(matches!(Claim::on(number)?, Outcome::Busy));
    /// drop(granted);
    /// assert!(matches!(Claim::on(number)?, Outcome::Granted(_)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the kernel says: `Unsupported` where it has no such memory.
    pub fn on(number: u32) -> io::Result<Outcome> {
        let name = key(number);
        loop {
            let flags = PRIVATE | libc::IPC_CREAT | libc::IPC_EXCL;
            // SAFETY: plain system call.
            match checked(unsafe { libc::shmget(name, 1, flags) }) {
                Ok(id) => return Ok(Outcome::Granted(Self { id })),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            // SAFETY: plain system call, which makes nothing and asks for no right.
            let Ok(id) = checked(unsafe { libc::shmget(name, 0, 0) }) else { continue };
            // SAFETY: the kernel writes what it is about, unless it fails.
            let mut status = unsafe { MaybeUninit::<libc::shmid_ds>::zeroed().assume_init() };
            // SAFETY: room for what the kernel writes.
            let seen = checked(unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) });
            match seen {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Ok(Outcome::Foreign(None));
                }
                Err(_) => continue,
                Ok(_) if status.shm_perm.cuid != user() || status.shm_perm.uid != user() => {
                    return Ok(Outcome::Foreign(Some(status.shm_perm.cuid)));
                }
                Ok(_) => {}
            }
            if !is_abandoned(&status) {
                return Ok(Outcome::Busy);
            }
            remove(id);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        remove(self.id);
    }
}

/// Whether the process that has made it can no longer give it up.
fn is_abandoned(status: &libc::shmid_ds) -> bool {
    // Zero for a process of another PID namespace, which cannot be asked about.
    match status.shm_cpid {
        0 => is_old(status),
        pid => crate::process::Pidfd::open(pid)
            .map_or_else(|error| error.raw_os_error() == Some(libc::ESRCH), |process| process.has_ended()),
    }
}

/// The kernel's name: a number, which others may use for something else.
fn key(number: u32) -> libc::key_t {
    let bytes = b"manyhands".iter().copied().chain(user().to_ne_bytes()).chain(number.to_ne_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash | 1).cast_signed()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn it_goes_with_its_last_user() {
        let len = (1 << 20) + 4096 * 5;
        let made = Common::create(len).expect("made");
        made.commit(4096..4104).expect("committed");
        let mark = 0x6d61_726b_0000_0000 | u64::from(std::process::id());
        made.word64(4096).store(mark, Ordering::Relaxed);
        let is_it = |common: &Common| common.word64(4096).load(Ordering::Relaxed) == mark;
        let found = Common::find(len, is_it).expect("looked").expect("found");
        drop(made);
        assert!(Common::find(len, is_it).expect("looked").is_some(), "somebody has it");
        assert!(Common::find(len + 4096, |_| true).expect("looked").is_none(), "of another length");
        drop(found);
        assert!(Common::find(len, is_it).expect("looked").is_none());
    }

    #[test]
    fn a_claim_of_the_dead_is_taken_over() {
        let number = std::process::id();
        // SAFETY: the child makes system calls only, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let claimed = Claim::on(number);
            std::mem::forget(claimed);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for our own child.
        unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
        assert!(matches!(Claim::on(number).expect("asked"), Outcome::Granted(_)));
    }
}
