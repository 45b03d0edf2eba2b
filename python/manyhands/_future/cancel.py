"""What a task can do to be stopped: check, or wait in a way that notices."""

from __future__ import annotations

from manyhands import _native

__all__ = ["check_cancelled", "sleep"]


def check_cancelled() -> None:
    """Raise TaskCancelled if the running task has been asked to stop; otherwise do nothing.

    A thread cannot be stopped by force. A task that computes for long in a thread should call
    this now and then, so that ``Future.cancel()`` and timeouts can end it. It costs some tens of
    nanoseconds. Outside of tasks it does nothing.

    Raises:
        TaskCancelled: the future of this task was cancelled, or its timeout has passed.

    Example:
        >>> def count(n):
        ...     for i in range(n):
        ...         mh.check_cancelled()
    """
    _native.check_cancelled()


def sleep(seconds: float) -> None:
    """Sleep like ``time.sleep``, but stop at once when the running task is asked to stop.

    Args:
        seconds: how long to sleep; not negative.

    Raises:
        TaskCancelled: the future of this task was cancelled, or its timeout has passed.
        ValueError: `seconds` is negative.

    Example:
        >>> mh.sleep(0.01)
    """
    _native.sleep(seconds)
