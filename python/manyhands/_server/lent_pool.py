"""Executors in which a server may run its handlers: they are its user's, and go on without it."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from manyhands._pool.coroutine import CoroutinePoolExecutor
from manyhands._pool.greenlet import GreenletPoolExecutor

__all__ = ["kind_of", "most_tasks", "most_workers"]


def kind_of(executor: Executor) -> str:
    """Return the word for the workers that an executor has.

    Raises:
        TypeError: handlers cannot be run there; the text says what would do.
    """
    if isinstance(executor, CoroutinePoolExecutor):
        return "coroutine"
    if isinstance(executor, GreenletPoolExecutor):
        return "greenlet"
    name = type(executor).__name__
    # It derives from that of threads, but sends what it runs elsewhere.
    if isinstance(executor, ThreadPoolExecutor) and name != "InterpreterPoolExecutor":
        return "thread"
    raise TypeError(
        f"workers={executor!r}: connections cannot be sent to the workers of a {name}. Pass an "
        "executor of threads, coroutines or greenlets, or workers='process', whose processes "
        "accept connections themselves"
    )


def most_workers(executor: Any) -> int:
    """Return how many threads or event loops an executor may have."""
    if isinstance(executor, ThreadPoolExecutor):
        return executor._max_workers
    return executor._loops.most  # type: ignore[no-any-return]


def most_tasks(executor: Any) -> int:
    """Return how many tasks it runs at a time."""
    return executor._max_workers  # type: ignore[no-any-return]
