//! Two programs and one lock; the one that has it is killed: `cargo run --release -p manyhands-sync --example killed_owner`.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;

use manyhands_os::clock::{self, MILLISECOND};
use manyhands_os::park;
use manyhands_os::process::{self, ExitStatus, Spawn, identity, thread_id};
use manyhands_sync::lock::{Acquired, LOCK_BYTES, Lock};
use manyhands_sync::names::{Kind, Wanted, make_or_open};
use manyhands_sync::site::SITE_BYTES;
use manyhands_sync::waiting::Patient;
use manyhands_sync::{Patience, SpinPolicy};

/// The lock that every program of this user gets by this name.
fn lock(name: &str) -> Result<Lock, Box<dyn Error>> {
    let wanted = Wanted { kind: Kind::Lock, name: Some(name), parameters: [0; 16], body: LOCK_BYTES };
    let found = make_or_open(&wanted, |site| site.segment().commit(SITE_BYTES..SITE_BYTES + LOCK_BYTES))?;
    found.site.enter();
    Ok(Lock::at(Arc::clone(&found.site), SITE_BYTES)?)
}

/// What the other program does: it takes the lock and is never heard of again.
fn own(name: &str) -> Result<(), Box<dyn Error>> {
    let lock = lock(name)?;
    assert!(lock.try_acquire(identity(), thread_id()), "nobody else has it");
    loop {
        park::sleep_until(clock::now() + 1000 * MILLISECOND);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let Some(name) = arguments.next() {
        return own(&name);
    }
    let name = format!("killed_owner {}", process::pid());
    let lock = lock(&name)?;
    let program = std::env::current_exe()?;
    let args = [name.into()];
    let other = process::spawn(&Spawn { program: program.as_os_str(), args: &args, env: &[], fds: &[] })?;
    while lock.owner().is_none() {
        std::thread::yield_now();
    }
    let (acquired, killed) = std::thread::scope(|scope| -> io::Result<_> {
        let waiter = scope.spawn(|| {
            let spin = SpinPolicy::none();
            (lock.acquire(identity(), thread_id(), Patience::Forever, &spin, &mut Patient), clock::now())
        });
        while !lock.word().events().has_sleepers() {
            std::thread::yield_now();
        }
        // Asleep by now, most probably.
        park::sleep_until(clock::now() + MILLISECOND);
        let killed = clock::now();
        other.send_signal(9)?;
        let (acquired, at) = waiter.join().expect("a patient waiter does not panic");
        Ok((acquired, at - killed))
    })?;
    let mut out = io::stdout();
    let Ok(Acquired::Abandoned(dead)) = acquired else { return Err(format!("{acquired:?}").into()) };
    writeln!(out, "process {} was killed; its lock is ours after {} µs", dead.pid(), killed / 1000)?;
    // Whatever the lock protects may be half-changed. Here it is nothing, so:
    lock.recover(identity());
    lock.release(identity())?;
    // The lock was ours before the kernel had finished with its owner.
    let status = loop {
        if let Some(status) = process::reap(&other)? {
            break status;
        }
        std::thread::yield_now();
    };
    assert_eq!(status, ExitStatus::Signal(9));

    let turns: u32 = 10_000_000;
    let start = clock::now();
    for _ in 0..turns {
        let me = identity();
        assert!(lock.try_acquire(me, thread_id()));
        lock.release(me)?;
    }
    let each = (clock::now() - start) as f64 / f64::from(turns);
    writeln!(out, "acquire and release alone: {each:.1} ns")?;
    Ok(())
}
