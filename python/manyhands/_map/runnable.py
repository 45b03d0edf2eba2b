"""How many other programs want a CPU."""

from __future__ import annotations

import os

from manyhands._native import read_at_once

__all__ = ["runnable_others"]


def runnable_others(own: int, cpus: int) -> float | None:
    """Return how many threads of others want one of these CPUs now; None if nobody tells.

    Args:
        own: threads of this process that have a CPU or want one, the caller's included.
        cpus: CPUs that this process may use. Others are taken to be spread over all there are.
    """
    try:
        running = int(read_at_once("/proc/loadavg").split()[3].partition(b"/")[0])
    except (OSError, IndexError, ValueError):
        return None
    return max(0, running - own) * min(1.0, cpus / (os.cpu_count() or cpus))
