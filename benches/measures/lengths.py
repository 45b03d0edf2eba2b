"""From which length of task on a pool is worth it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check, timed

# Seconds of computing per task.
LENGTHS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# Seconds of computing per point of the curve, and tasks at most, which bounds the slow libraries.
WORK_PER_POINT = 0.3
MOST_TASKS = 10_000


class TaskLength(PoolMeasure):
    """Throughput against the ideal, task by task, from 1 µs to 100 ms."""

    name = "task_length"
    curve = "efficiency"
    title = "Task length at which half of the CPU time does the work"
    about = (
        "tasks that compute 1 µs … 100 ms, one submit each; ideal: their sum divided by the workers"
    )
    unit: ClassVar[Unit] = "s"

    def run(self, make: Make, scale: float) -> Sample:
        """Return the length at which efficiency reaches one half; the detail is the curve."""
        turn = seconds_per_turn()
        lengths = [length for length in LENGTHS if length <= 0.1 * min(1.0, scale * 2)]
        efficiencies: list[float] = []
        with make(self.workers) as pool:
            pool.submit_all(work.spin, [1] * 100)
            for length in lengths:
                tasks = min(MOST_TASKS, max(4, int(WORK_PER_POINT * scale / length)))
                tasks = -(-tasks // self.workers) * self.workers
                counts = [max(1, round(length / turn))] * tasks
                results: list[int] = []
                taken = timed(lambda: results.extend(pool.submit_all(work.spin, counts)))  # noqa: B023
                check(results == counts, "the results are not the arguments in order")
                efficiencies.append(counts[0] * turn * tasks / self.workers / taken)
        half = half_way(lengths, efficiencies)
        curve = {f"{length:g}": share for length, share in zip(lengths, efficiencies, strict=True)}
        return Sample(half, curve)


def seconds_per_turn() -> float:
    """Return how long one turn of `work.spin`'s loop takes: the best of 30 runs."""
    turns = 100_000
    return min(timed(lambda: work.spin(turns)) for _ in range(30)) / turns


def half_way(lengths: list[float], efficiencies: list[float]) -> float | None:
    """Return the length at which the curve first reaches 0.5, interpolated on a log axis.

    The shortest length (an upper bound) where even that reaches it; None where no length does.

    >>> round(half_way([1.0, 100.0], [0.0, 1.0]), 6)
    10.0
    """
    if efficiencies[0] >= 0.5:
        return lengths[0]
    points = zip(lengths, efficiencies, strict=True)
    for (left, low), (right, high) in pairwise(points):
        if high >= 0.5:
            share = (0.5 - low) / (high - low)
            return math.exp(math.log(left) + share * (math.log(right) - math.log(left)))
    return None
