//! Killing a process at every single store to shared memory.

use super::{Child, News, stop_for_tracing};

/// Has a child run `act` and kills it before its first store to shared memory; then, on a new ground, has a new child
/// killed right after the first store that changed something; then after the second, and so on until one comes to the
/// end. Calls `survive` after each death.
///
/// `ground` makes what parent and child share, `memory` copies the part to watch, and `prepare` is what the
/// child does before that. `act` must not wait forever. Returns the number of deaths.
pub(crate) fn kill_at_every_store<G>(
    ground: impl Fn() -> G,
    memory: impl Fn(&G) -> Vec<u8>,
    prepare: impl Fn(&G),
    act: impl Fn(&G),
    survive: impl Fn(&G, &str),
) -> usize {
    for stores in 0.. {
        let ground = ground();
        let child = Child::run(|| {
            prepare(&ground);
            begin();
            act(&ground);
            end();
        });
        assert_eq!(child.wait(), News::Stopped, "could not be traced");
        let ended = run_until_stored(&child, stores, || memory(&ground));
        child.kill();
        survive(&ground, &format!("killed after {stores} stores"));
        if ended {
            assert!(stores > 1, "nothing was stored");
            return stores;
        }
    }
    unreachable!("there are more numbers than stores")
}

/// Has a child run `act` once, and calls `stored` before its first store to shared memory and after each. What a process
/// would leave behind that is killed there is what the memory holds then: nobody can see in it that this child lives on
/// for a while.
#[allow(dead_code, reason = "not every test looks at memory in this way")]
pub(crate) fn look_at_every_store(prepare: impl FnOnce(), act: impl FnOnce(), stored: impl FnMut()) {
    let child = Child::run(|| {
        prepare();
        begin();
        act();
        end();
    });
    assert_eq!(child.wait(), News::Stopped, "could not be traced");
    let stored = std::cell::RefCell::new(stored);
    run_until_stored(&child, usize::MAX, || {
        (stored.borrow_mut())();
        Vec::new()
    });
}

/// Called in the child, before what it is killed at.
#[cfg(target_arch = "x86_64")]
fn begin() {
    // More than any operation takes: then it waits for something that does not come.
    // SAFETY: plain system call.
    unsafe { libc::alarm(60) };
    super::guarded::forbid_stores();
    stop_for_tracing();
}

/// Called in the child: its end is not part of what it is killed at.
#[cfg(target_arch = "x86_64")]
fn end() {
    super::guarded::allow_stores();
    // SAFETY: ends the child at once.
    unsafe { libc::_exit(0) };
}

/// Lets a child run until memory has changed `stores` times; returns whether it came to its end before.
#[cfg(target_arch = "x86_64")]
fn run_until_stored(child: &Child, stores: usize, memory: impl Fn() -> Vec<u8>) -> bool {
    let guarded = super::guarded::Guarded::new(child);
    let mut before = memory();
    let mut left = stores;
    while left > 0 {
        let news = guarded.run_to_store();
        if news != News::Stopped {
            assert_eq!(news, News::Exited(0), "after {} stores", stores - left);
            return true;
        }
        let now = memory();
        if now != before {
            left -= 1;
            before = now;
        }
    }
    guarded.allow_stores();
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn begin() {
    stop_for_tracing();
}

#[cfg(not(target_arch = "x86_64"))]
fn end() {}

/// As above, one instruction after the other: slow, but the same on every machine.
#[cfg(not(target_arch = "x86_64"))]
fn run_until_stored(child: &Child, stores: usize, memory: impl Fn() -> Vec<u8>) -> bool {
    let mut before = memory();
    let mut left = stores;
    while left > 0 {
        let news = child.step();
        if news != News::Stopped {
            assert_eq!(news, News::Exited(0), "after {} stores", stores - left);
            return true;
        }
        let now = memory();
        if now != before {
            left -= 1;
            before = now;
        }
    }
    false
}
