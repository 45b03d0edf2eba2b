"""Waiting for several futures: what `concurrent.futures` offers, at the cost of a result each."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from concurrent.futures._base import DoneAndNotDoneFutures
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from manyhands import _native
from manyhands._interpreter.deadline import deadline_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

__all__ = ["as_completed", "wait"]

T = TypeVar("T")
# What is awaited is what comes: futures of ours keep `then`.
Awaited = TypeVar("Awaited", bound="Future[Any]")


if TYPE_CHECKING:

    class Waited(NamedTuple, Generic[Awaited]):
        """The standard library's `DoneAndNotDoneFutures`, which knows its own futures only."""

        done: set[Awaited]
        not_done: set[Awaited]


def wait(
    fs: Iterable[Awaited], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> Waited[Awaited]:
    """Wait for futures, as `concurrent.futures.wait` does.

    In a task that waits for tasks of its own thread pool, one more thread of the pool may run
    meanwhile, so that the pool does not wait for itself.

    Args:
        fs: the futures, of any executors.
        timeout: seconds to wait at the most, or None.
        return_when: FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED of `concurrent.futures`.

    Returns:
        a named tuple of two sets of futures, ``done`` and ``not_done``.

    Raises:
        TypeError: `fs` has something that is no future of an executor.
        ValueError: `return_when` is none of the three.

    Example:
        >>> with mh.ThreadPoolExecutor() as ex:
        ...     done, not_done = mh.wait([ex.submit(pow, 2, 3), ex.submit(pow, 3, 2)])
        >>> sorted(future.result() for future in done)
        [8, 9]
    """
    futures = set(fs)
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"Invalid return condition: {return_when!r}")
    with _blocked(futures):
        waited: Any
        if _all_ours(futures):
            waited = _wait(futures, timeout, return_when)
        else:
            _check(futures, "wait")
            waited = concurrent.futures.wait(futures, timeout, return_when)
        return waited  # type: ignore[no-any-return]


def _wait(futures: set[Any], timeout: float | None, return_when: str) -> DoneAndNotDoneFutures[T]:
    deadline = deadline_of(timeout)
    wait_set = _native.WaitSet(futures)
    done: set[Future[T]] = set()
    while len(done) < len(futures):
        count = len(futures) - len(done) if return_when == ALL_COMPLETED else 1
        batch = wait_set.take(count, None if deadline is None else deadline - monotonic())
        done.update(batch)
        if len(batch) < count or return_when == FIRST_COMPLETED:
            break
        if return_when == FIRST_EXCEPTION and any(_has_raised(future) for future in batch):
            break
    return DoneAndNotDoneFutures(done, futures - done)


def as_completed(
    fs: Iterable[Awaited], timeout: float | None = None
) -> Generator[Awaited, None, None]:
    """Yield futures as they are done, as `concurrent.futures.as_completed` does.

    In a task that waits for tasks of its own thread pool, one more thread of the pool may run
    meanwhile, so that the pool does not wait for itself.

    Args:
        fs: the futures, of any executors.
        timeout: seconds until all must be done, counted from the first ``next``, or None.

    Raises:
        TimeoutError: `timeout` has passed.
        TypeError: `fs` has something that is no future of an executor.

    Example:
        >>> with mh.ThreadPoolExecutor() as ex:
        ...     futures = [ex.submit(pow, n, 2) for n in range(3)]
        ...     sorted(future.result() for future in mh.as_completed(futures))
        [0, 1, 4]
    """
    deadline = deadline_of(timeout)
    left = set(fs)
    del fs
    if not _all_ours(left):
        _check(left, "as_completed")
        foreign: Iterator[Any] = concurrent.futures.as_completed(left.copy(), timeout)
        left.clear()
        yield from foreign
        return
    total = len(left)
    wait_set = _native.WaitSet(left)
    while left:
        with _blocked(left):
            batch = wait_set.take(1, None if deadline is None else deadline - monotonic())
        if not batch:
            raise TimeoutError(f"{len(left)} (of {total}) futures unfinished")
        left.difference_update(batch)
        batch.reverse()
        while batch:
            # Not kept while we wait to go on: a result is dropped when its user drops it.
            yield batch.pop()


def _all_ours(futures: Iterable[object]) -> bool:
    return all(isinstance(future, _native.FutureBase) for future in futures)


def _check(futures: Iterable[object], function: str) -> None:
    """Raise TypeError if some are no futures of executors."""
    for future in futures:
        # What the standard library needs of them; other libraries' need not be its own class.
        if not hasattr(future, "_condition"):
            what = type(future).__name__
            is_asyncio = hasattr(future, "_asyncio_future_blocking")
            hint = f": use asyncio.{function}()" if is_asyncio else ""
            raise TypeError(f"{function}() takes futures of executors, not {what}{hint}")


def _blocked(futures: Iterable[object]) -> AbstractContextManager[object]:
    """Have the worker that waits for `futures` replaced if it waits for its own pool."""
    return _native.ThreadPoolBase._blocked(futures) or nullcontext()


def _has_raised(future: Future[T]) -> bool:
    return not future.cancelled() and future.exception() is not None
