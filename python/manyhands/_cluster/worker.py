"""Runs the registered tasks that messages ask for, on one of our pools."""

from __future__ import annotations

import os
import socket
import sys
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from manyhands import _native
from manyhands._cluster.outcome import failure, run, run_async
from manyhands._cluster.task import registry
from manyhands._errors.base import ManyhandsError, TaskTimeout
from manyhands._errors.worker_died import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyhands._future.future import Future
    from manyhands._pool.executor import Executor

__all__ = ["ASKED_TO_END", "Worker", "WorkerError"]

KINDS: Final = ("process", "thread", "coroutine")
ASKED_TO_END: Final = "ends, as remote control asks"


class WorkerError(ManyhandsError):
    """A worker cannot work."""

    __module__ = "manyhands"


class Worker:
    """Takes tasks from queues, runs them, and answers.

    A message is acknowledged once its answer and what follows it are confirmed. A task whose
    process dies goes back to its queue, and after `most_deaths` of them to the queue of dead
    letters, ``<queue>.dead``.

    Args:
        url: the broker; see `ClusterExecutor`.
        modules: those that have registered the tasks; processes import them.
        queues: the queues; they are declared if they are not there.
        kind: of its workers: ``"process"``, ``"thread"`` or ``"coroutine"``.
        slots: how many tasks run at a time; None: as many as there are CPUs, or 100 coroutines.
        most_deaths: so many processes may die over a task.
        pickle: whether messages may have pickled arguments. Whoever can send one can then run
            anything.
        hostname: its name to those who control workers and watch them, with ``%h`` for the host's;
            None: its process and host.
        events: whether it tells what becomes of its tasks before it is asked to.
        grace: seconds that what runs has to end when remote control ends the worker; None: as long
            as it takes.
        told: called with a text when something is wrong, and when it consumes.

    Raises:
        WorkerError: no task is registered, or it cannot be made so.
    """

    def __init__(
        self,
        url: str,
        modules: Sequence[str] = (),
        *,
        queues: Sequence[str] = ("celery",),
        kind: str = "process",
        slots: int | None = None,
        most_deaths: int = 3,
        pickle: bool = False,
        hostname: str | None = None,
        events: bool = False,
        grace: float | None = None,
        told: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        if kind not in KINDS:
            raise WorkerError(f"workers are one of {', '.join(KINDS)}, not {kind!r}")
        if any(len(name.encode()) > 250 for name in queues):
            raise WorkerError("a queue's name has at most 250 bytes: <queue>.dead has at most 255")
        if not registry:
            raise WorkerError("no task is registered: mark functions with @manyhands.task")
        self.kind = kind
        self.queues = tuple(queues)
        self.slots = slots or (100 if kind == "coroutine" else len(os.sched_getaffinity(0)))
        self._run = run_async if kind == "coroutine" else run
        self._told = told
        self._grace = grace
        self._futures: dict[int, Future[Any]] = {}
        self._broken: BaseException | None = None
        self._executor = _executor(kind, self.slots, modules)
        host = socket.gethostname()
        try:
            self._native = _native.ClusterWorker(
                url,
                name=f"manyhands worker {os.getpid()}@{host}",
                hostname=(hostname or f"mh-{os.getpid()}@%h").replace("%h", host),
                kind=kind,
                origin=f"gen{os.getpid()}@{host}",
                queues=[*self.queues],
                slots=self.slots,
                most_deaths=most_deaths,
                tasks={
                    name: (known.ignore_result, known.time_limit, known.soft_time_limit)
                    for name, known in ((name, task.settings) for name, task in registry.items())
                },
                accepts=["pickle"] if pickle else [],
                utc_offset=(time.altzone if time.localtime().tm_isdst else time.timezone) / 3600,
                events=events,
            )
        except (OSError, OverflowError, ValueError) as error:
            raise WorkerError(f"the worker cannot start: {error}") from error

    def serve(self, beat: Callable[[], object] = lambda: None, beat_s: float | None = None) -> None:
        """Work until `shut_down` is called.

        Args:
            beat: called every `beat_s` seconds.

        Raises:
            WorkerError: the broker refuses it, or its processes cannot work.
        """
        try:
            while (news := self._take(beat_s)) is not None:
                for what, *about in news:
                    self._do(what, about)
                beat()
        finally:
            self._executor.shutdown(wait=not self._futures, cancel_futures=True)
        if self._broken is not None:
            raise WorkerError(f"its workers are broken: {self._broken}") from self._broken

    def shut_down(self, grace: float | None = None) -> None:
        """End: take no more messages, and give back those that have not begun.

        Args:
            grace: seconds that what runs has to end by itself; then it is stopped and given back,
                too. None: as long as it takes; 0: at once.
        """
        self._native.shut_down(grace)

    def revoke(self, ids: Sequence[str], *, stops: bool = False) -> None:
        """Do not run these tasks any more; with `stops`, stop those that run."""
        self._native.revoke([*ids], stops=stops)

    def statistics(self) -> dict[str, Any]:
        """Return what has happened so far, and what happens."""
        return self._native.statistics()

    def _take(self, beat_s: float | None) -> list[tuple[Any, ...]] | None:
        try:
            return self._native.take(beat_s)
        except ConnectionRefusedError as error:
            raise WorkerError(str(error)) from error

    def _do(self, what: str, about: list[Any]) -> None:
        if what == "run":
            self._begin(*about)
        elif what == "stop":
            future = self._futures.get(about[0])
            if future is not None:
                future.cancel()
        elif what == "shut down":
            self._told(ASKED_TO_END)
            self.shut_down(self._grace)
        else:
            self._told(about[0] if about else f"consumes from {', '.join(self.queues)}")

    def _begin(
        self,
        job: int,
        name: str,
        content: bytes,
        serializer: str,
        soft: float | None,
        hard: float | None,
        about: tuple[Any, ...],
    ) -> None:
        target = self._executor if hard is None else self._executor.options(timeout=hard)
        try:
            future = target.submit(self._run, name, content, serializer, soft, about)
        except RuntimeError as error:
            self._break(job, error)
            return
        self._futures[job] = future
        future.add_done_callback(partial(self._ended, job, hard))

    def _ended(self, job: int, hard: float | None, future: Future[Any]) -> None:
        self._futures.pop(job, None)
        if future.cancelled():
            self._native.returned(job)
            return
        error = future.exception()
        if isinstance(error, WorkerDied):
            self._native.crashed(job)
        elif isinstance(error, BrokenExecutor):
            self._break(job, error)
        else:
            for _, *about in self._finished(job, _outcome(future, error, hard)):
                self._begin(*about)

    def _finished(self, job: int, outcome: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._native.finished(job, outcome)
        except ValueError as why:
            # What follows a pickled task can only be read now, and perhaps not at all.
            return self._native.finished(job, failure(why))

    def _break(self, job: int, error: BaseException) -> None:
        """End: what cannot run here would come back at once."""
        self._broken = self._broken or error
        self._native.returned(job)
        self._native.shut_down(0)


def _outcome(
    future: Future[Any], error: BaseException | None, hard: float | None
) -> tuple[Any, ...]:
    """Return what a task came to, in the words of the native worker."""
    if error is None:
        outcome: tuple[Any, ...] = future.result()
        return outcome
    if isinstance(error, TaskTimeout) and hard is not None:
        # The words of stock workers, which stock clients know.
        kind = "TimeLimitExceeded", f"[{hard}]", "billiard.exceptions"
        return "failure", *kind, str(error)
    return failure(error)


def _executor(kind: str, slots: int, modules: Sequence[str]) -> Executor:
    if kind == "process":
        from manyhands._pool.process import ProcessPoolExecutor

        return ProcessPoolExecutor(slots, preload=modules, idle_timeout=None)
    if kind == "thread":
        from manyhands._pool.thread import ThreadPoolExecutor

        return ThreadPoolExecutor(slots)
    from manyhands._pool.coroutine import of_one_loop

    return of_one_loop(slots)
