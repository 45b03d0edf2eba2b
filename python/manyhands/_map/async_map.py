"""`amap`: `map` for coroutines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from manyhands._future.awaiting import completion
from manyhands._map.choice import expect_choice
from manyhands._map.map import map as map_here
from manyhands._task.offload import offload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from manyhands._map.keywords import MapKeywords, Workers
    from manyhands._task.options import Backoff
    from manyhands._task.progress import ProgressOption

__all__ = ["amap"]

T = TypeVar("T")


@overload
async def amap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    return_exceptions: Literal[False] = False,
    **keywords: Unpack[MapKeywords],
) -> list[T]: ...


@overload
async def amap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    return_exceptions: bool,
    **keywords: Unpack[MapKeywords],
) -> list[T | BaseException]: ...


async def amap(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    workers: Workers = "auto",
    max_workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff = None,
    progress: ProgressOption = None,
    chunksize: int | None = None,
    return_exceptions: bool = False,
) -> list[T] | list[T | BaseException]:
    """As `map`, without blocking the event loop.

    Arguments, result and errors are those of `map`. What `map` does in the caller - reading the
    input, measuring, and the work itself where that is not worth sharing out - is done in a thread.

    Cancelling the awaiting task cancels the work: what has not begun is withdrawn, what processes
    run is ended, what threads run is asked to stop (see `check_cancelled`).

    Example:
        >>> import asyncio
        >>> asyncio.run(mh.amap(pow, [2, 3, 4], [10, 4, 3]))
        [1024, 81, 64]
    """
    expect_choice()
    call = partial(
        map_here,
        fn,
        *iterables,
        workers=workers,
        max_workers=max_workers,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
        progress=progress,
        chunksize=chunksize,
        return_exceptions=return_exceptions,
    )
    return await completion(offload(call))
