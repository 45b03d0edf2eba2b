"""Threads whose start comes to an end, and that are threads."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands._native import Beginning, Latch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SureThread"]

_SLICE: Final = 0.2  # seconds between two looks whether a thread could not begin


class SureThread(threading.Thread):
    """A thread that either begins or tells whoever started it that it cannot.

    `threading.Thread.start` waits until the thread says that it runs; so it waits forever for one
    that has no memory to say it with (python/cpython#140746). And it waits by a lock of Python's,
    which on busy CPUs takes 60 ms without a GIL.

    Example:
        >>> said = []
        >>> thread = SureThread(target=said.append, args=("hello",))
        >>> thread.start()
        >>> thread.join()
        >>> said
        ['hello']
    """

    _is_left_alone = False  # whether it has been started, and nobody waits until it runs
    _runs = False
    _could_not_begin = False

    @property
    def is_coming(self) -> bool:
        """Whether it has been started without a wait, and does not run yet."""
        return self._is_left_alone and not self._runs and not self._could_not_begin

    def start(self) -> None:
        """Start the thread, and wait until it runs.

        Raises:
            RuntimeError: it cannot be started, or already has been; or threads are none.
        """
        _check_that_threads_are_threads()
        started = getattr(self, "_started", None)
        if started is None:  # a CPython that waits in another way, and knows of this
            super().start()
            return
        latch = Latch()
        beginning = Beginning(self._bootstrap, lambda _: latch.open())

        def begun() -> None:
            del started.set
            started.set()
            latch.open()

        started.set = begun
        self._start_with(beginning, latch.wait)
        if beginning.failure is not None:
            self._give_up()
            raise RuntimeError("can't start new thread") from beginning.failure

    def begin(self, failed: Callable[[BaseException], object]) -> None:
        """Start the thread, without a wait until it runs; it counts as alive from now on.

        Args:
            failed: called in the new thread with what was raised if that cannot begin.

        Raises:
            RuntimeError: it cannot be started, or already has been; or threads are none.

        Example:
            >>> thread = SureThread(target=print, args=("hello",))
            >>> thread.begin(print)
            >>> thread.join()
            hello
        """
        _check_that_threads_are_threads()
        started = getattr(self, "_started", None)
        if started is None:
            super().start()
            return

        def tell(cause: BaseException) -> None:
            self._give_up()
            failed(cause)

        def leave_alone() -> None:
            self._is_left_alone = True

        self._start_with(Beginning(self._bootstrap, tell), leave_alone)

    def run(self) -> None:
        """Call the target."""
        self._runs = True
        super().run()

    def is_alive(self) -> bool:
        """Say whether the thread has been started and has not ended."""
        return self.is_coming or super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, at most `timeout` seconds; None means without limit."""
        if self.is_coming:
            started: threading.Event = self._started  # type: ignore[attr-defined]
            until = None if timeout is None else monotonic() + timeout
            while self.is_coming and not started.is_set():
                left = _SLICE if until is None else min(_SLICE, until - monotonic())
                if left <= 0:
                    return
                started.wait(left)
            timeout = None if until is None else max(0.0, until - monotonic())
        if not self._could_not_begin:
            super().join(timeout)

    def _start_with(self, beginning: Beginning, wait: Callable[[], object]) -> None:
        """Start the thread, which begins with `beginning`, and then `wait`."""
        interrupted = None
        try:
            self._bootstrap = beginning
            self._started.wait = wait  # type: ignore[attr-defined]
            super().start()
        except KeyError as error:
            # A signal handler raised when the thread had begun, and had left the list of those to
            # come, from which `threading` takes it now. What the handler raised is what counts.
            interrupted = error.__context__
            if interrupted is None:
                raise
        finally:
            self.__dict__.pop("_bootstrap", None)
            self._started.__dict__.pop("wait", None)  # type: ignore[attr-defined]
        if interrupted is not None:
            raise interrupted

    def _give_up(self) -> None:
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._limbo.pop(self, None)  # type: ignore[attr-defined]
        self._could_not_begin = True


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
