"""The executor whose workers are threads of this process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor as StdlibThreadPoolExecutor
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar
from weakref import ref

from manyhands import _native
from manyhands._future.future import Future  # noqa: TC001 - registers the class of futures
from manyhands._interpreter.deadline import seconds_not_negative
from manyhands._pool.executor import Executor
from manyhands._pool.portrait import portrait
from manyhands._task.options import TaskOptions, check_workers
from manyhands._task.worker_kind import THREAD, WorkerKind
from manyhands._worker.crew import Crew, crews

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._task.target import Reserved

__all__ = ["ThreadPoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_next_number = count().__next__


class ThreadPoolExecutor(_native.ThreadPoolBase, Executor, StdlibThreadPoolExecutor):
    """Runs calls in threads of this process.

    A replacement for `concurrent.futures.ThreadPoolExecutor`, which it extends: anything that
    asks for one, such as ``loop.set_default_executor``, takes it. Threads are started as they are
    needed. Each task runs in a copy of the context of whoever submitted it.

    A running task cannot be stopped by force. ``Future.cancel()``, and the ``timeout`` option,
    ask it to stop: `manyhands.check_cancelled`, `manyhands.sleep` and waits for futures then
    raise `TaskCancelled` in it.

    A task may wait for tasks of its own pool. If the one it waits for is still queued, it is run
    right there, in the thread that waits; where that is not possible (a wait with a timeout, or
    for several futures), one more thread than `max_workers` may run meanwhile. So a pool never
    waits for itself, but a task that holds a lock while it waits may find itself holding it in
    the task it waits for.

    After ``os.fork()``, parent and child both keep their executors; futures of unfinished tasks
    fail in the child with `ManyhandsError`.

    Args:
        max_workers: how many threads there may be; None means CPUs + 4, at most 32.
        thread_name_prefix: what the threads' names begin with.
        initializer: called in each thread before its first task. Context variables that it sets
            hold in the thread's tasks, unless their submitter has set them. If it raises, the
            pool is broken: all that is queued fails with `concurrent.futures.BrokenExecutor`.
        initargs: arguments of `initializer`.
        finalizer: called in each thread after its last task.
        idle_timeout: seconds after which a thread that has nothing to do ends; None means never.

    Raises:
        TypeError: `initializer` or `finalizer` is not callable, or a number is none.
        ValueError: `max_workers` is less than 1, or `idle_timeout` is negative.

    Example:
        >>> with mh.ThreadPoolExecutor(max_workers=2) as ex:
        ...     ex.submit(pow, 2, 10).result()
        1024
    """

    __module__ = "manyhands"

    _kind: ClassVar[WorkerKind] = THREAD

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        finalizer: Callable[[], object] | None = None,
        idle_timeout: float | None = 60.0,
    ) -> None:
        if max_workers is None:
            max_workers = min(32, _cpus() + 4)
        for name, function in (("initializer", initializer), ("finalizer", finalizer)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a callable")
        idle_s = seconds_not_negative("idle_timeout", idle_timeout)
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{_next_number()}"
        self._crew = Crew(prefix, initializer, initargs, finalizer)
        crews.add(self._crew)
        self._threads = self._crew.threads
        self._open(check_workers(max_workers), inf if idle_s is None else idle_s, ref(self._crew))

    if TYPE_CHECKING:
        # Both are native; these are their signatures.
        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

        def _submit(
            self,
            options: TaskOptions,
            fn: Callable[..., T],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            future: Future[Any] | None = None,
        ) -> Future[T]: ...

        def _reserve(self) -> Reserved: ...

        def _give_back(self) -> None: ...

        def _resize(self, max_workers: int) -> None: ...

    def __repr__(self) -> str:
        return portrait(self, *self._size())

    def statistics(self) -> dict[str, Any]:
        """Return what the executor has done and is doing, as `Executor.statistics`.

        A worker's dict has also ``thread`` (its name) and ``thread_id`` (the system's number for
        it). Its ``rss_bytes`` is the memory of the process, which all threads share, and its
        ``restarts`` always 0: threads do not die.
        """
        return self._statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Args:
            wait: return only when all tasks have ended, and with them all threads.
            cancel_futures: cancel what no thread has begun yet.

        It is safe to call this several times.
        """
        if cancel_futures:
            self._cancel_announced()
        self._close(cancel_futures)
        if wait:
            self._crew.join()

    def _are_coming(self) -> bool:
        return any(thread.is_coming for thread in list(self._crew.threads))

    def _give_up(self) -> None:
        self._cancel_announced()
        self._close(True)
        self._ask_all()

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Whoever presses Ctrl-C does not want to wait for what is still to be done.
            self._give_up()
        self.shutdown(wait=True)
        return None


def _cpus() -> int:
    # `process_cpu_count`, which minds the CPU affinity, is new in Python 3.13.
    counter: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return counter() or 1
