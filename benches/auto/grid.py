"""Running the grid, and what comes out of it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import manyhands as mh
from benches.auto.workloads import WORKLOADS
from benches.load import busy
from benches.machine import Disturbance
from benches.measure import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.auto.workloads import Workload

__all__ = ["GOAL", "KINDS", "SHARE", "Cell", "Row", "measured"]

Kind: TypeAlias = Literal["sequential", "thread", "process", "auto"]
KINDS: Final[tuple[Kind, ...]] = ("sequential", "thread", "process", "auto")
# Regret that is as good as none, and for what part of the grid it should be no more.
GOAL: Final = 1.25
SHARE: Final = 0.9


@dataclass(frozen=True)
class Cell:
    """A workload in one round.

    Attributes:
        seconds: by kind.
        again: seconds of the best kind, done once more: what the machine itself adds to a regret.
        chosen: what ``auto`` chose in the end, and why.
    """

    seconds: dict[str, float]
    again: float
    chosen: str

    @property
    def best(self) -> str:
        """The best of the three that one can ask for."""
        return min((kind for kind in KINDS if kind != "auto"), key=self.seconds.__getitem__)

    @property
    def regret(self) -> float:
        """The time of ``auto`` by that of the best."""
        return self.seconds["auto"] / self.seconds[self.best]

    @property
    def noise(self) -> float:
        """What the regret of always being right would have been."""
        return self.again / self.seconds[self.best]


@dataclass(frozen=True)
class Row:
    """A workload under one load, in all rounds."""

    workload: str
    per_cpu: int
    cells: list[Cell]

    def seconds(self, kind: str) -> float:
        """Return the median time of a kind."""
        return median(cell.seconds[kind] for cell in self.cells)

    @property
    def regret(self) -> float:
        """The median of the rounds' regrets."""
        return median(cell.regret for cell in self.cells)

    @property
    def noise(self) -> float:
        """The median of what always being right would have cost."""
        return median(cell.noise for cell in self.cells)


def measured(
    names: Sequence[str],
    per_cpu: int,
    rounds: int,
    warm: bool,
    told: Callable[[str, Cell], None],
) -> tuple[list[Row], float]:
    """Measure the workloads `names` with so many other processes per CPU.

    Args:
        rounds: how often each kind runs each workload; which comes first changes.
        warm: whether pools have been started before; if not, each map starts its own.
        told: called with each cell as soon as there is one.

    Returns:
        A row for each workload, and the share of the CPUs that others had.
    """
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    with busy(per_cpu * len(os.sched_getaffinity(0))), ExitStack() as stack:
        made = {name: WORKLOADS[name].items(stack) for name in names}
        for name in names:
            WORKLOADS[name].function(made[name][0])
        disturbance = Disturbance()
        for number in range(rounds):
            for name in names:
                cell = _cell(WORKLOADS[name], made[name], number, warm)
                cells[name].append(cell)
                told(name, cell)
        share = disturbance.share()
    return [Row(name, per_cpu, cells[name]) for name in names], share


def _cell(workload: Workload, items: list[Any], number: int, warm: bool) -> Cell:
    seconds: dict[str, float] = {}
    chosen = ""
    for place in range(len(KINDS)):
        kind = KINDS[(place + number) % len(KINDS)]
        seconds[kind] = _timed(workload, items, kind, warm)
        if kind == "auto":
            chosen = str(mh.last_choice())
    cell = Cell(seconds, 0.0, chosen)
    return Cell(seconds, _timed(workload, items, cell.best, warm), chosen)


def _timed(workload: Workload, items: list[Any], kind: str, warm: bool) -> float:
    for each in ("thread", "process"):
        if not warm:
            mh.shared_pool(workers=each).shutdown()
        else:
            mh.shared_pool(workers=each).submit(int).result()
    # What pools do as they end must not disturb the next one.
    time.sleep(0.02)
    start = time.perf_counter()
    if kind == "sequential":
        results = [workload.function(item) for item in items]
    else:
        results = mh.map(workload.function, items, workers=kind)  # type: ignore[call-overload]
    seconds = time.perf_counter() - start
    check(len(results) == len(items), f"{workload.name} by {kind}: results are missing")
    return seconds
