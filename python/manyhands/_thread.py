"""The executor whose workers are threads of this process."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor as StdlibThreadPoolExecutor
from concurrent.futures._base import LOGGER
from contextvars import Context
from itertools import count
from math import isnan
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast
from weakref import ref

from manyhands import _future as _future  # Rust makes its futures, once this is imported
from manyhands import _native, _own_place
from manyhands._executor import Executor
from manyhands._living import Living
from manyhands._options import TaskOptions, check_workers
from manyhands._portrait import portrait
from manyhands._sure_thread import SureThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._executor import Reserved
    from manyhands._future import Future

__all__ = ["ThreadPoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_JOIN_SLICE = 0.2  # seconds between two looks at signals
_BROKEN = "A thread initializer failed, the thread pool is not usable anymore"


class _Crew:
    """The threads of one executor, and how they are started.

    It is alive as long as the executor or one of the threads is, and refers to neither.
    """

    def __init__(
        self,
        name_prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        finalizer: Callable[[], object] | None,
    ) -> None:
        self.threads: set[threading.Thread] = set()
        self.initializer = initializer
        self.initargs = initargs
        self.finalizer = finalizer
        # Zero for the first one that fails, which is the one that says so.
        self.failures = count()
        self._name_prefix = name_prefix

    def start(self, worker: _native.ThreadWorker) -> None:
        """Start the thread of `worker`. Called by Rust, in any thread."""
        name = f"{self._name_prefix}_{worker.number}"
        thread = SureThread(name=name, target=_work, args=(self, worker))
        thread.start()
        self.threads.add(thread)
        # It may have ended already, and then it was not there to be taken out.
        if not thread.is_alive() and not worker.closing:
            self.threads.discard(thread)

    def join(self) -> None:
        """Wait until all threads have ended, those too that tasks start in the meantime."""
        while alive := [thread for thread in list(self.threads) if thread.is_alive()]:
            for thread in alive:
                # In slices: a signal that comes right before CPython falls asleep does not wake it.
                thread.join(_JOIN_SLICE)


def _work(crew: _Crew, worker: _native.ThreadWorker) -> None:
    """Be a worker: what each thread runs."""
    thread = threading.current_thread()
    _own_place.be_worker(worker.number)
    try:
        if _set_up(crew, worker):
            try:
                worker.run(thread)
            finally:
                _tear_down(crew)
    except BaseException:
        LOGGER.critical("Exception in worker", exc_info=True)
    finally:
        worker.dismiss()
        # Whoever closes the pool walks through the set.
        if not worker.closing:
            crew.threads.discard(thread)


def _set_up(crew: _Crew, worker: _native.ThreadWorker) -> bool:
    if crew.initializer is None:
        return True
    # Not in the thread's own, which may be a copy of its maker's.
    base = Context()
    try:
        base.run(crew.initializer, *crew.initargs)
    except BaseException:
        if next(crew.failures) == 0:
            LOGGER.critical("Exception in initializer:", exc_info=True)
        worker.break_pool(_BROKEN)
        return False
    if base:
        worker.use_base(base)
    return True


def _tear_down(crew: _Crew) -> None:
    if crew.finalizer is None:
        return
    try:
        crew.finalizer()
    except BaseException:
        LOGGER.critical("Exception in finalizer:", exc_info=True)


_next_number = count().__next__
_crews: Living[_Crew] = Living()


def _at_exit() -> None:
    # Nothing more can be submitted; what is queued is done first, as in the standard library.
    try:
        _native.close_thread_pools()
    finally:  # a signal handler may raise
        for crew in _crews:
            crew.join()
        _native.stop_deadlines()


def _after_fork_in_child() -> None:
    for crew in _crews:
        crew.threads.clear()
    _native.restart_thread_pools()


# Runs before the interpreter joins its threads, which is before anything of `atexit`.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)


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

    _kind: ClassVar[str] = "thread"

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
        idle_s = float("inf") if idle_timeout is None else float(idle_timeout)
        if isnan(idle_s) or idle_s < 0:
            raise ValueError(f"idle_timeout must not be negative, got {idle_timeout}")
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{_next_number()}"
        self._crew = _Crew(prefix, initializer, initargs, finalizer)
        _crews.add(self._crew)
        self._threads = self._crew.threads
        self._open(check_workers(max_workers), idle_s, ref(self._crew))

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
        counts = self._counts()
        return portrait(self, len(counts["workers"]), counts["queued"] + counts["running"])

    def statistics(self) -> dict[str, Any]:
        """Return what the executor has done and is doing, as `Executor.statistics`.

        A worker's dict has also ``thread`` (its name) and ``thread_id`` (the system's number for
        it). Its ``rss_bytes`` is the memory of the process, which all threads share, and its
        ``restarts`` always 0: threads do not die.
        """
        counts = self._counts()
        rss_bytes = _native.rss_bytes() or 0
        listed = cast(
            "list[tuple[threading.Thread, tuple[str, float] | None, int]]", counts["workers"]
        )
        workers = [
            {
                "pid": os.getpid(),
                "thread": thread.name,
                "thread_id": thread.native_id,
                "state": "idle" if task is None else "running",
                "task": None if task is None else task[0],
                "task_s": None if task is None else task[1],
                "tasks_done": tasks_done,
                "cpu_s": _cpu_s(thread),
                "rss_bytes": rss_bytes,
                "restarts": 0,
            }
            for thread, task, tasks_done in listed
        ]
        return {**counts, "workers": workers}

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


def _cpu_s(thread: threading.Thread) -> float:
    return (thread.native_id and _native.thread_cpu_s(thread.native_id)) or 0.0


def _cpus() -> int:
    # `process_cpu_count`, which minds the CPU affinity, is new in Python 3.13.
    counter: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return counter() or 1
