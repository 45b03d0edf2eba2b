//! Memory that several processes map: an anonymous file (memfd), sealed, mapped once at its full length.
//!
//! The file is sparse. Its length is a limit on addresses, not on memory: a page costs nothing until it is committed,
//! and [`commit`](Segment::commit) is where running out of memory becomes an error that somebody can handle. Touching a
//! page that was never committed works too, but when memory is short the kernel answers it with SIGBUS; so commit
//! first. The seals forbid everyone to shrink or grow the file, which is the other way to a SIGBUS. Nothing has a name
//! in the file system: when the last process is gone, so is the memory.
//!
//! A segment keeps the descriptor of its file to pass it on, for nothing else. Programs that become daemons close
//! whatever they do not know, and the number is soon that of another file: what is done to the file is done by its
//! mapping, and before the descriptor is used or closed it is looked at.

use std::ffi::CStr;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::io::Errno;

mod mapping;

use mapping::FileId;

/// Length of a page, the unit in which memory is committed and discarded, in bytes.
///
/// ```
/// assert!(manyhands_os::memory::page_size().is_power_of_two());
/// ```
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// The most bytes of addresses that this process may have (`ulimit -v`); `None` where that is not limited. Segments take
/// addresses for their whole length at once.
///
/// ```
/// assert!(manyhands_os::memory::address_limit().is_none_or(|bytes| bytes > 1 << 20));
/// ```
#[must_use]
pub fn address_limit() -> Option<usize> {
    mapping::addresses()
}

/// How many more bytes of addresses this process can take; `None` where that is not limited.
///
/// ```
/// use manyhands_os::memory::{address_limit, address_room};
///
/// assert_eq!(address_room().is_some(), address_limit().is_some());
/// ```
#[must_use]
pub fn address_room() -> Option<usize> {
    let limit = address_limit()?;
    // The first number is the size of all mappings, in pages.
    let sizes = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let taken = sizes.split_whitespace().next().and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(taken.saturating_mul(page_size())))
}

/// A piece of memory shared by every process that has its descriptor.
///
/// ```
/// use manyhands_os::memory::Segment;
///
/// let segment = Segment::create(c"example", 1 << 20)?;
/// segment.commit(0..4096)?;
/// segment.copy_in(100, b"hello");
///
/// let other = Segment::attach(segment.fd().try_clone_to_owned()?)?; // in another process, as a rule
/// let mut text = [0; 5];
/// other.copy_out(100, &mut text);
/// assert_eq!(&text, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Segment {
    /// Ours only as long as it stands for `file`.
    fd: ManuallyDrop<OwnedFd>,
    file: FileId,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and lives as long as the value.
unsafe impl Send for Segment {}
// SAFETY: through a shared reference one gets atomics, plain copies of bytes, and raw pointers whose use is the
// caller's `unsafe`.
unsafe impl Sync for Segment {}

impl Segment {
    /// Makes a segment of `len` bytes (rounded up to pages), all zero, nothing committed. `name` shows in
    /// `/proc/*/maps` and need not be unique.
    ///
    /// # Errors
    /// When descriptors run out; `OutOfMemory` when addresses do, see [`address_limit`].
    pub fn create(name: &CStr, len: usize) -> io::Result<Self> {
        let len = len.max(1).next_multiple_of(page_size());
        Self::over(mapping::create(name, len)?, len)
    }

    /// Maps a segment that another process made.
    ///
    /// # Errors
    /// `InvalidData` when the descriptor is not one of a segment (not sealed against shrinking, or empty), otherwise
    /// what the kernel says.
    pub fn attach(fd: OwnedFd) -> io::Result<Self> {
        match mapping::len_of(&fd)? {
            0 => {
                let text = "not a shared segment: the descriptor is not a sealed memfd";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            len => Self::over(fd, len),
        }
    }

    fn over(fd: OwnedFd, len: usize) -> io::Result<Self> {
        let file = mapping::file(&fd)?;
        let base = mapping::map(&fd, len).map_err(|error| no_addresses(error, len))?;
        Ok(Self { fd: ManuallyDrop::new(fd), file, base, len })
    }

    /// The descriptor under which other processes can find the file. Somebody in this process may have closed it, and
    /// the number may be another file's by now, so look at [`number`](Self::number) there; or see
    /// [`fd_to_pass`](Self::fd_to_pass).
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The descriptor to pass to other processes.
    ///
    /// # Errors
    /// When somebody in this process has closed it.
    pub fn fd_to_pass(&self) -> io::Result<BorrowedFd<'_>> {
        if self.has_its_file() {
            return Ok(self.fd());
        }
        let text = "the descriptor of shared memory has been closed: code that closes all descriptors, as a \
                    daemon does at startup, must run before shared memory is first used";
        Err(io::Error::other(text))
    }

    /// Closes the descriptor: nobody else finds the file from now on, and it stays mapped. The caller sees to it that nobody uses the
    /// descriptor meanwhile.
    ///
    /// ```
    /// use manyhands_os::memory::Segment;
    ///
    /// let segment = Segment::create(c"example", 1)?;
    /// segment.close_descriptor();
    /// assert!(segment.fd_to_pass().is_err());
    /// segment.copy_in(0, b"still there");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close_descriptor(&self) {
        if self.has_its_file() {
            // SAFETY: it is ours. From now on it is as if the program had closed it, which is expected everywhere here.
            unsafe { rustix::io::close(self.fd.as_raw_fd()) };
        }
    }

    /// Whether our descriptor is still that of our file. A thread that closes descriptors at this very moment is not
    /// seen.
    fn has_its_file(&self) -> bool {
        match mapping::file(&self.fd) {
            Ok(file) => file == self.file,
            // Another error than that says nothing of it.
            Err(error) => error.raw_os_error() != Some(Errno::BADF.raw_os_error()),
        }
    }

    /// The number of its file: the same in every process, and no other segment has it while this one lives.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.file.inode
    }

    /// Length in bytes: the limit up to which memory can be committed.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes sure that the pages of `range` exist, so that touching them cannot fail, and has them mapped here. Committed
    /// pages keep their contents, new ones are zero.
    ///
    /// # Errors
    /// `StorageFull` or `OutOfMemory` when memory is short: nothing is lost, a part may have been committed.
    ///
    /// # Panics
    /// When `range` is not inside the segment.
    pub fn commit(&self, range: Range<usize>) -> io::Result<()> {
        self.in_steps(range, |start, len| {
            // SAFETY: `pointer` sees to it that the pages are inside the mapping.
            let outcome = unsafe { mapping::commit(self.pointer(start, len), len) };
            self.or_by_descriptor(outcome, true, start, len)
        })
    }

    /// Maps the pages of `range`, which another process has committed, into this one at once. That costs far less than the
    /// page faults of a first write: right before a large copy. Only a saving: whatever goes wrong, page faults will do the same.
    ///
    /// # Panics
    /// When `range` is not inside the segment.
    pub fn premap(&self, range: Range<usize>) {
        let _ = self.in_steps(range, |start, len| {
            // SAFETY: `pointer` sees to it that the pages are inside the mapping.
            unsafe { mapping::premap(self.pointer(start, len), len) }
        });
    }

    /// Gives the pages of `range` back to the system; they read as zero from now on. Pages that lie in `range` only in
    /// part are kept.
    ///
    /// # Errors
    /// What the kernel says; the range is then unchanged.
    ///
    /// # Panics
    /// When `range` is not inside the segment.
    pub fn discard(&self, range: Range<usize>) -> io::Result<()> {
        let start = range.start.next_multiple_of(page_size());
        let end = range.end - range.end % page_size();
        if start >= end {
            return Ok(());
        }
        self.in_steps(start..end, |start, len| {
            // SAFETY: `pointer` sees to it that the pages are inside the mapping.
            let outcome = unsafe { mapping::discard(self.pointer(start, len), len) };
            self.or_by_descriptor(outcome, false, start, len)
        })
    }

    /// Makes the pages of `range` private to this process: others, and what this process writes there, are no longer seen
    /// by each other. They must be of this process alone by now, or only read. A child that is forked later has a copy.
    ///
    /// # Errors
    /// When the system has no room for another mapping, or somebody has closed our descriptor; nothing has changed then.
    ///
    /// # Panics
    /// When `range` is not inside the segment or not of whole pages.
    pub fn make_private(&self, range: Range<usize>) -> io::Result<()> {
        self.remap(range, true)
    }

    /// Undoes [`make_private`](Self::make_private): what was written there since is lost.
    ///
    /// # Errors
    /// As [`make_private`](Self::make_private). Then this process does not see what others write there.
    ///
    /// # Panics
    /// As [`make_private`](Self::make_private).
    pub fn make_common(&self, range: Range<usize>) -> io::Result<()> {
        self.remap(range, false)
    }

    fn remap(&self, range: Range<usize>, private: bool) -> io::Result<()> {
        let len = range.end.saturating_sub(range.start);
        let address = self.pointer(range.start, len);
        let are_whole = range.start.is_multiple_of(page_size()) && len.is_multiple_of(page_size());
        assert!(are_whole && len > 0, "bytes {range:?} are not whole pages");
        let fd = self.fd_to_pass()?;
        // SAFETY: `pointer` sees to it that the pages are inside the mapping, which is one of this file from its start on.
        Ok(unsafe { mapping::remap(address, len, fd, range.start, private) }?)
    }

    /// What cannot be done by the mapping (pages that are locked cannot be discarded by it, read-only ones not be
    /// committed, there are kernels that know neither, and sandboxes that refuse both) is done by the descriptor, if that
    /// is still ours.
    fn or_by_descriptor(
        &self,
        outcome: rustix::io::Result<()>,
        commit: bool,
        start: usize,
        len: usize,
    ) -> rustix::io::Result<()> {
        match outcome {
            Err(Errno::INVAL | Errno::PERM | Errno::ACCESS | Errno::NOSYS) if self.has_its_file() => {
                mapping::without_mapping(&self.fd, commit, start, len)
            }
            outcome => outcome,
        }
    }

    /// Calls `step` for consecutive parts of `range` widened to whole pages. A signal makes the kernel give a step up
    /// (and undo it); it is repeated, and made shorter, so that a timer that fires all the time cannot stop progress.
    fn in_steps(
        &self,
        range: Range<usize>,
        step: impl Fn(usize, usize) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        const SHORTEST: usize = 256 << 10;
        let mut longest = 64 * SHORTEST;
        self.check(range.start, range.end.saturating_sub(range.start));
        let mut start = range.start - range.start % page_size();
        let end = range.end.next_multiple_of(page_size());
        while start < end {
            let len = longest.min(end - start);
            match step(start, len) {
                Ok(()) => start += len,
                Err(Errno::INTR) => longest = SHORTEST.max(longest / 2),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The 32-bit word at byte `offset`.
    ///
    /// # Panics
    /// When it is not inside the segment or `offset` is not a multiple of 4.
    #[inline]
    #[must_use]
    pub fn word32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        assert!(offset.is_multiple_of(4), "offset {offset} is not a multiple of 4");
        // SAFETY: inside the segment, checked above.
        let address = unsafe { self.base.add(offset) };
        // SAFETY: aligned (the base is page-aligned), mapped as long as `self`, and every bit pattern is a value.
        unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) }
    }

    /// The 64-bit word at byte `offset`.
    ///
    /// # Panics
    /// When it is not inside the segment or `offset` is not a multiple of 8.
    #[inline]
    #[must_use]
    pub fn word64(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8);
        assert!(offset.is_multiple_of(8), "offset {offset} is not a multiple of 8");
        // SAFETY: inside the segment, checked above.
        let address = unsafe { self.base.add(offset) };
        // SAFETY: aligned (the base is page-aligned), mapped as long as `self`, and every bit pattern is a value.
        unsafe { AtomicU64::from_ptr(address.as_ptr().cast()) }
    }

    /// Copies `bytes` to byte `offset`.
    ///
    /// A reader of the same bytes at the same time sees a mixture of old and new; agreeing who may touch what is the
    /// business of the protocols above.
    ///
    /// # Panics
    /// When the target is not inside the segment.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let target = self.pointer(offset, bytes.len()).as_ptr();
        // SAFETY: the target is inside the mapping, and `bytes`, being a Rust slice, is not: nobody makes slices of a
        // segment as long as others may write to it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// Copies what is at byte `offset` to `bytes`. See [`copy_in`](Self::copy_in) about races.
    ///
    /// # Panics
    /// When the source is not inside the segment.
    #[inline]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let source = self.pointer(offset, bytes.len()).as_ptr();
        // SAFETY: as in `copy_in`.
        unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Sets `len` bytes from byte `offset` to zero.
    ///
    /// # Panics
    /// When the target is not inside the segment.
    #[inline]
    pub fn zero(&self, offset: usize, len: usize) {
        let target = self.pointer(offset, len).as_ptr();
        // SAFETY: the target is inside the mapping.
        unsafe { std::ptr::write_bytes(target, 0, len) };
    }

    /// The address of `len` bytes at byte `offset`, valid as long as the segment.
    ///
    /// # Panics
    /// When they are not inside the segment.
    #[inline]
    #[must_use]
    pub fn pointer(&self, offset: usize, len: usize) -> NonNull<u8> {
        self.check(offset, len);
        // SAFETY: inside the segment, checked above.
        unsafe { self.base.add(offset) }
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) {
        let inside = offset <= self.len && len <= self.len - offset;
        assert!(inside, "{len} bytes at {offset} are outside a segment of {} bytes", self.len);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped in `over`; whoever still has a pointer into it broke the promise of `pointer`.
        unsafe { mapping::unmap(self.base, self.len) };
        if self.has_its_file() {
            // SAFETY: dropped here and nowhere else, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
        // Otherwise the descriptor is not there, or another file's, whose owner closes it.
    }
}

/// Says why `len` bytes could not be mapped, if there were no addresses for them.
fn no_addresses(error: io::Error, len: usize) -> io::Error {
    if error.raw_os_error() != Some(Errno::NOMEM.raw_os_error()) {
        return error;
    }
    let why = address_limit().map_or_else(
        || format!("the system has no room for another mapping ({error})"),
        |limit| format!("the address space of this process is limited to {limit} bytes (ulimit -v)"),
    );
    io::Error::new(io::ErrorKind::OutOfMemory, format!("cannot map {len} bytes of shared memory: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::sync::atomic::Ordering;

    fn segment(len: usize) -> Segment {
        Segment::create(c"test", len).expect("a small segment")
    }

    #[test]
    #[cfg(not(miri))]
    fn private_pages_are_seen_by_nobody_else() {
        let page = page_size();
        let segment = segment(4 * page);
        let other =
            Segment::attach(segment.fd().try_clone_to_owned().expect("a duplicate")).expect("the same");
        let read = |segment: &Segment, at: usize| {
            let mut byte = [0];
            segment.copy_out(at, &mut byte);
            byte[0]
        };
        segment.copy_in(page, b"a");
        segment.make_private(page..3 * page).expect("a mapping");
        assert_eq!(read(&segment, page), b'a');
        segment.copy_in(page, b"b");
        segment.copy_in(3 * page, b"c");
        assert_eq!((read(&other, page), read(&other, 3 * page)), (b'a', b'c'));
        segment.make_common(page..3 * page).expect("a mapping");
        assert_eq!(read(&segment, page), b'a');
        segment.copy_in(page, b"d");
        assert_eq!(read(&other, page), b'd');
    }

    #[test]
    fn two_mappings_are_one_memory() {
        let segment = segment(3 * page_size() + 1);
        assert_eq!(segment.len(), 4 * page_size());
        let fd = segment.fd().try_clone_to_owned().expect("a duplicate");
        let other = Segment::attach(fd).expect("attached");
        assert_eq!(other.len(), segment.len());
        assert_eq!(other.number(), segment.number());
        assert_ne!(Segment::create(c"test", 1).expect("another").number(), segment.number());
        segment.word64(16).store(0x1234_5678_9abc_def0, Ordering::Relaxed);
        assert_eq!(other.word32(16).load(Ordering::Relaxed), 0x9abc_def0);
        other.copy_in(4095, &[1, 2, 3]);
        let mut bytes = [0; 5];
        segment.copy_out(4094, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3, 0]);
        segment.zero(4096, 1);
        other.copy_out(4094, &mut bytes);
        assert_eq!(bytes, [0, 1, 0, 3, 0]);
    }

    #[test]
    fn discarded_pages_are_zero_and_partial_ones_kept() {
        let page = page_size();
        let segment = segment(4 * page);
        segment.commit(0..4 * page).expect("committed");
        segment.copy_in(0, &vec![7; 4 * page]);
        segment.discard(1..3 * page - 1).expect("discarded");
        let mut bytes = vec![0; 4 * page];
        segment.copy_out(0, &mut bytes);
        assert!(bytes[..page].iter().all(|byte| *byte == 7));
        assert!(bytes[page..2 * page].iter().all(|byte| *byte == 0));
        assert!(bytes[2 * page..].iter().all(|byte| *byte == 7));
        segment.commit(0..4 * page).expect("committed again");
        segment.premap(0..4 * page);
        segment.copy_out(0, &mut bytes);
        assert!(bytes[..page].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_plain_file_is_refused() {
        let file = std::fs::File::open("/proc/self/exe").expect("our own binary");
        let error = Segment::attach(file.into()).expect_err("not a memfd");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    /// Puts another file in the place of the segment's descriptor, as if it had been closed and opened again.
    fn replace_descriptor(segment: &Segment, with: &impl AsFd) {
        // SAFETY: the number is open, and never closed by what stands for it here.
        let mut taken = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(segment.fd().as_raw_fd()) });
        rustix::io::dup2(with, &mut taken).expect("replaced");
    }

    #[test]
    fn a_file_that_has_the_descriptors_number_now_is_left_alone() {
        let len = 64 * page_size();
        let ours = segment(2 * len);
        let other = segment(len);
        other.copy_in(0, &vec![9; len]);
        let number = ours.fd().as_raw_fd();
        assert!(ours.fd_to_pass().is_ok());
        replace_descriptor(&ours, &other.fd());
        assert!(ours.fd_to_pass().is_err());
        ours.commit(0..2 * len).expect("by its mapping");
        ours.copy_in(0, &vec![5; 2 * len]);
        ours.discard(0..len).expect("by its mapping");
        let mut bytes = vec![0; 2 * len];
        ours.copy_out(0, &mut bytes);
        assert!(bytes[..len].iter().all(|byte| *byte == 0) && bytes[len..].iter().all(|byte| *byte == 5));
        drop(ours);
        other.copy_out(0, &mut bytes[..len]);
        assert!(bytes[..len].iter().all(|byte| *byte == 9), "another file was changed");
        // SAFETY: the number is open: it was given to the other file above, and nobody else closes it.
        let still_open = unsafe { OwnedFd::from_raw_fd(number) };
        assert_eq!(mapping::file(&still_open).expect("not closed"), other.file);
        assert_eq!(rustix::fs::fstat(&still_open).expect("open").st_size as usize, len, "it was made longer");
    }

    #[test]
    fn locked_pages_are_discarded_too() {
        let segment = segment(4 * page_size());
        segment.commit(0..segment.len()).expect("committed");
        segment.copy_in(0, &[3; 8]);
        // SAFETY: the whole mapping, which lives longer than the lock.
        let locked = unsafe { rustix::mm::mlock(segment.base.as_ptr().cast(), segment.len()) };
        locked.expect("a few pages can be locked");
        segment.discard(0..segment.len()).expect("by its descriptor");
        let mut bytes = [1; 8];
        segment.copy_out(0, &mut bytes);
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn nobody_can_shrink_a_segment() {
        let segment = segment(page_size());
        assert!(rustix::fs::ftruncate(segment.fd(), 0).is_err());
    }

    #[test]
    #[should_panic(expected = "outside a segment")]
    fn a_word_outside_is_refused() {
        let segment = segment(page_size());
        let _ = segment.word64(page_size());
    }

    #[test]
    #[should_panic(expected = "multiple of 8")]
    fn a_crooked_word_is_refused() {
        let segment = segment(page_size());
        let _ = segment.word64(4);
    }

    #[test]
    #[should_panic(expected = "outside a segment")]
    fn a_length_that_wraps_is_refused() {
        let segment = segment(page_size());
        let _ = segment.pointer(8, usize::MAX);
    }
}
