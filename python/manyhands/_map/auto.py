"""Maps with ``workers="auto"``: the first items are measured, the rest runs where it belongs."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from manyhands._map.choice import MOST_THREADS, Choice, Resources, remember
from manyhands._map.course import Course
from manyhands._map.loan import Loan
from manyhands._map.pilot import UNSEEN, Pilot
from manyhands._native import check_cancelled
from manyhands._pickle.own_settings import own_context
from manyhands._pool.process import default_workers
from manyhands._pool.shared import is_warm
from manyhands._task.chunk import Outcome, is_returnable, not_the_end, run_chunk
from manyhands._task.item_note import note_items, sketch
from manyhands._task.progress import Progress, label_of
from manyhands._task.queued import queued_seconds
from manyhands._task.stream import as_completed, collected, in_order, lent
from manyhands._task.submission import opened
from manyhands._worker.interpreter import has_gil

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from manyhands._map.work import Work
    from manyhands._task.options import TaskOptions

__all__ = ["auto_pieces", "map_auto"]

T = TypeVar("T")

# Seconds until the first process pool of a program is ready; more with each module beyond those
# that every program has, since workers import what tasks need; and at most, as they need not all.
COLD_START: Final = 0.04
USUAL_MODULES: Final = 200
MODULE_START: Final = 0.00015
LONGEST_START: Final = 0.3
# Work done in the caller is reviewed again after so many seconds.
LOOK_AGAIN: Final = 0.02
# ... or earlier than planned, if a piece of it has taken so many.
LONG: Final = 0.04
# ... and surveyed again if items cost so many times more than the pilot found.
DEARER: Final = 4
# Where items' costs have grown they may go on growing: all that are left are taken to cost so many
# times what the next ones do. Else each survey would find too little left to be worth a start.
GROWTH: Final = 2
# Items that take less seconds, and are computed as results are taken, are not timed one by one, but
# so many of them: a look at the clock would take longer.
TINY: Final = 2e-5
STRETCH: Final = 64
# Lists of more items than this get memory from the kernel each time, which costs more than a call.
MOST_TAKEN: Final = 8192
# A look at the clock is worth it once in so many seconds of work.
BETWEEN_LOOKS: Final = 5e-5


def _cold_start() -> float:
    """Estimate the seconds until processes could begin that are not there yet."""
    more = max(0, len(sys.modules) - USUAL_MODULES)
    return min(LONGEST_START, COLD_START + more * MODULE_START)


def _resources(work: Work[T]) -> Resources:
    available = default_workers()
    most = work.max_workers
    return Resources(
        cpus=available,
        thread_workers=MOST_THREADS if most is None else most,
        process_workers=available if most is None else most,
        process_start=0.0 if is_warm("process") else _cold_start(),
        enforce_timeout=work.options.timeout is not None,
        gil=has_gil(),
    )


def _survey(work: Work[T], loan: Loan, growth: int = 1) -> tuple[Pilot[T], Choice | None]:
    """Run the first items and choose; no choice if one of them has failed.

    Args:
        work: what to do.
        loan: lends executors.
        growth: see `Pilot`.
    """
    most = work.buffersize
    pilot = Pilot(
        loan,
        work.options,
        work.fn,
        work.feed,
        _resources(work),
        most,
        work.return_exceptions,
        growth,
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
        growth = 1
        while True:
            pilot, choice = _survey(work, loan, growth)
            growth = GROWTH
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


class _Queue:
    """The queue for a CPU, where items wait through no fault of their own, here as elsewhere."""

    def __init__(self) -> None:
        self._waited = queued_seconds()

    def not_spent_in_it(self, seconds: float) -> float:
        """Return what is left of `seconds`, which have passed since it was last asked."""
        before, self._waited = self._waited, queued_seconds()
        # Batches for coroutines may be computed by several threads, each with a count of its own.
        return max(0.0, seconds - max(0.0, self._waited - before))


def _run_inline(work: Work[T], choice: Choice, results: list[T], shown: Progress) -> bool:
    """Run the rest in the caller; return False if items cost much more than measured.

    Args:
        work: what to do.
        choice: what items have cost so far.
        results: those of all items so far; the others are appended.
        shown: told of what is done.
    """
    options = work.options
    expected = max(choice.measurements.item_seconds, 1e-7)
    size = max(1, choice.measurements.items)
    context = own_context()
    queue = _Queue()
    # Where there may be exceptions, they are looked for in each part by itself.
    whole = None if work.return_exceptions else results
    while len(items := work.feed.take(size)):
        check_cancelled()
        known = len(results)
        stretch = max(1, int(min(BETWEEN_LOOKS / expected, UNSEEN * known)))
        outcome: Outcome[T] = context.run(
            run_chunk,
            work.fn,
            items,
            work.feed.star,
            options.retries,
            options.retry_on,
            work.return_exceptions,
            options.pauses(),
            stretch,
            LONG,
            whole,
        )
        part, failure, seconds = opened(outcome, known if whole is None else 0, whole is None)
        if failure is not None:
            raise failure.let_go()
        if whole is None:
            results += part
        done = len(results) - known
        shown.advance(done)
        own = queue.not_spent_in_it(seconds)
        each = own / done
        if done < len(items):
            work.feed.give_back(items[done:])
            if own >= LONG:
                # It is the last stretch that has taken so long.
                each = max(each, (own - (done - stretch) * expected) / stretch)
        remaining = work.feed.remaining
        if each > DEARER * expected and (remaining is None or remaining * each > LOOK_AGAIN):
            return False
        size = max(1, min(2 * size, MOST_TAKEN, int(LOOK_AGAIN / max(each, 1e-7))))
    return True


def auto_pieces(work: Work[T], ordered: bool) -> Generator[Iterable[T], None, None]:
    """Begin the work; the generator yields the results."""
    loan = Loan(wait=False)
    try:
        pilot, choice = _survey(work, loan)
        if choice is None or choice.kind == "sequential":
            return lent(_inline_pieces(work, loan, ordered, pilot, choice), loan)
        return lent(_course_pieces(work, loan, ordered, pilot, choice), loan)
    except BaseException:
        loan.close()
        raise


def _course_pieces(
    work: Work[T], loan: Loan, ordered: bool, pilot: Pilot[T], choice: Choice
) -> Generator[Iterable[T], None, None]:
    """Have workers begin with the rest; the generator yields the results."""
    course = Course(work, loan, pilot, choice, in_order=ordered)
    pieces = in_order(course.window) if ordered else as_completed(course.window)
    return _ended_by(pieces, course.end)


def _ended_by(
    pieces: Generator[Iterable[T], None, None], end: Callable[[], object]
) -> Generator[Iterable[T], None, None]:
    with closing(pieces):
        yield from pieces
        end()


def _inline_pieces(
    work: Work[T], loan: Loan, ordered: bool, pilot: Pilot[T], choice: Choice | None
) -> Generator[Iterable[T], None, None]:
    """Do the work in the caller, as results are taken, for as long as that is right."""
    look_again = LOOK_AGAIN
    while choice is None or choice.kind == "sequential":
        for piece in pilot.pieces:
            yield piece.outcome()
        assert choice is not None
        calls = _Calls(work, choice.measurements.item_seconds, look_again)
        yield calls
        if not calls.are_dear:
            return
        pilot, choice = _survey(work, loan, GROWTH)
        # A glance at one item may have met it without a CPU: if so, the next one is longer.
        look_again *= 2
    with closing(_course_pieces(work, loan, ordered, pilot, choice)) as pieces:
        yield from pieces


class _Calls(Generic[T]):
    """Calls of a function on what is left, in the caller, until they turn out much too dear.

    Tiny items run without a look at the clock for a stretch; if one takes long, be it for them or
    for whoever takes their results, the next ones are timed.

    Args:
        work: what to do.
        known: what an item has cost, in seconds.
        look_again: after so many seconds spent in items, it is judged whether that still holds.

    Attributes:
        are_dear: whether the calls ended early, because they cost more than was known.
    """

    def __init__(self, work: Work[T], known: float, look_again: float) -> None:
        self.are_dear = False
        self._work = work
        self._dear = DEARER * max(known, 1e-7)
        self._is_tiny = known < TINY
        self._look_again = look_again

    def __iter__(self) -> Iterator[T]:
        feed = self._work.feed
        fn, star, run = self._function(), feed.star, own_context().run
        items, seen = enumerate(feed.rest(), feed.taken), feed.taken
        while True:
            began, index = perf_counter(), -1
            stretch = min(STRETCH, max(1, int(UNSEEN * seen))) if self._is_tiny else 0
            # Not `builtins.map`: it would end, silently, where `fn` raises StopIteration.
            for index, item in islice(items, stretch):
                try:
                    result = run(fn, *item) if star else run(fn, item)
                except BaseException as error:
                    result = self._failure(error, index, item)
                yield result
            seen += stretch
            if index >= 0 and perf_counter() - began < STRETCH * self._dear:
                continue
            spent, queue = 0.0, _Queue()
            for timed, (index, item) in enumerate(items, 1):
                began = perf_counter()
                try:
                    result = run(fn, *item) if star else run(fn, item)
                except BaseException as error:
                    result = self._failure(error, index, item)
                spent += perf_counter() - began
                if spent >= self._look_again:
                    spent = queue.not_spent_in_it(spent)
                is_judged = spent >= self._look_again
                if is_judged and self._are_dear(spent / timed, index + 1):
                    yield result
                    return
                yield result
                if is_judged or (self._is_tiny and spent < timed * self._dear):
                    seen += timed
                    break
            else:
                return

    def _failure(self, error: BaseException, index: int, item: Any) -> Any:
        """Return what takes the place of a result, or raise it."""
        failure = error
        if type(error) is StopIteration:
            failure = not_the_end(error, label_of(self._work.fn))
        note_items(failure, index, shown=sketch(item))
        if self._work.return_exceptions and is_returnable(error):
            return failure
        if failure is error:
            raise
        raise failure from error

    def _are_dear(self, each: float, taken: int) -> bool:
        """Judge what items have cost; if they are dear, leave to others what has not been taken.

        Args:
            each: the seconds that some of them took, per item.
            taken: how many items have been taken from the input.
        """
        if each <= self._dear:
            return False
        feed = self._work.feed
        remaining = None if feed.remaining is None else feed.remaining - (taken - feed.taken)
        if remaining is not None and remaining * each <= LOOK_AGAIN:
            return False
        feed.skip(taken - feed.taken)
        self.are_dear = True
        return True

    def _function(self) -> Callable[..., T]:
        options = self._work.options
        if options.retries:
            return partial(_retried, self._work.fn, options)
        return self._work.fn


def _retried(fn: Callable[..., T], options: TaskOptions, *args: Any) -> T:
    trying = (options.retries, options.retry_on)
    results, failure, _ = run_chunk(fn, (args,), True, *trying, pauses=options.pauses())
    if failure is not None:
        raise failure.let_go()
    return results[0]
