"""What a run's rounds say: the middle of their means, and ratios taken round by round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from benches.contenders import NAMES, OURS, contender
from benches.measures import MEASURES
from benches.waits import DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benches.contender import Group
    from benches.run import Results


@dataclass(frozen=True)
class Spread:
    """The middle of a handful of values and how far they lie apart."""

    median: float
    low: float
    high: float
    first_quartile: float
    third_quartile: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        ordered = sorted(values)
        if len(ordered) == 1:
            return cls(*(ordered * 5))
        first, _, third = quantiles(ordered, n=4, method="inclusive")
        return cls(median(ordered), ordered[0], ordered[-1], first, third)

    def scaled(self, factor: float) -> Spread:
        """Return the spread of the values times `factor`."""
        middle = (self.median * factor, self.low * factor, self.high * factor)
        return Spread(*middle, self.first_quartile * factor, self.third_quartile * factor)

    def inverse(self) -> Spread:
        """Return the spread of one divided by each value, none of which is zero."""
        ends = (self.median, self.high, self.low, self.third_quartile, self.first_quartile)
        return Spread(*(1.0 / value for value in ends))


def label(benchmark: str, name: str) -> str:
    """Return what a contender is called where a benchmark is shown."""
    measure = MEASURES[benchmark]
    return contender(name, measure.group).labels[measure.kind]


def by_round(results: Results, benchmark: str, name: str) -> dict[int, float]:
    """Return a contender's values, round by round; rounds that failed are left out."""
    return {
        entry.round: entry.value
        for entry in results.entries
        if entry.benchmark == benchmark and entry.contender == name and entry.value is not None
    }


def details(results: Results, benchmark: str, name: str, what: str) -> Spread | None:
    """Return the spread of a number that stands beside a contender's values, if any does."""
    found = [
        entry.detail[what]
        for entry in results.entries
        if entry.benchmark == benchmark and entry.contender == name and what in entry.detail
    ]
    return Spread.of(found) if found else None


def benchmarks(results: Results, group: Group | None = None) -> list[str]:
    """Return the benchmarks of a run, or those of one group of them, in their order."""
    there = {entry.benchmark for entry in results.entries}
    return [
        name
        for name, measure in MEASURES.items()
        if name in there and group in (None, measure.group)
    ]


def groups(results: Results) -> list[Group]:
    """Return the groups of a run's benchmarks, in their order."""
    return list(dict.fromkeys(MEASURES[name].group for name in benchmarks(results)))


def values(results: Results, benchmark: str) -> dict[str, Spread]:
    """Return contender → spread of its values, for those that have any, in their order."""
    found = {name: by_round(results, benchmark, name) for name in NAMES}
    return {name: Spread.of(rounds.values()) for name, rounds in found.items() if rounds}


def ratios(results: Results, benchmark: str, rival: str) -> Spread | None:
    """Return how many times better than `rival` ours is, each ratio taken within one round.

    Better means more where more is better, else less. None where a side was not measured.
    """
    ours, theirs = (by_round(results, benchmark, name) for name in (OURS, rival))
    higher = MEASURES[benchmark].higher_is_better
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return None
    return Spread.of(
        ours[number] / theirs[number] if higher else theirs[number] / ours[number]
        for number in common
    )


def errors(results: Results) -> list[str]:
    """Return one line per sample that failed: what, whose, and the last line of the reason."""
    return [
        f"{entry.benchmark} {entry.contender}, round {entry.round + 1}: "
        f"{entry.error.strip().splitlines()[-1]}"
        for entry in results.entries
        if entry.error
    ]


def curve(
    results: Results, benchmark: str, name: str, places: Mapping[str, float]
) -> list[tuple[float, float]]:
    """Return a contender's curve: for each x of `places` the median of the detail of that name."""
    return [
        (x, found.median)
        for what, x in sorted(places.items(), key=lambda place: place[1])
        if (found := details(results, benchmark, name, what)) is not None
    ]


def distribution(results: Results, benchmark: str, name: str) -> dict[str, float]:
    """Return p50, p95 and p99 of a contender's calls, each the median over the rounds."""
    found = {what: details(results, benchmark, name, what) for what in DISTRIBUTION}
    return {what: spread.median for what, spread in found.items() if spread is not None}
