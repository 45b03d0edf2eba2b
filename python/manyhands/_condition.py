"""The condition variable."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any, Self, TypeVar

from manyhands import _native
from manyhands._door import attempt_until, door_number
from manyhands._lock import Lock, RLock, task_number
from manyhands._primitive import Primitive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Condition"]

T = TypeVar("T")


class Condition(_native.ConditionBase, Primitive):
    """A condition variable for threads, processes and coroutines.

    `notify` wakes exactly as many as asked of those who wait at that time, the longest waiting
    first, and never counts one who has died or given up.

    Args:
        lock: the lock that goes with it, a `Lock` or `RLock`; by default a new `RLock`.
        name: makes it one condition, with one lock, for all processes of this user that give the
            same name.

    Raises:
        ValueError: both a lock and a name are given: the lock of a named condition has its name.

    Example:
        >>> condition = mh.Condition()
        >>> with condition:
        ...     condition.notify_all()
    """

    __slots__ = ("__weakref__", "_lock", "acquire", "release")

    _lock: Any
    acquire: Callable[..., bool]
    release: Callable[[], None]

    def __init__(
        self,
        lock: Any = None,
        *,
        name: str | None = None,
        _address: tuple[Any, ...] | None = None,
    ) -> None:
        if lock is None:
            lock = RLock() if name is None else RLock(name=f"{name}.lock")
        elif name is not None:
            raise ValueError(
                "a named Condition makes its own lock: give a lock or a name, not both"
            )
        self._lock = lock
        self.acquire = lock.acquire
        self.release = lock.release

    def _keywords(self) -> dict[str, Any]:
        return {"lock": self._lock}

    def __enter__(self) -> bool:
        entered: bool = self._lock.__enter__()
        return entered

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    async def __aenter__(self) -> Self:
        await self._lock.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._lock.__aexit__(*error)

    def __repr__(self) -> str:
        return f"<Condition({self._lock!r}, {self._waiting()})>"

    def _is_owned(self) -> bool:
        if isinstance(self._lock, Lock):
            # It has no owner that counts: anybody may release it.
            return self._lock.locked()
        owned = getattr(self._lock, "_is_owned", None)
        if owned is not None:
            return bool(owned())
        if self._lock.acquire(False):
            self._lock.release()
            return False
        return True

    # What a Condition, or an older `threading.Condition`, wants of its lock: so this can be one.

    def _release_save(self) -> Any:
        return self._lock._release_save()

    def _acquire_restore(self, saved: Any) -> None:
        self._lock._acquire_restore(saved)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire the lock again.

        Args:
            timeout: seconds, or None for no limit.

        Returns:
            True, or False if the time was up first.

        Raises:
            RuntimeError: the lock is not acquired.
        """
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        again: list[Callable[[], object]] = []
        try:
            return self._wait(lambda: again.append(_let_go(self._lock)), timeout)
        finally:
            for acquire in again:
                acquire()

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate` returns something true.

        Args:
            predicate: called with the lock held.
            timeout: seconds in all, or None for no limit.

        Returns:
            what `predicate` returned last.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake `n` of those who wait.

        Raises:
            RuntimeError: the lock is not acquired.
        """
        if not self._is_owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def notify_all(self) -> None:
        """Wake all who wait.

        Raises:
            RuntimeError: the lock is not acquired.
        """
        if not self._is_owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(None)

    def notifyAll(self) -> None:
        """Wake all who wait; deprecated, as in `threading`: use `notify_all`."""
        warnings.warn(
            "notifyAll() is deprecated, use notify_all() instead", DeprecationWarning, stacklevel=2
        )
        self.notify_all()

    async def async_wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, and acquire the lock again, as an asyncio task.

        Args:
            timeout: seconds, or None for no limit; acquiring the lock again may take longer.

        Returns:
            True, or False if the time was up first.

        Raises:
            RuntimeError: the lock is not acquired.
        """
        lock, number = self._lock, task_number()
        by_task = isinstance(lock, RLock) and lock._is_owned_as(number)
        if not by_task and not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        if not by_task and isinstance(lock, RLock):
            raise RuntimeError(
                "the thread has the lock, not the task: use 'async with' to acquire it"
            )
        place = self._enlist(await door_number())
        if by_task:
            times = lock._release_all_as(number)
        else:
            lock.release()
            times = 1
        notified = None
        try:
            notified = await attempt_until(
                lambda: place.is_notified() or None, lambda _: place, timeout
            )
        finally:
            place.leave(notified is not None)
            for _ in range(times):
                await _surely(lock.async_acquire)
        return notified is not None

    async def async_wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait, as an asyncio task, until `predicate` returns something true.

        Args:
            predicate: called with the lock held.
            timeout: seconds in all, or None for no limit.

        Returns:
            what `predicate` returned last.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            await self.async_wait(left)
            result = predicate()
        return result


def _let_go(lock: Any) -> Callable[[], object]:
    """Release `lock` however often it is acquired; the result acquires it as often again."""
    save = getattr(lock, "_release_save", None)
    if save is None:
        lock.release()
        return lock.acquire  # type: ignore[no-any-return]
    saved = save()
    return lambda: lock._acquire_restore(saved)


async def _surely(acquire: Callable[[], Awaitable[object]]) -> None:
    """Acquire even if the task is being cancelled: who waits with a lock comes back with it."""
    import asyncio

    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await acquire()
        except asyncio.CancelledError as error:
            cancelled = error
        else:
            break
    if cancelled is not None:
        raise cancelled
