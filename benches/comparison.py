"""The README's table: manyhands beside the best of all others, whoever that is in each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches import summary
from benches.contenders import OURS
from benches.measures import MEASURES
from benches.quantity import digits, shown

if TYPE_CHECKING:
    from benches.run import Results
    from benches.summary import Spread

# What the table shows, and in which words; the order is the reader's. A benchmark that is not
# here has a row all the same once another library is better in it.
ROWS = {
    "submit": "tiny tasks, one `submit` each, processes",
    "thread_submit": "tiny tasks, one `submit` each, threads",
    "round_trip": "submit one task, wait for it, processes",
    "round_trip_busy": "the same beside a CPU-bound process",
    "thread_round_trip": "submit one task, wait for it, threads",
    "thread_round_trip_busy": "the same beside a CPU-bound process",
    "paced": "CPU time of a call, a thousand a second",
    "map": "`map` over a million ints, processes",
    "scaling": "parsing source files: 2 workers against 1",
    "array": "64 MB array as an argument",
    "array_result": "64 MB array as a result",
    "array_shared": "64 MB array that was shared before",
    "joblib_array": "joblib: one 64 MB array to 32 tasks",
    "grid_search": "scikit-learn's grid search",
    "cold": "first result of a new pool",
    "recover": "a worker is killed: the next result",
    "memory": "memory of a worker",
    "lock": "`Lock`: acquire and release, nobody else",
    "lock_contended": "`Lock` between two busy processes",
    "semaphore": "`Semaphore`: acquire and release",
    "event": "`Event` round trip between processes",
    "condition": "`Condition` round trip between processes",
    "queue": "ints through a `Queue` to a process",
    "queue_many": "the same, many at a time",
    "thread_queue": "ints through a `Queue` to a thread",
    "queue_large": "1 MiB `bytes` through a `Queue`",
    "queue_round_trip": "`Queue` round trip between processes",
    "pipe_round_trip": "`Pipe` round trip between processes",
    "async_get": "asyncio: items from a process",
    "idle": "CPU time of a second of waiting",
    "locks_made": "100,000 locks: time to make one",
    "locks_memory": "100,000 locks: memory of one",
    "serve_echo": "echo server, 64 connections of 1 KiB requests",
    "serve_connections": "server: a connection for each request",
    "serve_process_echo": "the echo server, of processes",
    "serve_process_connections": "a connection for each request, of processes",
    "serve_streams": "the echo server, by `async def` handlers",
    "serve_messages": "the echo server, by a function of a line",
}
# What a figure of the best other library leaves out.
_FORKED = "forks your program, threads and all"
REMARKS = {
    ("cold", "stdlib"): _FORKED,
    ("cold", "mp_pool"): _FORKED,
    ("cold", "pebble"): _FORKED,
    ("cold", "mpire"): _FORKED,
    ("recover", "stdlib"): "in a new pool: every task of the old one has failed",
    ("recover", "mp_pool"): "the killed task never answers",
}
# Closer than this, or with rounds on both sides, nobody is called better.
EVEN = 1.05


@dataclass(frozen=True)
class Comparison:
    """One benchmark: our mean, that of the best other library, and the ratios of the rounds."""

    benchmark: str
    ours: float
    rival: str
    theirs: float
    ratio: Spread

    @property
    def verdict(self) -> str:
        """Which one is better and how many times, in words."""
        is_even = 1 / EVEN < self.ratio.median < EVEN or self.ratio.low < 1.0 < self.ratio.high
        if is_even:
            return "about even"
        if self.ratio.median > 1.0:
            return f"manyhands, {_times(self.ratio)}"
        label = summary.label(self.benchmark, self.rival)
        return f"**{label}, {_times(self.ratio.inverse())}**"


def _times(ratio: Spread) -> str:
    """Return a ratio, and its least and most over the rounds where they differ."""
    ends = " … ".join(dict.fromkeys((digits(ratio.low), digits(ratio.high))))
    return f"{digits(ratio.median)}×" + (f" ({ends})" if "…" in ends else "")


def compared(results: Results, benchmark: str) -> Comparison | None:
    """Return a benchmark beside its best other library; None where only one side was measured."""
    spreads = summary.values(results, benchmark)
    rivals = [name for name in spreads if name != OURS]
    if OURS not in spreads or not rivals:
        return None
    best = max if MEASURES[benchmark].higher_is_better else min
    rival = best(rivals, key=lambda name: spreads[name].median)
    ratio = summary.ratios(results, benchmark, rival)
    if ratio is None:
        return None
    return Comparison(benchmark, spreads[OURS].median, rival, spreads[rival].median, ratio)


def comparison_rows(results: Results) -> list[list[str]]:
    """Return the head and one row per benchmark of ROWS, and of any that another does better."""
    rows = [["", "manyhands", "p50, p95, p99", "best of the others", "p50, p95, p99", "better"]]
    there = summary.benchmarks(results)
    others = [name for name in there if name not in ROWS]
    for benchmark in [*ROWS, *others]:
        found = compared(results, benchmark) if benchmark in there else None
        if found is None or (benchmark in others and found.ratio.median >= 1.0):
            continue
        unit = MEASURES[benchmark].unit
        rival = f"{shown(found.theirs, unit)}, {summary.label(benchmark, found.rival)}"
        remark = REMARKS.get((benchmark, found.rival))
        rival += f" ({remark})" if remark else ""
        words = ROWS.get(benchmark, MEASURES[benchmark].title)
        cells = [shown(found.ours, unit), percentiles(results, benchmark, OURS)]
        cells += [rival, percentiles(results, benchmark, found.rival)]
        rows.append([words, *cells, found.verdict])
    return rows


def percentiles(results: Results, benchmark: str, name: str) -> str:
    """Return the percentiles of a contender's calls in one cell; a dash where there are none."""
    beside = summary.distribution(results, benchmark, name)
    return ", ".join(shown(value, MEASURES[benchmark].unit) for value in beside.values()) or "-"
