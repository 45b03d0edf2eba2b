"""The executor of greenlets."""

from __future__ import annotations

from typing import Any, ClassVar

from manyhands._coroutine.greenlets import check_installed, run
from manyhands._pool.event_loops import MAX_TASKS, EventLoopExecutor
from manyhands._task.worker_kind import GREENLET, WorkerKind

__all__ = ["GreenletPoolExecutor", "of_one_loop"]


class GreenletPoolExecutor(EventLoopExecutor):
    """Runs plain functions in event loops, many in one thread: each task is a greenlet.

    Where a task waits, its loop goes on with others: in `await_`, which waits for any awaitable; in
    `sleep`; in our locks and queues; and in ``result()`` of a `Future`. Everything else that
    blocks, such as ``time.sleep`` or a socket, holds up all tasks of the loop; that is found and
    logged, as in `CoroutinePoolExecutor`. Nothing is patched.

    ``async def`` functions run, too, as the coroutines that they are.

    It needs the package ``greenlet``: ``pip install 'manyhands[greenlet]'``. Arguments and errors
    are those of `CoroutinePoolExecutor`, and so is everything about loops, priorities and
    cancelling: `asyncio.CancelledError` is raised in the function where it waits.

    Raises:
        ImportError: greenlet is not installed, or not for this Python.

    Example:
        >>> def add_later(x, y):
        ...     mh.sleep(0.01)
        ...     return x + y
        >>> with mh.GreenletPoolExecutor() as ex:
        ...     list(ex.map(add_later, [2, 3], [3, 4]))
        [5, 7]
    """

    __module__ = "manyhands"

    _kind: ClassVar[WorkerKind] = GREENLET
    _run_plain: ClassVar[Any] = staticmethod(run)

    def _check_installed(self) -> None:
        check_installed()


def of_one_loop(max_workers: int | None = None) -> GreenletPoolExecutor:
    """Return an executor that runs so many tasks at once in one loop; None for the usual number."""
    return GreenletPoolExecutor(1, MAX_TASKS if max_workers is None else max_workers)
