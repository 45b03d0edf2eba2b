"""What a server does while the system is short of descriptors or memory for new connections."""

from __future__ import annotations

import errno
import logging
import resource
from time import monotonic
from typing import Any, Final

__all__ = ["Shortage"]

LOGGER = logging.getLogger("manyhands.server")

# What `accept` fails with while the connection stays where it is: to try again at once would be to
# compute without end, and to end nothing.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FIRST_S: Final = 0.01
_LONGEST_S: Final = 1.0
# A shortage that comes and goes, as it does under a flood of connections, is told of so seldom.
_TOLD_EVERY_S: Final = 60.0


class Shortage:
    """How long accepting pauses, and that it was said.

    Example:
        >>> shortage = Shortage()
        >>> shortage.is_one(OSError(errno.ECONNABORTED, "the client has gone"))
        False
        >>> shortage.left()
        0.0
    """

    def __init__(self) -> None:
        self._delay = 0.0
        self._until = 0.0
        self._told: float | None = None

    @staticmethod
    def is_one(error: OSError) -> bool:
        """Say whether an error of `accept` means that it is no use to try again at once."""
        return error.errno in _SHORTAGES

    def note(self, error: OSError, address: Any) -> None:
        """Have accepting pause: 10 ms at first, twice as long each time, up to a second."""
        now = monotonic()
        self._delay = min(2 * self._delay or _FIRST_S, _LONGEST_S)
        self._until = now + self._delay
        if self._told is None or now - self._told >= _TOLD_EVERY_S:
            self._told = now
            LOGGER.warning(
                "cannot accept connections on %s: %s. They wait, and are accepted as others end; "
                "have fewer at a time (max_threads), or allow more open files (ulimit -n, now %d)",
                address,
                error.strerror,
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )

    def over(self) -> None:
        """Forget the shortage: a connection was accepted."""
        self._delay = self._until = 0.0

    def left(self) -> float:
        """Return how many seconds accepting still pauses."""
        return max(0.0, self._until - monotonic()) if self._until else 0.0

    def try_now(self) -> None:
        """End the pause, since a connection has ended; the next is longer if that does not help."""
        self._until = 0.0
