"""What every executor can do, whatever its workers are.

`Executor` extends `concurrent.futures.Executor`: a subclass says how one call is submitted, and
gets maps, options, and the asyncio path from here.
"""

from __future__ import annotations

import concurrent.futures
from abc import abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from manyhands._interpreter.public import named
from manyhands._pool.portrait import view_portrait
from manyhands._task.maps import Maps
from manyhands._task.options import NO_OPTIONS, Backoff, TaskOptions, check_workers, checked_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from manyhands._future.future import Future
    from manyhands._task.keywords import OptionKeywords
    from manyhands._task.target import Reserved
    from manyhands._task.worker_kind import WorkerKind

__all__ = ["BoundExecutor", "Executor", "WaitingExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class Executor(Maps, concurrent.futures.Executor):
    """Base class of the executors.

    Subclasses implement `submit`, `_submit`, `_resize` and `statistics`, and set `_kind` and
    `_max_workers`.
    """

    _kind: ClassVar[WorkerKind]
    _max_workers: int
    _waiting: set[Future[Any]] | None = None

    def _bound(self) -> tuple[Executor, TaskOptions]:
        return self, NO_OPTIONS

    @abstractmethod
    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` as `options` say."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle {type(self).__name__!r} object: a pool stays in its process, so what "
            "is sent to a worker must do without it (a class can leave it out in __getstate__)"
        )

    @abstractmethod
    def _reserve(self) -> Reserved:
        """Announce a task; it is then taken even if the executor is shut down before."""

    def _announced(self) -> set[Future[Any]]:
        """Return the futures of the tasks that have been announced."""
        waiting: set[Future[Any]] = vars(self).setdefault("_waiting", set())
        return waiting

    def _cancel_announced(self) -> None:
        """Cancel the tasks that have been announced."""
        for future in list(self._waiting or ()):
            future.cancel()

    @abstractmethod
    def _resize(self, max_workers: int) -> None:
        """Have `max_workers` workers from now on; running tasks are not disturbed."""

    def _follow(self) -> None:
        """See to it that tasks find the program as it is now; those in its threads always do."""

    def _are_coming(self) -> bool:
        """Say whether threads have been started that do not run yet."""
        return False

    def _is_current(self) -> bool:
        """Say whether a task would find it so without a start."""
        return True

    def _is_shut_down(self) -> bool:
        """Say whether `shutdown` has been called."""
        return bool(getattr(self, "_shutdown", False) or getattr(self, "_shut_down", False))

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """Return what the executor has done and is doing.

        Returns:
            a dict with the counts of tasks ``queued``, ``running``, ``done`` (returned),
            ``failed`` (raised, timed out, or lost with their worker), ``cancelled``, and of
            attempts after a task's first, ``retried``; and ``workers``: one dict for each with
            ``pid`` (None while it starts), ``state`` ("starting", "idle", "running" or "ending"),
            ``task`` (a name or None), ``task_s`` (seconds that it has had that task, or None),
            ``tasks_done``, ``cpu_s``, ``rss_bytes``, ``restarts``.
        """

    @overload
    def options(
        self, *, wait_for_futures: Literal[True], **keywords: Unpack[OptionKeywords]
    ) -> WaitingExecutor: ...

    @overload
    def options(
        self, *, wait_for_futures: bool = False, **keywords: Unpack[OptionKeywords]
    ) -> BoundExecutor: ...

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        priority: int = 0,
        name: str | None = None,
        backoff: Backoff = None,
        wait_for_futures: bool = False,
    ) -> BoundExecutor:
        """Return a view of this executor whose tasks run with these options.

        Args:
            timeout: seconds that one attempt of a task may run; then it fails with `TaskTimeout`.
            retries: how many more times a failed task is tried.
            retry_on: the exception class, or tuple of them, worth another try.
            priority: tasks of higher priority leave the queue first.
            name: what the task is called in errors and statistics.
            backoff: seconds to wait before the first further try, doubled for each that follows, up
                to 60, and varied by a quarter; or a callable that gets the number of the further
                try, from 1, and returns seconds. It is called when the task is submitted. No worker
                waits with the task. None: there is no pause.
            wait_for_futures: whether futures that are arguments of `submit` or `run`, or directly
                in a list, tuple or dict that is one, are waited for, and their results passed. No
                worker waits with the task. If one of them fails, so does the task, with the same
                exception; if one is cancelled, so is the task.

        Raises:
            TypeError, ValueError: an option makes no sense.

        Example:
            >>> with mh.ThreadPoolExecutor() as ex:
            ...     ex.options(timeout=5, retries=2).submit(pow, 2, 10).result()
            1024
        """
        options = checked_options(
            timeout, retries, retry_on, priority, name, backoff, wait_for_futures
        )
        return _view(self, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *details: object) -> None:
        from manyhands._pool.leaving import leave

        await leave(self, kind)

    def _give_up(self) -> None:
        """Take no more tasks, and cancel those there are as far as that can be done."""
        self.shutdown(wait=False, cancel_futures=True)

    def resize(self, max_workers: int) -> None:
        """Have `max_workers` workers from now on; running tasks are not disturbed.

        Raises:
            TypeError: `max_workers` is not an integer.
            ValueError: it is less than 1.
        """
        self._resize(check_workers(max_workers))


@named
class BoundExecutor(Maps):
    """An executor seen through `TaskOptions`; made by `Executor.options`.

    The options belong to the view, never to a call, so that ``fn`` keeps every keyword argument,
    ``timeout=`` included.
    """

    __slots__ = ("_executor", "_options")

    def __init__(self, executor: Executor, options: TaskOptions) -> None:
        self._executor = executor
        self._options = options

    def __repr__(self) -> str:
        return view_portrait(self._executor, self._options)

    def _bound(self) -> tuple[Executor, TaskOptions]:
        return self._executor, self._options

    @overload
    def options(
        self, *, wait_for_futures: Literal[True], **changes: Unpack[OptionKeywords]
    ) -> WaitingExecutor: ...

    @overload
    def options(
        self, *, wait_for_futures: bool = False, **changes: Unpack[OptionKeywords]
    ) -> BoundExecutor: ...

    def options(self, **changes: Any) -> BoundExecutor:
        """Return a view with some options changed; see `Executor.options`."""
        checked = self._executor.options(**changes)._options
        changed = {name: getattr(checked, name) for name in changes}
        return _view(self._executor, self._options._replace(**changed))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` and return its `Future`."""
        return self._executor._submit(self._options, fn, args, kwargs)


@named
class WaitingExecutor(BoundExecutor):
    """A view whose tasks wait for the futures among their arguments.

    It is made by `Executor.options` with ``wait_for_futures=True``, which says what is waited for.
    Type checkers know what its tasks return, but do not check their arguments: any of them may be a
    future.
    """

    __slots__ = ()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` for when futures are done; return its `Future`."""
        from manyhands._task.following import submit_after

        return submit_after(self._executor, self._options, fn, args, kwargs)

    if TYPE_CHECKING:

        @overload
        def options(
            self, *, wait_for_futures: Literal[True] = True, **changes: Unpack[OptionKeywords]
        ) -> WaitingExecutor: ...

        @overload
        def options(
            self, *, wait_for_futures: bool = True, **changes: Unpack[OptionKeywords]
        ) -> BoundExecutor: ...

        def options(self, **changes: Any) -> BoundExecutor: ...

        async def run(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...


def _view(executor: Executor, options: TaskOptions) -> BoundExecutor:
    view = WaitingExecutor if options.wait_for_futures else BoundExecutor
    return view(executor, options)
