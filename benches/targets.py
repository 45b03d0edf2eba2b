"""The bars: what the project promises on a 2-core machine, and whether a run has met them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches import summary
from benches.contenders import OURS
from benches.measures import MEASURES
from benches.quantity import digits, shown, tick

if TYPE_CHECKING:
    from benches.contender import Group
    from benches.measure import Unit
    from benches.run import Results
    from benches.summary import Spread


@dataclass(frozen=True)
class Target:
    """A bar: how many times better than a rival, or without a rival a value of ours.

    Attributes:
        rival: whom ours is compared with; None: the bar is in the benchmark's unit, or in seconds
            for a detail.
        at_most: the bar is how many times as long as the rival ours may take.
        detail: the detail of ours that is meant, instead of the value.
    """

    work: str
    benchmark: str
    rival: str | None
    bar: float
    at_most: bool = False
    detail: str = ""

    @property
    def unit(self) -> Unit:
        """The unit of ours."""
        measure = MEASURES[self.benchmark]
        return measure.details.get(self.detail, measure.unit)

    @property
    def wanted(self) -> str:
        """The bar in words."""
        if self.rival is None:
            return f"{'under' if self.less_is_better else 'at least'} {tick(self.bar, self.unit)}"
        against = summary.label(self.benchmark, self.rival)
        if self.at_most:
            return f"at most {self.bar:g}× the time of {against}"
        return f"at least {self.bar:g}× {against}"

    @property
    def less_is_better(self) -> bool:
        """Whether what is measured has to stay below the bar."""
        if self.rival is not None or self.detail:
            return self.at_most or bool(self.detail)
        return not MEASURES[self.benchmark].higher_is_better

    def measured(self, results: Results) -> Spread | None:
        """Return what is compared with the bar; None where a side was not measured."""
        if self.detail:
            return summary.details(results, self.benchmark, OURS, self.detail)
        if self.rival is None:
            return summary.values(results, self.benchmark).get(OURS)
        ratios = summary.ratios(results, self.benchmark, self.rival)
        return ratios.inverse() if ratios is not None and self.at_most else ratios


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
        if self.target.rival is None and self.target.less_is_better:
            return self.measured.median < self.target.bar
        if self.target.at_most:
            return self.measured.median <= self.target.bar
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
            return shown(self.measured.median, self.target.unit)
        return f"{digits(self.measured.median)}×"

    @property
    def headroom(self) -> Spread | None:
        """Measured against wanted: 1.0 is just met, more is better."""
        if self.measured is None:
            return None
        of_bar = self.measured.scaled(1.0 / self.target.bar)
        return of_bar.inverse() if self.target.less_is_better else of_bar


TARGETS = (
    Target("one `submit` per tiny task, processes", "submit", "stdlib", 20.0),
    Target("one `submit` per tiny task, processes", "submit", "mp_pool", 9.0),
    Target("the same, tasks a second", "submit", None, 1e6),
    Target("round trip, processes", "round_trip", "stdlib", 80.0),
    Target("the same, p99", "round_trip", None, 10e-6, detail="p99"),
    Target("the same beside one that computes", "round_trip_busy", "stdlib", 15.0),
    Target("the same beside two", "round_trip_crowded", "stdlib", 15.0),
    Target("CPU time of a call, one a millisecond", "paced", "stdlib", 1.0),
    Target("CPU time of a call, one in 10 ms", "paced_slowly", "stdlib", 1.0),
    Target("64 MB ndarray as an argument", "array", "stdlib", 12.0),
    Target("the same by `mh.share`", "array_shared", None, 20e-6),
    Target("`map` of a million ints", "map", "mp_pool", 3.0),
    Target("`map` of a million ints", "map", "joblib", 10.0),
    Target("one `submit` per tiny task, threads", "thread_submit", "stdlib", 4.0),
    Target("round trip, threads", "thread_round_trip", "stdlib", 20.0),
    Target("the same, p99", "thread_round_trip", None, 10e-6, detail="p99"),
    Target("SIGKILL of a busy worker to the next result", "recover", None, 50e-3),
    Target("cold pool to the first result", "cold", None, 20e-3),
    Target("joblib: one 64 MB array to 32 tasks", "joblib_array", "loky", 1.0),
    Target("joblib: one 64 MB array to 32 tasks", "joblib_array", "multiprocessing", 1.0),
    Target("scikit-learn's grid search", "grid_search", "loky", 1.0),
    Target("scikit-learn's grid search", "grid_search", "multiprocessing", 1.0),
    Target("Lock `acquire()` + `release()` alone", "lock", "multiprocessing", 1.4, at_most=True),
    Target("`with lock:` alone", "lock_with", "multiprocessing", 1.5),
    Target("Lock contended by 2 processes", "lock_contended", "multiprocessing", 2.0),
    Target("Semaphore alone", "semaphore", "threading", 12.0),
    Target("Semaphore alone", "semaphore", "multiprocessing", 1.4, at_most=True),
    Target("BoundedSemaphore alone", "bounded_semaphore", "threading", 12.0),
    Target("BoundedSemaphore alone", "bounded_semaphore", "multiprocessing", 1.4, at_most=True),
    Target("Event round trip, processes", "event", "multiprocessing", 250.0),
    Target("Condition round trip, processes", "condition", "multiprocessing", 20.0),
    Target("Queue of small ints, processes", "queue", "multiprocessing", 5.0),
    Target("the same by `put_many`, `get_many`", "queue_many", "multiprocessing", 20.0),
    Target("Queue of small ints, threads", "thread_queue", "threading", 3.0),
    Target("Queue round trip, processes", "queue_round_trip", "multiprocessing", 70.0),
    Target("Pipe round trip, processes", "pipe_round_trip", "multiprocessing", 40.0),
    Target("1 MiB bytes through Queue", "queue_large", "multiprocessing", 4.0),
    Target("`async_get` from a process", "async_get", "multiprocessing", 5.0),
    Target("`async_put` to a process", "async_put", "multiprocessing", 5.0),
    Target("round trip, task and process", "async_round_trip", "multiprocessing", 5.0),
    Target("death of an owner until a waiter has the lock, p99", "owner_death", None, 1e-3),
    Target("the same without `futex_waitv`, p99", "owner_death_fallback", None, 250e-3),
    Target("CPU time per second of idle waiting", "idle", None, 1e-3),
    Target("echo of 1 KiB on 64 connections", "serve_echo", "threading_server", 1.2),
    Target("a connection for each request", "serve_connections", "threading_server", 3.0),
    Target("echo, processes", "serve_process_echo", "forking_server", 1.2),
    Target(
        "a connection for each request, processes",
        "serve_process_connections",
        "forking_server",
        10.0,
    ),
    Target("stream handler on asyncio's loop", "serve_streams", "asyncio", 1.5),
    Target("the same", "serve_streams", "uvloop", 1.0),
    Target("stream handler on uvloop's loop", "serve_uvloop_streams", "uvloop", 1.0),
    Target("handler of lines", "serve_messages", "uvloop", 1.1),
    Target("echo beside 5,000 idle connections", "serve_crowd", None, 0.9),
    Target("tiny tasks over a broker, and results", "cluster_tasks", "celery", 4.0),
    Target("publishing alone, confirmed", "cluster_publish", "celery", 8.0),
    Target("round trip over a broker", "cluster_round_trip", "celery", 3.0),
    Target("memory of a worker", "cluster_memory", "celery", 2.0),
)


def verdicts(results: Results, group: Group | None = None) -> list[Verdict]:
    """Return every target of the benchmarks that the run holds, or of one group of them."""
    there = summary.benchmarks(results, group)
    return [
        Verdict(target, target.measured(results)) for target in TARGETS if target.benchmark in there
    ]
