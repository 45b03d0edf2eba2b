"""The calls of `serve_forever` that are under way on a server, and what ends and wakes them.

What is here may be called from a signal handler, in the middle of anything else that is here in the
same thread: so the lock is one that its thread may take again, and each step leaves a state that
the next can begin with.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ServeLoop", "ServeLoops"]

# What is added to a loop's eventfd. A forked child, which has no other way to its parent's loop,
# asks it to end by a number that as many wake-ups never add up to.
_WAKE: Final = 1
_END: Final = 1 << 32


class ServeLoop:
    """One call of `serve_forever`; `fileno` is readable when there is news for it."""

    _descriptor = -1

    def __init__(self) -> None:
        thread = threading.current_thread()
        self.thread = threading.get_ident()
        self.is_daemon = thread.daemon
        self.is_asked = False  # to end
        self.is_wanting = False  # it accepts nothing until somebody ends a request
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self, close: Callable[[int], object] = os.close) -> None:
        # Not when the loop ends: a thread that wakes it needs no lock then to be sure that this is
        # not the descriptor of something else by now.
        if self._descriptor >= 0:
            close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor of the eventfd."""
        return self._descriptor

    def ask(self) -> None:
        """Have the loop end as soon as it has done what it is doing."""
        self.is_asked = True
        self.wake()

    def wake(self) -> None:
        """Have the loop look around."""
        os.eventfd_write(self._descriptor, _WAKE)

    def ask_from_child(self) -> None:
        """Have the loop end, which is one of the parent of this process."""
        os.eventfd_write(self._descriptor, _END)

    def look(self) -> None:
        """Take notice of the news, so that `fileno` is no longer readable."""
        with suppress(BlockingIOError):
            if os.eventfd_read(self._descriptor) >= _END:
                self.is_asked = True


class ServeLoops:
    """The loops of one server in this process, which is usually one at a time.

    Args:
        of_parent: those in the process that forked this one in order to handle a request.

    Example:
        >>> loops = ServeLoops()
        >>> loops.shut_down()
        >>> with loops.begun() as loop:
        ...     loop.is_asked
        True
    """

    def __init__(self, of_parent: Sequence[ServeLoop] = ()) -> None:
        self._changed = threading.Condition()
        self._loops: list[ServeLoop] = []
        self._is_next_asked = False
        self._of_parent = of_parent

    @contextmanager
    def begun(self) -> Iterator[ServeLoop]:
        """Have a loop in the calling thread for the length of a block."""
        loop = ServeLoop()
        try:
            with self._changed:
                self._loops.append(loop)
                if self._is_next_asked:
                    loop.is_asked = True
                    self._is_next_asked = False
            yield loop
        finally:
            with self._changed:
                if loop in self._loops:
                    self._loops.remove(loop)
                self._changed.notify_all()

    def shut_down(self) -> None:
        """Have all loops end, and wait until they have; without one, the next will end at once.

        A loop's own thread does not wait, and neither does a forked child.
        """
        for loop in self._of_parent:
            loop.ask_from_child()
        with self._changed:
            asked = [*self._loops]
            if not asked:
                self._is_next_asked = not self._of_parent
            for loop in asked:
                loop.ask()
            # Two loops of one server that waited for each other would never end.
            if self.is_of_this_thread():
                return
            while any(loop in self._loops for loop in asked):
                self._changed.wait()

    def end(self) -> None:
        """Have those loops end that there are."""
        for loop in [*self._loops]:
            loop.ask()

    def wake_wanting(self) -> None:
        """Have those that accept nothing look whether they can."""
        for loop in [*self._loops]:
            if loop.is_wanting:
                loop.wake()

    def is_of_this_thread(self) -> bool:
        """Say whether the calling thread is in a loop."""
        thread = threading.get_ident()
        return any(loop.thread == thread for loop in [*self._loops])

    def will_go_on(self, is_leaving: bool) -> bool:
        """Say whether there will be more requests.

        Args:
            is_leaving: whether the interpreter only waits for threads that are no daemons.
        """
        return any(
            not loop.is_asked and not (is_leaving and loop.is_daemon) for loop in [*self._loops]
        )

    def for_child(self) -> ServeLoops:
        """Return what a child that is forked for a request has in the place of these."""
        return ServeLoops(of_parent=[*self._loops])
