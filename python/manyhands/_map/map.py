"""`map` and `imap`: one call, many workers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from manyhands._map.auto import auto_pieces, map_auto
from manyhands._map.choice import Choice, Measurements, expect_choice, remember
from manyhands._map.loan import Loan
from manyhands._map.widening import widen
from manyhands._map.work import Work
from manyhands._pool.executor import BoundExecutor, Executor
from manyhands._pool.shared import EVERY_KIND, check_kind
from manyhands._task.awaits import is_async
from manyhands._task.feed import Feed
from manyhands._task.offload import is_in_coroutine, offload
from manyhands._task.options import Backoff, TaskOptions, check_workers, checked_options
from manyhands._task.progress import ProgressOption, label_of, open_progress
from manyhands._task.stream import Results, as_completed, collected, counted, in_order, lent
from manyhands._task.window import checked_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Unpack

    from manyhands._future.future import Future
    from manyhands._map.keywords import MapKeywords, Workers

__all__ = ["imap", "map"]

T = TypeVar("T")


@overload
def map(  # noqa: A001
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    return_exceptions: Literal[False] = False,
    **keywords: Unpack[MapKeywords],
) -> list[T]: ...


@overload
def map(  # noqa: A001
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    return_exceptions: bool,
    **keywords: Unpack[MapKeywords],
) -> list[T | BaseException]: ...


def map(  # noqa: A001 - the name users expect
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    workers: Workers = "auto",
    max_workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff = None,
    progress: ProgressOption = None,
    chunksize: int | None = None,
    return_exceptions: bool = False,
) -> list[T] | list[T | BaseException]:
    """Call ``fn`` on the items of `iterables`, many at a time; return the results in order.

    With ``workers="auto"`` the first items are measured and the rest runs where that is fastest:
    in the caller if there is too little to share out, on threads if the items wait or compute
    without the GIL, on processes if they compute under it. `last_choice` says what was chosen and
    why. Every item runs once, whatever is chosen. An ``async def`` function runs in an event loop,
    and what its calls return is awaited.

    Args:
        fn: any callable; lambdas, closures and functions of ``__main__`` work on processes too.
        iterables: one argument of ``fn`` each, as in the builtin ``map``; the shortest counts.
        workers: ``"auto"``, ``"thread"``, ``"process"``, ``"coroutine"``, ``"greenlet"``, or an
            executor to use.
        max_workers: how many workers at most; None means as many as suit the machine, and on
            threads as many as items need that wait, up to 32. With ``"coroutine"`` and
            ``"greenlet"``, how many calls are under way at once; None means 1,000.
        timeout: seconds that one item may take. A process that takes longer is ended, a thread
            is asked to stop. Each item is then a task of its own.
        retries: how many more times a failed item is tried.
        backoff: how long to wait before that, as in `Executor.options`; None for no pause.
        progress: True for a progress bar, a string for a bar with that label, or a callable that
            gets ``(done, total)``.
        chunksize: how many items travel as one task; None lets it follow what items cost.
        return_exceptions: whether an item that fails ends the map (False), or its exception takes
            the place of its result, and the others go on (True).

    Returns:
        A list of the results.

    Raises:
        TaskTimeout: an item took longer than `timeout`.
        WorkerDied: the process that ran an item died.
        ValueError, TypeError: an argument makes no sense.
        Exception: what ``fn`` raised for the first item, in order, that failed; a note in it tells
            which item that was. Items that have not been started by then never are; those that run
            go on to their end, which is not waited for.

    Example:
        >>> mh.map(pow, [2, 3, 4], [10, 4, 3])
        [1024, 81, 64]
    """
    options = checked_options(timeout, retries, backoff=backoff)
    work = _work(fn, iterables, workers, max_workers, options, chunksize, return_exceptions)
    with open_progress(progress, label_of(fn), work.feed.remaining) as shown:
        if work.workers == "auto":
            return map_auto(work, shown)
        with Loan(timeout=timeout) as loan:
            window = work.window(work.executor(loan))
            widen(work, loan, window)
            window.watch()
            return collected(window, shown)


@overload
def imap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    ordered: bool = True,
    buffersize: int | None = None,
    return_exceptions: Literal[False] = False,
    **keywords: Unpack[MapKeywords],
) -> Results[T]: ...


@overload
def imap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    ordered: bool = True,
    buffersize: int | None = None,
    return_exceptions: bool,
    **keywords: Unpack[MapKeywords],
) -> Results[T | BaseException]: ...


def imap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    ordered: bool = True,
    buffersize: int | None = None,
    workers: Workers = "auto",
    max_workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff = None,
    progress: ProgressOption = None,
    chunksize: int | None = None,
    return_exceptions: bool = False,
) -> Results[T] | Results[T | BaseException]:
    """As `map`, but lazily: input is read as results are taken, so it may be endless.

    Work begins at the call. ``close()`` on the iterator, or dropping it, withdraws what has not
    been started. In a coroutine, ``async for`` takes the results without blocking the event loop.

    Args:
        ordered: whether results come in the order of the input, or as they are ready.
        buffersize: at most this many items are started and not yet yielded; None means a few
            tasks per worker.

    Example:
        >>> from itertools import count, islice
        >>> list(islice(mh.imap(abs, count(-3)), 5))
        [3, 2, 1, 0, 1]
    """
    options = checked_options(timeout, retries, backoff=backoff)
    work = _work(fn, iterables, workers, max_workers, options, chunksize, return_exceptions)
    work.buffersize = checked_bound("buffersize", buffersize)
    shown = open_progress(progress, label_of(fn), work.feed.remaining)
    if work.workers == "auto" and is_in_coroutine():
        # Measuring takes a while, and the event loop must not wait for it.
        expect_choice()
        pieces = _pieces_of(offload(auto_pieces, work, ordered))
    elif work.workers == "auto":
        pieces = auto_pieces(work, ordered)
    else:
        pieces = _pool_pieces(work, ordered)
    return Results.over(counted(pieces, shown), fn, work.under_way)


def _work(
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    workers: Workers,
    max_workers: int | None,
    options: TaskOptions,
    chunksize: int | None,
    return_exceptions: bool,
) -> Work[T]:
    """Check the arguments of a map."""
    if not callable(fn):
        raise TypeError(f"map() needs a callable, not {type(fn).__name__}")
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    if max_workers is not None:
        max_workers = check_workers(max_workers)
    if isinstance(workers, BoundExecutor):
        # What the call says comes on top of what the view says.
        bound = workers._options
        options = bound._replace(
            timeout=options.timeout or bound.timeout,
            retries=options.retries or bound.retries,
            backoff=bound.backoff if options.backoff is None else options.backoff,
        )
        where: str | Executor = workers._executor
    elif isinstance(workers, Executor):
        where = workers
    else:
        where = check_kind(workers, ("auto", *EVERY_KIND))
    if where == "auto" and is_async(fn):
        where = "coroutine"
        remember(
            Choice("coroutine", "calls of an async function wait in an event loop", Measurements())
        )
    chunksize = checked_bound("chunksize", chunksize)
    feed = Feed(iterables, False)
    return Work(
        fn, feed, where, max_workers, options, chunksize, return_exceptions=return_exceptions
    )


def _pieces_of(
    begun: Future[Generator[Iterable[T], None, None]],
) -> Generator[Iterable[T], None, None]:
    """Yield from pieces that are being started in another thread."""
    try:
        pieces = begun.result()
    except BaseException:
        begun.cancel()
        raise
    with closing(pieces):
        yield from pieces


def _pool_pieces(work: Work[T], ordered: bool) -> Generator[Iterable[T], None, None]:
    loan = Loan(wait=False)
    window = work.window(work.executor(loan))
    widen(work, loan, window)
    return lent(in_order(window) if ordered else as_completed(window), loan)
