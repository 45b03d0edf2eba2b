"""The condition variable."""

from __future__ import annotations

import time
import warnings

from manyhands import _native
from manyhands._interpreter.deadline import deadline_of
from manyhands._interpreter.public import public
from manyhands._sync.lock import Lock, RLock, task_number
from manyhands._sync.primitive import Acquirable, Primitive, check_made_with
from manyhands._sync.wake_socket import attempt_until, socket_number

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Self, TypeVar

    from manyhands._sync.lock import OnOwnerDied

    T = TypeVar("T")
else:
    Any = OnOwnerDied = object  # for `typing.get_type_hints`

__all__ = ["Condition"]


@public
class Condition(_native.ConditionBase, Primitive):
    """A condition variable for threads, processes and coroutines.

    `notify` wakes exactly as many as asked of those who wait at that time, the longest waiting
    first, and never counts one who has died or given up. `acquire`, `release` and the ``with``
    statement are those of its lock.

    Args:
        lock: the lock that goes with it, a `Lock` or `RLock`; by default a new `RLock`.
        name: makes it one condition, with one lock, for all processes of this user that give the
            same name.
        on_owner_died: what acquiring does when a process died holding the lock, as of `Lock`; for
            the lock that the condition makes.

    Raises:
        ValueError: a lock is given together with a name or ``on_owner_died``: the lock of a named
            condition has its name, and a lock that exists has its own way with the dead. Or what
            has that name is of another kind.
        AttributeError: what is given is no lock.

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
        on_owner_died: OnOwnerDied | None = None,
        _address: tuple[Any, ...] | None = None,
    ) -> None:
        if lock is None:
            lock = RLock(
                name=None if name is None else f"{name}.lock",
                on_owner_died="raise" if on_owner_died is None else on_owner_died,
            )
        elif name is not None:
            raise ValueError(
                "a named Condition creates its own lock: pass a lock or a name, not both"
            )
        elif on_owner_died is not None:
            raise ValueError(
                "on_owner_died belongs to the lock: pass it to Lock() or RLock() instead"
            )
        check_made_with(self, "name", name, self.name)
        self._set_up(lock)

    def _set_up(self, lock: Any) -> None:
        if not hasattr(lock, "acquire"):
            raise AttributeError(f"a Condition needs a lock, and {lock!r} has no method 'acquire'")
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

    def locked(self) -> bool:
        """Say whether anybody has acquired its lock."""
        locked: bool = self._lock.locked()
        return locked

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        kind = type(self).__name__
        return f"<manyhands.{kind}{name} with {self._lock!r}: waiters={self._waiting()}>"

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

    def recover(self) -> bool:
        """Say that what the lock protects is right again, after its owner died.

        As of `Lock`, with the lock held.

        Returns:
            whether there was anything to recover from.
        """
        recovered: bool = self._lock.recover()
        return recovered

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
        if isinstance(self._lock, Acquirable):
            waited = _native.wait_switched(self.async_wait, timeout)
            if waited is not None:
                return waited[0]
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        if isinstance(self._lock, RLock) and self._lock._task_that_owns() is not None:
            raise RuntimeError(
                "the task holds the lock, not the thread: await async_wait() instead"
            )
        if type(self._lock) in (Lock, RLock):
            return self._wait_holding(self._lock, timeout)
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

        Raises:
            RuntimeError: the lock is not acquired.
            ValueError: `timeout` is not a number.
        """
        looks = _Looks(predicate, timeout)
        while looks.in_vain():
            self.wait(looks.left)
        result: T = looks.result
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
            RuntimeError: the lock is not acquired; or more coroutines wait already than can,
                8192 in all processes of the program together.
        """
        lock, number = self._lock, task_number()
        by_task = isinstance(lock, RLock) and lock._is_owned_as(number)
        if not by_task and not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        if not by_task and isinstance(lock, RLock):
            raise RuntimeError(
                "the thread holds the lock, not the task: acquire it with 'async with'"
            )
        place = self._enlist(await socket_number())
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

        Raises:
            RuntimeError: the lock is not acquired.
            ValueError: `timeout` is not a number.
        """
        looks = _Looks(predicate, timeout)
        while looks.in_vain():
            await self.async_wait(looks.left)
        result: T = looks.result
        return result


class _Looks:
    """Looks at what is waited for, as long as there is time."""

    result: Any

    def __init__(self, predicate: Callable[[], Any], timeout: float | None) -> None:
        self._predicate = predicate
        self._deadline = deadline_of(timeout)
        # Seconds, or None for no limit.
        self.left: float | None = None

    def in_vain(self) -> bool:
        """Look; return whether it is worth waiting and looking again."""
        self.result = self._predicate()
        if self.result:
            return False
        if self._deadline is not None:
            self.left = self._deadline - time.monotonic()
        # What is not a number is refused by the wait.
        return self.left is None or not self.left <= 0


def _let_go(lock: Any) -> Callable[[], object]:
    """Release `lock` however often it is acquired; the result acquires it as often again."""
    save = getattr(lock, "_release_save", None)
    if save is None:
        lock.release()
        return lock.acquire  # type: ignore[no-any-return]
    saved = save()
    return lambda: lock._acquire_restore(saved)


async def _surely(acquire: Callable[[], Awaitable[object]]) -> None:
    """Acquire even if the task is being cancelled: a wait must end with its lock held."""
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
