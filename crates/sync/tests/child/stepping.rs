//! Killing a process at every single store to shared memory.

use std::ops::Range;
use std::sync::LazyLock;

use super::{Child, News, stop_for_tracing};

/// More instructions than any operation takes: beyond, it waits for something that does not come.
const MOST_STEPS: usize = 400_000;

/// Lets a child run `act` instruction by instruction, and kills it before the first of them that changes shared memory;
/// then, on a new ground, has a new child killed right after that change; then after the second change, and so on until
/// one comes to the end. Calls `survive` after each death.
///
/// `ground` makes what parent and child share, `memory` copies what is to be watched of it, and `prepare` is what the
/// child does before the tracing begins. `act` must not wait for ever. Returns the number of deaths.
pub(crate) fn kill_at_every_store<G>(
    ground: impl Fn() -> G,
    memory: impl Fn(&G) -> Vec<u8>,
    prepare: impl Fn(&G),
    act: impl Fn(&G),
    survive: impl Fn(&G, &str),
) -> usize {
    // Counting changes and not instructions: how many of those there are differs from run to run.
    for stores in 0.. {
        let ground = ground();
        let child = Child::run(|| {
            prepare(&ground);
            stop_for_tracing();
            act(&ground);
        });
        assert_eq!(child.wait(), News::Stopped, "could not be traced");
        let ended = step_until_stored(&child, stores, || memory(&ground));
        child.kill();
        survive(&ground, &format!("killed after {stores} stores"));
        if ended {
            assert!(stores > 1, "nothing was stored");
            return stores;
        }
    }
    unreachable!("there are more numbers than stores")
}

/// Lets a child run until memory has changed `stores` times; returns whether it came to its end before.
fn step_until_stored(child: &Child, stores: usize, memory: impl Fn() -> Vec<u8>) -> bool {
    let mut before = memory();
    let mut left = stores;
    for steps in 1..MOST_STEPS {
        if left == 0 {
            return false;
        }
        let news = step(child);
        if news != News::Stopped {
            assert_eq!(news, News::Exited(0), "after {steps} instructions");
            return true;
        }
        let now = memory();
        if now != before {
            left -= 1;
            before = now;
        }
    }
    panic!("it never ends");
}

/// One instruction; where it calls the kernel's code for reading the clock, all of that. Read at the speed of tracing,
/// the clock would change under the reader again and again, who then begins anew.
fn step(child: &Child) -> News {
    let news = child.step();
    if news == News::Stopped && CLOCK.contains(&child.registers().rip) {
        // It has just been called.
        let return_to = child.peek(child.registers().rsp);
        child.run_to(return_to)
    } else {
        news
    }
}

/// Where the kernel has mapped that code: at the same place in parent and child.
static CLOCK: LazyLock<Range<u64>> = LazyLock::new(|| {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("what is mapped");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap_or("0-0");
    let (range, _) = line.split_once(' ').unwrap_or((line, ""));
    let (start, end) = range.split_once('-').expect("two addresses");
    let parse = |text: &str| u64::from_str_radix(text, 16).expect("an address");
    parse(start)..parse(end)
});

impl Child {
    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: plain numbers.
        let mut registers = unsafe { std::mem::zeroed::<libc::user_regs_struct>() };
        // SAFETY: our own child, stopped and traced; there is room for what is read.
        let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers) };
        assert_eq!(read, 0, "{}", std::io::Error::last_os_error());
        registers
    }

    fn peek(&self, address: u64) -> u64 {
        // SAFETY: our own child, stopped and traced.
        let word = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.pid, address, 0) };
        word as u64
    }

    fn poke(&self, address: u64, word: u64) {
        // SAFETY: our own child, stopped and traced, of whose program we know what we change.
        let written = unsafe { libc::ptrace(libc::PTRACE_POKETEXT, self.pid, address, word) };
        assert_eq!(written, 0, "{}", std::io::Error::last_os_error());
    }

    /// Lets a child that is traced run until it comes to `address`.
    fn run_to(&self, address: u64) -> News {
        const BREAKPOINT: u64 = 0xcc;
        let code = self.peek(address);
        self.poke(address, code & !0xff | BREAKPOINT);
        // SAFETY: our own child, stopped and traced.
        let continued = unsafe { libc::ptrace(libc::PTRACE_CONT, self.pid, 0, 0) };
        assert_eq!(continued, 0, "{}", std::io::Error::last_os_error());
        let news = self.wait();
        if news == News::Stopped {
            self.poke(address, code);
            let mut registers = self.registers();
            assert_eq!(registers.rip, address + 1, "stopped by something else");
            registers.rip = address;
            // SAFETY: our own child, stopped and traced.
            let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, &raw const registers) };
            assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        }
        news
    }
}
