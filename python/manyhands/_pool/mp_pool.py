"""`Pool`: the interface of `multiprocessing.Pool` on the executors of this package."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, TypeVar

from manyhands._interpreter.living import Living
from manyhands._pool.mp_result import AsyncResult, MapResult, PoolIterator
from manyhands._pool.process import ProcessPoolExecutor, default_workers
from manyhands._pool.shared import KINDS, check_kind
from manyhands._pool.thread import ThreadPoolExecutor
from manyhands._task.feed import Feed
from manyhands._task.item_note import small
from manyhands._task.options import NO_OPTIONS
from manyhands._task.pace import LARGEST, Pace
from manyhands._task.submission import Submission, withdraw
from manyhands._task.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from multiprocessing.context import BaseContext

    from manyhands._future.future import Future
    from manyhands._pool.executor import Executor

__all__ = ["Pool"]

T = TypeVar("T")

# What `map` without a chunk size cuts its input into, per worker; as in multiprocessing.
_PIECES_PER_WORKER: Final = 4


class Pool:
    """A pool of workers with the interface of `multiprocessing.Pool`.

    Differences, all for the better: a worker that dies fails its own task only (with
    `WorkerDied`) instead of hanging the pool; functions need not be importable; `imap` reads its
    input only a little ahead; workers may have pools of their own.

    Args:
        processes: how many workers; None means one for each CPU.
        initializer: called in each worker before its first task.
        initargs: its arguments.
        maxtasksperchild: a worker process is replaced after so many tasks; None means never.
        context: accepted for compatibility; workers are always started in the same way.
        workers: ``"process"`` or ``"thread"``; the latter is `multiprocessing.pool.ThreadPool`.

    Raises:
        ValueError, TypeError: an argument makes no sense.

    Example:
        >>> with mh.Pool(2) as pool:
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
    """

    __module__ = "manyhands"

    # `__del__` looks at it even if the arguments are nonsense, or a signal handler has raised.
    _state: Literal["RUN", "CLOSE", "TERMINATE"] = "TERMINATE"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        workers: Literal["process", "thread"] = "process",
    ) -> None:
        check_kind(workers, KINDS)
        if processes is None:
            processes = default_workers()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._executor: Executor
        if workers == "thread":
            self._executor = ThreadPoolExecutor(
                processes, initializer=initializer, initargs=tuple(initargs)
            )
        else:
            self._executor = ProcessPoolExecutor(
                processes,
                context,
                initializer,
                tuple(initargs),
                max_tasks_per_child=maxtasksperchild,
            )
        self._processes = processes
        # Those whose input has not been read to its end: `join` waits for all of it.
        self._iterators: Living[PoolIterator[Any]] = Living()
        self._state = "RUN"

    def __repr__(self) -> str:
        size = self._processes
        return f"<manyhands.Pool state={self._state} pool_size={size} over {self._executor!r}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __del__(self) -> None:
        if self._state == "RUN":
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.terminate()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._state = "TERMINATE"
            # Running tasks are asked to stop first; anything else would cut them off.
            self._executor.__exit__(kind, *details)
        else:
            self.terminate()

    async def __aenter__(self) -> Self:
        self._check_running()
        return self

    async def __aexit__(self, *error: object) -> None:
        from manyhands._future.awaiting import outcome
        from manyhands._task.offload import offload

        await outcome(offload(self.terminate))

    def _check_running(self) -> None:
        if self._state != "RUN":
            raise ValueError("Pool not running")

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> T:
        """Call ``func(*args, **kwds)`` in a worker and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """As `apply`, without waiting.

        Args:
            callback: called with the result, in another thread.
            error_callback: called with the exception if there is one.
        """
        self._check_running()
        result: AsyncResult[T] = AsyncResult(self, [self._executor.submit(func, *args, **kwds)])
        result._notify(callback, error_callback)
        return result

    def map(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """Call ``func`` on each item and return the list of results.

        Args:
            chunksize: how many items travel as one task; None means at least four tasks per worker.
        """
        return self._map_async(func, iterable, chunksize, False, None, None).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """As `map`, without waiting; callbacks as in `apply_async`."""
        return self._map_async(func, iterable, chunksize, False, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """As `map`, with each item unpacked into arguments: ``func(*item)``."""
        return self._map_async(func, iterable, chunksize, True, None, None).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """As `starmap`, without waiting; callbacks as in `apply_async`."""
        return self._map_async(func, iterable, chunksize, True, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[T]:
        self._check_running()
        feed = Feed((iterable,), star)
        total = feed.read_all()
        if chunksize is None:
            share = -(-total // (_PIECES_PER_WORKER * self._processes))
            chunksize = max(1, min(share, LARGEST))
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        submission = Submission(self._executor, NO_OPTIONS, func, star, chunksize == 1)
        futures: list[Future[Any]] = []
        kept: list[Any] = []
        items: Sequence[Any] = ()
        try:
            while len(items := feed.take(chunksize)):
                futures.append(submission.submit(items))
                if submission.single:
                    kept.append(small(items[0]))
        except Exception as error:
            withdraw(futures)
            submission.refuse(items, error, feed.taken - len(items))
        result: MapResult[T] = MapResult(self, futures, chunksize, total, kept)
        result._notify(callback, error_callback)
        return result

    def imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> PoolIterator[T]:
        """As `map`, but return an iterator over the results, in order.

        The input is read as results are taken, a few tasks per worker ahead; `join` reads the
        rest of it.
        """
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> PoolIterator[T]:
        """As `imap`, with results in the order in which they are ready."""
        return self._imap(func, iterable, chunksize, False)

    def _imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> PoolIterator[T]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        submission = Submission(self._executor, NO_OPTIONS, func, False, chunksize == 1)
        pace = Pace(self._processes, chunksize)
        window = Window(submission, Feed((iterable,), False), self._processes, pace)
        iterator = PoolIterator(self, window, ordered)
        self._iterators.add(iterator)
        return iterator

    def close(self) -> None:
        """Take no more work; workers end when all is done."""
        if self._state == "RUN":
            self._state = "CLOSE"
            if all(iterator.is_submitted() for iterator in self._iterators):
                self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """End at once: what has not been started is cancelled, processes are killed.

        Threads cannot be killed: they end when what they run has ended.
        """
        self._state = "TERMINATE"
        if isinstance(self._executor, ProcessPoolExecutor):
            self._executor.terminate()
        else:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait until all work is done and the workers have ended.

        Raises:
            ValueError: neither `close` nor `terminate` has been called.
        """
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        if self._state == "CLOSE":
            for iterator in self._iterators:
                iterator.submit_rest()
        self._executor.shutdown(wait=True)
