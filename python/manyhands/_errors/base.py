"""The exceptions of manyhands.

They are defined in Python, so that they pickle, document and subclass like any other. Whoever uses
a lock or a queue imports this; so `WorkerDied`, whose base class is long to import, has a module of
its own.
"""

from __future__ import annotations

import queue
from typing import NamedTuple

from manyhands._errors.task_cancelled import TaskCancelled

__all__ = [
    "DeadlockError",
    "DeadlockMember",
    "ManyhandsError",
    "OwnerDied",
    "ReleaseError",
    "RemoteTraceback",
    "ShutDown",
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


class DeadlockMember(NamedTuple):
    """One of those who wait for each other.

    Attributes:
        pid: process id.
        thread: the thread's number in the system, as `threading.Thread.native_id`.
        lock: which lock it waits for.
        stack: where it waits, as text; empty where it is not known.
    """

    pid: int
    thread: int
    lock: str
    stack: str


DeadlockMember.__module__ = "manyhands"  # in the body, type checkers take it for a field


class DeadlockError(ManyhandsError, RuntimeError):
    """Threads wait for each other in a circle; raised in one of them, so that the others go on.

    Attributes:
        members: each of them, this thread first; a member waits for the lock that the next holds.
    """

    __module__ = "manyhands"

    def __init__(self, message: str = "", members: tuple[DeadlockMember, ...] = ()) -> None:
        super().__init__(message)
        self.members = members

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.members))


class ReleaseError(ManyhandsError, RuntimeError, ValueError, AssertionError):
    """A lock was released that was not held, or a bounded semaphore more often than acquired.

    It is everything that the standard library raises in such a case: `threading` a RuntimeError
    (for semaphores a ValueError), `multiprocessing` a ValueError or an AssertionError.
    """

    __module__ = "manyhands"


if hasattr(queue, "ShutDown"):
    ShutDown: type[Exception] = queue.ShutDown
else:

    class ShutDown(Exception):  # type: ignore[no-redef]
        """Raised by put and get of a queue that was shut down; `queue.ShutDown` from 3.13 on."""

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
