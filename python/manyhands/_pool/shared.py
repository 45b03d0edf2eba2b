"""One executor of each kind for the whole process."""

from __future__ import annotations

import os
from threading import RLock
from typing import TYPE_CHECKING, Literal, overload

from manyhands._interpreter import late
from manyhands._task.options import check_workers

if TYPE_CHECKING:
    from manyhands._pool.coroutine import CoroutinePoolExecutor
    from manyhands._pool.executor import Executor
    from manyhands._pool.greenlet import GreenletPoolExecutor
    from manyhands._pool.process import ProcessPoolExecutor
    from manyhands._pool.thread import ThreadPoolExecutor

__all__ = ["EVERY_KIND", "KINDS", "check_kind", "new_executor", "shared_pool"]

# Where the executor of each kind of worker is.
_EXECUTORS = {
    "thread": ("manyhands._pool.thread", "ThreadPoolExecutor"),
    "process": ("manyhands._pool.process", "ProcessPoolExecutor"),
    "coroutine": ("manyhands._pool.coroutine", "of_one_loop"),
    "greenlet": ("manyhands._pool.greenlet", "of_one_loop"),
}
EVERY_KIND = tuple(_EXECUTORS)
# Those that run functions of any kind.
KINDS = ("thread", "process")

_pools: dict[str, Executor] = {}
_lock = RLock()


def _forget_pools() -> None:
    # The workers belong to the parent of this forked child.
    global _lock
    _pools.clear()
    _lock = RLock()


os.register_at_fork(after_in_child=_forget_pools)


@overload
def shared_pool(
    max_workers: int | None = None, workers: Literal["process"] = "process"
) -> ProcessPoolExecutor: ...


@overload
def shared_pool(
    max_workers: int | None = None, *, workers: Literal["thread"]
) -> ThreadPoolExecutor: ...


@overload
def shared_pool(
    max_workers: int | None = None, *, workers: Literal["coroutine"]
) -> CoroutinePoolExecutor: ...


@overload
def shared_pool(
    max_workers: int | None = None, *, workers: Literal["greenlet"]
) -> GreenletPoolExecutor: ...


@overload
def shared_pool(max_workers: int | None = None, workers: str = "process") -> Executor: ...


def shared_pool(max_workers: int | None = None, workers: str = "process") -> Executor:
    """Return the executor that the whole process shares, starting it if need be.

    It is the one that `map` and `imap` use. Workers start when there is something to do, and idle
    ones end after a while. If somebody shuts it down, the next call returns a new one. If
    ``sys.path``, the environment, the working directory, ``warnings.filters`` or the levels of
    loggers have changed since its workers started, or a module of the program has been reloaded,
    new workers run what is submitted from now on.

    Args:
        max_workers: how many workers it has from now on, or with ``"coroutine"`` and
            ``"greenlet"``, how many tasks run at once; None leaves it as it is.
        workers: ``"process"``, ``"thread"``, ``"coroutine"`` or ``"greenlet"``.

    Raises:
        ImportError: greenlets are asked for, and their package is missing.
        TypeError, ValueError: `max_workers` is not a positive integer, or `workers` no such word.

    Example:
        >>> mh.shared_pool().submit(pow, 2, 10).result()
        1024
    """
    check_kind(workers, EVERY_KIND)
    if max_workers is not None:
        max_workers = check_workers(max_workers)
    with _lock:
        pool = _pools.get(workers)
        if pool is None or pool._is_shut_down():
            pool = _pools[workers] = new_executor(workers, max_workers)
        elif max_workers is not None and max_workers != pool._max_workers:
            pool.resize(max_workers)
    # Not under the lock: this waits for a start in another thread, where a signal handler may come
    # that asks for the pool, too.
    pool._follow()
    return pool


def is_warm(workers: str) -> bool:
    """Say whether the shared pool of that kind has been started."""
    pool = _pools.get(workers)
    return pool is not None and not pool._is_shut_down() and pool._is_current()


def new_executor(workers: str, max_workers: int | None) -> Executor:
    """Return a new executor of the kind called `workers`."""
    module, name = _EXECUTORS[workers]
    executor: Executor = getattr(late.module(module), name)(max_workers)
    return executor


def check_kind(workers: object, kinds: tuple[str, ...]) -> str:
    """Return `workers` if it is one of `kinds`, else raise ValueError naming the choices."""
    if not isinstance(workers, str) or workers not in kinds:
        raise ValueError(f"workers must be one of {', '.join(map(repr, kinds))}, got {workers!r}")
    return workers
