"""How long a program waits for its first result."""

from __future__ import annotations

import time
from typing import ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check


class Cold(PoolMeasure):
    """From the construction of a pool to its first result."""

    name = "cold"
    title = "Cold start: pool constructed to first result"
    about = "one per process; the library's own import is not counted, everything else is"
    unit: ClassVar[Unit] = "s"
    repeats = 3

    def run(self, make: Make, scale: float) -> Sample:
        """Return the seconds from the constructor's call to the first result."""
        contender = make(self.workers)
        start = time.perf_counter()
        contender.start()
        result = contender.call(work.identity, 7)
        taken = time.perf_counter() - start
        contender.stop()
        check(result == 7, "the result is not the argument")
        return Sample(taken)
