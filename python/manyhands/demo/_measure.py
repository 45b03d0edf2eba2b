"""Running the jobs: once in every kind of worker, timed and compared."""

from __future__ import annotations

import os
import platform
from contextlib import ExitStack
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Final, Protocol

import manyhands as mh
from manyhands._map.runnable import runnable_others
from manyhands.demo._jobs import JOBS, Amounts, Job
from manyhands.demo._report import JobReport, Report, Run, Setting, is_busy
from manyhands.demo._sources import Sources, find_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["View", "run"]

# Others are counted right before a run, when nothing of ours computes: so often, with such pauses.
_LOOKS: Final = 8
_PAUSE: Final = 0.01
_FULL: Final = Amounts(
    files=500, parses=2, bundle=20, compressions=12, pages=150, clients=16, look_ups=20
)
_QUICK: Final = Amounts(
    files=40, parses=1, bundle=10, compressions=2, pages=12, clients=8, look_ups=5
)


class View(Protocol):
    """Whoever watches the demonstration while it runs."""

    def begin(self, setting: Setting) -> None:
        """Jobs are about to run."""

    def progress(self, job: str, kind: str, share: float, run: int, runs: int) -> None:
        """Show that a `share` (0..1) of the tasks of run number `run` of `runs` is done."""

    def finish(self, job: JobReport) -> None:
        """Show a job that has run with every kind of worker."""


class _Nobody:
    def begin(self, setting: Setting) -> None: ...
    def progress(self, job: str, kind: str, share: float, run: int, runs: int) -> None: ...
    def finish(self, job: JobReport) -> None: ...


def run(
    jobs: Sequence[str] = tuple(JOBS),
    workers: int | None = None,
    quick: bool = False,
    view: View | None = None,
) -> Report:
    """Run `jobs` in every kind of worker and report times and differences.

    Args:
        jobs: names out of ``parse``, ``compress``, ``fetch``, ``serve``, in the order to run them.
        workers: how many threads or processes to use; None leaves it to each kind.
        quick: do a small part of each job.
        view: told what goes on, as it goes on.

    Raises:
        DemoError: this machine's standard library has too few source files.
        KeyError: there is no such job.

    Example:
        >>> report = manyhands.demo.run(["fetch"], quick=True)
        >>> report.equal
        True
    """
    started = perf_counter()
    chosen = [JOBS[name] for name in jobs]
    amounts = _QUICK if quick else _FULL
    sources = find_sources(amounts.files)
    setting = _setting(sources)
    watcher = _Nobody() if view is None else view
    watcher.begin(setting)
    reports: list[JobReport] = []
    in_all = sum(len(job.kinds) for job in chosen)
    for job in chosen:
        done = sum(len(report.runs) for report in reports)
        with ExitStack() as stack:
            items = job.items(sources, amounts, stack)
            report = _run_job(job, items, workers, watcher, done, in_all, setting.cpus)
        watcher.finish(report)
        reports.append(report)
    return Report(setting, tuple(reports), perf_counter() - started)


def _run_job(
    job: Job,
    items: list[Any],
    workers: int | None,
    view: View,
    runs_before: int,
    runs_in_all: int,
    cpus: int,
) -> JobReport:
    runs: list[Run] = []
    differences: list[str] = []
    expected: list[object] = []
    tasks = job.tasks(items)
    for number, kind in enumerate(job.kinds, runs_before + 1):

        def progress(done: int, _: int | None, kind: str = kind, number: int = number) -> None:
            view.progress(job.name, kind, done / len(items), number, runs_in_all)

        progress(0, None)
        others = _others(cpus)
        results, seconds = job.run(kind, items, workers, progress)
        speed_up = runs[0].seconds / seconds if runs else 1.0
        runs.append(Run(kind, seconds, speed_up, tasks / seconds, others))
        if not expected:
            expected = results
        elif results != expected:
            differences.append(f"{kind}, {_difference(expected, results)}")
    choice, reason = _choice(runs)
    return JobReport(
        name=job.name,
        description=job.description,
        tasks=tasks,
        runs=tuple(runs),
        choice=choice,
        reason=reason,
        differences=tuple(differences),
        busy=is_busy(runs, cpus),
    )


def _choice(runs: Sequence[Run]) -> tuple[str | None, str]:
    """Return what ``"auto"`` chose, and why; of a job that it is not for, what runs achieved."""
    if runs[-1].kind != "auto":
        return None, "a second: " + ", ".join(f"{run.kind} {run.rate:,.0f}" for run in runs)
    choice = mh.last_choice()
    assert choice is not None, "the last run was one whose kind is chosen"
    return choice.kind, choice.reason


def _others(cpus: int) -> float:
    """Return how many threads of other programs want a CPU, on average over a moment."""
    seen = []
    for _ in range(_LOOKS):
        sleep(_PAUSE)
        seen.append(runnable_others(1, cpus) or 0.0)
    return sum(seen) / len(seen)


def _difference(expected: list[object], results: list[object]) -> str:
    if len(results) != len(expected):
        return f"{len(results)} results instead of {len(expected)}"
    pairs = enumerate(zip(expected, results, strict=True))
    index, (right, wrong) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    return f"task {index}: {wrong!r} instead of {right!r}"


def _setting(sources: Sources) -> Setting:
    return Setting(
        manyhands=mh.__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        cpus=len(os.sched_getaffinity(0)),
        folder=sources.folder,
        files=len(sources.paths),
        bytes=sources.bytes,
    )
