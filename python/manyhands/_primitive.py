"""What all primitives have in common: a name, pickling by address, being awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from manyhands._door import attempt_until
from manyhands._keep import keep_for_child

if TYPE_CHECKING:
    from manyhands import _native

__all__ = ["Acquirable", "Primitive"]


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
        return (_open, (type(self), self._address(), self._keywords()))

    def _keywords(self) -> dict[str, Any]:
        """What else the constructor needs in another process."""
        return {}


def _open(kind: type[Primitive], address: tuple[Any, ...], keywords: dict[str, Any]) -> Primitive:
    return kind(_address=address, **keywords)  # type: ignore[call-arg]


class Acquirable(Primitive):
    """What can be acquired and released: locks and semaphores."""

    __slots__ = ()

    if TYPE_CHECKING:  # of the native half

        def acquire(
            self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
        ) -> bool: ...
        def release(self) -> None: ...
        def _poll(self) -> bool: ...
        def _enlist(self, door: int, /) -> _native.Enlisted: ...

    async def async_acquire(self, timeout: float | None = None) -> bool:
        """Acquire without blocking the event loop.

        Args:
            timeout: seconds, or None for no limit.

        Returns:
            whether it was acquired; False if the time was up first.

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
