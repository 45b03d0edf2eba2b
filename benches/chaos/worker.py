"""A worker of a server, as others see it: whether it lives, and which connections it has."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

from benches.chaos.tally import Held

# The number of pidfd_getfd(2), which Python does not have.
_PIDFD_GETFD = 438
_LIBC = ctypes.CDLL(None, use_errno=True)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    return _state(Path(f"/proc/{pid}")) not in ("Z", "X")


def _state(folder: Path) -> str:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def kill(pid: int) -> Held:
    """Kill a worker; return the connections that it had accepted and not closed.

    It is stopped first, so that those it has as it dies are those that it had as we looked.
    """
    os.kill(pid, signal.SIGSTOP)
    while any(_state(thread) not in ("T", "X") for thread in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.0005)
    held = Held(frozenset(_peers(pid)), time.monotonic())
    os.kill(pid, signal.SIGKILL)
    return held


def _peers(pid: int) -> list[int]:
    """Return the ports at the other ends of its TCP connections.

    Each is looked at through a descriptor of our own. /proc/net/tcp lists all connections of the
    machine, and takes so long that clients would pile up before a worker that is stopped.
    """
    process = os.pidfd_open(pid)
    try:
        numbers = [
            int(entry.name)
            for entry in Path(f"/proc/{pid}/fd").iterdir()
            if os.readlink(entry).startswith("socket:")
        ]
        return [port for number in numbers if (port := _peer(process, number))]
    finally:
        os.close(process)


def _peer(process: int, number: int) -> int:
    """Return the port at the other end of one of its sockets; 0 if it is no TCP connection."""
    copy = _LIBC.syscall(_PIDFD_GETFD, process, number, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(fileno=copy) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return 0
        try:
            return int(connection.getpeername()[1])
        except OSError:
            return 0  # it listens, or the client has gone
