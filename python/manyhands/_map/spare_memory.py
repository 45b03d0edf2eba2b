"""How much memory this process holds, and how much more it could have."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import Final

from manyhands._native import read_at_once

__all__ = ["resident", "spare"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 if the kernel does not tell."""
    return _pages(1)


def _pages(column: int) -> int:
    try:
        return int(read_at_once("/proc/self/statm").split()[column]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def spare() -> float:
    """Return the bytes that this process could still take; infinite if nobody tells.

    What the machine has, what the control groups leave, and what ``ulimit -v`` leaves: the least.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    left = [float(limit - _pages(0))] if limit != resource.RLIM_INFINITY else []
    return max(0.0, min([*left, _available(), *_left_by_groups()]))


def _available() -> float:
    with suppress(OSError, ValueError, IndexError):
        for line in read_at_once("/proc/meminfo").splitlines():
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024.0
    return float("inf")


def _left_by_groups() -> list[float]:
    """Return what each control group (version 2) around this process leaves."""
    left = []
    with suppress(OSError):
        lines = os.fsdecode(read_at_once("/proc/self/cgroup")).splitlines()
        paths = [line[3:].strip() for line in lines if line.startswith("0::/")]
        for path in paths:
            folder = "/sys/fs/cgroup" + path.rstrip("/")
            while len(folder) >= len("/sys/fs/cgroup"):
                with suppress(OSError, ValueError):
                    left.append(_left_by(folder))
                folder = folder.rpartition("/")[0]
    return left


def _left_by(folder: str) -> float:
    most = int(read_at_once(f"{folder}/memory.max"))  # "max" is no number: no limit
    return float(most - int(read_at_once(f"{folder}/memory.current")))
