"""loky, the process pool under joblib."""

from __future__ import annotations

import importlib
from typing import ClassVar

from benches.contender import ExecutorContender, Kind


class Loky(ExecutorContender):
    """`loky.get_reusable_executor`, which replaces itself when it is broken."""

    distribution = "loky"
    labels: ClassVar[dict[Kind, str]] = {"process": "loky"}
    usage: ClassVar[dict[str, str]] = {
        "pool": "`get_reusable_executor(max_workers=n)`",
        "submit": "`pool.submit(f, x)`",
        "map": "`pool.map(f, items, chunksize=len / 4n)`; parsing files: the default chunk of 1",
        "shared array": "`multiprocessing.shared_memory`, attached once per worker",
        "after a death": "`get_reusable_executor` again",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        loky = importlib.import_module("loky")
        self._make = loky.get_reusable_executor
        self.broken = (loky.BrokenProcessPool, loky.process_executor.ShutdownExecutorError)

    def start(self) -> None:
        """Get the process's executor."""
        self.pool = self._make(max_workers=self.workers)
