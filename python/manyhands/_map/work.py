"""What a map has to do: a function, its input, and how and where to run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from manyhands._pool.executor import Executor
from manyhands._task.pace import Pace
from manyhands._task.submission import Submission
from manyhands._task.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from manyhands._map.loan import Loan
    from manyhands._task.feed import Feed
    from manyhands._task.options import TaskOptions

__all__ = ["Work"]

T = TypeVar("T")


@dataclass
class Work(Generic[T]):
    """What to map, and how.

    Attributes:
        fn: called with each item.
        feed: the input.
        workers: a kind of worker, or an executor.
        max_workers: how many workers at most, or None.
        options: how each task runs.
        chunksize: how many items are one task, or None.
        buffersize: how many items may be started and not yet taken, or None.
        return_exceptions: whether an item's exception takes the place of its result.
        tasks: those under way; none while the caller does the work.
    """

    fn: Callable[..., T]
    feed: Feed
    workers: str | Executor
    max_workers: int | None
    options: TaskOptions
    chunksize: int | None
    buffersize: int | None = None
    return_exceptions: bool = False
    tasks: Sized = ()

    def executor(self, loan: Loan) -> Executor:
        """Return the executor that was asked for."""
        if isinstance(self.workers, Executor):
            return self.workers
        return loan.executor(self.workers, self.max_workers)

    def submission(self, executor: Executor, metered: bool = False) -> Submission[T]:
        """Return how pieces of the input become tasks of `executor`."""
        return Submission(
            executor,
            self.options,
            self.fn,
            self.feed.star,
            self.chunksize == 1,
            self.return_exceptions,
            metered,
        )

    def window(self, executor: Executor) -> Window[T]:
        """Return a window for this work over `executor`."""
        count = executor._max_workers
        most = None
        if self.max_workers is not None and self.max_workers < count:
            # The pool is shared and bigger than this map may use: no more tasks than that.
            count = most = self.max_workers
        pace = Pace(count, self.chunksize)
        submission = self.submission(executor)
        window = Window(submission, self.feed, count, pace, self.buffersize, most)
        self.tasks = window
        return window

    def under_way(self) -> int:
        """Return how many tasks are under way."""
        return len(self.tasks)
