"""The exception of a task whose worker died.

It has a module of its own because it is the standard library's exception, too, and importing that
takes longer than all of manyhands: a program without worker processes must not pay for it.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from manyhands._errors.base import ManyhandsError

__all__ = ["WorkerDied"]


class WorkerDied(ManyhandsError, BrokenProcessPool):
    """The process that ran this task died before the task had a result.

    Only the task it was running fails; everything queued goes on in other workers.

    Attributes:
        task: name of the task.
        pid: process id of the worker that died, or None if that was not known yet.
        exitcode: the worker's exit code, or None if a signal ended it.
        signal: number of the signal that ended the worker, or None.
        rss_bytes: resident memory when it was last looked at, in bytes, or None.
    """

    __module__ = "manyhands"

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
