"""What the asynchronous methods of `Pool` return."""

from __future__ import annotations

import multiprocessing
from itertools import chain
from threading import Event, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from manyhands._interpreter.deadline import deadline_of
from manyhands._task.item_note import NO_ITEM
from manyhands._task.submission import outcome_of, wait_done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from manyhands._future.future import Future
    from manyhands._task.async_results import AsyncResults
    from manyhands._task.chunk import Failure
    from manyhands._task.pieces import Batch
    from manyhands._task.window import Window

__all__ = ["AsyncResult", "MapResult", "PoolIterator"]

T = TypeVar("T")


class AsyncResult(Generic[T]):
    """The result of ``apply_async``, to be; as `multiprocessing.pool.AsyncResult`."""

    def __init__(self, pool: object, futures: Sequence[Future[Any]]) -> None:
        # A pool that nobody refers to ends at once, so whoever waits for a result refers to it.
        self._pool: object = pool
        self._futures = futures
        # Set when the callback has been called, if there is one: until then nothing is ready.
        self._notified: Event | None = None

    def __repr__(self) -> str:
        tasks = sum(not future.done() for future in self._futures)
        return f"<manyhands.Pool {type(self).__name__} tasks={tasks} at {id(self):#x}>"

    def _outcome(self) -> T:
        return self._futures[0].result()  # type: ignore[no-any-return]

    def _notify(
        self,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        """Have one of the callbacks called once everything is done."""
        if callback is None and error_callback is None:
            return
        pending = len(self._futures)
        lock = RLock()
        self._notified = Event()

        def count(_: object) -> None:
            nonlocal pending
            with lock:
                pending -= 1
                if pending:
                    return
            self._call(callback, error_callback)

        for future in self._futures:
            future.add_done_callback(count)
        if not self._futures:
            self._call(callback, error_callback)

    def _call(
        self,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        assert self._notified is not None
        try:
            try:
                value = self._outcome()
            except BaseException as error:
                if error_callback is not None:
                    error_callback(error)
            else:
                if callback is not None:
                    callback(value)
        finally:
            self._pool = None
            self._notified.set()

    def ready(self) -> bool:
        """Say whether the call has ended, and its callback been called."""
        if self._notified is not None and not self._notified.is_set():
            return False
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Say whether the call ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        try:
            self._outcome()
        except BaseException:
            return False
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, at most `timeout` seconds."""
        deadline = deadline_of(timeout)
        for future in self._futures:
            if not wait_done(future, _left(deadline)):
                return
        if self._notified is not None:
            self._notified.wait(_left(deadline))

    def get(self, timeout: float | None = None) -> T:
        """Return the result; raise what the call raised.

        Raises:
            multiprocessing.TimeoutError: it has not ended within `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        self._pool = None
        return self._outcome()


class MapResult(AsyncResult[list[T]]):
    """The result of ``map_async``, to be; as `multiprocessing.pool.MapResult`.

    If items failed, it is known once all have ended, and ``get`` raises the first in order.
    """

    def __init__(
        self,
        pool: object,
        futures: Sequence[Future[Any]],
        chunksize: int,
        total: int,
        items: Sequence[Any],
    ) -> None:
        super().__init__(pool, futures)
        self._chunksize = chunksize
        self._total = total
        # If each is a task of its own: those that are small enough to be kept.
        self._items = items

    def _outcome(self) -> list[T]:
        parts: list[list[T]] = []
        first = 0
        for future in self._futures:
            count = min(self._chunksize, self._total - first)
            item = self._items[first] if self._items else NO_ITEM
            results, failure, _ = outcome_of(
                future, bool(self._items), first, count, return_exceptions=False, item=item
            )
            if failure is not None:
                raise failure.let_go()
            parts.append(results)
            first += count
        return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


class PoolIterator(Generic[T]):
    """The iterator that ``imap`` returns; as `multiprocessing.pool.IMapIterator`.

    An item that failed raises in its place, and the next ``next`` goes on after it.
    """

    def __init__(self, pool: object, window: Window[T], ordered: bool) -> None:
        self._pool: object = pool  # as in `AsyncResult`
        self._window = window
        self._ordered = ordered
        # Results at hand, the next one last, and what comes after them.
        self._results: list[T] = []
        self._failure: Failure | None = None
        # Made when somebody asks for it.
        self._awaited: AsyncResults[T] | None = None
        if not ordered:
            window.watch()
        window.fill()

    def __repr__(self) -> str:
        return f"<manyhands.Pool {type(self).__name__} tasks={len(self._window)} at {id(self):#x}>"

    def __iter__(self) -> PoolIterator[T]:
        return self

    def __aiter__(self) -> AsyncIterator[T]:
        if self._awaited is None:
            from manyhands._task.async_results import AsyncResults

            self._awaited = AsyncResults(self._batch, self._window.stop)
        return self._awaited

    def _batch(self) -> Batch[T]:
        """Wait for a result, and return it or its error, and what else is there."""
        try:
            first = self.next()
        except BaseException as error:
            return [], error
        rest = self._results[::-1]
        self._results.clear()
        return [first, *rest], None

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it was not there within `timeout` seconds.
        """
        deadline = deadline_of(timeout)
        while not self._results:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure.let_go()
            if not self._window:
                self._pool = None
                if self._window.error is not None:
                    raise self._window.let_go()
                raise StopIteration
            future = self._next_done(deadline)
            _, items, (results, self._failure, _) = self._window.finish(future)
            self._window.release(items)
            self._window.fill()
            results.reverse()
            self._results = results
        return self._results.pop()

    def _next_done(self, deadline: float | None) -> Future[Any]:
        if not self._ordered:
            try:
                return self._window.next_completed(_left(deadline))
            except TimeoutError:
                raise multiprocessing.TimeoutError from None
        future = self._window.oldest()
        if not wait_done(future, _left(deadline)):
            raise multiprocessing.TimeoutError
        return future

    def is_submitted(self) -> bool:
        """Say whether all of the input has been submitted."""
        return self._window.ended

    def submit_rest(self) -> None:
        """Submit all that is left of the input."""
        self._window.fill_all()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
