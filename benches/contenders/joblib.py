"""joblib with its default backend, loky."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches import work
from benches.contender import Kind, PoolContender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.contender import Array

T = TypeVar("T")
R = TypeVar("R")


class Joblib(PoolContender):
    """`joblib.Parallel` used as a context manager, so that its workers are kept between calls."""

    distribution = "joblib"
    labels: ClassVar[dict[Kind, str]] = {"process": "joblib", "thread": "joblib (threading)"}
    usage: ClassVar[dict[str, str]] = {
        "pool": '`Parallel(n)`, `Parallel(n, backend="threading")`, as context managers',
        "submit": "no `submit`: `Parallel(batch_size=1, pre_dispatch='all')` over the same calls",
        "map": "`parallel(delayed(f)(x) for x in items)`, batches chosen by joblib",
        "shared array": "an array opened by `joblib.load(path, mmap_mode='r')`",
    }
    sits_out: ClassVar[dict[str, str]] = {"recover": "a call of Parallel fails as a whole"}

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        self._joblib = importlib.import_module("joblib")
        self._delayed = self._joblib.delayed
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.pool: Any = None
        self.single: Any = None

    def start(self) -> None:
        """Enter two Parallels, batching and not; they share the workers of loky's executor."""
        backend = "loky" if self.kind == "process" else "threading"
        self.pool = self._joblib.Parallel(self.workers, backend=backend)
        self.single = self._joblib.Parallel(
            self.workers, backend=backend, batch_size=1, pre_dispatch="all"
        )
        self.pool.__enter__()
        self.single.__enter__()

    def stop(self) -> None:
        """Leave both, then end the workers that joblib would keep for five minutes."""
        self.single.__exit__(None, None, None)
        self.pool.__exit__(None, None, None)
        if self.kind == "process":
            externals = importlib.import_module("joblib.externals.loky")
            externals.get_reusable_executor().shutdown(wait=True)

    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Not offered: Parallel waits for its results."""
        raise NotImplementedError

    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """One task per item, unbatched."""
        delayed = self._delayed(fn)
        results: list[R] = self.single(delayed(item) for item in items)
        return results

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """One Parallel call of one task."""
        results: list[R] = self.single([self._delayed(fn)(item)])
        return results[0]

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """One task per item, in batches as joblib chooses."""
        delayed = self._delayed(fn)
        results: list[R] = self.pool(delayed(item) for item in items)
        return results

    def shared(self, array: Array) -> tuple[Callable[[Any], float], object]:
        """Dump the array to shared memory and open it as a memory map."""
        memory = Path("/dev/shm")
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        path = Path(self._folder.name, "array")
        self._joblib.dump(array, path)
        return work.last_element, self._joblib.load(path, mmap_mode="r")

    def unshare(self) -> None:
        """Remove the memory map's file."""
        if self._folder is not None:
            self._folder.cleanup()
