"""The executor of coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from manyhands._pool.event_loops import MAX_TASKS, EventLoopExecutor
from manyhands._task.worker_kind import COROUTINE, WorkerKind

__all__ = ["CoroutinePoolExecutor", "of_one_loop"]

if TYPE_CHECKING:
    from manyhands._pool.awaiting import AwaitingBase
else:
    AwaitingBase = EventLoopExecutor


class CoroutinePoolExecutor(AwaitingBase):
    """Runs ``async def`` functions in event loops, each in a thread of its own.

    Functions are submitted from any thread, and their results are `Future`\\ s, as with the other
    executors. A generator function may stand for an ``async def`` one, see `coroutine`. Each task
    runs in a copy of the context of whoever submitted it.

    A task goes to the loop that runs the fewest; those that find no room wait, and leave by
    ``priority``. ``Future.cancel()`` ends a running task: it gets `asyncio.CancelledError` where it
    waits, and so it does when its ``timeout`` has passed.

    A function that blocks holds up all tasks of its loop. It is found, counted in `statistics`, and
    logged by the logger ``manyhands``, with its file, line and stack. No loop that is held up gets
    further tasks, as long as another has room.

    After ``os.fork()``, parent and child both keep their executors; futures of unfinished tasks
    fail in the child with `ManyhandsError`.

    Args:
        loops: how many event loops there may be; they are started as they are needed.
        max_tasks: how many tasks run at once in each.
        loop_factory: makes an event loop, such as ``uvloop.new_event_loop``; None for asyncio's.
        thread_name_prefix: what the threads' names begin with.
        initializer: called in each thread before its loop's first task, and awaited if it is
            ``async def``. Context variables that it sets hold in the loop's tasks, unless their
            submitter has set them. If it raises, the pool is broken: all that is queued fails with
            `concurrent.futures.BrokenExecutor`.
        initargs: arguments of `initializer`.
        finalizer: called in each thread after its last task, and awaited if it is ``async def``.
        stall_after: seconds after which a loop is reported that is held up; None for never.

    Raises:
        TypeError: a function is not callable, or a number is none.
        ValueError: a number is too small.

    Example:
        >>> import asyncio
        >>> async def add_later(x, y):
        ...     await asyncio.sleep(0.01)
        ...     return x + y
        >>> with mh.CoroutinePoolExecutor() as ex:
        ...     ex.submit(add_later, 2, 3).result()
        5
    """

    __module__ = "manyhands"

    _kind: ClassVar[WorkerKind] = COROUTINE


def of_one_loop(max_workers: int | None = None) -> CoroutinePoolExecutor:
    """Return an executor that runs so many tasks at once in one loop; None for the usual number."""
    return CoroutinePoolExecutor(1, MAX_TASKS if max_workers is None else max_workers)
