"""Has one system call fail in a process, or in those that it starts: an injector of faults.

The process under test is forked from the caller. It asks the kernel (seccomp's user notification)
to put certain system calls of its own, and of all that it starts, before its parent, which lets
each go on or fail. So faults can be counted across processes and begin at any moment.

Needs Linux 5.19, and a machine whose numbers of system calls stand below.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

# By machine: AUDIT_ARCH is not looked at, since nothing here runs programs of another one.
NUMBERS = {
    "x86_64": {
        "chdir": 80,
        "clone": 56,
        "clone3": 435,
        "close_range": 436,
        "dup2": 33,
        "dup3": 292,
        "epoll_create1": 291,
        "epoll_ctl": 233,
        "epoll_pwait": 281,
        "eventfd2": 290,
        "execve": 59,
        "fallocate": 285,
        "fcntl": 72,
        "fork": 57,
        "fstat": 5,
        "ftruncate": 77,
        "futex": 202,
        "getcwd": 79,
        "getdents64": 217,
        "getrandom": 318,
        "getsockname": 51,
        "getsockopt": 55,
        "ioctl": 16,
        "kill": 62,
        "lseek": 8,
        "madvise": 28,
        "memfd_create": 319,
        "mmap": 9,
        "mprotect": 10,
        "munmap": 11,
        "newfstatat": 262,
        "openat": 257,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pipe2": 293,
        "poll": 7,
        "ppoll": 271,
        "prctl": 157,
        "pread64": 17,
        "prlimit64": 302,
        "read": 0,
        "readlink": 89,
        "readlinkat": 267,
        "recvmsg": 47,
        "rt_sigaction": 13,
        "rt_sigprocmask": 14,
        "sched_getaffinity": 204,
        "sendmsg": 46,
        "sendto": 44,
        "set_robust_list": 273,
        "socket": 41,
        "socketpair": 53,
        "statx": 332,
        "sysinfo": 99,
        "uname": 63,
        "vfork": 58,
        "wait4": 61,
        "waitid": 247,
        "write": 1,
    },
    "aarch64": {
        "chdir": 49,
        "clone": 220,
        "clone3": 435,
        "close_range": 436,
        "dup3": 24,
        "epoll_create1": 20,
        "epoll_ctl": 21,
        "epoll_pwait": 22,
        "eventfd2": 19,
        "execve": 221,
        "fallocate": 47,
        "fcntl": 25,
        "fstat": 80,
        "ftruncate": 46,
        "futex": 98,
        "getcwd": 17,
        "getdents64": 61,
        "getrandom": 278,
        "getsockname": 204,
        "getsockopt": 209,
        "ioctl": 29,
        "kill": 129,
        "lseek": 62,
        "madvise": 233,
        "memfd_create": 279,
        "mmap": 222,
        "mprotect": 226,
        "munmap": 215,
        "newfstatat": 79,
        "openat": 56,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "pipe2": 59,
        "ppoll": 73,
        "prctl": 167,
        "pread64": 67,
        "prlimit64": 261,
        "read": 63,
        "readlinkat": 78,
        "recvmsg": 212,
        "rt_sigaction": 134,
        "rt_sigprocmask": 135,
        "sched_getaffinity": 123,
        "sendmsg": 211,
        "sendto": 206,
        "set_robust_list": 99,
        "socket": 198,
        "socketpair": 199,
        "statx": 291,
        "sysinfo": 179,
        "uname": 160,
        "wait4": 260,
        "waitid": 95,
        "write": 64,
    },
}.get(platform.machine(), {})
NAMES = {number: name for name, number in NUMBERS.items()}
SECCOMP = {"x86_64": 317, "aarch64": 277}.get(platform.machine(), -1)
PIDFD_GETFD = 438

_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE = 8, 32
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_USER_NOTIFICATION, _ALLOW = 0x7FC00000, 0x7FFF0000
_NO_NEW_PRIVILEGES, _CHILD_SUBREAPER = 38, 36

_libc = ctypes.CDLL(None, use_errno=True)


def _may_inject() -> str:
    """Return why no faults can be injected here, or nothing."""
    if not NUMBERS:
        return "the numbers of this machine's system calls are not known"
    release = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    if release < (5, 19):
        return "Linux is too old"
    child = os.fork()
    if child == 0:
        try:
            _arm(["pipe2"])
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return "" if status == 0 else "seccomp's user notification is not allowed here"


def why_not() -> str:
    """Return why no faults can be injected here, or nothing; asks the kernel once."""
    global _why_not
    if _why_not is None:
        _why_not = _may_inject()
    return _why_not


_why_not: str | None = None


def _arm(calls: list[str]) -> int:
    """Put system calls of the calling thread, and of what it starts, before the listener."""
    numbers = [NUMBERS[call] for call in calls]
    code = [(0x20, 0, 0, 0)]  # load the call's number
    for at, number in enumerate(numbers):
        code.append((0x15, len(numbers) - at, 0, number))  # to the last line if it is this one
    code += [(0x06, 0, 0, _ALLOW), (0x06, 0, 0, _USER_NOTIFICATION)]
    text = b"".join(struct.pack("<HBBI", *line) for line in code)
    lines = ctypes.create_string_buffer(text, len(text))
    program = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(lines))
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    listener: int = _libc.syscall(SECCOMP, _SET_MODE_FILTER, flags, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


@dataclass(frozen=True)
class Fault:
    """The `at`-th call of `call` since counting began, of any process, fails with `error`.

    If that is a signal, as in "SIGKILL", the process gets it in this moment.
    """

    call: str
    at: int
    error: str

    def __str__(self) -> str:
        return f"{self.call} #{self.at} {self.error}"

    @property
    def signal(self) -> int | None:
        """The number of the signal, or None."""
        return getattr(signal, self.error, None)


@dataclass
class Outcome:
    """What became of an experiment.

    Attributes:
        said: what the experiment has written; empty if it has died or hung.
        status: as `os.waitpid` gives it, or None if it had to be killed.
        counts: how often each system call was made since counting began.
        struck: name and number of the thread in which the fault was.
        killed: whether the fault has killed the experiment itself, rather than what it started.
        left: processes that the experiment has left behind.
    """

    said: str = ""
    status: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    struck: str = ""
    killed: bool = False
    left: list[str] = field(default_factory=list)


class Marker:
    """The experiment's way to say what to count; without a descriptor, nothing is."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def begin(self) -> None:
        """Count from here on."""
        self._say(b"+")

    def end(self) -> None:
        """Count no more."""
        self._say(b"-")

    def _say(self, what: bytes) -> None:
        if self._descriptor is not None:
            os.writev(self._descriptor, [what])  # a call that no experiment counts


def run(
    experiment: Callable[[Marker], str],
    calls: list[str],
    fault: Fault | None = None,
    patience: float = 30.0,
) -> Outcome:
    """Run an experiment in a forked child; count its system calls, and have one fail.

    Args:
        experiment: called in the child; what it returns is told.
        calls: the system calls to count.
        fault: which one fails, or None.
        patience: seconds after which the child and all that it has started are killed.
    """
    _libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
    heard, told = os.pipe()
    marks, mark = os.pipe()
    taken, take = os.pipe()
    os.set_blocking(marks, False)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            os.close(heard)
            os.close(marks)
            os.close(take)
            listener = _arm(calls)
            os.read(taken, 1)  # once the parent has the listener, too
            os.close(listener)
            said = experiment(Marker(mark))
            os.write(told, said.encode()[:60_000])
            code = 0
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(told, f"RAISED {type(error).__name__}: {error}".encode()[:60_000])
        finally:
            os._exit(code)
    os.close(told)
    os.close(mark)
    os.close(taken)
    pidfd = os.pidfd_open(child)
    listener = _listener_of(child, pidfd)
    os.close(take)
    try:
        return _supervise(child, pidfd, listener, (heard, marks), fault, patience)
    finally:
        for descriptor in (heard, marks, listener, pidfd):
            os.close(descriptor)


def _supervise(
    child: int,
    pidfd: int,
    listener: int,
    pipes: tuple[int, int],
    fault: Fault | None,
    patience: float,
) -> Outcome:
    heard, marks = pipes
    outcome = Outcome()
    end = time.monotonic() + patience
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    counting = False
    while True:
        ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000))
        if not ready:
            outcome.left = _stacks(child)
            break
        with contextlib.suppress(BlockingIOError):
            counting = os.read(marks, 64)[-1:] == b"+"
        if ready.get(listener, 0) & select.POLLIN:
            _answer(listener, fault, counting, outcome)
        elif pidfd in ready:
            _, outcome.status = os.waitpid(child, 0)
            outcome.killed = fault is not None and fault.signal == outcome.status
            break
        else:
            poll.unregister(listener)
    # The rest of what it has started goes on being answered until it ends by itself.
    if outcome.status is not None:
        outcome.said = os.read(heard, 65536).decode()
        outcome.left = _await_others(listener, time.monotonic() + 10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _reap_all()
    return outcome


def _listener_of(child: int, pidfd: int) -> int:
    """Take the child's listener, as soon as it has one."""
    while True:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{child}/fd"):
                if "seccomp notify" in os.readlink(f"/proc/{child}/fd/{number}"):
                    taken: int = _libc.syscall(PIDFD_GETFD, pidfd, int(number), 0)
                    if taken >= 0:
                        os.set_inheritable(taken, False)
                        return taken
        if select.select([pidfd], [], [], 0.0005)[0]:
            raise RuntimeError("the experiment could not be armed")


def _answer(listener: int, fault: Fault | None, counting: bool, outcome: Outcome) -> None:
    """Lets one system call go on, or fail."""
    request = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, request)
    except OSError:
        return  # its process has gone
    identity, pid = struct.unpack_from("=QI", request)
    (number,) = struct.unpack_from("=i", request, 16)
    name = NAMES[number]
    fails = False
    if counting:
        outcome.counts[name] += 1
        fails = fault is not None and (name, outcome.counts[name]) == (fault.call, fault.at)
    if fails and fault is not None:
        outcome.struck = _describe(pid)
        if fault.signal is None:
            answer = struct.pack("=QqiI", identity, 0, -getattr(errno, fault.error), 0)
        else:
            os.kill(pid, fault.signal)
            answer = struct.pack("=QqiI", identity, 0, 0, _CONTINUE)
    else:
        answer = struct.pack("=QqiI", identity, 0, 0, _CONTINUE)
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _SEND, answer)


def _describe(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return f"{file.read().strip()} {pid}"
    except OSError:
        return f"{pid}"


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _await_others(listener: int, end: float) -> list[str]:
    """Wait for the orphans of an experiment; return those that stay."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = _children()
        if not left or time.monotonic() > end:
            return [_describe(pid) for pid in left]
        if any(event & select.POLLIN for _, event in poll.poll(5)):
            _answer(listener, None, False, Outcome())
        else:
            time.sleep(0.002)


def _reap_all() -> None:
    for pid in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _stacks(child: int) -> list[str]:
    """Says where a hanging process is, as far as the kernel tells."""
    found = []
    for pid in [child, *_descendants(child)]:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/wchan") as file:
                    found.append(f"{_describe(int(thread))} in {file.read()}")
    return found


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in file.read().split():
                    found += [int(child), *_descendants(int(child))]
    return found


def belongings() -> Counter[str]:
    """Count this process's threads, its segments, and its descriptors by what they are."""
    held = Counter({"thread": len(os.listdir("/proc/self/task"))})
    with open("/proc/self/maps") as file:
        files = {tuple(line.split(maxsplit=5)[3:]) for line in file}
    held["mapped segment"] = sum("/memfd:" in name or "/SYSV" in name for *_, name in files)
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            held[os.readlink(f"/proc/self/fd/{number}").split(":")[0]] += 1
    return held


if __name__ == "__main__":
    print(why_not() or "faults can be injected", file=sys.stderr)
