"""How long each of many calls took, and what they cost in CPU time."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benches.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Collection

    from benches.measure import Unit

PERCENTILES = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)

# What a page shows beside the mean.
DETAILS: dict[str, Unit] = {"p50": "s", "p95": "s", "p99": "s", "cpu": "s"}


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
                continue  # it has just ended; who waited for it has its time
            # What follows the command's name, which may hold anything.
            fields = stat[stat.rindex(")") + 2 :].split()
            if fields[3] == self._session and folder.name not in self._others:
                # Its own time, user and system, and that of the children it has waited for.
                ticks += sum(map(int, fields[11:15]))
        return ticks / self._ticks


def sample_of(waits: list[float], meter: Meter | None = None) -> Sample:
    """Return the mean of `waits`, and how they are spread: all of them would fill megabytes.

    Args:
        waits: seconds, one for each call.
        meter: begun with the first of them; what it says is divided by their number.
    """
    ordered = sorted(waits)
    detail: dict[str, float | list[float]] = {
        "percentiles": list(PERCENTILES),
        "waits": [percentile(ordered, share) for share in PERCENTILES],
        "p50": percentile(ordered, 50.0),
        "p95": percentile(ordered, 95.0),
        "p99": percentile(ordered, 99.0),
        "calls": float(len(ordered)),
    }
    if meter is not None:
        detail["cpu"] = meter.seconds() / len(ordered)
    return Sample(fmean(ordered), detail)


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` percent of the `ordered` values lie (nearest rank).

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50.0)
    2.0
    """
    rank = -(-len(ordered) * share // 100.0)
    return ordered[max(0, int(rank) - 1)]
