"""One line for each whole run, so that a slow-down is seen: docs/benchmarks/history.jsonl.

A line holds when, which commit and where, and for each benchmark our value and how many times
better it was than the best of the others. The ratio is what is compared: it was taken in one run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from benches.comparison import compared
from benches.contenders import OURS
from benches.measures import MEASURES
from benches.quantity import digits, shown
from benches.summary import benchmarks, values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benches.run import Results

# A ratio below this part of its usual one, and below each before, is worth a look.
SLOWER = 0.8
# Runs that are shown, the newest last.
SHOWN = 5


@dataclass(frozen=True)
class Line:
    """One run: the ratios to the best of the others, and our values."""

    date: str
    commit: str
    machine: dict[str, str | int]
    rounds: int
    disturbance: float
    ratios: dict[str, float]
    values: dict[str, float]

    @classmethod
    def of(cls, results: Results) -> Line:
        """Return the line of a run."""
        there = benchmarks(results)
        found = {name: compared(results, name) for name in there}
        ours = {name: values(results, name).get(OURS) for name in there}
        machine = results.machine
        return cls(
            machine.date,
            machine.commit,
            {name: getattr(machine, name) for name in ("cpu", "cpus", "kernel", "python")},
            results.rounds,
            results.disturbance,
            {name: _rounded(each.ratio.median) for name, each in found.items() if each},
            {name: _rounded(spread.median) for name, spread in ours.items() if spread},
        )

    def is_like(self, other: Line) -> bool:
        """Tell whether both ran on the same kind of machine: ratios depend on it."""
        return all(self.machine[what] == other.machine[what] for what in ("cpu", "cpus"))


def read(file: Path) -> list[Line]:
    """Return the runs of a history, oldest first; none where there is no file yet."""
    if not file.exists():
        return []
    return [Line(**json.loads(line)) for line in file.read_text().splitlines()]


def add(file: Path, results: Results) -> list[Line]:
    """Write the line of a run to a history, once; return all its lines."""
    new = Line.of(results)
    lines = [line for line in read(file) if line.date != new.date] + [new]
    lines.sort(key=lambda line: line.date)
    file.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    return lines


def slower(lines: Sequence[Line]) -> dict[str, str]:
    """Return the benchmarks in which the newest run is worse than those before, and how much.

    Compared is with runs on the same kind of machine; a benchmark without rivals by its value.
    """
    if not lines:
        return {}
    newest = lines[-1]
    before = [line for line in lines[:-1] if line.is_like(newest)]
    found = {}
    for name in newest.values:
        goodness = [_goodness(line, name) for line in (*before, newest)]
        known = [good for good in goodness[:-1] if good is not None]
        now = goodness[-1]
        if not known or now is None:
            continue
        usual = median(known)
        if now < SLOWER * usual and now < min(known):
            found[name] = f"{digits(usual / now)}× worse than usual"
    return found


def _goodness(line: Line, name: str) -> float | None:
    """Return a number that is larger the better ours was in a benchmark."""
    if name in line.ratios or name not in line.values:
        return line.ratios.get(name)
    value = line.values[name]
    return value if MEASURES[name].higher_is_better else 1.0 / value


def rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the head and one row per benchmark: how it stood in the newest runs."""
    there = [line for line in lines if line.is_like(lines[-1])][-SHOWN:]
    worse = slower(lines)
    table = [["benchmark", *(f"{line.date.split()[0]} {line.commit}" for line in there), ""]]
    for name in MEASURES:
        if any(name in line.values for line in there):
            table.append([name, *(_cell(line, name) for line in there), worse.get(name, "")])
    return table


def _cell(line: Line, name: str) -> str:
    if name in line.ratios:
        return f"{digits(line.ratios[name])}×"
    value = line.values.get(name)
    return "-" if value is None else shown(value, MEASURES[name].unit)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
