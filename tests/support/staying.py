"""Children that say how it went, and stay: as other users, in other namespaces than the tests."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 12345
IS_ROOT = os.geteuid() == 0

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become others, or mount")


# Children. They are forked, so that they need not read modules, which others may not.


@contextmanager
def child(act: Callable[[], object]) -> Iterator[tuple[int, int]]:
    """Start a child that acts, reports how it went and stays; return its number and its report."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                said = act()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writable, str(said).encode() or b"nothing")
            signal.pause()
        finally:
            os._exit(0)
    os.close(writable)
    try:
        yield pid, readable
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(readable)


def heard(readable: int) -> str:
    return os.read(readable, 10_000).decode()


def result(act: Callable[[], object]) -> str:
    """Return what a child says that acts, as text."""
    with child(act) as (_, said):
        return heard(said)


def become_nobody() -> None:
    """Drop root's rights; others may not look into a process that has."""
    if IS_ROOT:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    hide()


def hide() -> None:
    assert LIBC.prctl(4, 0, 0, 0, 0) == 0, "PR_SET_DUMPABLE"


def show() -> None:
    assert LIBC.prctl(4, 1, 0, 0, 0) == 0, "PR_SET_DUMPABLE"


KEPT: list[object] = []


def keep(thing: object) -> str:
    KEPT.append(thing)
    return "kept"


def mount(what: str, where: str, kind: str, options: str = "") -> None:
    assert LIBC.unshare(0x20000) == 0, "CLONE_NEWNS"
    assert LIBC.mount(b"none", b"/", None, 0x40000 | 0x4000, None) == 0, "private, recursively"
    outcome = LIBC.mount(what.encode(), where.encode(), kind.encode(), 0, options.encode())
    assert outcome == 0, os.strerror(ctypes.get_errno())
