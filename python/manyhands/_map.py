"""`map` and `imap`: one call, many workers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar

from manyhands._choice import Choice, Resources, at_once, expect_choice, remember, threads_for
from manyhands._chunk import Outcome, is_returnable, not_the_end, run_chunk
from manyhands._errand import is_in_coroutine, send
from manyhands._executor import BoundExecutor, Executor
from manyhands._feed import Feed
from manyhands._item_note import note_items, sketch
from manyhands._lease import Lease
from manyhands._native import check_cancelled
from manyhands._options import Backoff, TaskOptions, check_workers, checked_options
from manyhands._own_settings import own_context
from manyhands._pace import Pace
from manyhands._pilot import Piece, Pilot
from manyhands._process import default_workers
from manyhands._progress import Progress, ProgressOption, label_of, open_progress
from manyhands._shared_pool import KINDS, check_kind, is_warm
from manyhands._stream import Results, as_completed, counted, in_order
from manyhands._submission import Submission, opened
from manyhands._window import Window, checked_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from manyhands._future import Future

__all__ = ["imap", "map"]

T = TypeVar("T")

Workers: TypeAlias = Literal["auto", "thread", "process"] | Executor | BoundExecutor

# Threads that wait cost little: a map of waiting items gets up to this many.
MOST_THREADS: Final = 32
# Seconds until the first process pool of a program is ready.
COLD_START: Final = 0.08
# Work done in the caller is looked at anew after so many seconds.
LOOK_AGAIN: Final = 0.02
# ... and surveyed anew if items cost so many times more than the pilot found.
DEARER: Final = 4


@dataclass
class _Work(Generic[T]):
    """What is to be mapped, and how."""

    fn: Callable[..., T]
    feed: Feed
    workers: str | Executor
    max_workers: int | None
    options: TaskOptions
    chunksize: int | None
    buffersize: int | None = None
    return_exceptions: bool = False

    def window(self, executor: Executor) -> Window[T]:
        """Return a window for this work over `executor`."""
        count = executor._max_workers
        most = None
        if self.max_workers is not None and self.max_workers < count:
            # The pool is shared and bigger than this map may use: no more tasks than that.
            count = most = self.max_workers
        single = self.chunksize == 1
        submission = Submission(
            executor, self.options, self.fn, self.feed.star, single, self.return_exceptions
        )
        pace = Pace(count, self.chunksize)
        return Window(submission, self.feed, count, pace, self.buffersize, most)


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
) -> list[T]:
    """Call ``fn`` on the items of `iterables`, many at a time; return the results in order.

    With ``workers="auto"`` the first items are measured and the rest runs where that is fastest:
    in the caller if there is too little to share out, on threads if the items wait or compute
    without the GIL, on processes if they compute under it. `last_choice` says what was chosen and
    why. Every item runs once, whatever is chosen.

    Args:
        fn: any callable; lambdas, closures and functions of ``__main__`` work on processes too.
        iterables: one argument of ``fn`` each, as in the builtin ``map``; the shortest counts.
        workers: ``"auto"``, ``"thread"``, ``"process"``, or an executor to use.
        max_workers: how many workers at most; None means as many as suit the machine.
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
            which item that was. Items that have not been started by then never are.

    Example:
        >>> mh.map(pow, [2, 3, 4], [10, 4, 3])
        [1024, 81, 64]
    """
    options = checked_options(timeout, retries, backoff=backoff)
    work = _work(fn, iterables, workers, max_workers, options, chunksize, return_exceptions)
    with open_progress(progress, label_of(fn), work.feed.remaining) as shown:
        if work.workers == "auto":
            return _map_auto(work, shown)
        with Lease() as lease:
            window = work.window(_executor(work, lease))
            window.watch()
            return _collect(window, shown)


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
) -> Results[T]:
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
        # Measuring takes a while, which the event loop is not to wait for.
        expect_choice()
        pieces = _pieces_of(send(_auto_pieces, work, ordered))
    elif work.workers == "auto":
        pieces = _auto_pieces(work, ordered)
    else:
        pieces = _pool_pieces(work, ordered, [], Lease(wait=False))
    return Results.over(counted(pieces, shown))


def _work(
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    workers: Workers,
    max_workers: int | None,
    options: TaskOptions,
    chunksize: int | None,
    return_exceptions: bool,
) -> _Work[T]:
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
        options = replace(
            bound,
            timeout=options.timeout or bound.timeout,
            retries=options.retries or bound.retries,
            backoff=bound.backoff if options.backoff is None else options.backoff,
        )
        where: str | Executor = workers._executor
    elif isinstance(workers, Executor):
        where = workers
    else:
        where = check_kind(workers, ("auto", *KINDS))
    chunksize = checked_bound("chunksize", chunksize)
    feed = Feed(iterables, False)
    return _Work(
        fn, feed, where, max_workers, options, chunksize, return_exceptions=return_exceptions
    )


def _executor(work: _Work[T], lease: Lease) -> Executor:
    """Return the executor that `work` asks for."""
    if isinstance(work.workers, Executor):
        return work.workers
    return lease.executor(work.workers, work.max_workers)


def _collect(window: Window[T], shown: Progress) -> list[T]:
    """Run a window to its end and return all results in order.

    If items fail, the earliest failure is raised, as a loop would meet it: what came later is
    withdrawn, what came before is waited for.
    """
    results: list[T] = []
    early: dict[int, list[T]] = {}
    following = 0
    failed: tuple[int, BaseException] | None = None
    try:
        window.fill()
        while window and (failed is None or window.oldest_number() < failed[0]):
            number, items, (part, failure, _) = window.finish(window.next_completed())
            window.release(items)
            if failure is not None and (failed is None or number < failed[0]):
                failed = (number, failure.exception)
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
    if failed is not None:
        raise failed[1]
    if window.error is not None:
        raise window.error
    return results


def _resources(work: _Work[T]) -> Resources:
    available = default_workers()
    most = work.max_workers
    return Resources(
        cpus=available,
        thread_workers=MOST_THREADS if most is None else most,
        process_workers=available if most is None else most,
        process_start=0.0 if is_warm("process") else COLD_START,
        enforce_timeout=work.options.timeout is not None,
    )


def _survey(work: _Work[T], lease: Lease) -> tuple[Pilot[T], Choice | None]:
    """Run the first items and choose; no choice if one of them has failed."""
    most = work.buffersize
    pilot = Pilot(
        lease,
        work.options,
        work.fn,
        work.feed,
        _resources(work),
        most,
        work.return_exceptions,
    )
    try:
        choice = pilot.survey()
    except BaseException:
        for piece in pilot.pieces:
            piece.future.cancel()
        raise
    if choice is not None:
        remember(choice)
    return pilot, choice


def _chosen(work: _Work[T], choice: Choice, have: Resources) -> _Work[T]:
    """Return `work` with the kind of worker that was chosen, and how many of them."""
    assert choice.kind != "sequential"
    if choice.kind == "thread":
        most = threads_for(choice.measurements, have)
    else:
        most = at_once(have.process_workers, choice.measurements.memory_bytes, have)
    return replace(work, workers=choice.kind, max_workers=most)


def _map_auto(work: _Work[T], shown: Progress) -> list[T]:
    results: list[T] = []
    with Lease() as lease:
        while True:
            pilot, choice = _survey(work, lease)
            if choice is None or choice.kind == "sequential":
                for piece in pilot.pieces:
                    results += piece.outcome()
                    shown.advance(len(piece.items))
                assert choice is not None
                if _run_inline(work, choice, results, shown):
                    return results
                continue
            chosen = _chosen(work, choice, pilot.have)
            window = chosen.window(_executor(chosen, lease))
            window.watch()
            for piece in pilot.pieces:
                window.adopt(piece.future, piece.first, piece.items, piece.single, 0.0)
            return results + _collect(window, shown)


def _run_inline(work: _Work[T], choice: Choice, results: list[T], shown: Progress) -> bool:
    """Run the rest in the caller; return False if items turn out much dearer than measured."""
    options = work.options
    expected = max(choice.measurements.item_seconds, 1e-7)
    size = max(1, choice.measurements.items)
    context = own_context()
    while len(items := work.feed.take(size)):
        check_cancelled()
        outcome: Outcome[T] = context.run(
            run_chunk,
            work.fn,
            items,
            work.feed.star,
            options.retries,
            options.retry_on,
            work.return_exceptions,
            options.pauses(),
        )
        first = work.feed.taken - len(items)
        part, failure, seconds = opened(outcome, first, work.return_exceptions)
        if failure is not None:
            raise failure.exception
        results += part
        shown.advance(len(items))
        each = seconds / len(items)
        remaining = work.feed.remaining
        if each > DEARER * expected and (remaining is None or remaining * each > LOOK_AGAIN):
            return False
        size = max(1, min(2 * size, int(LOOK_AGAIN / max(each, 1e-7))))
    return True


def _auto_pieces(work: _Work[T], ordered: bool) -> Generator[Iterable[T], None, None]:
    lease = Lease(wait=False)
    try:
        pilot, choice = _survey(work, lease)
    except BaseException:
        lease.close()
        raise
    if choice is None or choice.kind == "sequential":
        return _leased(_inline_pieces(work, pilot), lease)
    return _pool_pieces(_chosen(work, choice, pilot.have), ordered, pilot.pieces, lease)


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


def _pool_pieces(
    work: _Work[T], ordered: bool, begun: Sequence[Piece], lease: Lease
) -> Generator[Iterable[T], None, None]:
    """Start the work, of which the pieces in `begun` are under way; yield its results."""
    window = work.window(_executor(work, lease))
    if not ordered:
        window.watch()
    for piece in begun:
        window.adopt(piece.future, piece.first, piece.items, piece.single, 0.0)
    pieces = in_order(window) if ordered else as_completed(window)
    return _leased(pieces, lease)


def _inline_pieces(work: _Work[T], pilot: Pilot[T]) -> Generator[Iterable[T], None, None]:
    for piece in pilot.pieces:
        yield piece.outcome()
    options = work.options
    if options.retries:
        fn: Callable[..., T] = partial(_retried, work.fn, options)
    else:
        fn = work.fn
    yield _calls(fn, work.feed, work.return_exceptions)


def _calls(fn: Callable[..., T], feed: Feed, return_exceptions: bool) -> Generator[T, None, None]:
    run, star, first = own_context().run, feed.star, feed.taken
    # Not `builtins.map`: it would end, silently, where `fn` raises StopIteration.
    for index, item in enumerate(feed.rest(), first):
        try:
            result = run(fn, *item) if star else run(fn, item)
        except BaseException as error:
            failure = not_the_end(error, label_of(fn)) if type(error) is StopIteration else error
            note_items(failure, index, shown=sketch(item))
            if not return_exceptions or not is_returnable(error):
                if failure is error:
                    raise
                raise failure from error
            result = failure  # type: ignore[assignment]
            del failure
        yield result


def _retried(fn: Callable[..., T], options: TaskOptions, *args: Any) -> T:
    trying = (options.retries, options.retry_on)
    results, failure, _ = run_chunk(fn, (args,), True, *trying, pauses=options.pauses())
    if failure is not None:
        raise failure.exception
    return results[0]


def _leased(
    pieces: Generator[Iterable[T], None, None], lease: Lease
) -> Generator[Iterable[T], None, None]:
    """Yield from `pieces`, and give the executors back at the end."""
    with lease, closing(pieces):
        yield from pieces
