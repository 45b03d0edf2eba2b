"""What it takes to have very many locks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check, timed
from benches.measures.memory import pss

if TYPE_CHECKING:
    from benches.contender import Kind
    from benches.primitives import Primitives

LOCKS = 100_000


class ManyLocksTime(SyncMeasure):
    """The time to make a lock."""

    name = "locks_made"
    title = "Very many locks: time to make one"
    about = f"{LOCKS:,} locks that live at once; where a process cannot have as many, 20,000"
    unit: ClassVar[Unit] = "s"
    kind: ClassVar[Kind] = "lock"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return seconds per lock. Fails if locks after the first take descriptors."""
        time_each, bytes_each, descriptors = made(library, scale)
        check(descriptors == 0, f"the locks after the first took {descriptors} file descriptors")
        beside = {"time": time_each, "bytes": bytes_each}
        return Sample(self.chosen(time_each, bytes_each), beside)

    def chosen(self, time_each: float, bytes_each: float) -> float:
        """Return the value of the two."""
        return time_each


class ManyLocksMemory(ManyLocksTime):
    """The memory of a lock."""

    name = "locks_memory"
    title = "Very many locks: memory of one"
    about = f"PSS per lock of {LOCKS:,} (or 20,000) that live at once and were acquired once"
    unit: ClassVar[Unit] = "B"

    def chosen(self, time_each: float, bytes_each: float) -> float:
        """Return the value of the two."""
        return bytes_each


def made(library: Primitives, scale: float) -> tuple[float, float, int]:
    """Make locks; return the seconds and bytes per lock, and the descriptors all have taken."""
    count = max(1000, int(min(LOCKS, library.most_locks) * scale))
    make = library.make
    # The first one may set up what all share.
    locks: list[Any] = [make("lock")]
    descriptors, memory = len(os.listdir("/proc/self/fd")), pss(os.getpid())

    def make_all() -> None:
        locks.extend(make("lock") for _ in range(count))

    taken = timed(make_all)
    for lock in locks:
        with lock:
            pass
    more = len(os.listdir("/proc/self/fd")) - descriptors
    return taken / count, (pss(os.getpid()) - memory) / count, more
