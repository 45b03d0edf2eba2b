"""Ray on one machine, measured only if BENCH_RAY=1: its start takes seconds."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches import work
from benches.contender import Kind, PoolContender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.contender import Array

T = TypeVar("T")
R = TypeVar("R")


class Ray(PoolContender):
    """Remote functions of a local Ray instance."""

    distribution = "ray"
    labels: ClassVar[dict[Kind, str]] = {"process": "Ray"}
    usage: ClassVar[dict[str, str]] = {
        "pool": "`ray.init(num_cpus=n)`",
        "submit": "`ray.get([f.remote(x) for x in items])`; round trips: `ray.get(f.remote(x))`",
        "map": "`ray.util.multiprocessing.Pool(n).map(f, items)`",
        "shared array": "`f.remote(ray.put(array))`",
        "after a death": "nothing to do",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = importlib.import_module("ray")
        self._pools = importlib.import_module("ray.util.multiprocessing")
        self._remotes: dict[Callable[..., object], Any] = {}
        self._pool: Any = None

    def start(self) -> None:
        """Start the local instance."""
        self._ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
        )

    def stop(self) -> None:
        """End the local instance."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None
        self._ray.shutdown()

    def _remote(self, fn: Callable[..., object]) -> Any:
        found = self._remotes.get(fn)
        if found is None:
            # A task that is killed on purpose must not run again.
            found = self._remotes[fn] = self._ray.remote(max_retries=0)(fn)
        return found

    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Submit one call and do not wait."""
        return self._remote(fn).remote(item)

    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Submit one task per item, then collect all results in order."""
        submit = self._remote(fn).remote
        results: list[R] = self._ray.get([submit(item) for item in items])
        return results

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """Submit one task and wait for its result."""
        result: R = self._ray.get(self._remote(fn).remote(item))
        return result

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map with the default chunk of Ray's replacement of multiprocessing.Pool."""
        return self._map(fn, items, None)

    def map_long(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map one by one."""
        return self._map(fn, items, 1)

    def _map(self, fn: Callable[[T], R], items: Sequence[T], chunk: int | None) -> list[R]:
        if self._pool is None:
            self._pool = self._pools.Pool(self.workers)
        results: list[R] = self._pool.map(fn, items, chunksize=chunk)
        return results

    def shared(self, array: Array) -> tuple[Callable[[Any], float], object]:
        """Put the array into Ray's object store."""
        return work.last_element, self._ray.put(array)
