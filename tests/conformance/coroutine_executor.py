"""An executor for CPython's tests of executors: it runs their functions as coroutines.

They submit plain functions, such as ``pow`` and ``time.sleep``. Here each becomes an async
function, every other one a generator function, which calls the original in a thread, as a program
would that has to call something that blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import manyhands as mh
from manyhands._task.options import check_workers

_next_number = count().__next__
# Not asyncio's own, which are made of what these tests replace.
_threads = mh.ThreadPoolExecutor(64)


def as_coroutine(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function, or a generator function, that does what `fn` does."""

    async def native(*args: Any, **kwargs: Any) -> Any:
        return await _threads.run(fn, *args, **kwargs)

    def steps(*args: Any, **kwargs: Any) -> Any:
        return (yield _threads.run(fn, *args, **kwargs))

    return steps if _next_number() % 2 else native


class ThreadPoolExecutor(mh.CoroutinePoolExecutor):
    """Made and used as the standard library's executor of that name."""

    def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(1, check_workers(max_workers, 5), None, *args, **kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit a plain function."""
        return super().submit(as_coroutine(fn), *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Any, **keywords: Any) -> Any:
        """Map a plain function."""
        return super(mh.CoroutinePoolExecutor, self).map(fn, *iterables, **keywords)
