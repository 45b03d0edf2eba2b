//! Running a traced child from one store to shared memory to the next, at full speed in between: its shared mappings are
//! read-only, so each store stops it; then the mappings are made writable for that one instruction.

use std::fs;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::{Child, News};

/// What a child does before it acts: its mappings of memfds become read-only.
pub(crate) fn forbid_stores() {
    protect_own(libc::PROT_READ);
}

/// What a child does before it ends: the kernel has to mark words there.
pub(crate) fn allow_stores() {
    protect_own(libc::PROT_READ | libc::PROT_WRITE);
}

fn protect_own(protection: i32) {
    for range in shared_mappings("self") {
        // SAFETY: memory that this process has mapped; a thread that stores there while it is read-only is stopped, and watched.
        let done = unsafe { libc::mprotect(range.start as *mut _, range.len(), protection) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

/// Where a process has mapped memfds.
fn shared_mappings(process: &str) -> Vec<Range<usize>> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("readable");
    let range = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    };
    maps.lines().filter(|line| line.contains("/memfd:")).filter_map(range).collect()
}

/// A stopped child whose shared mappings are read-only.
pub(crate) struct Guarded<'a> {
    child: &'a Child,
    ranges: Vec<Range<usize>>,
}

impl<'a> Guarded<'a> {
    pub(crate) fn new(child: &'a Child) -> Self {
        let ranges = shared_mappings(&child.pid().to_string());
        assert!(!ranges.is_empty(), "nothing is shared");
        Self { child, ranges }
    }

    /// Runs it until it has made one more store; returns what became of it.
    pub(crate) fn run_to_store(&self) -> News {
        self.request(libc::PTRACE_CONT);
        match self.stop_signal() {
            Err(ended) => return ended,
            Ok(signal) => assert_eq!(signal, libc::SIGSEGV, "stopped otherwise; SIGALRM: it never ends"),
        }
        let before = self.registers();
        assert!(self.faults_in_shared_memory(), "a fault of its own, at {:#x}", before.rip);
        self.protect(libc::PROT_READ | libc::PROT_WRITE);
        self.set_registers(&before);
        self.request(libc::PTRACE_SINGLESTEP);
        assert_eq!(self.stop_signal(), Ok(libc::SIGTRAP));
        let after = self.registers();
        self.protect(libc::PROT_READ);
        self.set_registers(&after);
        News::Stopped
    }

    /// Makes the mappings writable, as the kernel has to mark words in them when the child dies.
    pub(crate) fn allow_stores(&self) {
        self.protect(libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Has the child change the protection of its mappings. Its registers must be set afterwards.
    fn protect(&self, protection: i32) {
        for range in &self.ranges {
            let mut registers = self.registers();
            registers.rip = system_call();
            registers.rax = libc::SYS_mprotect as u64;
            // It is in no system call that could be begun again.
            registers.orig_rax = u64::MAX;
            registers.rdi = range.start as u64;
            registers.rsi = range.len() as u64;
            registers.rdx = protection as u64;
            self.set_registers(&registers);
            self.request(libc::PTRACE_SINGLESTEP);
            assert_eq!(self.stop_signal(), Ok(libc::SIGTRAP));
            assert_eq!(self.registers().rax, 0, "mprotect failed");
        }
    }

    fn faults_in_shared_memory(&self) -> bool {
        let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: our own child, stopped and traced; room for the answer.
        let done =
            unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, self.child.pid(), 0, information.as_mut_ptr()) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: filled by the kernel.
        let information = unsafe { information.assume_init() };
        // SAFETY: of a fault, so there is an address.
        let address = unsafe { information.si_addr() } as usize;
        self.ranges.iter().any(|range| range.contains(&address))
    }

    fn request(&self, request: libc::c_uint) {
        // SAFETY: our own child, stopped and traced.
        let done = unsafe { libc::ptrace(request, self.child.pid(), 0, 0) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    fn registers(&self) -> libc::user_regs_struct {
        let mut registers = MaybeUninit::uninit();
        // SAFETY: our own child, stopped and traced; room for the answer.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.child.pid(), 0, registers.as_mut_ptr()) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: filled by the kernel.
        unsafe { registers.assume_init() }
    }

    fn set_registers(&self, registers: &libc::user_regs_struct) {
        // SAFETY: our own child, stopped and traced.
        let done = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.child.pid(), 0, registers) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Waits until it stops: by which signal; or what became of it.
    fn stop_signal(&self) -> Result<i32, News> {
        let (news, signal) = self.child.wait_for_signal();
        if news == News::Stopped { Ok(signal) } else { Err(news) }
    }
}

/// The address of a system call instruction, in this process and in its forked children.
fn system_call() -> u64 {
    let function = libc::syscall as *const () as usize;
    // SAFETY: the first bytes of a function of the C library, which is longer.
    let code = unsafe { std::slice::from_raw_parts(function as *const u8, 64) };
    let at = code.windows(2).position(|pair| pair == [0x0f, 0x05]).expect("it makes a system call");
    (function + at) as u64
}
