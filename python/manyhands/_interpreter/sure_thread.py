"""Threads whose start comes to an end, and that are threads."""

from __future__ import annotations

import sys
import threading

from manyhands._native import Beginning

__all__ = ["SureThread"]


class SureThread(threading.Thread):
    """A thread whose `start` raises if the thread cannot begin.

    That of `threading.Thread` waits until the thread says that it runs; so it waits forever for
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
            RuntimeError: it cannot be started, or already has been; or threads are none.
        """
        _check_that_threads_are_threads()
        started = getattr(self, "_started", None)
        if started is None:  # a CPython that waits in another way, and knows of this
            super().start()
            return
        beginning = Beginning(self._bootstrap, started.set)  # type: ignore[has-type]
        interrupted = None
        try:
            self._bootstrap = beginning
            super().start()
        except KeyError as error:
            # A signal handler raised when the thread had begun, and had left the list of those to
            # come, from which `threading` takes it now. What the handler raised is what counts.
            interrupted = error.__context__
            if interrupted is None:
                raise
        finally:
            self.__dict__.pop("_bootstrap", None)
        if interrupted is not None:
            raise interrupted
        if beginning.failure is not None:
            with threading._active_limbo_lock:  # type: ignore[attr-defined]
                threading._limbo.pop(self, None)  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread") from beginning.failure


def _check_that_threads_are_threads() -> None:
    """Refuse greenlets in the place of threads: one that waits would have all of them wait."""
    for name, library, patched, call in (
        ("gevent.monkey", "gevent", "is_module_patched", "gevent.monkey.patch_all(thread=False)"),
        (
            "eventlet.patcher",
            "eventlet",
            "is_monkey_patched",
            "eventlet.monkey_patch(thread=False)",
        ),
    ):
        is_patched = getattr(sys.modules.get(name), patched, None)
        if is_patched is not None and is_patched("threading" if library == "gevent" else "thread"):
            raise RuntimeError(
                f"{library} has replaced threads with greenlets, and one that waits for "
                f"manyhands would block all others: call {call} instead"
            )
