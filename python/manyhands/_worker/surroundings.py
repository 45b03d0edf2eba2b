"""What a task may change about the process it runs in, and what is restored afterwards.

Put right after every task: descriptors 0 to 2, ``sys.stdin``, ``sys.stdout`` and ``sys.stderr``,
the working directory, the handlers of SIGINT and SIGTERM, pending alarms and interval timers.
Left alone, because code rightly keeps it from task to task: imported modules and their contents,
``os.environ``, ``sys.path``, threads, open files, handlers of other signals.

Looking at all of that after each task would cost more than a small task does. So the functions
that change it are wrapped to leave a mark, and only after a task that left one is everything
looked at. What happens behind Python's back (C code that calls ``chdir`` or closes descriptor 1)
leaves none; the worker looks once more when it has had no task for a moment.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` is made of; that imports much
import os
import posix
import sys

from manyhands._interpreter.directory import working_directory

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, TextIO

    from manyhands._worker.stdio import WorkerStreams

__all__ = ["Surroundings"]


class Surroundings:
    """Knows how the process was before a task, and makes it so again.

    Attributes:
        touched: a task has written something or done what makes a closer look necessary.
        stdout, stderr: what ``sys.stdout`` and ``sys.stderr`` should be.
        forked: this is a child that a task has forked, not the worker.
    """

    def __init__(self) -> None:
        self.touched = False
        self.forked = False
        self._marked = False
        self.stdout: TextIO | None = None
        self.stderr: TextIO | None = None
        self._streams: WorkerStreams | None = None
        self._directory: str | None = None
        self._handlers: dict[int, Any] = {}

    def use_streams(self, streams: WorkerStreams) -> None:
        """Take these as the worker's standard streams."""
        self._streams = streams
        self.stdout, self.stderr = streams.stdout, streams.stderr

    def has_streams(self) -> bool:
        """Whether ``sys.stdout`` and ``sys.stderr`` are the worker's own."""
        try:
            return sys.stdout is self.stdout and sys.stderr is self.stderr
        except AttributeError:  # deleted
            return False

    def note_output(self) -> None:
        """Note that a task has written something, which must be flushed when it ends."""
        self.touched = True

    def mark(self) -> None:
        """Asks for a closer look when the current task ends."""
        self._marked = True
        self.touched = True

    def remember(self) -> None:
        """Take the present state as the one to return to: call it when the worker is set up."""
        self._directory = working_directory()
        for number in (_signal.SIGINT, _signal.SIGTERM):
            # Not signal.getsignal: that makes enumeration members, which takes a microsecond.
            self._handlers[number] = _signal.getsignal(number)
        self.touched = self._marked = False

    def watch(self) -> None:
        """Wrap the functions by which tasks change what is restored; notice forks, too."""
        for name in ("chdir", "fchdir"):
            self._wrap(posix, name, _always)
        for name in ("close", "closerange", "dup2"):
            self._wrap(posix, name, _concerns_streams)
        for name in ("signal", "alarm", "setitimer"):
            self._wrap(_signal, name, _always)
            # signal.signal is a Python function that calls _signal's.
            if "signal" in sys.modules and name != "signal":
                setattr(sys.modules["signal"], name, getattr(_signal, name))
        os.register_at_fork(after_in_child=self._note_fork)

    def _wrap(
        self, module: ModuleType, name: str, concerns: Callable[[tuple[Any, ...]], bool]
    ) -> None:
        original = getattr(module, name)

        def wrapper(*arguments: Any, **named: Any) -> Any:
            if named or concerns(arguments):
                self.mark()
            return original(*arguments, **named)

        wrapper.__name__ = name
        wrapper.__qualname__ = name
        wrapper.__doc__ = original.__doc__
        wrapper.__module__ = module.__name__
        setattr(module, name, wrapper)
        if module is posix:
            setattr(os, name, wrapper)

    def _note_fork(self) -> None:
        # First: the rest may raise, if only what a signal's handler raises.
        self.forked = True
        self.mark()
        # A Ctrl-C is this process's business: the worker's handler would have it ignored.
        if _signal.getsignal(_signal.SIGINT) is self._handlers.get(_signal.SIGINT):
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def finish_task(self) -> None:
        """Flush what the task has written, and restore what it is noted to have changed."""
        if self._marked or not self.has_streams() or self._streams is None:
            self.restore()
        else:
            self.touched = False  # first: another thread may write just after the flush
            self._streams.flush()

    def restore(self) -> None:
        """Look at everything and restore what has changed."""
        if self._streams is not None:
            self._streams.flush()
            self._streams.restore()
            self.stdout, self.stderr = self._streams.stdout, self._streams.stderr
        if self._directory is not None and working_directory() != self._directory:
            try:
                os.chdir(self._directory)
            except OSError:
                pass  # the directory has gone; there is no better one to be in
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)
        if self._marked:
            _signal.setitimer(_signal.ITIMER_REAL, 0)  # alarm() is the same timer
            _signal.setitimer(_signal.ITIMER_VIRTUAL, 0)
            _signal.setitimer(_signal.ITIMER_PROF, 0)
        self.touched = self._marked = False


def _always(_arguments: tuple[Any, ...]) -> bool:
    return True


def _concerns_streams(arguments: tuple[Any, ...]) -> bool:
    """Whether descriptors up to 2 are meant by close(n), closerange(a, b) or dup2(a, b)."""
    try:
        return bool(arguments[0] <= 2 or arguments[-1] <= 2)
    except (IndexError, TypeError):
        return True  # the original will complain
