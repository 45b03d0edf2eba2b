//! How fast blocks are: `cargo run --release -p manyhands-channel --example arena_speed`.

use std::io::{self, Write};
use std::sync::Arc;

use manyhands_channel::arena::{Arena, Block, Participant};
use manyhands_os::clock;
use manyhands_os::memory::Segment;

const MIB: usize = 1 << 20;

fn main() -> io::Result<()> {
    let segment = Arc::new(Segment::create(c"speed", 1 << 30)?);
    let region = 0..segment.len();
    let parent = Arena::create(Arc::clone(&segment), region.clone())?;
    let worker = Arena::attach(segment, region, Participant::from(1))?;
    let held = parent.allocate(64).map_err(io::Error::other)?;
    let (large, chunk) = (vec![1; 64 * MIB], vec![1; MIB]);

    for len in [256, 4096, 65_536, 500_000, MIB, 64 * MIB] {
        report(&format!("allocate and drop, {len} bytes"), || drop(must(parent.allocate(len))))?;
    }
    report("clone and drop", || drop(held.clone()))?;
    report("open and drop", || drop(must(worker.open(held.reference()))))?;
    report("allocate, open elsewhere, drop both", || {
        let block = must(parent.allocate(1000));
        let opened = must(worker.open(block.reference()));
        drop(block);
        drop(opened);
    })?;
    report("allocate, hand over, accept, drop", || {
        let reference = must(worker.allocate(1000)).hand_over(Participant::PARENT);
        drop(must(parent.accept(reference)));
    })?;
    report("1 MiB: allocate, copy in, drop", || {
        must(parent.allocate(MIB)).write(0, &chunk);
    })?;
    report("64 MiB: allocate, copy in, drop", || {
        must(parent.allocate(64 * MIB)).write(0, &large);
    })?;
    report("64 MiB: the same in new memory", || {
        parent.trim(0);
        must(parent.allocate(64 * MIB)).write(0, &large);
    })?;
    let kept: Vec<Block> = (0..100_000).map(|_| must(parent.allocate(300))).collect();
    report("allocate and drop beside 100,000 blocks", || drop(must(parent.allocate(300))))?;
    let start = clock::now();
    parent.reclaim(Participant::from(2));
    let spent = (clock::now() - start) as f64 / 1e6;
    writeln!(io::stdout(), "{:44}{spent:12.2} ms", "reclaim with 100,000 blocks")?;
    drop(kept);
    Ok(())
}

fn must<T, E: std::fmt::Debug>(outcome: Result<T, E>) -> T {
    outcome.expect("room for the example")
}

/// The median time of `act` over some rounds of a few milliseconds each.
fn report(what: &str, mut act: impl FnMut()) -> io::Result<()> {
    const ROUNDS: usize = 7;
    let mut calls = 1_u64;
    let mut times = Vec::new();
    while times.len() < ROUNDS {
        let start = clock::now();
        (0..calls).for_each(|_| act());
        let spent = clock::now() - start;
        if spent < 3 * clock::MILLISECOND {
            calls *= 2;
        } else {
            times.push(spent as f64 / calls as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    writeln!(io::stdout(), "{what:44}{median:12.1} ns")
}
