"""The results of a map: all at once, or by iterators, eager and lazy, ordered and as completed.

All of them work by pieces: a generator yields one iterable per piece and `Results` chains them in
C, so that a tiny result costs no Python bytecode in the parent.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

from manyhands._interpreter.deadline import deadline_of
from manyhands._native import holds_little
from manyhands._task.feed import Feed
from manyhands._task.item_note import NO_ITEM, small
from manyhands._task.pace import Pace, ramp
from manyhands._task.pieces import Pieces
from manyhands._task.progress import label_of, open_progress
from manyhands._task.submission import Submission, outcome_of, withdraw
from manyhands._task.window import Window, checked_bound

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from manyhands._future.future import Future
    from manyhands._task.async_results import AsyncResults
    from manyhands._task.chunk import Failure
    from manyhands._task.options import TaskOptions
    from manyhands._task.progress import Progress, ProgressOption
    from manyhands._task.target import Target

__all__ = ["Results", "as_completed", "counted", "drained", "eager_map", "in_order", "lazy_map"]

T = TypeVar("T")


class Results(chain[T]):
    """Iterator over results, for ``for`` and ``async for``.

    ``close()`` withdraws what has not been started.
    """

    _pieces: Pieces[T]
    # Made when somebody asks for it.
    _awaited: AsyncResults[T] | None
    # Whose results these are, and how many tasks are under way.
    _fn: str
    _under_way: Callable[[], int]

    @classmethod
    def over(
        cls,
        pieces: Generator[Iterable[T], None, None],
        fn: Callable[..., T],
        under_way: Callable[[], int],
    ) -> Results[T]:
        """Chain what `pieces` yields, the results of `fn` in so many tasks as `under_way` says."""
        kept = Pieces(pieces)
        results: Results[T] = cls.from_iterable(kept)  # type: ignore[assignment]
        results._pieces = kept
        results._awaited = None
        results._fn = label_of(fn)
        results._under_way = under_way
        return results

    def __repr__(self) -> str:
        return f"<manyhands.Results of {self._fn} tasks={self._under_way()} at {id(self):#x}>"

    def close(self) -> None:
        """Withdraw the calls that have not been started; the iterator is then exhausted."""
        self._pieces.close()
        deque(self, maxlen=0)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._awaited is None:
            from manyhands._task.async_results import AsyncResults

            self._awaited = AsyncResults(self._pieces.batch, self._pieces.close)
        return self._awaited


def drained(results: list[T]) -> Iterator[T]:
    """Iterate over `results`, releasing each as it is taken, unless they are small anyway."""
    if holds_little(results):
        return iter(results)
    results.reverse()
    return map(list.pop, repeat(results, len(results)))


def eager_map(
    executor: Target,
    options: TaskOptions,
    fn: Callable[..., T],
    iterables: Sequence[Iterable[Any]],
    star: bool,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    return_exceptions: bool,
    progress: ProgressOption,
) -> Results[T]:
    """`Executor.map`: submit everything (or `buffersize` items), then yield results in order."""
    deadline = deadline_of(timeout)
    chunksize = checked_bound("chunksize", chunksize)
    buffersize = checked_bound("buffersize", buffersize)
    feed = Feed(iterables, star)
    single = chunksize == 1 or (chunksize is None and executor._kind.is_cheap)
    submission = Submission(executor, options, fn, feed.star, single, return_exceptions)
    workers = executor._max_workers
    if buffersize is not None:
        shown = open_progress(progress, label_of(fn), feed.remaining)
        window = Window(submission, feed, workers, Pace(workers, chunksize), buffersize)
        return Results.over(counted(in_order(window, deadline), shown), fn, window.__len__)
    total = feed.read_all()
    sizes: Iterable[int]
    if submission.single:
        sizes = repeat(1, total)
    elif chunksize is not None:
        sizes = repeat(chunksize, -(-total // chunksize))
    else:
        sizes = ramp(total, workers)
    shown = open_progress(progress, label_of(fn), total)
    futures: list[Future[Any]] = []
    # Of each future how many items it has; or, if every item is a task of its own, the item.
    known: list[Any] = []
    try:
        for size in sizes:
            first = feed.taken
            items = feed.take(size)
            try:
                futures.append(submission.submit(items))
            except Exception as error:
                for index, future in enumerate(submission.submit_apart(items, error, first)):
                    futures.append(future)
                    known.append(small(items[index]) if submission.single else 1)
            else:
                known.append(small(items[0]) if submission.single else len(items))
    except BaseException:
        withdraw(futures)
        raise
    submission.let_go()
    pieces = _eager_pieces(submission, futures, known, deadline)
    return Results.over(counted(pieces, shown), fn, futures.__len__)


def _eager_pieces(
    submission: Submission[T],
    futures: list[Future[Any]],
    known: list[Any],
    deadline: float | None,
) -> Generator[Iterable[T], None, None]:
    single, return_exceptions = submission.single, submission.return_exceptions
    futures.reverse()
    known.reverse()
    first = 0
    try:
        while futures:
            about = known.pop()
            count, item = (1, about) if single else (about, NO_ITEM)
            results, failure, _ = outcome_of(
                futures.pop(), single, first, count, return_exceptions, deadline, item
            )
            yield drained(results)
            if failure is not None:
                raise failure.let_go()
            first += count
    finally:
        withdraw(futures)


def lazy_map(
    executor: Target,
    options: TaskOptions,
    fn: Callable[..., T],
    iterables: Sequence[Iterable[Any]],
    ordered: bool,
    chunksize: int | None,
    buffersize: int | None,
    return_exceptions: bool,
    progress: ProgressOption,
) -> Results[T]:
    """`Executor.imap`: read the input only as far ahead as `buffersize` allows."""
    chunksize = checked_bound("chunksize", chunksize)
    buffersize = checked_bound("buffersize", buffersize)
    feed = Feed(iterables, False)
    single = chunksize == 1 or (chunksize is None and executor._kind.is_cheap)
    submission = Submission(executor, options, fn, feed.star, single, return_exceptions)
    workers = executor._max_workers
    shown = open_progress(progress, label_of(fn), feed.remaining)
    window = Window(submission, feed, workers, Pace(workers, chunksize), buffersize)
    pieces = in_order(window) if ordered else as_completed(window)
    return Results.over(counted(pieces, shown), fn, window.__len__)


def counted(
    pieces: Generator[Iterable[T], None, None], shown: Progress
) -> Generator[Iterable[T], None, None]:
    """Show progress, item by item, as results are taken; without anybody to see it, do nothing."""
    return _counted(pieces, shown) if shown.is_shown() else pieces


def _counted(
    pieces: Generator[Iterable[T], None, None], shown: Progress
) -> Generator[Iterable[T], None, None]:
    with closing(pieces), shown:
        for piece in pieces:
            for item in piece:
                shown.advance(1)
                yield (item,)


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
                raise failure.let_go()
            window.release(items)
            window.fill()
        if window.error is not None:
            raise window.let_go()
    finally:
        window.stop()
        window.guide = None  # it knows the window


def collected(window: Window[T], shown: Progress) -> list[T]:
    """Run a window to its end and return all results in order.

    If items fail, the earliest failure is raised, as a loop would meet it: what came later is
    withdrawn, what came before is waited for.
    """
    results: list[T] = []
    early: dict[int, list[T]] = {}
    following = 0
    failed: tuple[int, Failure] | None = None
    try:
        window.fill()
        while window and (failed is None or window.oldest_number() < failed[0]):
            number, items, (part, failure, _) = window.finish(window.next_completed())
            window.release(items)
            if failure is not None and (failed is None or number < failed[0]):
                failed = (number, failure)
                window.stop(after=number)
            window.fill()
            early[number] = part
            while following in early:
                results += early.pop(following)
                following += 1
            shown.advance(len(part))
    except BaseException:
        window.cancel()
        raise
    finally:
        window.guide = None  # it knows the window
    if failed is not None:
        raise failed[1].let_go()
    if window.error is not None:
        raise window.let_go()
    return results


def lent(
    pieces: Generator[Iterable[T], None, None], loan: AbstractContextManager[object]
) -> Generator[Iterable[T], None, None]:
    """Yield from `pieces`, and give the executors back at the end."""
    with loan, closing(pieces):
        yield from pieces
