"""The exceptions of manyhands.

They are defined here, in Python, so that they pickle, document and subclass like any other.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from manyhands._task_cancelled import TaskCancelled

__all__ = ["ManyhandsError", "RemoteTraceback", "TaskCancelled", "TaskTimeout", "WorkerDied"]


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
