"""Pools of worker processes: `ProcessPoolExecutor`."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, TypeVar

from manyhands import _native
from manyhands._future.future import Future  # noqa: TC001 - registers the class of futures
from manyhands._interpreter.deadline import seconds_not_negative
from manyhands._interpreter.living import Living
from manyhands._pool.executor import Executor
from manyhands._pool.forward import Forwarder
from manyhands._pool.portrait import portrait
from manyhands._pool.running import Running, ending, stop_all, terminate_all
from manyhands._task.options import check_workers
from manyhands._task.worker_kind import PROCESS, WorkerKind
from manyhands._worker import hash_seed, interpreter
from manyhands._worker import settings as _settings
from manyhands._worker.start_state import StartState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import BaseContext

    from manyhands._pool.worker_process import WorkerProcess
    from manyhands._task.options import TaskOptions

__all__ = ["ProcessPoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

MOST_WORKERS: Final = 500
_IDLE_TIMEOUT: Final = 60.0  # seconds
_GRACE: Final = 1.0  # seconds

# How many threads numeric libraries start; each worker gets its share of the CPUs.
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_executors: Living[ProcessPoolExecutor] = Living()


class ProcessPoolExecutor(Executor):
    """Runs tasks in worker processes; a replacement of `concurrent.futures.ProcessPoolExecutor`.

    Workers are forked by a helper process that this program starts, so neither threads of the
    program nor the absence of an ``if __name__ == "__main__"`` guard do any harm. Functions and
    classes of ``__main__``, lambdas and closures can be submitted. When a worker dies, only the
    task it was running fails, with `WorkerDied`; the others never notice.

    Args:
        max_workers: most workers at one time; None means one for each CPU that the program may use.
        mp_context: accepted for compatibility; workers are always started in the same way, which
            is most like the context ``spawn``.
        initializer: called in every worker before its first task. If it fails, the pool is broken.
        initargs: its arguments; locks and queues of multiprocessing's spawn context may be among
            them.
        max_tasks_per_child: a worker is replaced after so many tasks; None means never.
        finalizer: called in every worker before it ends.
        max_memory_per_child: a worker is replaced after a task that leaves it with more resident
            memory, in bytes; None means never.
        preload: names of modules to import once, before workers are forked.
        idle_timeout: seconds without tasks after which the workers end, to be forked again when
            needed; None means never.
        grace: seconds that a cancelled or timed-out task has to end by itself before its worker is
            killed.
        output_prefix: put before each line that a worker prints; ``{worker}`` and ``{pid}`` in it
            are replaced.
        worker_threads: how many threads numeric libraries (OpenMP, BLAS) may start in each worker;
            None means its share of the CPUs, or what you have set in the environment.

    Raises:
        ValueError, TypeError: an argument makes no sense.

    Example:
        >>> with mh.ProcessPoolExecutor() as ex:
        ...     ex.submit(lambda x: x * 2, 21).result()
        42
    """

    __module__ = "manyhands"

    _kind: ClassVar[WorkerKind] = PROCESS

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        finalizer: Callable[[], object] | None = None,
        max_memory_per_child: int | None = None,
        preload: Sequence[str] = (),
        idle_timeout: float | None = _IDLE_TIMEOUT,
        grace: float = _GRACE,
        output_prefix: str | None = None,
        worker_threads: int | None = None,
    ) -> None:
        workers = default_workers() if max_workers is None else max_workers
        self._max_workers = check_workers(workers)
        if self._max_workers > MOST_WORKERS:
            raise ValueError(f"max_workers must be <= {MOST_WORKERS}, not {workers}")
        for name, function in (("initializer", initializer), ("finalizer", finalizer)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a callable")
        _check_count("max_tasks_per_child", max_tasks_per_child)
        _check_count("max_memory_per_child", max_memory_per_child)
        _check_count("worker_threads", worker_threads)
        if not _are_names(preload):
            raise TypeError(f"preload must be a sequence of module names, not {preload!r}")
        self._given_context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._finalizer = finalizer
        self._max_tasks_per_child = max_tasks_per_child
        self._max_memory_per_child = max_memory_per_child
        self._preload = tuple(preload)
        self._idle_timeout = _seconds("idle_timeout", idle_timeout)
        self._grace = _seconds("grace", grace) or 0.0
        self._output_prefix = output_prefix
        self._worker_threads = worker_threads
        self._start_lock = threading.RLock()
        self._running: Running | None = None
        self._shut_down = False
        self._follows = False
        self._retired: list[Running] = []  # what `_renew` has replaced, with tasks to finish
        self._watch: weakref.finalize[Any, Any] | None = None
        _executors.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        running = self._running
        if running is None:
            running = self._start()
        try:
            return running.engine.submit(fn, args, kwargs)
        except RuntimeError:
            if running is self._running:
                raise
        return self.submit(fn, *args, **kwargs)  # the workers have just been renewed

    submit.__doc__ = Executor.submit.__doc__

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        running = self._running
        if running is None:
            running = self._start()
        try:
            return running._submit(options, fn, args, kwargs)
        except RuntimeError:
            if running is self._running:
                raise
        return self._submit(options, fn, args, kwargs)  # the workers have just been renewed

    def _reserve(self) -> Running:
        running = self._running
        if running is None:
            running = self._start()
        try:
            running.engine.reserve()
        except RuntimeError:
            if running is self._running:
                raise
            return self._reserve()  # the workers have just been renewed
        return running

    def _start(self) -> Running:
        """Start the pool, unless another thread has done so.

        A signal handler may run in the middle of this and use the executor, or raise: what has
        been made by then is closed, and the executor is as it was.
        """
        with self._start_lock:
            if self._running is None:
                self._check_startable()
                state = StartState.now() if self._follows else None
                workers = self._max_workers
                started = Running(self._make_engine(workers), state)
                try:
                    # A module to preload may fail: that is for a task's future to tell.
                    started.start(prepare=not self._preload)
                    self._check_startable()
                    if self._running is None:  # as is likely: no handler was faster
                        watch = weakref.finalize(self, _close, weakref.ref(started))
                        watch.atexit = False
                        self._watch, self._running = watch, started
                        # Whoever has resized the executor meanwhile found nothing to resize.
                        if self._max_workers != workers:
                            started.engine.resize(self._max_workers)
                finally:
                    if self._running is not started:
                        started.close()
            running = self._running
            assert running is not None
            return running

    def _is_current(self) -> bool:
        """Say whether there are workers, and they see what new ones would see."""
        running = self._running
        return running is not None and (running.state is None or running.state.is_current())

    def _follow(self) -> None:
        """Replace the workers if the program has changed since, now and in later calls."""
        self._follows = True
        # What another thread is starting just now may know nothing of the change yet.
        with self._start_lock:
            running = self._running
        if running is not None and not self._is_current():
            self._renew()

    def _renew(self) -> None:
        """Have new workers run what is submitted from now on; the present ones end with theirs."""
        with self._start_lock:
            running, watch = self._running, self._watch
            if running is None or self._shut_down:
                return
            self._retired = [each for each in self._retired if not each.has_ended] + [running]
            self._running = self._watch = None
        running.close()
        if watch is not None:
            watch.detach()

    def _check_startable(self) -> None:
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _is_exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _make_engine(self, workers: int) -> _native.ProcessEngine:
        threads = self._worker_threads or max(1, default_workers() // workers)
        environment: dict[str, str | None] = {
            name: str(threads)
            for name in _THREAD_VARIABLES
            if self._worker_threads is not None or name not in os.environ
        }
        environment |= hash_seed.for_workers()
        settings, inherit = _settings.collect(
            self._initializer,
            self._initargs,
            self._finalizer,
            preload=self._preload,
            hash_seed=hash_seed.chosen(),
            max_tasks_per_child=self._max_tasks_per_child,
            max_memory_per_child=self._max_memory_per_child,
        )
        numbers = dict(enumerate(inherit, start=_native.INHERITED_FD))
        # Without the working directory, where a file may be called like a standard module.
        code = (
            f"import sys; sys.path[:] = [*filter(None, sys.path), {interpreter.home()!r}]; "
            f"from manyhands._worker.zygote import main; "
            f"main({_native.CONTROL_FD}, {_native.SEGMENT_FD}, {numbers!r})"
        )
        return _native.ProcessEngine(
            program=interpreter.program(),
            arguments=interpreter.arguments(code),
            environment=list(environment.items()),
            set_up=_settings.dump(settings),
            descriptors=inherit,
            workers=workers,
            idle_timeout=self._idle_timeout,
            grace=self._grace,
            forwarder=Forwarder(self._output_prefix),
        )

    # Names of the standard library's class that programs have come to rely on.

    @property
    def _processes(self) -> dict[int, WorkerProcess]:
        """The workers by process id; none before the first task and after the end."""
        from manyhands._pool.worker_process import processes_of

        return {} if self._running is None else processes_of(self._running.engine)

    @property
    def _broken(self) -> str | bool:
        """Why no task can run any more, or False."""
        return (self._running is not None and self._running.engine.broken()) or False

    @property
    def _mp_context(self) -> BaseContext:
        """A context of multiprocessing; locks and queues of the context ``spawn`` reach workers."""
        import multiprocessing

        return self._given_context or multiprocessing.get_context("spawn")

    def _resize(self, max_workers: int) -> None:
        if max_workers > MOST_WORKERS:
            raise ValueError(f"max_workers must be <= {MOST_WORKERS}, not {max_workers}")
        self._max_workers = max_workers
        if self._running is not None:
            self._running.engine.resize(max_workers)

    def __repr__(self) -> str:
        engines = [running.engine for running in self._started() if not running.has_ended]
        workers = sum(len(engine.pids()) for engine in engines)
        return portrait(self, workers, sum(engine.unfinished() for engine in engines))

    def statistics(self) -> dict[str, Any]:
        if self._running is not None:
            return self._running.engine.statistics()
        return _native.ProcessEngine.statistics_before_start()

    statistics.__doc__ = Executor.statistics.__doc__

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and free what the pool uses once those it has are done.

        Args:
            wait: whether to return only then. Otherwise this happens in the background.
            cancel_futures: whether to cancel the tasks that no worker has begun.
        """
        started = self._close_to_tasks(cancel_futures)
        for running in started:
            if cancel_futures:
                running.engine.cancel_queued()
            running.close()
        if self._watch is not None:
            self._watch.detach()
        if wait:
            for running in started:
                running.join()

    def terminate(self) -> None:
        """End at once: kill the workers, cancel every unfinished future."""
        terminate_all(self._close_to_tasks(cancel_announced=True))
        # Nothing is left to be closed: what a signal handler raises in a finalizer is lost.
        if self._watch is not None:
            self._watch.detach()

    def terminate_workers(self) -> None:
        """Take no more tasks, and end the workers by SIGTERM, without waiting until they have.

        What a worker runs fails with `WorkerDied`, or goes on if it handles that signal; it is not
        tried again. What no worker has begun is cancelled. Ending a pool by `terminate` waits.

        Example:
            >>> ex = mh.ProcessPoolExecutor()
            >>> sleeper = ex.submit(time.sleep, 60)
            >>> ex.terminate_workers()
        """
        self._force_shutdown("terminate")

    def kill_workers(self) -> None:
        """Take no more tasks, and end the workers by SIGKILL, without waiting until they have.

        What a worker runs fails with `WorkerDied`; it is not tried again. What no worker has begun
        is cancelled. Ending a pool by `terminate` waits.

        Example:
            >>> ex = mh.ProcessPoolExecutor()
            >>> sleeper = ex.submit(time.sleep, 60)
            >>> ex.kill_workers()
        """
        self._force_shutdown("kill")

    def _force_shutdown(self, operation: str) -> None:
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        started = self._started()
        self.shutdown(wait=False, cancel_futures=True)
        from manyhands._pool.worker_process import processes_of

        for running in started:
            told: set[int] = set()
            # Once more, for those that have started in the meantime.
            while new := [p for pid, p in processes_of(running.engine).items() if pid not in told]:
                for process in new:
                    getattr(process, operation)()
                    told.add(process.pid)

    def _close_to_tasks(self, cancel_announced: bool) -> list[Running]:
        """Take no more tasks; return what has been started, and has to be ended."""
        with self._start_lock:
            self._shut_down = True
            started = self._started()
        if cancel_announced:
            self._cancel_announced()
        return started

    def _started(self) -> list[Running]:
        """Return what has been started and may not have ended yet."""
        return self._retired if self._running is None else [*self._retired, self._running]

    def _give_up(self) -> None:
        stop_all(self._close_to_tasks(cancel_announced=True))

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Whoever presses Ctrl-C does not want to wait for what is still running: it is
            # cancelled, as `Future.cancel` would.
            self._give_up()
        else:
            self.shutdown(wait=True)
        return None

    def _after_fork_in_child(self) -> None:
        self._start_lock = threading.RLock()
        for running in self._started():
            running.engine.abandon()
        self._running, self._retired = None, []
        if self._watch is not None:
            self._watch.detach()


def _close(started: weakref.ref[Running]) -> None:
    """Close what an executor has started, when the executor is gone.

    By a weak reference, so that a start that was interrupted here leaves nothing behind as long as
    the executor lives. The collector keeps what runs.
    """
    running = started()
    if running is not None:
        running.close()


def default_workers() -> int:
    """Return the number of CPUs that this program may use, as far as affinity tells."""
    return len(os.sched_getaffinity(0)) or 1


def _are_names(preload: Any) -> bool:
    named = hasattr(preload, "__iter__") and not isinstance(preload, str)
    return named and all(isinstance(name, str) for name in preload)


def _check_count(name: str, value: int | None) -> None:
    if value is None:
        return
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer or None, not {type(value).__name__}")
    if value <= 0:
        raise ValueError(f"{name} must be >= 1, not {value}")


def _seconds(name: str, value: float | None) -> float | None:
    seconds = seconds_not_negative(name, value)
    return None if seconds is None else min(seconds, 1e9)


_is_exiting = False


def _at_exit() -> None:
    """Let tasks that are left finish, as the standard library does; after Ctrl-C, end them."""
    global _is_exiting
    _is_exiting = True
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for executor in _executors:
        if executor._running is not None:
            ending.add(executor._running)
    for running in list(ending):
        if interrupted:
            running.engine.stop()
        else:
            running.engine.close()
    for running in list(ending):
        try:
            running.join()
        except KeyboardInterrupt:
            terminate_all(list(ending))
            raise


def _after_fork_in_child() -> None:
    for executor in _executors:
        executor._after_fork_in_child()
    for running in list(ending):
        running.engine.abandon()
    ending.clear()


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)
