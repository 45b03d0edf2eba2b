"""Results of maps, taken by coroutines."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from manyhands._future.awaiting import outcome
from manyhands._task.offload import offload

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._future.future import Future
    from manyhands._task.pieces import Batch

__all__ = ["AsyncResults"]

T = TypeVar("T")


class AsyncResults(Generic[T]):
    """Asynchronous iterator over results that are waited for in another thread.

    An ``anext`` that is cancelled loses nothing: the next one goes on waiting for the same result.
    """

    _under_way: Future[Batch[T]] | None = None

    def __init__(self, batch: Callable[[], Batch[T]], close: Callable[[], object]) -> None:
        self._batch = batch
        self._close = close
        self._results: deque[T] = deque()
        self._error: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._results:
            error, self._error = self._error, None
            if isinstance(error, StopIteration):
                raise StopAsyncIteration
            if isinstance(error, StopAsyncIteration):
                raise RuntimeError("the task raised StopAsyncIteration") from error
            if error is not None:
                raise error
            future = self._under_way
            if future is None:
                future = self._under_way = offload(self._batch)
            results, error = await outcome(future)
            # Unless another coroutine, which waited for the same, has been here.
            if self._under_way is future:
                self._under_way = None
                self._results.extend(results)
                self._error = error
        return self._results.popleft()

    async def aclose(self) -> None:
        """Withdraw the calls that have not been started; the iterator is then exhausted."""
        self._results.clear()
        self._error = None
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
        await outcome(offload(self._close))

    def __del__(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
