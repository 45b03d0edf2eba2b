"""One system call fails while a pool starts, or replaces a worker: nothing hangs, nothing is left.

Found by use, with all descriptors taken: a zygote or a worker that could not be started stayed
"starting" forever. So each call is made to fail, once; a part of them here, all by `make faults`.
In the same moments processes are killed, be it parent, zygote or worker.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from rules import SUPPORT

PROGRAM = SUPPORT / "start_faults.py"

# Which calls may fail so, and are made.
MAKE_DESCRIPTORS = [
    *("dup2", "dup3", "epoll_create1", "eventfd2", "fcntl", "memfd_create", "openat"),
    *("pidfd_open", "pipe2", "socket", "socketpair"),
]
ASK_FOR_MEMORY = [
    *("chdir", "clone", "clone3", "close_range", "epoll_ctl", "epoll_pwait", "execve"),
    *("fallocate", "fork", "fstat", "ftruncate", "getcwd", "getdents64", "getsockname"),
    *("getsockopt", "madvise", "mmap", "mprotect", "munmap", "poll", "ppoll", "readlink"),
    *("readlinkat", "recvmsg", "sendmsg", "sendto", "statx", "vfork", "wait4", "waitid"),
]
MAY_BE_FORBIDDEN = [
    *("getrandom", "ioctl", "kill", "pidfd_send_signal", "prctl", "prlimit64"),
    *("sched_getaffinity", "set_robust_list", "sysinfo", "uname"),
]
MAY_HAVE_TO_WAIT = [
    *("clone", "clone3", "epoll_pwait", "execve", "fork", "getrandom", "mmap", "poll", "ppoll"),
    *("recvmsg", "sendmsg", "sendto", "vfork", "wait4", "waitid"),
]
# CPython takes a folder that it may not list once for an empty one, for good.
NO_RIGHTS = [
    call for call in MAKE_DESCRIPTORS + ASK_FOR_MEMORY if call not in {"getdents64", "openat"}
]
CALLS = {
    "EMFILE": MAKE_DESCRIPTORS,
    "EAGAIN": MAY_HAVE_TO_WAIT,
    "ENOMEM": MAKE_DESCRIPTORS + ASK_FOR_MEMORY,
    "EPERM": NO_RIGHTS + MAY_BE_FORBIDDEN,
    # No fault, but a moment in which any process may be killed, as for want of memory.
    "SIGKILL": MAKE_DESCRIPTORS + ASK_FOR_MEMORY,
}
EXPERIMENTS = [
    (experiment, error)
    for experiment in ("pool_of_processes", "replacement", "pool_of_threads", "shared_objects")
    for error in CALLS
    # Threads need no descriptors, and shared objects no threads.
    if (experiment, error) not in {("pool_of_threads", "EMFILE"), ("shared_objects", "EAGAIN")}
]


def inject(experiment: str, error: str, each: int, most: int, patience: float) -> None:
    calls = ",".join(CALLS[error])
    done = subprocess.run(
        [sys.executable, str(PROGRAM), experiment, error, calls, str(each), str(most)],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *found, last = done.stdout.splitlines()
    if last == "cannot":
        pytest.skip(found[0])
    assert not found, "\n".join(found)
    assert int(last.removesuffix(" faults")) > 0


@pytest.mark.parametrize(("experiment", "error"), EXPERIMENTS)
@pytest.mark.timeout(300)
def test_some_faults(experiment: str, error: str) -> None:
    inject(experiment, error, 2, 30, 280)


@pytest.mark.faults
@pytest.mark.parametrize(("experiment", "error"), EXPERIMENTS)
@pytest.mark.timeout(3600)
def test_every_fault(experiment: str, error: str) -> None:
    inject(experiment, error, 10_000, 10_000, 3500)
