"""Locks."""

from __future__ import annotations

from itertools import count
from weakref import WeakKeyDictionary

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._sync.primitive import Acquirable, check_made_with
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any, Literal, Self

    from manyhands._errors.base import OwnerDied

    OnOwnerDied = Literal["raise", "acquire"] | Callable[[OwnerDied], object]
else:
    Any = OnOwnerDied = object  # for `typing.get_type_hints`

__all__ = ["Lock", "RLock", "task_number"]


class _OwnedLock(Acquirable):
    """What a lock does when it finds its owner dead."""

    __slots__ = ()

    if TYPE_CHECKING:  # of the native half

        @property
        def name(self) -> str | None: ...
        def recover(self) -> bool: ...
        def _key(self) -> int: ...

    _on_owner_died: OnOwnerDied

    def __init__(
        self,
        *,
        name: str | None = None,
        on_owner_died: OnOwnerDied = "raise",
        _address: tuple[Any, ...] | None = None,
    ) -> None:
        check_made_with(self, "name", name, self.name)
        if on_owner_died not in ("raise", "acquire") and not callable(on_owner_died):
            raise ValueError(
                f"on_owner_died must be 'raise', 'acquire' or a function, not {on_owner_died!r}"
            )
        self._on_owner_died = on_owner_died  # type: ignore[misc] # a slot of each class

    def _set_up(self, on_owner_died: OnOwnerDied = "raise") -> None:
        self._on_owner_died = on_owner_died  # type: ignore[misc]

    @property
    def on_owner_died(self) -> OnOwnerDied:
        """What `acquire` does when a process died holding the lock."""
        return self._on_owner_died

    def _keywords(self) -> dict[str, Any]:
        return {} if self._on_owner_died == "raise" else {"on_owner_died": self._on_owner_died}

    async def __aenter__(self) -> Self:
        from manyhands._errors.base import OwnerDied

        try:
            await self.async_acquire()
        except OwnerDied as error:
            # The block will not run, so nobody would release the lock. Others get the same error.
            if error.held:
                self._tell_without(error)
                self.release()
            raise
        return self

    def _taken_over(self, pid: int | None) -> None:
        """React to a dead owner (process `pid`, if known); the caller now holds the lock."""
        from manyhands._errors.base import OwnerDied

        error = OwnerDied(
            f"{self._death(pid)}: repair that, call the lock's recover(), and release it",
            pid,
            held=True,
        )
        if callable(self._on_owner_died):
            self._on_owner_died(error)
        elif self._on_owner_died == "raise":
            raise error
        self.recover()

    def _tell_without(self, error: OwnerDied) -> None:
        """Reword the error for a caller that does not keep the lock."""
        error.held = False
        advice = "acquire() raises this again, but with the lock held: repair it then, and call"
        error.args = (f"{self._death(error.pid)}; the lock is not held now. {advice} recover()",)

    def _death(self, pid: int | None) -> str:
        who = "an owner" if pid is None else f"process {pid}"
        # Not its repr, which has the owner of now.
        lock = f"{type(self).__name__} {repr(self.name) if self.name else hex(self._key())}"
        return f"{who} died holding {lock}, so what it protects may be half-changed"


@public
class Lock(_native.LockBase, _OwnedLock):
    """A lock for threads, processes and coroutines at the same time.

    Whoever acquires it, any thread of any process may release it, as with `threading.Lock`. It is
    shared with processes by inheritance, as an argument, in a task, or by name.

    Args:
        name: makes it one lock for all processes of this user that give the same name.
        on_owner_died: what `acquire` does when a process died holding the lock: ``"raise"``
            `OwnerDied` (with the lock held), ``"acquire"`` as if nothing had happened, or call this
            function with the `OwnerDied` while the lock is held, to repair what it protects.

    Raises:
        ValueError: what has that name is no `Lock`; it is empty, or longer than 200 bytes.
        MemoryError, OSError: there is no shared memory, or no descriptor.

    Example:
        >>> lock = mh.Lock()
        >>> with lock:
        ...     lock.locked()
        True
    """

    __slots__ = ("__weakref__", "_on_owner_died")


@public
class RLock(_native.RLockBase, _OwnedLock):
    """A lock that its owner can acquire again, for threads, processes and coroutines.

    Owner is a thread, or with `async_acquire` and ``async with`` an asyncio task. It is free once
    it has been released as often as acquired. Arguments and errors are those of `Lock`.

    Example:
        >>> lock = mh.RLock()
        >>> with lock, lock:
        ...     pass
    """

    __slots__ = ("__weakref__", "_on_owner_died")

    async def async_acquire(self, timeout: float | None = None) -> bool:
        """Acquire for the running asyncio task, without blocking the event loop.

        Args:
            timeout: seconds, or None for no limit.

        Returns:
            whether it was acquired; False if the time was up first.

        Raises:
            RuntimeError: no task is running.
            OwnerDied: as `acquire`.
        """
        number = task_number()
        if self._poll_as(number, False):
            return True
        return (
            await attempt_until(lambda: self._poll_as(number, True) or None, self._enlist, timeout)
            is not None
        )

    async def __aexit__(self, *error: object) -> None:
        self._release_as(task_number())

    def _task_that_owns(self) -> int | None:
        """Return the number of the running asyncio task, if that is the owner."""
        if not _numbers:
            return None  # no task has ever acquired one
        import asyncio

        try:
            task = asyncio.current_task()
        except RuntimeError:
            return None
        number = None if task is None else _numbers.get(task)
        return number if number is not None and self._is_owned_as(number) else None

    def _refuse_wait(self) -> None:
        """Refuse to wait for the running task, which would wait for itself.

        Raises:
            RuntimeError: it is the running one, which would wait for itself.
        """
        if self._task_that_owns() is not None:
            raise RuntimeError(
                "the running asyncio task holds this lock: its thread would wait forever; "
                "acquire it with 'async with', as before"
            )

    def _release_by_task(self) -> bool:
        """Release if the running asyncio task is the owner: when the thread is not."""
        number = self._task_that_owns()
        if number is None:
            return False
        self._release_as(number)
        return True


_numbers: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
_next_number = count(1)


def task_number() -> int:
    """Return a number for the running task that no thread has: threads' numbers are below 2**22."""
    import asyncio

    task = asyncio.current_task()
    if task is None:
        raise RuntimeError(
            "an RLock must be acquired asynchronously from a task; none is running here"
        )
    number = _numbers.get(task)
    if number is None:
        first = _native.FIRST_TASK_NUMBER
        number = _numbers[task] = first + next(_next_number) % first
    return number
