"""The exception by which a task is asked to stop.

It has a module of its own because a worker's signal handler imports it, in the middle of whatever
it interrupts, which may be an import: so this imports nothing at all.
"""

from __future__ import annotations

__all__ = ["TaskCancelled"]


class TaskCancelled(BaseException):
    """Raised inside a task that has been asked to stop.

    It is a BaseException, as asyncio's CancelledError is, so that a task's own
    ``except Exception`` does not swallow it. Let it pass after cleaning up.
    """

    __module__ = "manyhands"
