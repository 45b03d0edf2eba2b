"""What the demonstration found out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from manyhands._errors.base import ManyhandsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Advice", "DemoError", "JobReport", "Report", "Run", "Setting"]

# Below this speed-up workers do not repay their trouble, and within this factor of the fastest
# kind a kind counts as fast as it: differences as small come and go from run to run.
_WORTH_IT = 1.15
_AS_FAST = 1.10
# On a busy machine times vary by that much more.
_BUSY_WORTH_IT = 1.4
_BUSY_AS_FAST = 1.5
# The machine is busy where others want so many of the CPUs that workers do not get one each.
_BUSY = 0.5


class DemoError(ManyhandsError):
    """The demonstration cannot be run on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and on what the jobs run.

    Attributes:
        manyhands: version of this package.
        python: implementation and version of the interpreter, such as ``CPython 3.12.1``.
        platform: system, release and machine.
        cpus: CPUs that this process may use.
        folder: where the source files are.
        files: how many are worked on.
        bytes: their size in all.
    """

    manyhands: str
    python: str
    platform: str
    cpus: int
    folder: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """A job done once, in one kind of worker.

    Attributes:
        kind: ``sequential``, or what was given as ``workers=``: ``thread``, ``process``, ``auto``,
            to a server also ``coroutine`` and ``greenlet``.
        seconds: time from start to the last result, the start of workers included if there were
            none yet.
        speed_up: time of the sequential run divided by this one's.
        rate: tasks a second.
        others: threads of other programs that wanted a CPU, right before the run.
    """

    kind: str
    seconds: float
    speed_up: float
    rate: float
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class Advice:
    """The kind to take for a job, and the speed-up that was measured with it."""

    job: str
    kind: str
    speed_up: float


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job done in every kind of worker.

    Attributes:
        name: the job's name.
        description: what it does.
        tasks: tasks in each run.
        runs: sequential first, then the others.
        choice: the kind that ``workers="auto"`` chose; None for a server, which is told.
        reason: why it did; of a server how much each kind has served.
        differences: what differs from the sequential run's results; empty if nothing does.
        busy: whether others wanted so much of the CPUs that times are uncertain.
    """

    name: str
    description: str
    tasks: int
    runs: tuple[Run, ...]
    choice: str | None
    reason: str
    differences: tuple[str, ...]
    busy: bool = False

    @property
    def advice(self) -> Advice:
        """The kind to take for this job, by the times measured."""
        return advise(self.name, self.runs, self.busy)

    @property
    def others(self) -> float:
        """Threads of other programs that wanted a CPU, on average of the runs."""
        return sum(run.others for run in self.runs) / len(self.runs)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole demonstration.

    Attributes:
        setting: where it ran.
        jobs: what was run.
        seconds: how long all of it took.
    """

    setting: Setting
    jobs: tuple[JobReport, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every kind of worker gave the same results as the sequential run."""
        return not any(job.differences for job in self.jobs)

    @property
    def others(self) -> float:
        """Threads of other programs that wanted a CPU, on average of all runs."""
        runs = [run for job in self.jobs for run in job.runs]
        return sum(run.others for run in runs) / max(1, len(runs))

    @property
    def busy(self) -> bool:
        """Whether others wanted so much of the CPUs, in any job, that times are uncertain."""
        return any(job.busy for job in self.jobs)

    def to_json(self) -> str:
        """Return the report as one JSON object; `manyhands.demo` describes its fields."""
        fields = asdict(self)
        fields["equal"] = self.equal
        fields["others"] = self.others
        fields["busy"] = self.busy
        for job, written in zip(self.jobs, fields["jobs"], strict=True):
            written["best"] = job.advice.kind
        return json.dumps(fields, indent=2, ensure_ascii=False)


def is_busy(runs: Sequence[Run], cpus: int) -> bool:
    """Say whether others wanted so much of the CPUs during some of the runs that times vary."""
    return max(run.others for run in runs) > _BUSY * cpus


def advise(job: str, runs: Sequence[Run], busy: bool = False) -> Advice:
    """Choose between kinds of workers by their times.

    Of two that are about as fast the simpler one is the better: no workers before threads, threads,
    to which nothing has to be sent, before processes, and last coroutines, for which programs have
    to be written, and greenlets, for which something has to be installed. On a `busy` machine it
    takes a larger difference to be faster.
    """
    worth_it, as_fast = (_BUSY_WORTH_IT, _BUSY_AS_FAST) if busy else (_WORTH_IT, _AS_FAST)
    sequential, *others = (run for run in runs if run.kind != "auto")
    least = min(run.seconds for run in others)
    best = sequential
    if sequential.seconds >= least * worth_it:
        best = next(run for run in others if run.seconds <= least * as_fast)
    return Advice(job, best.kind, best.speed_up)
