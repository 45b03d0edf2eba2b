"""What the executors have in common whose workers are event loops, in threads of this process."""

from __future__ import annotations

from itertools import count
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from manyhands._coroutine.loops import Loops
from manyhands._pool.executor import Executor
from manyhands._pool.portrait import portrait
from manyhands._task.options import NO_OPTIONS, TaskOptions, check_count

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from manyhands._future.future import Future
    from manyhands._task.target import Reserved

__all__ = ["MAX_TASKS", "EventLoopExecutor"]

T = TypeVar("T")

_next_number = count().__next__

# Each waiting call of a program that opens files or connections in it has a descriptor, of which a
# process usually gets 1,024.
MAX_TASKS = 1000


class EventLoopExecutor(Executor):
    """Runs tasks in event loops; subclasses say what they are, and what their arguments mean."""

    # Calls plain functions as greenlets; None where all are awaited.
    _run_plain: ClassVar[Callable[..., Coroutine[Any, Any, Any]] | None] = None

    def __init__(
        self,
        loops: int = 1,
        max_tasks: int = MAX_TASKS,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        finalizer: Callable[[], object] | None = None,
        stall_after: float | None = 0.1,
    ) -> None:
        self._check_installed()
        for name, function in (
            ("loop_factory", loop_factory),
            ("initializer", initializer),
            ("finalizer", finalizer),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a callable")
        if stall_after is not None:
            stall_after = float(stall_after)
            if not (isfinite(stall_after) and stall_after > 0):
                raise ValueError(f"stall_after must be seconds > 0 or None, got {stall_after}")
        self._loops = Loops(
            check_count("loops", loops),
            check_count("max_tasks", max_tasks),
            loop_factory,
            thread_name_prefix or f"{type(self).__name__}-{_next_number()}",
            initializer,
            initargs,
            finalizer,
            stall_after,
            self._run_plain,
        )
        self._max_workers = self._loops.most * self._loops.max_tasks

    def _check_installed(self) -> None:
        """Raise ImportError if a package is missing that this needs."""

    def __del__(self) -> None:
        loops = getattr(self, "_loops", None)
        if loops is not None:
            # Nobody can submit any more: the threads leave when the work is done.
            loops.close()

    def __repr__(self) -> str:
        executor: Any = self
        return portrait(executor, *self._loops.size())

    @property
    def _broken(self) -> str | None:
        return self._loops.broken

    def _is_shut_down(self) -> bool:
        return self._loops.is_closed

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` in a loop and return the `Future` of its result.

        Raises:
            RuntimeError: the executor has been shut down.
            BrokenExecutor: an initializer has failed.
        """
        return self._loops.submit(NO_OPTIONS, fn, args, kwargs)

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        return self._loops.submit(options, fn, args, kwargs)

    def _reserve(self) -> Reserved:
        return self._loops.reserve()

    def _resize(self, max_workers: int) -> None:
        self._loops.resize(-(-max_workers // self._loops.most))
        self._max_workers = self._loops.most * self._loops.max_tasks

    def resize(self, max_workers: int) -> None:
        """Run `max_workers` tasks at once from now on, in all loops together.

        Each loop runs the same number, so it is rounded up. Running tasks are not disturbed.

        Raises:
            TypeError: `max_workers` is not an integer.
            ValueError: it is less than 1.
        """
        super().resize(max_workers)

    def statistics(self) -> dict[str, Any]:
        """Return what the executor has done and is doing, as `Executor.statistics`.

        A worker is a loop. Its dict has also ``thread`` (its name), ``thread_id`` (the system's
        number for it), ``tasks_running`` and ``stalls``: how often a function has blocked it for
        longer than `stall_after`. ``task`` is the task that has run for longest. The sum of all
        ``stalls`` stands beside ``workers``, too.
        """
        return self._loops.statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Args:
            wait: return only when all tasks have ended, and with them all threads.
            cancel_futures: cancel what no loop has begun yet.

        It is safe to call this several times.
        """
        if cancel_futures:
            self._cancel_announced()
            self._loops.cancel(running=False)
        self._loops.close()
        if wait:
            self._loops.join()

    def _give_up(self) -> None:
        self._cancel_announced()
        self._loops.cancel(running=True)
        self._loops.close()

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Whoever presses Ctrl-C does not want to wait for what is still to be done.
            self._give_up()
        self.shutdown(wait=True)
        return None
