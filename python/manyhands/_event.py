"""The event."""

from __future__ import annotations

from manyhands import _native
from manyhands._door import attempt_until
from manyhands._primitive import Primitive

__all__ = ["Event"]


class Event(_native.EventBase, Primitive):
    """A flag that threads, processes and coroutines wait for.

    `set()` may be called in a signal handler, whatever the interrupted code was doing with the same
    event.

    Args:
        name: makes it one event for all processes of this user that give the same name.

    Example:
        >>> ready = mh.Event()
        >>> ready.set()
        >>> ready.wait()
        True
    """

    __slots__ = ("__weakref__",)

    async def async_wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag without blocking the event loop.

        Args:
            timeout: seconds, or None for no limit.

        Returns:
            True, or False if the time was up first.
        """
        since = self._sequence()

        def attempt() -> bool | None:
            return self._is_set_since(since) or None

        return await attempt_until(attempt, self._enlist, timeout) is not None
