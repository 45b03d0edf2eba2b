"""mpire, a faster multiprocessing.Pool with insights."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches.contender import Kind, PoolContender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.contender import Array

T = TypeVar("T")
R = TypeVar("R")


def last_of_inherited(array: Array, _: object) -> float:
    """Return the last element of the pool's shared object."""
    return float(array[-1])


class Mpire(PoolContender):
    """`mpire.WorkerPool` with `keep_alive`, so that workers outlive a map."""

    distribution = "mpire"
    labels: ClassVar[dict[Kind, str]] = {"process": "mpire", "thread": "mpire (threading)"}
    usage: ClassVar[dict[str, str]] = {
        "pool": '`WorkerPool(n, keep_alive=True)`, with `start_method="threading"` for threads',
        "submit": "`pool.apply_async(f, (x,))`; round trips: `pool.apply(f, (x,))`",
        "map": "`pool.map(f, items)`",
        "shared array": "`WorkerPool(shared_objects=array)`, inherited by fork",
        "after a death": "a new pool, since the old one is stopped",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        self._make = importlib.import_module("mpire").WorkerPool
        self._options: dict[str, Any] = {"keep_alive": True}
        if kind == "thread":
            self._options["start_method"] = "threading"
        # A worker's death reaches the caller as a bare RuntimeError.
        self.broken = (RuntimeError,)
        self.pool: Any = None

    def start(self) -> None:
        """Construct the pool."""
        self.pool = self._make(n_jobs=self.workers, **self._options)

    def stop(self) -> None:
        """End the pool and its workers."""
        self.pool.terminate()

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
        """Map with the default chunk."""
        results: list[R] = self.pool.map(fn, items)
        return results

    def shared(self, array: Array) -> tuple[Callable[[Any], float], object]:
        """Start the pool again with `array` as its shared object."""
        self.stop()
        self._options["shared_objects"] = array
        self.start()
        # mpire hands the shared object to every task of the pool as first argument.
        task: Any = last_of_inherited
        return task, None
