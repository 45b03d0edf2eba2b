"""The processes that a server has forked, one for each request, and how their ends are noticed."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Children"]

# Between two looks at children for which there was no descriptor.
_PAUSE_S: Final = 0.01


class Children:
    """The children of one server; those of others, and the rest of the program's, are left alone.

    Each has a pidfd, and one poll of all these says which have ended. A child for which none could
    be opened is looked at now and then.

    Example:
        >>> children = Children()
        >>> child = os.fork()
        >>> if child == 0:
        ...     os._exit(0)
        >>> children.add(child)
        >>> children.wait({child})
        >>> children.reap({child}) == [child]
        True
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may close the server
        self._pidfds: dict[int, int] = {}
        self._poll: select.epoll | None = None

    def fileno(self) -> int:
        """Return a descriptor that is readable when a child has ended; -1 before the first one."""
        return -1 if self._poll is None else self._poll.fileno()

    def add(self, child: int) -> None:
        """Take in a child that has just been forked."""
        with self._lock, suppress(AttributeError, OSError):
            pidfd = os.pidfd_open(child)
            try:
                if self._poll is None:
                    self._poll = select.epoll()
                self._poll.register(pidfd, select.EPOLLIN)
            except BaseException:
                os.close(pidfd)
                raise
            self._pidfds[child] = pidfd

    def has_all(self, children: Iterable[int]) -> bool:
        """Say whether `fileno` tells of the end of each of these."""
        return self._pidfds.keys() >= {*children}

    def reap(self, children: Iterable[int]) -> list[int]:
        """Reap those that have ended, and return them; also those that somebody else has reaped.

        Args:
            children: those that have not been returned yet.
        """
        with self._lock:
            looked_at = [child for child in children if child not in self._pidfds]
            if self._poll is not None and self._pidfds:
                ready = {pidfd for pidfd, _ in self._poll.poll(0, len(self._pidfds))}
                looked_at += [child for child, pidfd in self._pidfds.items() if pidfd in ready]
            return [child for child in looked_at if self._has_ended(child)]

    def wait(self, children: Iterable[int]) -> None:
        """Return when one of these may have ended."""
        poll = self._poll
        if poll is not None and self.has_all(children):
            poll.poll()
        else:
            time.sleep(_PAUSE_S)

    def leave(self, children: Iterable[int]) -> None:
        """Give up children that nobody waits for; they are reaped when another server forks."""
        with self._lock:
            for child in [*self._pidfds]:
                self._close(child)
            _left.update(children)

    def _has_ended(self, child: int) -> bool:
        pidfd = self._pidfds.get(child)
        try:
            if pidfd is None:
                return os.waitpid(child, os.WNOHANG)[0] == child
            if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None:
                return False
        except ChildProcessError:
            pass  # somebody else has reaped it
        self._close(child)
        return True

    def _close(self, child: int) -> None:
        pidfd = self._pidfds.pop(child, None)
        if pidfd is not None and self._poll is not None:
            # Younger children have it open, too; so the poll would not forget it by itself.
            self._poll.unregister(pidfd)
            os.close(pidfd)


_left: set[int] = set()


def reap_left() -> None:
    """Reap what children of closed servers have ended since."""
    for child in [*_left]:
        try:
            has_ended = os.waitpid(child, os.WNOHANG)[0] == child
        except ChildProcessError:
            has_ended = True
        if has_ended:
            _left.discard(child)


os.register_at_fork(after_in_child=_left.clear)
