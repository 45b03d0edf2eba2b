"""An executor for CPython's tests of executors: it runs their functions as greenlets.

They submit plain functions, such as ``pow`` and ``time.sleep``, of which some block. Here each is
called in a thread, for which the greenlet waits by switching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import manyhands as mh
from manyhands._task.options import check_workers

# Not asyncio's own, which are made of what these tests replace.
_threads = mh.ThreadPoolExecutor(64)


def in_thread(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `fn` in a thread, and wait for it as a greenlet does."""
    return _threads.submit(fn, *args, **kwargs).result()


class ThreadPoolExecutor(mh.GreenletPoolExecutor):
    """Made and used as the standard library's executor of that name."""

    def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(1, check_workers(max_workers, 5), None, *args, **kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit a function that may block."""
        return super().submit(in_thread, fn, *args, **kwargs)
