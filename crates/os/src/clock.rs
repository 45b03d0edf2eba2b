//! The one clock to wait by: `CLOCK_MONOTONIC`, in nanoseconds, comparable between all processes of the machine.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds; the same moment in every process of the machine.
pub type Deadline = u64;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// The present moment.
///
/// ```
/// let start = manyhands_os::clock::now();
/// assert!(manyhands_os::clock::now() >= start);
/// ```
#[must_use]
pub fn now() -> Deadline {
    from_timespec(clock_gettime(ClockId::Monotonic))
}

/// The present moment as calendars have it: nanoseconds since 1970. Whoever sets the clock moves it, so never wait by it.
///
/// ```
/// assert!(manyhands_os::clock::since_1970() > 1_700_000_000 * manyhands_os::clock::SECOND);
/// ```
#[must_use]
pub fn since_1970() -> u64 {
    from_timespec(clock_gettime(ClockId::Realtime))
}

/// A length of time in seconds.
///
/// ```
/// assert_eq!(manyhands_os::clock::seconds(1_500_000_000), 1.5);
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a microsecond in a century")]
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND as f64
}

/// CPU time that the calling thread has used so far, in nanoseconds.
///
/// ```
/// let used = manyhands_os::clock::thread_time();
/// assert!(manyhands_os::clock::thread_time() >= used);
/// ```
#[must_use]
pub fn thread_time() -> u64 {
    from_timespec(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time that all threads of this process have used so far, in nanoseconds.
///
/// ```
/// assert!(manyhands_os::clock::process_time() > 0);
/// ```
#[must_use]
pub fn process_time() -> u64 {
    from_timespec(clock_gettime(ClockId::ProcessCPUTime))
}

/// The moment `seconds` from now. Negative and NaN count as zero; what is too far away to write down is `None`, which
/// every waiting function takes as "no deadline".
///
/// ```
/// assert_eq!(manyhands_os::clock::after(f64::INFINITY), None);
/// assert!(manyhands_os::clock::after(1.5) > Some(manyhands_os::clock::now()));
/// ```
#[must_use]
pub fn after(seconds: f64) -> Option<Deadline> {
    let nanoseconds = seconds.max(0.0) * SECOND as f64;
    // Half of the range keeps the sum, and the kernel's signed seconds, from overflowing.
    if nanoseconds >= (u64::MAX / 2) as f64 {
        return None;
    }
    now().checked_add(nanoseconds as u64)
}

/// Nanoseconds from now to `deadline`, zero when it has passed.
#[must_use]
pub fn until(deadline: Deadline) -> u64 {
    deadline.saturating_sub(now())
}

/// A moment as the kernel writes it.
pub(crate) fn to_timespec(nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as i64 }
}

fn from_timespec(time: Timespec) -> u64 {
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_no_deadline() {
        assert_eq!(after(f64::INFINITY), None);
        assert_eq!(after(1e30), None);
        assert!(after(-1.0).is_some_and(|deadline| deadline <= now()));
        assert!(after(f64::NAN).is_some_and(|deadline| deadline <= now()));
    }
}
