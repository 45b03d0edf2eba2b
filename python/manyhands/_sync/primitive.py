"""What all primitives have in common: a name, pickling by address, being awaited."""

from __future__ import annotations

from manyhands._pickle.keep import keep_for_child
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any, Self

    from manyhands import _native

__all__ = ["Acquirable", "Primitive", "Unsaid", "check_made_with"]


class Unsaid(int):
    """A default that can be told from the same number said by the caller."""


class Primitive:
    """Mixed into the classes over the native halves.

    Objects are pickled by address: what arrives, in a child process of whatever start method or in
    a task of a pool, is the same object. Somebody has to keep it until it has arrived.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # of the native half

        def _address(self) -> tuple[Any, ...]: ...

    def __reduce_ex__(self, protocol: Any) -> Any:
        keep_for_child(self)
        # Attributes that subclasses have given it.
        state = getattr(self, "__dict__", None) or None
        return (_open, (type(self), self._address(), self._keywords()), state)

    def _keywords(self) -> dict[str, Any]:
        """Return what the native half and `_set_up` need in another process."""
        return {}

    def _set_up(self, *arguments: Any, **keywords: Any) -> None:
        """Take from `_keywords` what is no matter of the native half."""


def _open(kind: type[Primitive], address: tuple[Any, ...], keywords: dict[str, Any]) -> Primitive:
    # Constructors of subclasses, which may have any arguments, are for new objects.
    native: Any = next(base for base in kind.__mro__ if base.__module__ == "manyhands._native")
    opened: Primitive = native.__new__(kind, _address=address, **keywords)
    opened._set_up(**keywords)
    return opened


def check_made_with(primitive: object, what: str, said: object, is_: object) -> None:
    """Check an argument of `__init__` against the one that `__new__` got.

    Raises:
        TypeError: not if they are the same: a subclass has changed them in between.
    """
    if isinstance(is_, int) and hasattr(said, "__index__"):  # what stands for a number, too
        said = said if type(said) is Unsaid else said.__index__()
    if said is not None and type(said) is not Unsaid and said != is_:
        kind = type(primitive).__name__
        raise TypeError(
            f"{kind}.__init__() got {what}={said!r}, {kind}.__new__() got {is_!r}: a class that "
            f"sets the {what} must do so in both"
        )


class Acquirable(Primitive):
    """What can be acquired and released: locks and semaphores."""

    __slots__ = ()

    if TYPE_CHECKING:  # of the native half

        def acquire(
            self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
        ) -> bool: ...
        def release(self) -> None: ...
        def _poll(self) -> bool: ...
        def _enlist(self, socket: int, /) -> _native.Enlisted: ...

    async def async_acquire(self, timeout: float | None = None) -> bool:
        """Acquire without blocking the event loop.

        Args:
            timeout: seconds, or None for no limit.

        Returns:
            whether it was acquired; False if the time was up first.

        Raises:
            OwnerDied: as `acquire` of a lock.

        Example:
            >>> import asyncio
            >>> async def work(lock):
            ...     async with lock:
            ...         return "alone"
            >>> asyncio.run(work(mh.Lock()))
            'alone'
        """
        if self.acquire(False):
            return True
        got = await attempt_until(lambda: self._poll() or None, self._enlist, timeout)
        return got is not None

    async def __aenter__(self) -> Self:
        await self.async_acquire()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.release()
