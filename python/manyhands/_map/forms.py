"""`starmap` and `imap_unordered`: the other forms of a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from manyhands._map import map as _map
from manyhands._task.feed import Unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from manyhands._map.keywords import MapKeywords, Workers
    from manyhands._task.options import Backoff
    from manyhands._task.progress import ProgressOption
    from manyhands._task.stream import Results

__all__ = ["imap_unordered", "starmap"]

T = TypeVar("T")


@overload
def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    return_exceptions: Literal[False] = False,
    **keywords: Unpack[MapKeywords],
) -> list[T]: ...


@overload
def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    return_exceptions: bool,
    **keywords: Unpack[MapKeywords],
) -> list[T | BaseException]: ...


def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    workers: Workers = "auto",
    max_workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff = None,
    progress: ProgressOption = None,
    chunksize: int | None = None,
    return_exceptions: bool = False,
) -> list[T] | list[T | BaseException]:
    """As `map`, with each item unpacked into arguments: ``fn(*item)``.

    Example:
        >>> mh.starmap(divmod, [(7, 2), (9, 4)])
        [(3, 1), (2, 1)]
    """
    return _map.map(
        fn,
        Unpacked(iterable),
        workers=workers,
        max_workers=max_workers,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
        progress=progress,
        chunksize=chunksize,
        return_exceptions=return_exceptions,
    )


@overload
def imap_unordered(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    buffersize: int | None = None,
    return_exceptions: Literal[False] = False,
    **keywords: Unpack[MapKeywords],
) -> Results[T]: ...


@overload
def imap_unordered(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    buffersize: int | None = None,
    return_exceptions: bool,
    **keywords: Unpack[MapKeywords],
) -> Results[T | BaseException]: ...


def imap_unordered(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    buffersize: int | None = None,
    workers: Workers = "auto",
    max_workers: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    backoff: Backoff = None,
    progress: ProgressOption = None,
    chunksize: int | None = None,
    return_exceptions: bool = False,
) -> Results[T] | Results[T | BaseException]:
    """As `imap`, with results in the order in which they are ready.

    Example:
        >>> sorted(mh.imap_unordered(abs, [-3, 1, -2]))
        [1, 2, 3]
    """
    return _map.imap(
        fn,
        *iterables,
        ordered=False,
        buffersize=buffersize,
        workers=workers,
        max_workers=max_workers,
        timeout=timeout,
        retries=retries,
        backoff=backoff,
        progress=progress,
        chunksize=chunksize,
        return_exceptions=return_exceptions,
    )
