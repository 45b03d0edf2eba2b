"""The event."""

from __future__ import annotations

import warnings

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._sync.primitive import Primitive, check_made_with
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # for `typing.get_type_hints`

__all__ = ["Event"]


@public
class Event(_native.EventBase, Primitive):
    """A flag that threads, processes and coroutines wait for.

    `set()` may be called in a signal handler, whatever the interrupted code was doing with the same
    event.

    Args:
        name: makes it one event for all processes of this user that give the same name.

    Raises:
        ValueError: what has that name is no event; it is empty, or longer than 200 bytes.
        MemoryError, OSError: there is no shared memory, or no descriptor.

    Example:
        >>> ready = mh.Event()
        >>> ready.set()
        >>> ready.wait()
        True
    """

    __slots__ = ("__weakref__",)

    def __init__(self, *, name: str | None = None, _address: tuple[Any, ...] | None = None) -> None:
        check_made_with(self, "name", name, self.name)

    def isSet(self) -> bool:
        """Return whether the flag is set; deprecated, as in `threading`: use `is_set`."""
        warnings.warn(
            "isSet() is deprecated, use is_set() instead", DeprecationWarning, stacklevel=2
        )
        return self.is_set()

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
