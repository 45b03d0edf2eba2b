"""System calls that the system refuses from now on, as sandboxes and containers do (seccomp)."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

import pytest

# Numbers on x86-64; others are not tested.
CALLS = {
    "madvise": 28,
    "shmget": 29,
    "memfd_create": 319,
    "pidfd_open": 434,
    "clone3": 435,
    "futex_waitv": 449,
}

on_x86_64 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers of system calls are those of x86-64"
)

LIBC = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    """A filter, as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse(*calls: str, error: int = errno.EPERM) -> None:
    """Have these fail in this process and its children, forever."""

    def instruction(code: int, to: int, otherwise: int, value: int) -> bytes:
        return struct.pack("HBBI", code, to, otherwise, value)

    steps = [instruction(0x20, 0, 0, 0)]  # load the number of the call
    for call in calls:
        steps.append(instruction(0x15, 0, 1, CALLS[call]))  # unless it is this: over the next
        steps.append(instruction(0x06, 0, 0, 0x00050000 | error))  # fail
    steps.append(instruction(0x06, 0, 0, 0x7FFF0000))  # allow
    program = Program(len(steps), b"".join(steps))
    assert LIBC.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert LIBC.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, "PR_SET_SECCOMP"
