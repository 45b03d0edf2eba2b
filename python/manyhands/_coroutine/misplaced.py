"""What is said where `manyhands.await_` is called in the wrong place."""

from __future__ import annotations

from types import CoroutineType

from manyhands._task.offload import is_in_coroutine

__all__ = ["misplaced"]


def misplaced(awaitable: object, is_in_foreign_greenlet: bool) -> RuntimeError:
    """Close a coroutine that will not be awaited, and return the error to raise."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()  # or Python warns of it, too
    what = "await_() waits in plain functions that run as greenlets, and "
    if is_in_foreign_greenlet:
        text = "this is a greenlet of the program's own: call it in the task itself"
    elif is_in_coroutine():
        text = "this is a coroutine, or a function that one calls: write 'await' in the coroutine"
    else:
        text = (
            "no event loop runs here: submit the function to a GreenletPoolExecutor; or, to wait "
            "in this thread, use asyncio.run(), or result() of a task of CoroutinePoolExecutor"
        )
    return RuntimeError(what + text)
