"""Threads whose start comes to an end."""

from __future__ import annotations

import threading

from manyhands._native import Beginning

__all__ = ["SureThread"]


class SureThread(threading.Thread):
    """A thread whose `start` raises if the thread cannot begin.

    That of `threading.Thread` waits until the thread says that it runs; so it waits for ever for
    one that has no memory to say it with (python/cpython#140746).

    Example:
        >>> said = []
        >>> thread = SureThread(target=said.append, args=("hello",))
        >>> thread.start()
        >>> thread.join()
        >>> said
        ['hello']
    """

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it cannot be started, or already has been.
        """
        started = getattr(self, "_started", None)
        if started is None:  # a CPython that waits in another way, and knows of this
            super().start()
            return
        beginning = Beginning(self._bootstrap, started.set)  # type: ignore[has-type]
        self._bootstrap = beginning
        try:
            super().start()
        finally:
            del self._bootstrap
        if beginning.failure is not None:
            with threading._active_limbo_lock:  # type: ignore[attr-defined]
                threading._limbo.pop(self, None)  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread") from beginning.failure
