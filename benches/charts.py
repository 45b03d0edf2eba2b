"""The plots: bars per benchmark, two curves, and how far each target is met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benches import summary
from benches.contender import HEADINGS
from benches.contenders import NAMES, OURS
from benches.measures import MEASURES
from benches.quantity import digits, shown, tick
from benches.svg import FAINT, INK, MET, MISSED, Drawing
from benches.svg import OURS as OUR_BLUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from benches.run import Results
    from benches.summary import Spread
    from benches.targets import Verdict

WIDTH = 760.0
LEFT = 180.0
HEAD = 62.0
ROW = 28.0
TARGET_ROW = 36.0

_COLOURS = {
    OURS: OUR_BLUE,
    "stdlib": "#d1622b",
    "mp_pool": "#2da44e",
    "loky": "#a371f7",
    "joblib": "#db61a2",
    "pebble": "#b08800",
    "mpire": "#1b9aaa",
    "ray": "#9a6b53",
}


def plots(results: Results, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return file name → SVG of everything that the run has samples for."""
    there = summary.benchmarks(results)
    found = {f"{name}.svg": bars(results, name) for name in there}
    if "round_trip" in there:
        found["latency.svg"] = latency(results)
    if any("efficiencies" in entry.detail for entry in results.entries):
        found["efficiency.svg"] = efficiency(results)
    for group in summary.groups(results):
        known = [v for v in verdicts if v.measured and MEASURES[v.target.benchmark].group == group]
        if known:
            found[f"targets_{group}.svg"] = targets(known, HEADINGS[group])
    return found


def _headed(height: float, title: str, about: str) -> Drawing:
    drawing = Drawing(WIDTH, height, title)
    drawing.text(10, 24, title, size=17, bold=True)
    drawing.text(10, 45, about, size=12.5, fill=FAINT)
    return drawing


def bars(results: Results, benchmark: str) -> str:
    """One bar per contender, best first: median, a whisker from the least to the most."""
    measure = MEASURES[benchmark]
    spreads = summary.values(results, benchmark)
    order = sorted(spreads, key=lambda name: spreads[name].median, reverse=measure.higher_is_better)
    against = {name: summary.ratios(results, benchmark, name) for name in order if name != OURS}
    drawing = _headed(HEAD + ROW * (len(order) + 1), measure.title, measure.about)
    better = "longer" if measure.higher_is_better else "shorter"
    drawing.text(LEFT, HEAD + 8, f"{better} is better", size=11, fill=FAINT)
    if any(against.values()):
        end = WIDTH - 10
        drawing.text(end, HEAD + 8, "manyhands is better by", size=11, anchor="end", fill=FAINT)
    longest = limit(spreads.values(), measure.higher_is_better)
    axis = Axis(0.0, longest, LEFT, WIDTH - 190.0, log=False)
    for row, name in enumerate(order):
        y = HEAD + 16 + row * ROW
        _bar(drawing, y, axis, benchmark, name, spreads[name])
        ratio = against.get(name)
        if ratio is not None:
            drawing.text(WIDTH - 10, y + 15.5, f"{digits(ratio.median)}×", anchor="end")
    return str(drawing)


def limit(spreads: Iterable[Spread], higher_is_better: bool) -> float:
    """Return the value at which the longest bar ends.

    Where shorter is better, one library that waits a hundred times longer than all others would
    leave nothing to see of these: its bar is cut at four times the median.
    """
    known = list(spreads)
    most = max((spread.high for spread in known), default=1.0)
    if higher_is_better or not known:
        return most
    usual = 4.0 * median(spread.median for spread in known)
    return min(most, usual)


def _bar(drawing: Drawing, y: float, axis: Axis, benchmark: str, name: str, spread: Spread) -> None:
    """Draw one contender's label, bar, whisker and value; a cut bar shows a gap."""
    ours = name == OURS
    ink = OUR_BLUE if ours else INK
    end, least, most = (axis(value) for value in (spread.median, spread.low, spread.high))
    drawing.text(
        LEFT - 10, y + 15, summary.label(benchmark, name), anchor="end", bold=ours, fill=ink
    )
    fill, opacity = (OUR_BLUE, 1.0) if ours else (FAINT, 0.6)
    if spread.median > axis.high:
        gap = end - 26
        drawing.bar(LEFT, y + 2, gap - LEFT, 18, fill=fill, opacity=opacity)
        drawing.bar(gap + 6, y + 2, end - gap - 6, 18, fill=fill, opacity=opacity)
    else:
        drawing.bar(LEFT, y + 2, end - LEFT, 18, fill=fill, opacity=opacity)
        if most - least > 2:
            drawing.line([(least, y + 11), (most, y + 11)], stroke=INK, width=1.5)
    words = shown(spread.median, MEASURES[benchmark].unit)
    drawing.text(max(end, most) + 7, y + 15.5, words, bold=ours, fill=ink)


def targets(verdicts: Sequence[Verdict], heading: str) -> str:
    """One row per bar: how many times over it is met, on a logarithmic axis."""
    known = [(v, headroom) for v in verdicts if (headroom := v.headroom) is not None]
    left, right = 395.0, WIDTH - 100.0
    low = min(0.5, *(headroom.low for _, headroom in known))
    high = max(2.0, *(headroom.high for _, headroom in known))
    axis = Axis(low / 1.1, high * 1.1, left, right)
    bottom = HEAD + 16 + TARGET_ROW * len(known)
    drawing = _headed(
        bottom + 28,
        f"Targets: {heading.lower()}",
        "measured / wanted: right of the line is met; whisker: least to most",
    )
    # Over many powers of ten their multiples would be written over each other.
    for times in axis.ticks((1.0, 2.0, 5.0) if high < 300.0 * low else (1.0,)):
        wanted = times == 1.0
        drawing.line(
            [(axis(times), HEAD + 4), (axis(times), bottom)],
            stroke=INK if wanted else FAINT,
            width=1.5 if wanted else 1.0,
            opacity=1.0 if wanted else 0.35,
        )
        drawing.text(
            axis(times), bottom + 17, f"{times:g}×", size=11.5, anchor="middle", fill=FAINT
        )
    for row, (verdict, headroom) in enumerate(known):
        y = HEAD + 20 + row * TARGET_ROW
        colour = MET if verdict.met else MISSED
        target = verdict.target
        drawing.text(10, y + 1, target.work.replace("`", ""), size=12.5)
        drawing.text(10, y + 13, target.wanted, size=10.5, fill=FAINT)
        drawing.line([(axis(headroom.low), y), (axis(headroom.high), y)], stroke=colour, width=2)
        drawing.dot(axis(headroom.median), y, 5, colour)
        drawing.text(WIDTH - 10, y + 4, verdict.words, anchor="end", fill=colour, bold=True)
    return str(drawing)


def efficiency(results: Results) -> str:
    """Efficiency against the length of a task, a line per contender."""
    measure = MEASURES["task_length"]
    lines = {
        name: [(x, 100 * y) for x, y in points]
        for name in NAMES
        if (points := summary.curve(results, "task_length", name, "lengths_s", "efficiencies"))
    }
    xs = [x for points in lines.values() for x, _ in points]
    frame = Frame(
        x=Axis(min(xs), max(xs), 60, WIDTH - 150),
        y=Axis(0, 100, 400, HEAD + 10, log=False),
        x_ticks={10.0**power: tick(10.0**power, "s") for power in range(-6, 0)},
        y_ticks={float(share): f"{share} %" for share in range(0, 101, 25)},
        x_name="length of a task",
    )
    title = "Cost against task length: share of the ideal throughput"
    return frame.drawn(title, measure.about, "task_length", lines)


def latency(results: Results) -> str:
    """Draw the distribution of round trips: the wait that a share of all calls stays below."""
    lines = {
        name: summary.curve(results, "round_trip", name, "percentiles", "waits")
        for name in summary.values(results, "round_trip")
    }
    ys = [y for points in lines.values() for _, y in points]

    def tail(percent: float) -> float:
        # Equal steps from 90 to 99 to 99.9 %: what matters of waits is their tail.
        return 1.0 / (1.0 - percent / 100.0)

    shares = (1.0, 50.0, 90.0, 99.0, 99.9)
    frame = Frame(
        x=Axis(tail(1.0), tail(99.9), 60, WIDTH - 150),
        y=Axis(min(ys) / 1.2, max(ys) * 1.2, 400, HEAD + 10),
        x_ticks={tail(share): f"{share:g} %" for share in shares},
        y_ticks={10.0**power: tick(10.0**power, "s") for power in range(-7, 2)},
        x_name="share of calls that wait no longer",
    )
    moved = {name: [(tail(x), y) for x, y in points] for name, points in lines.items()}
    about = "submit one tiny task, wait for its result, and again: lower is better"
    return frame.drawn("Round trip through processes: distribution", about, "round_trip", moved)


class Axis:
    """Values → positions, logarithmic unless told otherwise."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, log: bool = True
    ) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end
        self._scale: Callable[[float], float] = math.log10 if log else float

    def __call__(self, value: float) -> float:
        """Return where `value` lies, values outside the axis at its ends."""
        low, high = self._scale(self.low), self._scale(self.high)
        inside = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * (self._scale(inside) - low) / (high - low)

    def ticks(self, steps: Sequence[float]) -> list[float]:
        """Return the multiples `steps` of each power of ten that lie on a logarithmic axis."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        candidates = (step * 10.0**power for power in powers for step in steps)
        return [tick for tick in candidates if self.low <= tick <= self.high]


@dataclass(frozen=True)
class Frame:
    """Two axes, their ticks (value → words), and a line per contender with its name at the end."""

    x: Axis
    y: Axis
    x_ticks: Mapping[float, str]
    y_ticks: Mapping[float, str]
    x_name: str

    def drawn(
        self,
        title: str,
        about: str,
        benchmark: str,
        lines: Mapping[str, Sequence[tuple[float, float]]],
    ) -> str:
        """Return the plot as SVG."""
        drawing = _headed(450, title, about)
        for value, words in self.y_ticks.items():
            if self.y.low <= value <= self.y.high:
                at = self.y(value)
                drawing.line([(self.x.start, at), (self.x.end, at)], opacity=0.35)
                drawing.text(self.x.start - 8, at + 4, words, size=11.5, anchor="end", fill=FAINT)
        for value, words in self.x_ticks.items():
            if self.x.low <= value * 1.0001 and value <= self.x.high * 1.0001:
                at = self.x(value)
                drawing.line([(at, self.y.start), (at, self.y.start + 5)])
                drawing.text(at, self.y.start + 20, words, size=11.5, anchor="middle", fill=FAINT)
        middle = (self.x.start + self.x.end) / 2
        drawing.text(middle, self.y.start + 42, self.x_name, size=12, anchor="middle", fill=FAINT)
        # Ours last, on top of the others.
        for name in sorted(lines, key=lambda name: name == OURS):
            points = [(self.x(x), self.y(y)) for x, y in lines[name]]
            drawing.line(points, stroke=_COLOURS[name], width=3 if name == OURS else 1.8)
        ends = {name: self.y(points[-1][1]) for name, points in lines.items()}
        for name, y in spread_out(ends, 15.0).items():
            drawing.text(
                self.x.end + 10,
                y + 4,
                summary.label(benchmark, name),
                size=12.5,
                fill=_COLOURS[name],
                bold=name == OURS,
            )
        return str(drawing)


def spread_out(places: Mapping[str, float], apart: float) -> dict[str, float]:
    """Move places so that no two are closer than `apart`, around the middle of each crowd.

    >>> spread_out({"a": 10.0, "b": 10.0}, 4.0)
    {'a': 8.0, 'b': 12.0}
    """
    crowds: list[list[str]] = []
    centres: list[float] = []
    for name in sorted(places, key=lambda name: places[name]):
        crowds.append([name])
        centres.append(places[name])
        while len(crowds) > 1:
            reach = apart * (len(crowds[-1]) + len(crowds[-2])) / 2
            if centres[-1] - centres[-2] >= reach:
                break
            crowds[-2:] = [crowds[-2] + crowds[-1]]
            centres[-2:] = [sum(places[name] for name in crowds[-1]) / len(crowds[-1])]
    return {
        name: centre + (place - (len(crowd) - 1) / 2) * apart
        for crowd, centre in zip(crowds, centres, strict=True)
        for place, name in enumerate(crowd)
    }
