//! How many threads are in haste (`ffi::Haste`).

use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_os::process;

/// In its lower half how many, and in its upper half in which process: the child of a fork has none of them.
static HASTY: AtomicU64 = AtomicU64::new(0);

pub(crate) fn one_more() {
    change(|count| count + 1);
}

pub(crate) fn one_less() {
    // None is left where a thread in haste forks, and its child goes on.
    change(|count| count.saturating_sub(1));
}

/// Whether a thread of this process is in haste.
pub(crate) fn is_any() -> bool {
    count_in(HASTY.load(Ordering::Relaxed)) > 0
}

fn change(count: impl Fn(u32) -> u32) {
    let process = u64::from(process::fork_count()) << 32;
    _ = HASTY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |noted| {
        Some(process | u64::from(count(count_in(noted))))
    });
}

fn count_in(noted: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the halves of a word")]
    let (process, count) = ((noted >> 32) as u32, noted as u32);
    if process == process::fork_count() { count } else { 0 }
}
