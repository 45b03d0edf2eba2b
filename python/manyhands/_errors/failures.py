"""The errors that stand for a task whose worker could not finish it, with words for the user."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from manyhands._errors.base import TaskTimeout

if TYPE_CHECKING:
    from manyhands._errors.worker_died import WorkerDied

__all__ = ["task_timeout", "worker_died"]


def worker_died(
    task: str, pid: int | None, wait_status: int | None, rss_bytes: int | None
) -> WorkerDied:
    """Return the error for a task whose worker process died.

    Args:
        task: name of the task.
        pid: process id of the worker, or None if it died before that was known.
        wait_status: as ``os.waitpid`` gives it, or None if nobody could wait for the worker.
        rss_bytes: its largest resident memory in bytes, if known.

    Example:
        >>> print(worker_died("f", 4711, 9, 1 << 20))
        worker 4711 was killed by SIGKILL while running task 'f' (resident memory up to 1.0 MiB)
    """
    from manyhands._errors.worker_died import WorkerDied

    exitcode: int | None = None
    number: int | None = None
    what = "died"
    if wait_status is not None and os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        what = f"was killed by {signal_name(number)}"
    elif wait_status is not None:
        exitcode = os.waitstatus_to_exitcode(wait_status)
        what = f"ended with exit code {exitcode}"
    who = "a worker" if pid is None else f"worker {pid}"
    text = f"{who} {what} while running task {task!r}"
    if rss_bytes:
        text += f" (resident memory up to {rss_bytes / 2**20:.1f} MiB)"
    return WorkerDied(text, task, pid, exitcode, number, rss_bytes)


def signal_name(number: int) -> str:
    """Return what a signal is called; those of real time have no names of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def task_timeout(task: str, timeout: float) -> TaskTimeout:
    """Return the error for a task that ran longer than `timeout` seconds.

    Example:
        >>> print(task_timeout("f", 0.5))
        task 'f' was stopped: it ran longer than its timeout of 0.5 s
    """
    text = f"task {task!r} was stopped: it ran longer than its timeout of {timeout:g} s"
    return TaskTimeout(text, task, timeout)
