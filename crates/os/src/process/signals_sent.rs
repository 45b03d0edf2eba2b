//! When a signal that has been sent is felt, if nobody can say whom it was sent to.

use crate::clock::{self, MILLISECOND};

/// How long is waited where the kernel cannot tell.
const INSTEAD: u64 = 10 * MILLISECOND;

/// Returns once no process that had been sent SIGKILL before runs any instruction of its own.
///
/// One that runs on another CPU goes on until that CPU is interrupted, which takes microseconds. Whoever knows the process waits
/// for its end; this is for those who do not. It may take some milliseconds, and tens of them.
///
/// ```
/// manyhands_os::process::wait_for_signals_sent();
/// ```
pub fn wait_for_signals_sent() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: this command has no arguments, and touches no memory of ours. It waits until each CPU has gone through the kernel:
    // what a signal has been sent to does not come back from there.
    let outcome = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if outcome != 0 {
        // A sandbox may refuse it, and so do kernels whose CPUs run without a tick.
        crate::park::sleep_until(clock::now() + INSTEAD);
    }
}
