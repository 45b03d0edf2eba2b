"""The exceptions of manyhands.

They are defined here, in Python, so that they pickle, document and subclass like any other.
"""

from __future__ import annotations

import queue
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from manyhands._task_cancelled import TaskCancelled

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
    "WorkerDied",
]


class ManyhandsError(Exception):
    """Base class of every error that manyhands itself raises."""


class WorkerDied(ManyhandsError, BrokenProcessPool):
    """The process that ran this task died before the task had a result.

    Only the task it was running fails; everything queued goes on in other workers.

    Attributes:
        task: name of the task.
        pid: process id of the worker that died.
        exitcode: the worker's exit code, or None if a signal ended it.
        signal: number of the signal that ended the worker, or None.
        rss_bytes: resident memory when it was last looked at, in bytes, or None.
    """

    def __init__(
        self,
        message: str = "",
        task: str | None = None,
        pid: int | None = None,
        exitcode: int | None = None,
        signal: int | None = None,
        rss_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signal
        self.rss_bytes = rss_bytes

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.args[0], self.task, self.pid, self.exitcode, self.signal, self.rss_bytes)
        return (type(self), fields)


class TaskTimeout(ManyhandsError, TimeoutError):
    """A task ran for longer than its ``timeout``.

    Attributes:
        task: name of the task.
        timeout: the limit, in seconds.
    """

    def __init__(
        self, message: str = "", task: str | None = None, timeout: float | None = None
    ) -> None:
        super().__init__(message)
        self.task = task
        self.timeout = timeout

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.task, self.timeout))


class OwnerDied(ManyhandsError):
    """A process died while it held this lock, so what the lock protects may be half changed.

    `acquire()` raises it *with the lock held*: put right what the lock protects, say so with the
    lock's `recover()`, and release it. Released without that, the lock is poisoned: every later
    `acquire()` raises it, too, until somebody calls `recover()`.

    A ``with`` statement raises it *without* the lock: its block does not run, so nobody would
    release the lock.

    Attributes:
        pid: process id of the owner that died, or None where it is not known.
        held: whether the caller holds the lock now.
    """

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


class DeadlockError(ManyhandsError, RuntimeError):
    """Threads wait for each other in a circle; raised in one of them, so that the others go on.

    Attributes:
        members: each of them, this thread first; a member waits for the lock that the next holds.
    """

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


if hasattr(queue, "ShutDown"):
    ShutDown: type[Exception] = queue.ShutDown
else:

    class ShutDown(Exception):  # type: ignore[no-redef]
        """Raised by put and get of a queue that was shut down; `queue.ShutDown` from 3.13 on."""


class RemoteTraceback(Exception):
    """Cause of an exception that a worker process raised; its text is the worker's traceback."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def tb(self) -> str:
        """The text, under the name that the standard library gives it."""
        return self.text

    def __str__(self) -> str:
        return self.text
