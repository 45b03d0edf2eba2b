"""The standard library's `multiprocessing.Pool`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches.contender import Kind, PoolContender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class MultiprocessingPool(PoolContender):
    """`multiprocessing.Pool` and `multiprocessing.pool.ThreadPool`."""

    labels: ClassVar[dict[Kind, str]] = {"process": "mp.Pool", "thread": "mp.pool.ThreadPool"}
    usage: ClassVar[dict[str, str]] = {
        "pool": "`Pool(n)`, `ThreadPool(n)`",
        "submit": "`pool.apply_async(f, (x,))`; round trips: `pool.apply(f, (x,))`",
        "map": "`pool.map(f, items)`",
        "shared array": "`multiprocessing.shared_memory`, attached once per worker",
        "after a death": "nothing to do, but the killed task never answers",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        from multiprocessing import Pool
        from multiprocessing.pool import ThreadPool

        self._make: Callable[[int], Any] = Pool if kind == "process" else ThreadPool
        self.pool: Any = None

    def start(self) -> None:
        """Construct the pool."""
        self.pool = self._make(self.workers)

    def stop(self) -> None:
        """Terminate the pool, since after a death `close` would wait forever."""
        self.pool.terminate()
        self.pool.join()

    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Submit one call and do not wait."""
        return self.pool.apply_async(fn, (item,))

    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Submit one task per item, then collect all results in order."""
        submit = self.pool.apply_async
        answers = [submit(fn, (item,)) for item in items]
        return [answer.get() for answer in answers]

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """Submit one task and wait for its result."""
        result: R = self.pool.apply(fn, (item,))
        return result

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map with the default chunk: four per worker."""
        results: list[R] = self.pool.map(fn, items)
        return results

    def map_long(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map one by one, since files differ much in length."""
        results: list[R] = self.pool.map(fn, items, chunksize=1)
        return results
