"""Waiting for several futures: the standard library's functions, made safe in workers."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import ALL_COMPLETED
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from concurrent.futures import Future
    from concurrent.futures._base import DoneAndNotDoneFutures

__all__ = ["as_completed", "wait"]

T = TypeVar("T")


def wait(
    fs: Iterable[Future[T]], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDoneFutures[T]:
    """Wait for futures, as `concurrent.futures.wait` does.

    In a task that waits for tasks of its own thread pool, one more thread of the pool may run
    meanwhile, so that the pool does not wait for itself.

    Args:
        fs: the futures, of any executors.
        timeout: seconds to wait at the most, or None.
        return_when: FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED of `concurrent.futures`.

    Returns:
        a named tuple of two sets of futures, ``done`` and ``not_done``.

    Example:
        >>> with mh.ThreadPoolExecutor() as ex:
        ...     done, not_done = mh.wait([ex.submit(pow, 2, 3), ex.submit(pow, 3, 2)])
        >>> sorted(future.result() for future in done)
        [8, 9]
    """
    futures = set(fs)
    blocked = _native.ThreadPoolBase._blocked(futures)
    if blocked is None:
        return concurrent.futures.wait(futures, timeout, return_when)
    with blocked:
        return concurrent.futures.wait(futures, timeout, return_when)


def as_completed(
    fs: Iterable[Future[T]], timeout: float | None = None
) -> Generator[Future[T], None, None]:
    """Yield futures as they are done, as `concurrent.futures.as_completed` does.

    In a task that waits for tasks of its own thread pool, one more thread of the pool may run
    meanwhile, so that the pool does not wait for itself.

    Args:
        fs: the futures, of any executors.
        timeout: seconds until all must be done, counted from the first ``next``, or None.

    Raises:
        TimeoutError: `timeout` has passed.

    Example:
        >>> with mh.ThreadPoolExecutor() as ex:
        ...     futures = [ex.submit(pow, n, 2) for n in range(3)]
        ...     sorted(future.result() for future in mh.as_completed(futures))
        [0, 1, 4]
    """
    left = set(fs)
    done = concurrent.futures.as_completed(left.copy(), timeout)
    while True:
        blocked = _native.ThreadPoolBase._blocked(left)
        if blocked is None:
            # Nothing of ours is queued any more.
            left.clear()
            yield from done
            return
        with blocked:
            batch = list(islice(done, 1))
        if not batch:
            return
        left.difference_update(batch)
        # Not kept in a variable while we wait to go on: a result is dropped when its user drops it.
        yield batch.pop()
