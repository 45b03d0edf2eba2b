"""What maps take, for type checkers: signatures that differ in one word share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from manyhands._pool.executor import BoundExecutor, Executor

if TYPE_CHECKING:
    from manyhands._task.options import Backoff
    from manyhands._task.progress import ProgressOption

__all__ = ["MapKeywords", "Workers"]

Workers: TypeAlias = (
    Literal["auto", "thread", "process", "coroutine", "greenlet"] | Executor | BoundExecutor
)


class MapKeywords(TypedDict, total=False):
    """What `map` and its other forms take beside `return_exceptions`."""

    workers: Workers
    max_workers: int | None
    timeout: float | None
    retries: int
    backoff: Backoff
    progress: ProgressOption
    chunksize: int | None
