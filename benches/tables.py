"""The tables of a run, as rows of cells and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches import summary
from benches.contenders import OURS, of_group
from benches.measures import MEASURES
from benches.quantity import digits, shown
from benches.waits import DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benches.contender import Group
    from benches.run import Results
    from benches.summary import Spread
    from benches.targets import Verdict

# Others' share of the CPU time up to which a run counts.
QUIET = 0.05
# What heads a contender's column where its name would say too little.
_HEADS = {
    "stdlib": "concurrent.futures",
    "mp_pool": "mp.Pool",
    "ray": "Ray",
    "mp_simple_queue": "mp.SimpleQueue",
    "mp_pipe": "mp.Pipe",
    "mp_lists": "mp.Queue of lists",
    "simple_queue": "queue.SimpleQueue",
    "faster_fifo": "faster-fifo",
    "threading_server": "ThreadingTCPServer",
    "forking_server": "ForkingTCPServer",
}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a Markdown table, the first row its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join(
        (lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:])
    )


def machine_line(results: Results) -> str:
    """Return one sentence on what was measured, where and how."""
    machine = results.machine
    busy = results.disturbance > QUIET
    return (
        f"{machine.date}, {machine.cpu}, {machine.cpus} CPUs, "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}, Linux {machine.kernel}, "
        f"{machine.python}, manyhands at {machine.commit}; "
        f"{results.rounds} interleaved rounds; other processes took "
        f"{100 * results.disturbance:.0f} % of the CPU time."
        + (" **The machine was not quiet: these figures prove nothing.**" if busy else "")
        + (" **Shortened work (--quick): a rough look only.**" if results.scale < 1.0 else "")
    )


def target_rows(found: Sequence[Verdict]) -> list[list[str]]:
    """Return the head and one row per target: work, bar, measured, spread, met or missed."""
    rows = [["work", "bar", "measured", "least … most of the rounds", ""]]
    for verdict in found:
        spread, target = verdict.measured, verdict.target
        if spread is None:
            rows.append([target.work, target.wanted, "-", "-", "not measured"])
            continue
        if target.rival is None:
            ends = (spread.low, spread.high)
            extremes = " … ".join(shown(end, target.unit) for end in ends)
        else:
            extremes = f"{digits(spread.low)} … {digits(spread.high)}×"
        rows.append([target.work, target.wanted, verdict.words, extremes, verdict.outcome])
    return rows


def value_rows(results: Results, group: Group) -> list[list[str]]:
    """Return the head and one row per benchmark of a group: every contender's mean."""
    benchmarks = summary.benchmarks(results, group)
    there = {entry.contender for entry in results.entries if entry.benchmark in benchmarks}
    names = [name for name in of_group(group) if name in there]
    rows = [["benchmark", *(_HEADS.get(name, name) for name in names)]]
    for benchmark in benchmarks:
        spreads = summary.values(results, benchmark)
        unit = MEASURES[benchmark].unit
        cells = [shown(spreads[n].median, unit) if n in spreads else "-" for n in names]
        rows.append([benchmark, *cells])
    return rows


def detail_rows(results: Results, group: Group) -> list[list[str]]:
    """Return the head and one row per detail worth showing."""
    rows = [["benchmark", "library", "what", ""]]
    for benchmark in summary.benchmarks(results, group):
        for name in summary.values(results, benchmark):
            for what, unit in MEASURES[benchmark].details.items():
                found = summary.details(results, benchmark, name, what)
                if found is not None:
                    label = summary.label(benchmark, name)
                    rows.append([benchmark, label, what, shown(found.median, unit)])
    return rows


def ratio_rows(results: Results, group: Group) -> list[list[str]]:
    """Return the head and one row per benchmark and library: mean, percentiles, ratio, spread."""
    rows = [["benchmark", "library", "mean", *DISTRIBUTION, "ratio", "quartiles", "least … most"]]
    for benchmark in summary.benchmarks(results, group):
        unit = MEASURES[benchmark].unit
        for name, spread in summary.values(results, benchmark).items():
            beside = summary.distribution(results, benchmark, name)
            ratio = summary.ratios(results, benchmark, name) if name != OURS else None
            cells = [shown(beside[what], unit) if what in beside else "-" for what in DISTRIBUTION]
            cells += ("", "", "") if ratio is None else _ratio_cells(ratio)
            label = summary.label(benchmark, name)
            rows.append([benchmark, label, shown(spread.median, unit), *cells])
    return rows


def _ratio_cells(ratio: Spread) -> tuple[str, str, str]:
    return (
        f"{digits(ratio.median)}×",
        f"{digits(ratio.first_quartile)} … {digits(ratio.third_quartile)}",
        f"{digits(ratio.low)} … {digits(ratio.high)}",
    )
