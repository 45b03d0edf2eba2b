"""How soon a pool works again after a worker has been killed."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check


class Recover(PoolMeasure):
    """SIGKILL of the only worker while it computes, until its replacement has run a task."""

    name = "recover"
    title = "Recovery: SIGKILL of a busy worker to the next result"
    about = (
        "one worker, killed while it computes; where a death breaks the pool, a new one is built"
    )
    unit: ClassVar[Unit] = "s"
    workers = 1
    repeats = 3
    # Some pools do not always survive a death; nobody needs to wait long to know.
    timeout_s = 20.0

    def run(self, make: Make, scale: float) -> Sample:
        """Return the seconds from the kill to the first result of another worker."""
        with make(self.workers) as pool, tempfile.TemporaryDirectory() as folder:
            pool.call(work.process_id, None)
            path = Path(folder, "pid")
            # Named, because a dropped future may be taken for one that nobody wants.
            busy = pool.launch(work.stay_busy, str(path))
            victim = announced(path)
            start = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            survivor = pool.call_after_death(work.process_id, None)
            taken = time.perf_counter() - start
            check(survivor != victim, "the killed worker has answered")
            del busy
        return Sample(taken)


def announced(path: Path) -> int:
    """Wait for the file in which `work.stay_busy` tells its process id; return the id."""
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        if path.exists():
            return int(path.read_text())
        time.sleep(0.001)
    raise TimeoutError("no worker took the task within 30 s")
