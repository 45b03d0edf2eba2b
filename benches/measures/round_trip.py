"""How long the caller of one task waits for its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check

if TYPE_CHECKING:
    from benches.contender import Kind

PERCENTILES = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)


class RoundTrip(PoolMeasure):
    """`submit(f, x).result()`, one at a time."""

    name = "round_trip"
    title = "Round trip: one task and its result through processes"
    curve: ClassVar[str | None] = "latency"
    about = "submit one tiny task, wait for its result, and again: median wait"
    unit: ClassVar[Unit] = "s"

    def run(self, make: Make, scale: float) -> Sample:
        """Return the median wait in seconds; the detail holds its distribution."""
        seconds = 1.0 * scale
        at_least, at_most = 50, 20_000
        waits: list[float] = []
        clock = time.perf_counter
        with make(self.workers) as pool:
            for number in range(at_least):
                check(pool.call(work.identity, number) == number, "a result is not its argument")
            end = clock() + seconds
            while len(waits) < at_least or (len(waits) < at_most and clock() < end):
                number = len(waits)
                start = clock()
                result = pool.call(work.identity, number)
                waits.append(clock() - start)
                check(result == number, "a result is not its argument")
        return sample_of(waits)


class ThreadRoundTrip(RoundTrip):
    """The same on threads."""

    name = "thread_round_trip"
    title = "Round trip: one task and its result through threads"
    curve = None
    kind: ClassVar[Kind] = "thread"


def sample_of(waits: list[float]) -> Sample:
    """Return the median of `waits`, and how they are spread: all of them would fill megabytes."""
    ordered = sorted(waits)
    return Sample(
        percentile(ordered, 50.0),
        {
            "percentiles": list(PERCENTILES),
            "waits": [percentile(ordered, share) for share in PERCENTILES],
            "p99": percentile(ordered, 99.0),
            "calls": len(ordered),
        },
    )


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` percent of the `ordered` values lie (nearest rank).

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50.0)
    2.0
    """
    rank = -(-len(ordered) * share // 100.0)
    return ordered[max(0, int(rank) - 1)]
