"""The bars: what the project promises on a 2-core machine, and whether a run has met them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches import summary
from benches.contenders import OURS
from benches.measures import MEASURES
from benches.quantity import digits, shown, tick
from benches.summary import Spread

if TYPE_CHECKING:
    from benches.run import Results


@dataclass(frozen=True)
class Target:
    """A bar: a ratio to a rival (at least), or without a rival a value of ours (at most)."""

    work: str
    benchmark: str
    rival: str | None
    bar: float

    @property
    def wanted(self) -> str:
        """The bar in words."""
        if self.rival is None:
            return f"under {tick(self.bar, MEASURES[self.benchmark].unit)}"
        against = summary.label(self.benchmark, self.rival)
        return f"at least {self.bar:g}× {against}"


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; `measured` is None where a side is missing."""

    target: Target
    measured: Spread | None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the bar; None where nothing was measured."""
        if self.measured is None:
            return None
        if self.target.rival is None:
            return self.measured.median < self.target.bar
        return self.measured.median >= self.target.bar

    @property
    def steady(self) -> bool:
        """Whether every round is on the side of the bar that the median is on."""
        headroom = self.headroom
        return headroom is not None and (headroom.low >= 1.0 or headroom.high < 1.0)

    @property
    def outcome(self) -> str:
        """Met or missed, and whether all rounds agree."""
        if self.met is None:
            return "not measured"
        word = "met" if self.met else "**missed**"
        return word if self.steady else f"{word}, not in every round"

    @property
    def words(self) -> str:
        """The measured median in the words of the bar, or a dash."""
        if self.measured is None:
            return "-"
        if self.target.rival is None:
            return shown(self.measured.median, MEASURES[self.target.benchmark].unit)
        return f"{digits(self.measured.median)}×"

    @property
    def headroom(self) -> Spread | None:
        """Measured against wanted: 1.0 is just met, more is better."""
        if self.measured is None:
            return None
        bar, measured = self.target.bar, self.measured
        if self.target.rival is None:
            ends = (measured.median, measured.high, measured.low)
            quartiles = (measured.third_quartile, measured.first_quartile)
            return Spread(*(bar / value for value in (*ends, *quartiles)))
        return Spread(
            measured.median / bar,
            measured.low / bar,
            measured.high / bar,
            measured.first_quartile / bar,
            measured.third_quartile / bar,
        )


TARGETS = (
    Target("one `submit` per tiny task, processes", "submit", "stdlib", 20.0),
    Target("one `submit` per tiny task, processes", "submit", "mp_pool", 9.0),
    Target("round trip, processes", "round_trip", "stdlib", 8.0),
    Target("64 MB ndarray as an argument", "array", "stdlib", 12.0),
    Target("the same by `mh.share`", "array_shared", None, 100e-6),
    Target("`map` of a million ints", "map", "mp_pool", 1.0),
    Target("`map` of a million ints", "map", "joblib", 10.0),
    Target("one `submit` per tiny task, threads", "thread_submit", "stdlib", 4.0),
    Target("round trip, threads", "thread_round_trip", "stdlib", 3.0),
    Target("SIGKILL of a busy worker to the next result", "recover", None, 50e-3),
    Target("cold pool to the first result", "cold", None, 80e-3),
)


def verdicts(results: Results) -> list[Verdict]:
    """Return every target of the benchmarks that the run holds, with what was measured."""
    there = summary.benchmarks(results)
    return [
        Verdict(
            target,
            summary.values(results, target.benchmark).get(OURS)
            if target.rival is None
            else summary.ratios(results, target.benchmark, target.rival),
        )
        for target in TARGETS
        if target.benchmark in there
    ]
