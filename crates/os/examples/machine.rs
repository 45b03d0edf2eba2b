//! What this machine gives to this process: `cargo run -p manyhands-os --example machine`.

use std::io::{self, Write};

use manyhands_os::{clock, memory, process, procfs};

fn main() -> io::Result<()> {
    const MIB: f64 = (1 << 20) as f64;
    let mut out = io::stdout();
    let quota = procfs::cpu_quota().map_or("none".to_owned(), |cpus| format!("{cpus:.2}"));
    writeln!(out, "CPUs: {} of {} (quota: {quota})", procfs::cpus(), procfs::affinity())?;
    writeln!(out, "memory limit: {:.0} MiB", procfs::memory_limit() as f64 / MIB)?;
    writeln!(out, "page: {} bytes", memory::page_size())?;
    let used = procfs::rss_bytes(process::pid()).unwrap_or(0);
    writeln!(out, "this process: {:.1} MiB resident", used as f64 / MIB)?;

    // What shared memory costs, which is why so much is done to use it again.
    let segment = memory::Segment::create(c"machine", 64 << 20)?;
    let bytes = vec![1; segment.len()];
    for what in ["first", "second"] {
        let start = clock::now();
        segment.commit(0..segment.len())?;
        segment.copy_in(0, &bytes);
        let spent = clock::now() - start;
        writeln!(out, "{what} copy of 64 MiB into shared memory: {:.1} ms", spent as f64 / 1e6)?;
    }
    Ok(())
}
