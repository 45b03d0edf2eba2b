//! A queue by name, programs that take from it, one of them killed: `cargo run --release -p manyhands-channel --example
//! killed_consumer`.

use std::error::Error;
use std::io::{self, Write};

use manyhands_channel::queue::{Item, Kind, Message, Options, Queue, TaskError};
use manyhands_os::process::{self, ExitStatus, Spawn};
use manyhands_sync::Patience;
use manyhands_sync::names::{self, Wanted, make_or_open};
use manyhands_sync::site::SITE_BYTES;
use manyhands_sync::waiting::Patient;

const TASKS: u64 = 100_000;

/// Addresses, not memory: what is not used costs nothing.
const LEN: usize = 64 << 20;

/// The queue that every program of this user gets by this name.
fn queue(name: &str) -> Result<Queue, Box<dyn Error>> {
    let wanted =
        Wanted { kind: names::Kind::JoinableQueue, name: Some(name), parameters: [0; 16], body: LEN };
    let region = SITE_BYTES..SITE_BYTES + LEN;
    let options = Options { kind: Kind::Fifo, maxsize: 1000, joinable: true };
    let found = make_or_open(&wanted, |site| {
        Queue::create(site.clone(), region.clone(), options).map(drop).map_err(io::Error::other)
    })?;
    found.site.enter();
    Ok(Queue::attach(found.site, region)?)
}

fn number(mut item: Item<'_>) -> Result<u64, std::array::TryFromSliceError> {
    let mut bytes = Vec::new();
    item.read_to_end(&mut bytes);
    Ok(u64::from_le_bytes(bytes.as_slice().try_into()?))
}

/// What the other programs do, until the queue is closed and empty.
fn consume(name: &str) -> Result<(), Box<dyn Error>> {
    let queue = queue(name)?;
    while let Ok(number) = queue.get(Patience::Forever, &mut Patient, number) {
        // The work: some microseconds.
        let number = number?;
        std::hint::black_box((1..3000).filter(|divisor| number.is_multiple_of(*divisor)).count());
        queue.task_done(1, &mut Patient)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return consume(&name);
    }
    let name = format!("killed_consumer {}", process::pid());
    let queue = queue(&name)?;
    let program = std::env::current_exe()?;
    let args = [name.into()];
    let start = || process::spawn(&Spawn { program: program.as_os_str(), args: &args, env: &[], fds: &[] });
    let consumers = [start()?, start()?];
    for number in 0..TASKS {
        queue.put(&Message::new(0, &[&number.to_le_bytes()]), Patience::Forever, &mut Patient)?;
        if number == TASKS / 2 {
            // In the middle of something, most probably.
            consumers[0].send_signal(9)?;
        }
    }
    let mut out = io::stdout();
    match queue.join(Patience::Forever, &mut Patient) {
        Ok(()) => writeln!(out, "it was killed between two tasks: all {TASKS} are done")?,
        Err(TaskError::Lost(dead)) => {
            for (who, count) in dead {
                writeln!(out, "process {} died with {count} task that it had taken", who.pid())?;
            }
            queue.write_off(&mut Patient)?;
            queue.join(Patience::Forever, &mut Patient)?;
            writeln!(out, "all others of {TASKS} are done")?;
        }
        Err(error) => return Err(error.into()),
    }
    queue.close(false, &mut Patient)?;
    for consumer in &consumers {
        let status = loop {
            if let Some(status) = process::reap(consumer)? {
                break status;
            }
            std::thread::yield_now();
        };
        let expected =
            if consumer.pid() == consumers[0].pid() { ExitStatus::Signal(9) } else { ExitStatus::Code(0) };
        assert_eq!(status, expected);
    }
    Ok(writeln!(out, "{:?}", queue.statistics())?)
}
