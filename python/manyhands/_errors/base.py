"""The exceptions of manyhands.

They are defined in Python, so that they pickle, document and subclass like any other. One may be
needed while another thread computes, for whose turn each file that is read for an import waits; and
on free-threaded Python, each extension that is loaded. So this module imports next to nothing, and
exceptions whose base classes or fields are long to import have modules of their own.
"""

from __future__ import annotations

from manyhands._errors.task_cancelled import TaskCancelled

__all__ = [
    "ManyhandsError",
    "OwnerDied",
    "ReleaseError",
    "RemoteTraceback",
    "TaskCancelled",
    "TaskTimeout",
]


class ManyhandsError(Exception):
    """Base class of every error that manyhands itself raises."""

    # Tracebacks and pickles call these as users do, wherever they are defined.
    __module__ = "manyhands"


class TaskTimeout(ManyhandsError, TimeoutError):
    """A task ran for longer than its ``timeout``.

    Attributes:
        task: name of the task.
        timeout: the limit, in seconds.
    """

    __module__ = "manyhands"

    def __init__(
        self, message: str = "", task: str | None = None, timeout: float | None = None
    ) -> None:
        super().__init__(message)
        self.task = task
        self.timeout = timeout

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.task, self.timeout))


class OwnerDied(ManyhandsError):
    """A process died while it held this lock, so what the lock protects may be half-changed.

    `acquire()` raises it *with the lock held*: repair what the lock protects, say so with the
    lock's `recover()`, and release it. Released without that, the lock is poisoned: every later
    `acquire()` raises it, too, until somebody calls `recover()`.

    A ``with`` statement raises it *without* the lock: its block does not run, so nobody would
    release the lock.

    Attributes:
        pid: process id of the owner that died, or None where it is not known.
        held: whether the caller holds the lock now.
    """

    __module__ = "manyhands"

    def __init__(self, message: str = "", pid: int | None = None, held: bool = False) -> None:
        super().__init__(message)
        self.pid = pid
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.pid, self.held))


class ReleaseError(ManyhandsError, RuntimeError, ValueError, AssertionError):
    """A lock was released that was not held, or a bounded semaphore more often than acquired.

    It is everything that the standard library raises in such a case: `threading` a RuntimeError
    (for semaphores a ValueError), `multiprocessing` a ValueError or an AssertionError.
    """

    __module__ = "manyhands"


class RemoteTraceback(Exception):
    """Cause of an exception that a worker process raised; its text is the worker's traceback.

    Attributes:
        text: the traceback, as Python shows it.
        kind: the class of what the worker raised, if something else had to take its place; or None.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.kind: type[BaseException] | None = None

    @property
    def tb(self) -> str:
        """The text, under the name that the standard library gives it."""
        return self.text

    def __str__(self) -> str:
        return self.text
