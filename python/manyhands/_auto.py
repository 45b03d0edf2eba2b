"""Maps with ``workers="auto"``: the first items are measured, the rest runs where it belongs."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manyhands._choice import MOST_THREADS, Choice, Resources, remember
from manyhands._chunk import Outcome, is_returnable, not_the_end, run_chunk
from manyhands._course import Course
from manyhands._item_note import note_items, sketch
from manyhands._loan import Loan
from manyhands._native import check_cancelled
from manyhands._own_settings import own_context
from manyhands._pilot import Pilot
from manyhands._process import default_workers
from manyhands._progress import Progress, label_of
from manyhands._shared_pool import is_warm
from manyhands._stream import as_completed, collected, in_order, lent
from manyhands._submission import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from manyhands._feed import Feed
    from manyhands._options import TaskOptions
    from manyhands._work import Work

__all__ = ["auto_pieces", "map_auto"]

T = TypeVar("T")

# Seconds until the first process pool of a program is ready.
COLD_START: Final = 0.15
# Work done in the caller is looked at anew after so many seconds.
LOOK_AGAIN: Final = 0.02
# ... and surveyed anew if items cost so many times more than the pilot found.
DEARER: Final = 4


def _resources(work: Work[T]) -> Resources:
    available = default_workers()
    most = work.max_workers
    return Resources(
        cpus=available,
        thread_workers=MOST_THREADS if most is None else most,
        process_workers=available if most is None else most,
        process_start=0.0 if is_warm("process") else COLD_START,
        enforce_timeout=work.options.timeout is not None,
    )


def _survey(work: Work[T], loan: Loan) -> tuple[Pilot[T], Choice | None]:
    """Run the first items and choose; no choice if one of them has failed."""
    most = work.buffersize
    pilot = Pilot(
        loan,
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


def map_auto(work: Work[T], shown: Progress) -> list[T]:
    """Run the work and return all results in order."""
    results: list[T] = []
    with Loan(timeout=work.options.timeout) as loan:
        while True:
            pilot, choice = _survey(work, loan)
            if choice is None or choice.kind == "sequential":
                for piece in pilot.pieces:
                    results += piece.outcome()
                    shown.advance(len(piece.items))
                assert choice is not None
                if _run_inline(work, choice, results, shown):
                    return results
                continue
            course = Course(work, loan, pilot, choice, in_order=False)
            results += collected(course.window, shown)
            course.end()
            return results


def _run_inline(work: Work[T], choice: Choice, results: list[T], shown: Progress) -> bool:
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


def auto_pieces(work: Work[T], ordered: bool) -> Generator[Iterable[T], None, None]:
    """Begin the work; the generator yields the results."""
    loan = Loan(wait=False)
    try:
        pilot, choice = _survey(work, loan)
    except BaseException:
        loan.close()
        raise
    if choice is None or choice.kind == "sequential":
        return lent(_inline_pieces(work, pilot), loan)
    course = Course(work, loan, pilot, choice, in_order=ordered)
    pieces = in_order(course.window) if ordered else as_completed(course.window)
    return lent(_course_pieces(course, pieces), loan)


def _course_pieces(
    course: Course[T], pieces: Generator[Iterable[T], None, None]
) -> Generator[Iterable[T], None, None]:
    with closing(pieces):
        yield from pieces
        course.end()


def _inline_pieces(work: Work[T], pilot: Pilot[T]) -> Generator[Iterable[T], None, None]:
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
