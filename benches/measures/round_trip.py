"""How long the caller of one task waits for its result."""

from __future__ import annotations

import time
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from benches import work
from benches.load import busy
from benches.measure import Make, PoolMeasure, Sample, Unit, check
from benches.waits import DETAILS, Meter, percentile, sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.contender import Kind, PoolContender


class RoundTrip(PoolMeasure):
    """`submit(f, x).result()`, one at a time."""

    name = "round_trip"
    title = "Round trip: one task and its result through processes"
    curve: ClassVar[str | None] = "latency"
    about = "submit one tiny task, wait for its result, and again: mean wait"
    unit: ClassVar[Unit] = "s"
    details: ClassVar[Mapping[str, Unit]] = DETAILS
    # Seconds between two calls.
    pause: ClassVar[float] = 0.0

    def run(self, make: Make, scale: float) -> Sample:
        """Return the mean wait in seconds; the detail holds its distribution."""
        with busy(self.others) as others, make(self.workers) as pool:
            # Not only the libraries need some calls until all is as it stays: so do CPUs.
            self.waits(pool, 0.2 * scale)
            meter = Meter(others)
            return self.sample_of(self.waits(pool, 1.0 * scale), meter)

    def waits(self, pool: PoolContender, seconds: float) -> list[float]:
        """Return how long each call of so many seconds took."""
        waits: list[float] = []
        call, identity, clock, pause = pool.call, work.identity, time.perf_counter, self.pause
        end = clock() + seconds
        while len(waits) < 50 or clock() < end:
            number = len(waits)
            start = clock()
            result = call(identity, number)
            waits.append(clock() - start)
            check(result == number, "a result is not its argument")
            if pause:
                time.sleep(pause)
        return waits

    def sample_of(self, waits: list[float], meter: Meter) -> Sample:
        """Return what is measured."""
        return sample_of(waits, meter, curve=self.curve is not None)


class ThreadRoundTrip(RoundTrip):
    """The same on threads."""

    name = "thread_round_trip"
    title = "Round trip: one task and its result through threads"
    curve = None
    kind: ClassVar[Kind] = "thread"


class Paced(RoundTrip):
    """What a call costs when there are few."""

    name = "paced"
    title = "CPU time of a call, a thousand calls a second"
    about = "one tiny task through processes each millisecond: CPU time of all processes per call"
    details: ClassVar[Mapping[str, Unit]] = {"wait": "s", "wait_p99": "s"}
    curve = None
    pause = 1e-3

    def sample_of(self, waits: list[float], meter: Meter) -> Sample:
        """Return the CPU time of a call; the detail holds how long they took."""
        cpu = meter.seconds() / len(waits)
        return Sample(cpu, {"wait": fmean(waits), "wait_p99": percentile(sorted(waits), 99.0)})


class PacedSlowly(Paced):
    """The same at a tenth of the pace."""

    name = "paced_slowly"
    title = "CPU time of a call, a hundred calls a second"
    about = "one tiny task through processes each 10 ms: CPU time of all processes per call"
    pause = 1e-2
