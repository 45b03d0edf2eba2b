"""The tasks of a bounded map that are under way."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from operator import index
from threading import current_thread, main_thread
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from manyhands._native import ThreadPoolBase, WaitSet, check_cancelled
from manyhands._task.item_note import NO_ITEM, small
from manyhands._task.submission import Submission, outcome_of, wait_done, withdraw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyhands._future.future import Future
    from manyhands._task.chunk import Outcome
    from manyhands._task.feed import Feed
    from manyhands._task.pace import Pace

__all__ = ["Window", "checked_bound"]

T = TypeVar("T")

# How far to run ahead: enough chunks for each worker to have its next one waiting.
_AHEAD: Final = 3
# A task that waits for others looks up so often, in seconds, whether it has been asked to stop.
LOOK_UP: Final = 0.05
# ... or, while workers start that will take over.
LOOK_OFTEN: Final = 0.01


class _Entry(NamedTuple):
    """What is known of a task: its place in the order, its size, and how to read its result.

    Attributes:
        number: its place among the tasks.
        first: the place of its first item among the items.
        items: how many items it has.
        submit_seconds: what it took to submit it.
        single: whether its result is that of its only item.
        kind: what kind of worker runs it.
        item: the item, if it is the only one and worth keeping.
    """

    number: int
    first: int
    items: int
    submit_seconds: float
    single: bool
    kind: str
    item: Any


class Guide(Protocol):
    """Decides where the rest of a map runs.

    Attributes:
        starting: whether `tick` wants to be called from time to time.
    """

    starting: bool

    def learn(self, kind: str, items: int, seconds: float) -> None:
        """Items have ended on workers of a kind."""

    def tick(self) -> bool:
        """Time has passed; says whether there is room for more tasks."""


class Window(Generic[T]):
    """Submits pieces of the input as long as the bound allows, and collects their outcomes.

    Args:
        submission: how a piece becomes a task.
        feed: the input.
        workers: how many workers there are for it.
        pace: how big the pieces are.
        buffersize: at most this many items are submitted and not yet released; None bounds the
            number of tasks instead, to a few per worker.
        most: at most this many tasks are under way, whatever else is allowed.

    Attributes:
        ended: whether nothing more will be submitted.
        guide: told what tasks have cost; may move the rest elsewhere.
        error: what reading the input or submitting an item raised. It belongs in the place of that
            item, after all results before it.
    """

    def __init__(
        self,
        submission: Submission[T],
        feed: Feed,
        workers: int,
        pace: Pace,
        buffersize: int | None = None,
        most: int | None = None,
    ) -> None:
        self.error: Exception | None = None
        self._submission = submission
        self._feed = feed
        self._workers = workers
        self._pace = pace
        self._buffersize = buffersize
        self._most = most
        self._items = 0
        self._submitted = 0
        self.ended = False
        self.guide: Guide | None = None
        # In order of submission.
        self._under_way: dict[Future[Any], _Entry] = {}
        # Where futures put themselves that are done, and those that have been taken from there.
        self._wait_set: WaitSet | None = None
        self._completed: list[Future[Any]] = []

    def __len__(self) -> int:
        """Return how many tasks are under way."""
        return len(self._under_way)

    def watch(self) -> None:
        """Make `next_completed` possible; to be called before anything is submitted."""
        if self._wait_set is None:
            self._wait_set = WaitSet(())

    def move(self, submission: Submission[T], workers: int, pace: Pace, most: int | None) -> None:
        """Submit what is left elsewhere."""
        self._submission = submission
        self._workers = workers
        self._pace = pace
        self._most = most

    def adopt(
        self, future: Future[Any], first: int, items: Sequence[Any], single: bool, seconds: float
    ) -> None:
        """Take in a task that has been submitted, as the latest one.

        Args:
            future: its future.
            first: the place of its first item in the input.
            items: the items.
            single: whether its result is that of its only item.
            seconds: what it took to submit it.
        """
        item = small(items[0]) if single else NO_ITEM
        kind = self._submission.kind
        entry = _Entry(self._submitted, first, len(items), seconds, single, kind, item)
        if self._wait_set is not None:
            self._wait_set.add(future)
        self._submitted += 1
        self._items += entry.items
        # Last: a signal handler may raise before, and nobody must wait for what is never reported.
        self._under_way[future] = entry

    def fill(self) -> None:
        """Submit as much as the bound allows."""
        while not self.ended and (size := self._room()):
            first = self._feed.taken
            try:
                items = self._feed.take(size)
                if not len(items):
                    self.ended = True
                    return
                self._submit(items, first)
            except Exception as error:
                self.error = error
                self.ended = True

    def _submit(self, items: Sequence[Any], first: int) -> None:
        submission = self._submission
        began = perf_counter()
        try:
            future = submission.submit(items)
        except Exception as error:
            apart = submission.submit_apart(items, error, first)
            for index, future in enumerate(apart):
                one = items[index : index + 1]
                self.adopt(future, first + index, one, submission.single, 0.0)
        else:
            seconds = perf_counter() - began
            self.adopt(future, first, items, submission.single, seconds)

    def fill_all(self) -> None:
        """Submit all that is left, whatever the bound."""
        self._buffersize = self._most = None
        self._workers = sys.maxsize
        self.fill()

    def _room(self) -> int:
        """Return the size of the next piece, 0 while the bound is reached."""
        size = 1 if self._submission.single else self._pace.size(self._feed.remaining)
        if self._most is not None and len(self._under_way) >= self._most:
            return 0
        if self._buffersize is None:
            return size if len(self._under_way) < _AHEAD * self._workers else 0
        # At least two pieces per worker have to fit, or workers wait for the consumer.
        size = max(1, min(size, self._buffersize // (2 * self._workers)))
        return size if self._items + size <= self._buffersize else 0

    def oldest(self) -> Future[Any]:
        """Return the task that was submitted first."""
        return next(iter(self._under_way))

    def next_completed(self, seconds: float | None = None) -> Future[Any]:
        """Wait for a task to be done and return it.

        Raises:
            TimeoutError: none was done within `seconds`.
        """
        future = self._taken(0, 0.0)
        if future is not None:
            return future
        deadline = None if seconds is None else monotonic() + seconds
        if current_thread() is main_thread():
            return self._next_completed(deadline)
        # This may be a task of a thread pool, even of the one that it waits for: meanwhile that
        # pool may have one more thread. And the task may be asked to stop.
        with ThreadPoolBase._blocked(self._under_way) or nullcontext():
            return self._next_completed(deadline)

    def _next_completed(self, deadline: float | None) -> Future[Any]:
        while True:
            check_cancelled()
            slice_seconds = self._look()
            left = slice_seconds if deadline is None else min(slice_seconds, deadline - monotonic())
            future = self._taken(1, max(0.0, left))
            if future is None:
                # A signal handler may have raised when some had just been taken.
                future = next((each for each in self._under_way if each.done()), None)
            if future is not None:
                return future
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError

    def _taken(self, count: int, seconds: float) -> Future[Any] | None:
        """Wait for `count` tasks to be done, but no longer than `seconds`; return one that is."""
        assert self._wait_set is not None
        if not self._completed:
            self._completed = self._wait_set.take(count, seconds)
            self._completed.reverse()
        while self._completed:
            future = self._completed.pop()
            if future in self._under_way:
                return future
        return None

    def _look(self) -> float:
        """Let the guide look at the time; return after how many seconds it wants to look again."""
        if self.guide is None or not self.guide.starting:
            return LOOK_UP
        if self.guide.tick():
            self.fill()
        return LOOK_OFTEN

    def finish(
        self, future: Future[Any], deadline: float | None = None
    ) -> tuple[int, int, Outcome[T]]:
        """Wait for `future` and return its number, its size, and its outcome; see `outcome_of`.

        Its items count towards the bound until `release`.

        Raises:
            TimeoutError: the deadline passed first.
        """
        entry = self._under_way[future]
        while self.guide is not None and self.guide.starting and not future.done():
            wait_done(future, self._look())
        outcome: Outcome[T] = outcome_of(
            future,
            entry.single,
            entry.first,
            entry.items,
            self._submission.return_exceptions,
            deadline,
            entry.item,
        )
        if not entry.single:
            self._pace.learn(len(outcome[0]), outcome[2], entry.submit_seconds)
        del self._under_way[future]
        if self.guide is not None:
            self.guide.learn(entry.kind, len(outcome[0]), outcome[2])
        return entry.number, entry.items, outcome

    def let_go(self) -> Exception:
        """Return `error`, to be raised, and keep it no longer: its traceback may keep this."""
        error, self.error = self.error, None
        assert error is not None
        return error

    def release(self, items: int) -> None:
        """Count `items` as handed on, which makes room in the buffer."""
        self._items -= items

    def stop(self, after: int = -1) -> None:
        """Submit no more, and cancel what is not running and came later than number `after`."""
        self.ended = True
        self.error = None
        withdraw(
            future
            for future, entry in reversed(list(self._under_way.items()))
            if entry.number > after
        )

    def cancel(self) -> None:
        """Submit no more, and cancel everything, what is running too."""
        self.ended = True
        for future in reversed(list(self._under_way)):
            future.cancel()

    def oldest_number(self) -> int:
        """Return the number of the task that was submitted first."""
        return self._under_way[self.oldest()].number


def checked_bound(name: str, value: int | None) -> int | None:
    """Return a chunk or buffer size as an int or None; TypeError or ValueError if it is neither."""
    if value is None:
        return None
    try:
        number = index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be an integer or None, not {kind}") from None
    if number < 1:
        # In the standard library's words.
        raise ValueError(f"{name} must be " + (">= 1." if name == "chunksize" else "None or > 0"))
    return number
