"""What the items of a map have cost so far, the latest ones above all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manyhands._map.choice import TURNS
from manyhands._map.meter import HARDLY, TOGETHER

if TYPE_CHECKING:
    from manyhands._task.chunk import Cost

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
        >>> tally.learn(4, Cost.of(4.0, cpu=0.0, queued=0.0, beside=0.0))
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
        self._queued = 0.0
        self._of_all = 0.0
        self._wall = 0.0

    @property
    def cpu(self) -> float:
        """Seconds of a CPU, per item."""
        return self._cpu / self._weight

    @property
    def wait(self) -> float:
        """Seconds that an item waits by itself, not for the GIL or a CPU."""
        return self._wait / self._weight

    def learn(self, items: int, cost: Cost, threads: int = 1) -> None:
        """Take in what some items have cost together.

        Args:
            items: how many they were.
            cost: in seconds.
            threads: how many threads of this process worked at such items at the time.
        """
        wanted = cost.cpu + cost.queued
        waited = max(0.0, cost - wanted)
        # What such items have not waited before may be for the GIL, ...
        more = max(0.0, waited - items * self.wait)
        if threads > 1 and threads * wanted > CROWDED * cost:
            held_up = more
            self._computed += cost.cpu
            self._queued += cost.queued
            self._held_up += held_up
            self._of_all += cost.cpu + cost.beside
            self._wall += cost
        else:
            # ... but for no longer than others can have held it: the caller, say, or the pilot's
            # threads, which have queued for the CPUs as this one has.
            held_up = min(more, cost.beside * wanted / max(cost.cpu, 1e-9))
        self.seen += items
        kept = 0.5 ** (items / max(4.0, self.seen / 4))
        self._weight = kept * self._weight + items
        self._cpu = kept * self._cpu + cost.cpu
        self._wait = kept * self._wait + waited - held_up

    def speedup(self, threads: int) -> float | None:
        """Return how much faster two threads are than one, from 1 to 2; None if nobody knows.

        Args:
            threads: how many there were.
        """
        if threads < 2 or self._computed < ENOUGH:
            return None
        share = self._computed / (self._computed + self._held_up)
        found = max(1.0, min(2.0, threads * share))
        # A thread that gets the GIL while the CPUs have other work queues for one, and a part of
        # the wait is not seen. So they are free of each other only if they hardly wait, or if the
        # process has had more than one CPU.
        hardly = self._held_up < HARDLY * (self._computed + self._queued)
        if found < TURNS or hardly or self._of_all > TOGETHER * self._wall:
            return found
        return None
