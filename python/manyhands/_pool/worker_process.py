"""Worker processes as `ProcessPoolExecutor._processes` shows them.

The standard library's executor keeps its workers there as multiprocessing's processes, and programs
have come to look: to signal them, to measure them, to wait for their end. Ours are children of
another process, so the system is asked through descriptors of them, never by number alone.
"""

from __future__ import annotations

import os
import select
import signal
import time
import weakref
from typing import TYPE_CHECKING, Final

from manyhands._interpreter.deadline import deadline_of

if TYPE_CHECKING:
    from manyhands import _native

__all__ = ["WorkerProcess", "processes_of"]

# Seconds until workers that have been asked for are there. A busy machine needs a while.
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.001  # seconds


def processes_of(engine: _native.ProcessEngine) -> dict[int, WorkerProcess]:
    """Return the workers of a pool by process id.

    If there are tasks for more workers than there are, it waits until those have started.
    """
    deadline = time.monotonic() + _PATIENCE
    while engine.is_staffing() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    found = {}
    for pid in engine.pids():
        try:
            found[pid] = WorkerProcess(pid, engine)
        except ProcessLookupError:
            continue  # it has just ended
    return found


class WorkerProcess:
    """A worker process; the part of `multiprocessing.Process` that makes sense for it.

    Attributes:
        pid: its process id.
        sentinel: a descriptor that is ready to be read once it has ended.

    Raises:
        ProcessLookupError: there is no such process, or it is none of the pool's.

    Example:
        >>> for worker in executor._processes.values():
        ...     worker.terminate()
    """

    def __init__(self, pid: int, engine: _native.ProcessEngine) -> None:
        self.pid = pid
        self.sentinel = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self.sentinel).atexit = False
        self._engine = engine
        # The number may have become another's before the descriptor was opened.
        if pid not in engine.pids():
            raise ProcessLookupError(f"process {pid} is no longer a worker")

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else f"stopped exitcode={self.exitcode}"
        return f"<WorkerProcess pid={self.pid} {state}>"

    @property
    def name(self) -> str:
        """What the process is called in messages."""
        return f"manyhands-worker-{self.pid}"

    @property
    def exitcode(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None until then."""
        status = self._engine.wait_status(self.pid)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def is_alive(self) -> bool:
        """Say whether it runs."""
        return not self._has_ended(0.0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, but at most `timeout` seconds."""
        deadline = deadline_of(timeout)
        if not self._has_ended(timeout):
            return
        # Its exit code comes a moment later: through the process whose child it was.
        told_by = time.monotonic() + _PATIENCE if deadline is None else deadline
        while self.exitcode is None and time.monotonic() < told_by:
            time.sleep(_PAUSE)

    def terminate(self) -> None:
        """End it by SIGTERM; the task it runs fails with `WorkerDied`, or is tried again."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL; the task it runs fails with `WorkerDied`, or is tried again."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self.sentinel, number)
        except ProcessLookupError:
            pass  # it has ended already

    def _has_ended(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))
