"""How long threads have been ready to run, but without a CPU: what the kernel counts.

Imported by workers, so it imports next to nothing.
"""

from __future__ import annotations

from manyhands._native import read_at_once

__all__ = ["queued_seconds"]


def queued_seconds(thread: int | None = None) -> float:
    """Return how long a thread of this process has queued for a CPU; 0 if the kernel won't tell.

    Args:
        thread: its native id; None is the calling thread.

    Example:
        >>> queued_seconds() >= 0.0
        True
    """
    place = "thread-self" if thread is None else f"self/task/{thread}"
    try:
        return int(read_at_once(f"/proc/{place}/schedstat").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
