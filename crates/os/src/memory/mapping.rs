//! What the kernel does for a segment. A second version serves Miri, which knows no memfd: there a segment is plain
//! memory of its process, so that the code above can be checked as long as it stays in one process.

#[cfg(not(miri))]
pub(super) use kernel::{
    addresses, commit, create, discard, file, len_of, map, premap, remap, unmap, without_mapping,
};
#[cfg(miri)]
pub(super) use miri::{
    addresses, commit, create, discard, file, len_of, map, premap, remap, unmap, without_mapping,
};

/// Which file a descriptor stands for, whatever its number: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

#[cfg(not(miri))]
mod kernel {
    use std::ffi::CStr;
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::ptr::{NonNull, null_mut};

    use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
    use rustix::io::Errno;
    use rustix::mm::{Advice, MapFlags, ProtFlags};
    use rustix::process::{Resource, getrlimit};

    use super::FileId;
    use crate::refused;

    /// A sealed file of `len` bytes.
    pub(in super::super) fn create(name: &CStr, len: usize) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know NOEXEC_SEAL; some later ones are set up to insist on it.
        let made = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
            outcome => outcome,
        };
        let fd = made.map_err(|error| refused("memfd_create", "there is no shared memory", error))?;
        // Asked before: to try is a signal, which ends programs that do not ignore it.
        let longest = getrlimit(Resource::Fsize).current.filter(|longest| *longest < len as u64);
        if let Some(longest) = longest {
            let text = format!(
                "{len} bytes are needed, and files of this process are limited to {longest} bytes (ulimit -f)"
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        }
        rustix::fs::ftruncate(&fd, len as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(fd)
    }

    /// The length of a file made by [`create`]; 0 for any other.
    pub(in super::super) fn len_of(fd: &OwnedFd) -> io::Result<usize> {
        let sealed = rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        Ok(if sealed { rustix::fs::fstat(fd)?.st_size as usize } else { 0 })
    }

    /// Which file it is.
    pub(in super::super) fn file(fd: &OwnedFd) -> io::Result<FileId> {
        let status = rustix::fs::fstat(fd)?;
        Ok(FileId { device: status.st_dev, inode: status.st_ino })
    }

    /// The most bytes of addresses that this process may have (`ulimit -v`), if that is limited.
    pub(in super::super) fn addresses() -> Option<usize> {
        getrlimit(Resource::As).current.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    pub(in super::super) fn map(fd: &OwnedFd, len: usize) -> io::Result<NonNull<u8>> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { rustix::mm::mmap(null_mut(), len, protection, flags, fd, 0) }?;
        // A core dump of a worker must not contain everybody's data. Only advice: failure changes nothing.
        // SAFETY: the range is the mapping just made, and DONTDUMP does not change its contents.
        let _ = unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontDump) };
        Ok(NonNull::new(base.cast()).ok_or(Errno::NOMEM)?)
    }

    /// # Safety
    /// The mapping was made by [`map`], and nobody uses it any more.
    pub(in super::super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        // SAFETY: promised by the caller.
        let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), len) };
    }

    /// Maps the same pages of the same file at the same place again, for this process alone or again for all.
    ///
    /// # Safety
    /// The address is that of whole mapped pages, which are those of `fd` from byte `start` on.
    pub(in super::super) unsafe fn remap(
        address: NonNull<u8>,
        len: usize,
        fd: BorrowedFd<'_>,
        start: usize,
        private: bool,
    ) -> rustix::io::Result<()> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let kind = if private { MapFlags::PRIVATE } else { MapFlags::SHARED };
        let flags = kind | MapFlags::FIXED | MapFlags::NORESERVE;
        let address = address.as_ptr().cast();
        // SAFETY: what it replaces is a mapping of the same bytes, promised by the caller.
        unsafe { rustix::mm::mmap(address, len, protection, flags, fd, start as u64) }?;
        // As its neighbours, or it would never be one mapping with them again.
        // SAFETY: the range is the mapping just made, and DONTDUMP does not change its contents.
        let _ = unsafe { rustix::mm::madvise(address, len, Advice::LinuxDontDump) };
        Ok(())
    }

    /// Makes the pages exist and has them mapped, for writing. `INVAL` where that cannot be done by the mapping.
    ///
    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn commit(address: NonNull<u8>, len: usize) -> rustix::io::Result<()> {
        // SAFETY: promised by the caller.
        match unsafe { premap(address, len) } {
            // What a first touch would be told by SIGBUS: there is no memory for it.
            Err(Errno::FAULT) => Err(Errno::NOMEM),
            outcome => outcome,
        }
    }

    /// Frees the pages, of the file that is mapped there. `INVAL` where that cannot be done by the mapping.
    ///
    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn discard(address: NonNull<u8>, len: usize) -> rustix::io::Result<()> {
        // SAFETY: promised by the caller; nobody makes references to bytes of a segment, so that pages may become zero.
        unsafe { rustix::mm::madvise(address.as_ptr().cast(), len, Advice::LinuxRemove) }
    }

    /// Makes the pages exist (`commit`) or frees them, by the descriptor of their file.
    pub(in super::super) fn without_mapping(
        fd: &OwnedFd,
        commit: bool,
        start: usize,
        len: usize,
    ) -> rustix::io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // As in `create`, the file is as long as the mapping: never made longer.
        let mode = if commit { FallocateFlags::KEEP_SIZE } else { hole };
        rustix::fs::fallocate(fd, mode, start as u64, len as u64)
    }

    /// Has the pages mapped, for writing.
    ///
    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn premap(address: NonNull<u8>, len: usize) -> rustix::io::Result<()> {
        // SAFETY: promised by the caller; POPULATE_WRITE does not change the contents.
        unsafe { rustix::mm::madvise(address.as_ptr().cast(), len, Advice::LinuxPopulateWrite) }
    }
}

#[cfg(miri)]
mod miri {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ffi::CStr;
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::ptr::NonNull;

    use super::super::page_size;
    use super::FileId;

    /// Some descriptor, as a segment has one.
    pub(in super::super) fn create(_name: &CStr, _len: usize) -> io::Result<OwnedFd> {
        Ok(io::pipe()?.0.into())
    }

    /// No segment can be shared here.
    pub(in super::super) fn len_of(_fd: &OwnedFd) -> io::Result<usize> {
        Ok(0)
    }

    /// No two descriptors have the same number at a time.
    #[expect(clippy::unnecessary_wraps, reason = "as the real one")]
    pub(in super::super) fn file(fd: &OwnedFd) -> io::Result<FileId> {
        Ok(FileId { device: 0, inode: std::os::fd::AsRawFd::as_raw_fd(fd) as u64 })
    }

    /// Not limited here.
    pub(in super::super) fn addresses() -> Option<usize> {
        None
    }

    fn layout(len: usize) -> io::Result<Layout> {
        Layout::from_size_align(len, page_size()).map_err(io::Error::other)
    }

    pub(in super::super) fn map(_fd: &OwnedFd, len: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: the length is never zero.
        let base = unsafe { alloc_zeroed(layout(len)?) };
        NonNull::new(base).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    /// The mapping was made by [`map`], and nobody uses it any more.
    pub(in super::super) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        if let Ok(layout) = layout(len) {
            // SAFETY: promised by the caller.
            unsafe { dealloc(base.as_ptr(), layout) };
        }
    }

    /// There is one process here: it is alone.
    ///
    /// # Safety
    /// None is needed.
    pub(in super::super) unsafe fn remap(
        _address: NonNull<u8>,
        _len: usize,
        _fd: BorrowedFd<'_>,
        _start: usize,
        _private: bool,
    ) -> rustix::io::Result<()> {
        Ok(())
    }

    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn commit(_address: NonNull<u8>, _len: usize) -> rustix::io::Result<()> {
        Ok(())
    }

    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn discard(address: NonNull<u8>, len: usize) -> rustix::io::Result<()> {
        // SAFETY: promised by the caller.
        unsafe { address.write_bytes(0, len) };
        Ok(())
    }

    /// Never needed here.
    pub(in super::super) fn without_mapping(
        _fd: &OwnedFd,
        _commit: bool,
        _start: usize,
        _len: usize,
    ) -> rustix::io::Result<()> {
        Ok(())
    }

    /// # Safety
    /// The address is that of mapped pages.
    pub(in super::super) unsafe fn premap(_address: NonNull<u8>, _len: usize) -> rustix::io::Result<()> {
        Ok(())
    }
}
