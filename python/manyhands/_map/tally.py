"""What the items of a map have cost so far, the latest ones above all."""

from __future__ import annotations

from typing import Final

__all__ = ["Tally"]

# Threads show whether they take turns once they have computed for so long, in seconds.
ENOUGH: Final = 0.03
# If the threads together want this much of a CPU, some may wait for the GIL.
CROWDED: Final = 0.5


class Tally:
    """What items have cost, per item. What came earlier counts less and less.

    Args:
        cpu: seconds of a CPU that an item takes, by what is known before.
        wait: seconds that it waits.

    Example:
        >>> tally = Tally(0.01, 0.0)
        >>> tally.learn(4, wall=4.0, cpu=0.0, queued=0.0)
        >>> tally.wait > 0.5
        True
    """

    def __init__(self, cpu: float, wait: float) -> None:
        self.seen = 0
        self._weight = 1.0
        self._cpu = cpu
        self._wait = wait
        self._computed = 0.0
        self._held_up = 0.0

    @property
    def cpu(self) -> float:
        """Seconds of a CPU, per item."""
        return self._cpu / self._weight

    @property
    def wait(self) -> float:
        """Seconds that an item waits by itself, not for the GIL or a CPU."""
        return self._wait / self._weight

    def learn(self, items: int, wall: float, cpu: float, queued: float, threads: int = 1) -> None:
        """Take in what some items have cost together, in seconds.

        Args:
            items: how many they were.
            wall: by the clock.
            cpu: on a CPU.
            queued: ready to run, while the CPUs had other work.
            threads: how many threads of this process worked at such items at the time.
        """
        waited = max(0.0, wall - cpu - queued)
        own = waited
        if threads > 1 and threads * (cpu + queued) > CROWDED * wall:
            # Perhaps for the GIL: of its own is only what such items waited before.
            own = min(waited, items * self.wait)
            self._computed += cpu
            self._held_up += waited - own
        self.seen += items
        kept = 0.5 ** (items / max(4.0, self.seen / 4))
        self._weight = kept * self._weight + items
        self._cpu = kept * self._cpu + cpu
        self._wait = kept * self._wait + own

    def speedup(self, threads: int) -> float | None:
        """Return how much faster two threads are than one, from 1 to 2; None if nobody knows.

        Args:
            threads: how many there were.
        """
        if threads < 2 or self._computed < ENOUGH:
            return None
        share = self._computed / (self._computed + self._held_up)
        return max(1.0, min(2.0, threads * share))
