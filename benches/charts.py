"""The plots: all benchmarks of a group, two curves, and how far each target is met.

They are drawn by matplotlib on a transparent background, in colours that keep a contrast of about
4:1 to white and to near-black: an image on a page cannot know which of the two its reader has.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from benches import summary
from benches.contenders import NAMES, OURS
from benches.measures import MEASURES, lengths
from benches.quantity import digits, shown
from benches.waits import CURVE, DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from benches.contender import Group
    from benches.run import Results
    from benches.targets import Verdict

# Inches; the plots stand below each other on a page.
WIDTH = 9.0
INK = "#727d88"
FAINT = "#838c96"
BLUE = "#2f81f7"
MET = "#2da44e"
MISSED = "#d1622b"
VIOLET = "#a371f7"
_COLOURS = {
    OURS: BLUE,
    "stdlib": "#d1622b",
    "mp_pool": "#2da44e",
    "loky": VIOLET,
    "joblib": "#db61a2",
    "pebble": "#b08800",
    "mpire": "#1b9aaa",
    "ray": "#9a6b53",
}
STYLE = {
    "font.size": 9.0,
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": FAINT,
    "grid.alpha": 0.3,
    "xtick.color": INK,
    "ytick.color": INK,
    # Text stays text, and equal results give equal files.
    "svg.fonttype": "none",
    "svg.hashsalt": "manyhands",
}


def plots(results: Results, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return file name → SVG of everything that the run has samples for."""
    found = {}
    with matplotlib.rc_context(STYLE):
        for group in summary.groups(results):
            found[f"{group}.svg"] = svg(benchmarks(results, group))
            known = [v for v in verdicts if MEASURES[v.target.benchmark].group == group]
            if any(verdict.measured for verdict in known):
                found[f"targets_{group}.svg"] = svg(targets(known))
        if "round_trip" in summary.benchmarks(results):
            found["latency.svg"] = svg(latency(results))
        if efficiencies(results):
            found["efficiency.svg"] = svg(efficiency(results))
    return found


def svg(figure: Figure) -> str:
    """Return a figure as the text of a file."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Without the spaces that matplotlib leaves at the ends of lines.
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def benchmarks(results: Results, group: Group) -> Figure:
    """Draw a panel for each benchmark of a group: a mean per contender, best first."""
    names = summary.benchmarks(results, group)
    rows = -(-len(names) // 2)
    panels = [names[row * 2 : row * 2 + 2] for row in range(rows)]
    heights = [2 + max(len(summary.values(results, name)) for name in row) for row in panels]
    figure = Figure(figsize=(WIDTH, 0.2 * sum(heights) + 0.36 * rows), layout="constrained")
    figure.get_layout_engine().set(hspace=0.02, h_pad=0.06)
    grid = figure.subplots(rows, 2, squeeze=False, height_ratios=heights)
    for row, there in zip(grid, panels, strict=True):
        for axes, name in zip(row, there, strict=False):
            means(axes, results, name)
        for axes in row[len(there) :]:
            axes.set_axis_off()
    return figure


def means(axes: Axes, results: Results, benchmark: str) -> None:
    """Draw a dot for the mean of each contender, a line from the median to the 99th percentile."""
    measure = MEASURES[benchmark]
    spreads = summary.values(results, benchmark)
    order = sorted(spreads, key=lambda name: spreads[name].median, reverse=measure.higher_is_better)
    ends = []
    for row, name in enumerate(order):
        colour = BLUE if name == OURS else FAINT
        mean = spreads[name].median
        beside = summary.distribution(results, benchmark, name)
        ends += [mean, *beside.values()]
        if beside.keys() >= {"p50", "p99"}:
            axes.plot(
                [beside["p50"], beside["p99"]], [row, row], color=colour, linewidth=2, alpha=0.6
            )
        axes.plot([mean], [row], "o", color=colour, markersize=6)
        ratio = summary.ratios(results, benchmark, name) if name != OURS else None
        words = shown(mean, measure.unit) + (f"  ({digits(ratio.median)}×)" if ratio else "")
        weight = "bold" if name == OURS else "normal"
        axes.annotate(
            words, (1.02, row), xycoords=("axes fraction", "data"), va="center",
            color=BLUE if name == OURS else INK, weight=weight, size=8,
        )  # fmt: skip
    axes.set_yticks(range(len(order)), [summary.label(benchmark, name) for name in order])
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        if name == OURS:
            label.set(color=BLUE, weight="bold")
    axes.set_ylim(len(order) - 0.4, -0.6)
    better = "more" if measure.higher_is_better else "less"
    axes.set_title(f"{benchmark}: {better} is better", weight="bold")
    _logarithmic(
        axes, [end for end in ends if end > 0], measure.unit.removesuffix("1/s").removeprefix("x")
    )


def _logarithmic(axes: Axes, ends: Iterable[float], unit: str) -> None:
    """Make the x axis of `axes` logarithmic, from below the least to above the most."""
    known = list(ends) or [1.0]
    low, high = min(known), max(known)
    # At least a power of ten: a difference that is nothing has to look like nothing.
    room = max(1.3, math.sqrt(max(1.0, 10.0 * low / high)))
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    many = high * room > 100.0 * low / room
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if many else (1.0, 3.0), numticks=6))
    axes.xaxis.set_major_formatter(EngFormatter(unit))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(visible=False, axis="y")


def targets(verdicts: Sequence[Verdict]) -> Figure:
    """Draw a row per target: how many times over it is met, on a logarithmic axis."""
    known = [(v, headroom) for v in verdicts if (headroom := v.headroom) is not None]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(known)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1.0, color=INK, linewidth=1.5)
    for row, (verdict, headroom) in enumerate(known):
        colour = MET if verdict.met else MISSED
        axes.plot([headroom.low, headroom.high], [row, row], color=colour, linewidth=2)
        axes.plot([headroom.median], [row], "o", color=colour, markersize=6)
        axes.annotate(
            verdict.words, (1.01, row), xycoords=("axes fraction", "data"), va="center",
            color=colour, weight="bold",
        )  # fmt: skip
    words = [f"{v.target.work.replace('`', '')}, {v.target.wanted}" for v, _ in known]
    axes.set_yticks(range(len(known)), words, fontsize=8)
    axes.set_ylim(len(known) - 0.4, -0.6)
    ends = [0.5, 2.0, *(end for _, headroom in known for end in (headroom.low, headroom.high))]
    _logarithmic(axes, ends, "")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.set_title("measured / wanted: right of the line is met; line: least to most", size=9)
    return figure


def efficiencies(results: Results) -> dict[str, list[tuple[float, float]]]:
    """Return for each contender the points (length of a task, share of the ideal throughput)."""
    places = {f"{length:g}": length for length in lengths.LENGTHS}
    found = {name: summary.curve(results, "task_length", name, places) for name in NAMES}
    return {name: points for name, points in found.items() if points}


def efficiency(results: Results) -> Figure:
    """Draw efficiency against the length of a task, a line per contender."""
    figure, axes = _curves(efficiencies(results), "task_length")
    axes.set_title("Cost against task length: share of the ideal throughput", weight="bold")
    axes.set_xlabel("length of a task")
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def latency(results: Results) -> Figure:
    """Draw the distribution of round trips: the wait that a share of all calls stays below."""
    # Equal steps from 90 to 99 to 99.9 %: what matters of waits is their tail.
    places = {what: _tail(share) for what, share in {**CURVE, **DISTRIBUTION}.items()}
    found = {name: summary.curve(results, "round_trip", name, places) for name in NAMES}
    figure, axes = _curves({name: points for name, points in found.items() if points}, "round_trip")
    axes.set_title(
        "Round trip through processes: how waits are spread, less is better", weight="bold"
    )
    axes.set_xlabel("share of calls that wait no longer")
    shares = (1.0, 50.0, 90.0, 99.0, 99.9)
    axes.set_xticks([_tail(share) for share in shares], [f"{share:g} %" for share in shares])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(EngFormatter("s"))
    return figure


def _tail(percent: float) -> float:
    return 1.0 / (1.0 - percent / 100.0)


def _curves(
    lines: Mapping[str, Sequence[tuple[float, float]]], benchmark: str
) -> tuple[Figure, Axes]:
    """Draw a line per contender, ours last, on top of the others, over a logarithmic x axis."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for name in sorted(lines, key=lambda name: name == OURS):
        axes.plot(
            *zip(*lines[name], strict=True),
            color=_COLOURS[name],
            linewidth=2.5 if name == OURS else 1.5,
            label=summary.label(benchmark, name),
        )
    axes.set_xscale("log")
    figure.legend(loc="outside right center", frameon=False, labelcolor="linecolor", reverse=True)
    return figure, axes
