"""How long each of many calls or repetitions took, and what they cost in CPU time."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benches.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from benches.measure import Unit

# What a sample keeps of how its calls are spread, beside their mean. A share of so many percent was
# at least as good: waited no longer, or was at least as fast.
DISTRIBUTION = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
# The curve of a sample for which one is drawn.
CURVE = {"p1": 1.0, "p10": 10.0, "p25": 25.0, "p75": 75.0, "p90": 90.0, "p99.9": 99.9}

# What a page shows of a sample besides.
DETAILS: dict[str, Unit] = {"cpu": "s"}


class Meter:
    """The CPU time of this sample: of all processes of its session, except `others`.

    Example:
        >>> meter = Meter()
        >>> meter.seconds() >= 0.0
        True
    """

    def __init__(self, others: Collection[int] = ()) -> None:
        self._others = {str(pid) for pid in others}
        self._session = str(os.getsid(0))
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._begun = self._now()

    def seconds(self) -> float:
        """Return what was used since construction; to the hundredth of a second."""
        return self._now() - self._begun

    def _now(self) -> float:
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue  # it has just ended; its waiter has its time
            # What follows the command's name, which may hold anything.
            fields = stat[stat.rindex(")") + 2 :].split()
            if fields[3] == self._session and folder.name not in self._others:
                # Its own time, user and system, and that of the children it has waited for.
                ticks += sum(map(int, fields[11:15]))
        return ticks / self._ticks


def sample_of(waits: list[float], meter: Meter | None = None, *, curve: bool = False) -> Sample:
    """Return the mean of `waits`, and how they are spread: all of them would fill megabytes.

    Args:
        waits: seconds, one for each call.
        meter: begun with the first of them; what it says is divided by their number.
        curve: keep more of the distribution, to draw it.
    """
    used = meter.seconds() if meter is not None else 0.0
    detail = spread(waits, {**DISTRIBUTION, **CURVE} if curve else DISTRIBUTION)
    if meter is not None:
        detail["cpu"] = used / len(waits)
    return Sample(fmean(waits), detail)


def rate_of(items: int, times: list[float]) -> Sample:
    """Return how many items a second went through in repetitions of `items` items each.

    All of them divided by all the time: a slow repetition weighs what it has cost.
    """
    detail = spread(times, DISTRIBUTION)
    for name in DISTRIBUTION:
        detail[name] = items / detail[name]
    return Sample(items / fmean(times), detail)


def spread(values: list[float], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the percentiles of `values` by their names, and how many values there are."""
    ordered = sorted(values)
    found = {name: percentile(ordered, share) for name, share in shares.items()}
    return {**found, "calls": float(len(ordered))}


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` percent of the `ordered` values lie (nearest rank).

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50.0)
    2.0
    """
    rank = -(-len(ordered) * share // 100.0)
    return ordered[max(0, int(rank) - 1)]
