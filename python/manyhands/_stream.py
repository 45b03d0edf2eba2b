"""Iterators over the results of a map: eager and lazy, ordered and as completed.

All of them work by pieces: a generator yields one iterable per piece and `Results` chains them in
C, so that a tiny result costs no Python bytecode in the parent.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, repeat
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from manyhands._feed import Feed
from manyhands._pace import Pace, ramp
from manyhands._submission import Submission, taken, withdraw
from manyhands._window import Window, checked_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from manyhands._executor import Executor, TaskOptions
    from manyhands._future import Future

__all__ = ["Results", "as_completed", "drained", "eager_map", "in_order", "lazy_map"]

T = TypeVar("T")


class Results(chain[T]):
    """Iterator over results; ``close()`` withdraws what has not been started."""

    _pieces: Generator[Iterable[T], None, None]

    @classmethod
    def over(cls, pieces: Generator[Iterable[T], None, None]) -> Results[T]:
        """Chain what `pieces` yields."""
        results: Results[T] = cls.from_iterable(pieces)  # type: ignore[assignment]
        results._pieces = pieces
        return results

    def close(self) -> None:
        """Withdraw the calls that have not been started; the iterator is then exhausted."""
        self._pieces.close()
        deque(self, maxlen=0)


def drained(results: list[T]) -> Iterator[T]:
    """Iterate over `results`, letting go of each as it is taken."""
    results.reverse()
    return map(list.pop, repeat(results, len(results)))


def eager_map(
    executor: Executor,
    options: TaskOptions,
    fn: Callable[..., T],
    iterables: Sequence[Iterable[Any]],
    star: bool,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
) -> Results[T]:
    """`Executor.map`: submit everything (or `buffersize` items), then yield results in order."""
    deadline = None if timeout is None else timeout + monotonic()
    chunksize = checked_bound("chunksize", chunksize)
    buffersize = checked_bound("buffersize", buffersize)
    feed = Feed(iterables, star)
    single = chunksize == 1 or (chunksize is None and executor._kind == "thread")
    submission = Submission(executor, options, fn, feed.star, single)
    workers = executor._max_workers
    if buffersize is not None:
        window = Window(submission, feed, workers, Pace(workers, chunksize), buffersize)
        return Results.over(in_order(window, deadline))
    total = feed.read_all()
    sizes: Iterable[int]
    if submission.single:
        sizes = repeat(1, total)
    elif chunksize is not None:
        sizes = repeat(chunksize, -(-total // chunksize))
    else:
        sizes = ramp(total, workers)
    futures: list[Future[Any]] = []
    try:
        for size in sizes:
            futures.append(submission.submit(feed.take(size)))
    except BaseException:
        withdraw(futures)
        raise
    submission.let_go()
    return Results.over(_eager_pieces(submission, futures, deadline))


def _eager_pieces(
    submission: Submission[T], futures: list[Future[Any]], deadline: float | None
) -> Generator[Iterable[T], None, None]:
    futures.reverse()
    try:
        while futures:
            results, failure, _ = submission.outcome(taken(futures.pop(), deadline))
            yield drained(results)
            if failure is not None:
                raise failure.exception
    finally:
        withdraw(futures)


def lazy_map(
    executor: Executor,
    options: TaskOptions,
    fn: Callable[..., T],
    iterables: Sequence[Iterable[Any]],
    ordered: bool,
    chunksize: int | None,
    buffersize: int | None,
) -> Results[T]:
    """`Executor.imap`: read the input only as far ahead as `buffersize` allows."""
    chunksize = checked_bound("chunksize", chunksize)
    buffersize = checked_bound("buffersize", buffersize)
    feed = Feed(iterables, False)
    single = chunksize == 1 or (chunksize is None and executor._kind == "thread")
    submission = Submission(executor, options, fn, feed.star, single)
    workers = executor._max_workers
    window = Window(submission, feed, workers, Pace(workers, chunksize), buffersize)
    return Results.over(in_order(window) if ordered else as_completed(window))


def in_order(
    window: Window[T], deadline: float | None = None
) -> Generator[Iterable[T], None, None]:
    """Start the window's tasks; the generator yields their results in order."""
    window.fill()
    return _pieces(window, Window.oldest, deadline)


def as_completed(window: Window[T]) -> Generator[Iterable[T], None, None]:
    """Start the window's tasks; the generator yields their results as they come."""
    window.watch()
    window.fill()
    return _pieces(window, Window.next_completed, None)


def _pieces(
    window: Window[T], choose: Callable[[Window[T]], Future[Any]], deadline: float | None
) -> Generator[Iterable[T], None, None]:
    try:
        while window:
            _, items, (results, failure, _) = window.finish(choose(window), deadline)
            yield drained(results)
            if failure is not None:
                raise failure.exception
            window.release(items)
            window.fill()
        if window.error is not None:
            raise window.error
    finally:
        window.stop()
