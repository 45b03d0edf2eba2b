"""Pebble, whose pools know timeouts and survive deaths."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches.contender import Kind, PoolContender, pool_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class Pebble(PoolContender):
    """`pebble.ProcessPool` and `pebble.ThreadPool`."""

    distribution = "pebble"
    labels: ClassVar[dict[Kind, str]] = {"process": "pebble", "thread": "pebble"}
    usage: ClassVar[dict[str, str]] = {
        "pool": "`ProcessPool(max_workers=n)`, `ThreadPool(max_workers=n)`",
        "submit": "`pool.schedule(f, args=(x,))`",
        "map": "`pool.map(f, items, chunksize=len / 4n).result()`; parsing files: a chunk of 1",
        "shared array": "`multiprocessing.shared_memory`, attached once per worker",
        "after a death": "nothing to do",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        pebble = importlib.import_module("pebble")
        self._make = pebble.ProcessPool if kind == "process" else pebble.ThreadPool
        self.pool: Any = None

    def start(self) -> None:
        """Construct the pool."""
        self.pool = self._make(max_workers=self.workers)

    def stop(self) -> None:
        """End the pool and its workers."""
        self.pool.stop()
        self.pool.join()

    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Submit one call and do not wait."""
        return self.pool.schedule(fn, args=(item,))

    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Submit one task per item, then collect all results in order."""
        schedule = self.pool.schedule
        futures = [schedule(fn, args=(item,)) for item in items]
        return [future.result() for future in futures]

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """Submit one task and wait for its result."""
        result: R = self.pool.schedule(fn, args=(item,)).result()
        return result

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map in the chunks that `multiprocessing.Pool` would cut."""
        return self._map(fn, items, pool_chunk(len(items), self.workers))

    def map_long(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map with the default chunk of one."""
        return self._map(fn, items, 1)

    def _map(self, fn: Callable[[T], R], items: Sequence[T], chunk: int) -> list[R]:
        return list(self.pool.map(fn, items, chunksize=chunk).result())
