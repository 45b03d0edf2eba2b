"""The maps of an executor, and what else rests on its `submit` alone.

What maps are made of is imported by the first of them: a pool's first task is waited for.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from manyhands._interpreter import late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manyhands._future.future import Future
    from manyhands._task import stream
    from manyhands._task.options import TaskOptions
    from manyhands._task.progress import ProgressOption
    from manyhands._task.target import Target

__all__ = ["Maps"]

# Imported even if the program has no descriptors left; an import statement would need some.
_STREAM = "manyhands._task.stream"

P = ParamSpec("P")
T = TypeVar("T")


class Maps:
    """What an executor and a view of it have in common: all that rests on `submit`."""

    __slots__ = ()

    @abstractmethod
    def _bound(self) -> tuple[Target, TaskOptions]:
        """Return the executor, and the options that tasks run with."""

    @abstractmethod
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` and return its `Future`."""

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: Literal[False] = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool,
        progress: ProgressOption = None,
    ) -> stream.Results[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T] | stream.Results[T | BaseException]:
        """Call ``fn`` on the items of `iterables` in workers; yield the results in order.

        All calls are submitted at once, before the first result is asked for, unless `buffersize`
        bounds how many may be ahead of the results taken. An exception is raised in the place of
        its item, which a note in it names; the items after it are then cancelled.

        Args:
            timeout: seconds, counted from this call, until `next` raises TimeoutError. The option
                of that name is per item: each is its own task then, whatever `chunksize` says.
            chunksize: how many items travel as one task. None means one at a time on threads; on
                processes the size grows from few to many and shrinks again towards the end.
            buffersize: at most this many items are submitted and not yet yielded.
            return_exceptions: whether an item's exception is yielded in its place, instead of being
                raised there, and the others go on.
            progress: True for a progress bar, a string for a bar with that label, or a callable
                that gets ``(done, total)``; it counts the results taken.

        Example:
            >>> with mh.ProcessPoolExecutor() as ex:
            ...     list(ex.map(pow, [2, 3], [10, 4]))
            [1024, 81]
        """
        late.module(_STREAM)
        from manyhands._task import stream

        return stream.eager_map(
            *self._bound(),
            fn,
            iterables,
            False,
            timeout,
            chunksize,
            buffersize,
            return_exceptions,
            progress,
        )

    @overload
    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        *,
        return_exceptions: Literal[False] = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T]: ...

    @overload
    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        *,
        return_exceptions: bool,
        progress: ProgressOption = None,
    ) -> stream.Results[T | BaseException]: ...

    def starmap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T] | stream.Results[T | BaseException]:
        """As `map`, with each item unpacked into arguments: ``fn(*item)``.

        Example:
            >>> with mh.ThreadPoolExecutor() as ex:
            ...     list(ex.starmap(divmod, [(7, 2), (9, 4)]))
            [(3, 1), (2, 1)]
        """
        late.module(_STREAM)
        from manyhands._task import stream

        return stream.eager_map(
            *self._bound(),
            fn,
            (iterable,),
            True,
            timeout,
            chunksize,
            buffersize,
            return_exceptions,
            progress,
        )

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: Literal[False] = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: bool,
        progress: ProgressOption = None,
    ) -> stream.Results[T | BaseException]: ...

    def imap(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: bool = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T] | stream.Results[T | BaseException]:
        """As `map`, but lazily: input is read only as results are taken, so it may be endless.

        In a coroutine, ``async for`` takes the results without blocking the event loop.

        Args:
            buffersize: at most this many items are submitted and not yet yielded; None means a
                few per worker.
            chunksize: how many items travel as one task; None lets it follow what items cost.
            return_exceptions, progress: as for `map`.
        """
        late.module(_STREAM)
        from manyhands._task import stream

        return stream.lazy_map(
            *self._bound(),
            fn,
            iterables,
            True,
            chunksize,
            buffersize,
            return_exceptions,
            progress,
        )

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: Literal[False] = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: bool,
        progress: ProgressOption = None,
    ) -> stream.Results[T | BaseException]: ...

    def imap_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        chunksize: int | None = None,
        return_exceptions: bool = False,
        progress: ProgressOption = None,
    ) -> stream.Results[T] | stream.Results[T | BaseException]:
        """As `imap`, with results in the order in which they are ready."""
        late.module(_STREAM)
        from manyhands._task import stream

        return stream.lazy_map(
            *self._bound(),
            fn,
            iterables,
            False,
            chunksize,
            buffersize,
            return_exceptions,
            progress,
        )

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(*args, **kwargs)`` in a worker and await its result.

        Cancelling the awaiting asyncio task cancels the call.

        Example:
            >>> async def main():
            ...     with mh.ProcessPoolExecutor() as ex:
            ...         return await ex.run(pow, 2, 10)
        """
        from manyhands._future.awaiting import completion

        return await completion(self.submit(fn, *args, **kwargs))
