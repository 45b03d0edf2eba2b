"""The standard library's executors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benches.contender import ExecutorContender, Kind

if TYPE_CHECKING:
    from collections.abc import Callable


class Stdlib(ExecutorContender):
    """`concurrent.futures`, with the platform's default start method."""

    labels: ClassVar[dict[Kind, str]] = {
        "process": "ProcessPoolExecutor",
        "thread": "ThreadPoolExecutor",
    }
    usage: ClassVar[dict[str, str]] = {
        "pool": "`ProcessPoolExecutor(n)`, `ThreadPoolExecutor(n)`",
        "submit": "`pool.submit(f, x)`",
        "map": "`pool.map(f, items, chunksize=len / 4n)`; parsing files: the default chunk of 1",
        "shared array": "`multiprocessing.shared_memory`, attached once per worker",
        "after a death": "a new executor, since the old one is broken",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        self.broken = (BrokenProcessPool,)
        self._make: Callable[[int], Any] = (
            ProcessPoolExecutor if kind == "process" else ThreadPoolExecutor
        )

    def start(self) -> None:
        """Construct the pool."""
        self.pool = self._make(self.workers)
