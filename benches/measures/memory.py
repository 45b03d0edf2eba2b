"""How much memory a pool takes."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check


class Memory(PoolMeasure):
    """Proportional set size: pages shared by k processes count 1/k in each."""

    name = "memory"
    title = "Memory: PSS of a worker"
    about = "two workers that have run a tiny task; mean PSS of the processes that ran it"
    unit: ClassVar[Unit] = "B"

    def run(self, make: Make, scale: float) -> Sample:
        """Return bytes per worker; the detail: what the whole pool added, per worker."""
        contender = make(self.workers)
        before = pss(os.getpid())
        with contender as pool:
            pids: set[int] = set()
            for _ in range(50):
                pids.update(pool.submit_all(work.nap, [0.01] * self.workers * 4))
                if len(pids) >= self.workers:
                    break
            check(len(pids) == self.workers, f"{len(pids)} processes ran tasks")
            per_worker = fmean(pss(pid) for pid in pids)
            family = sum(pss(pid) for pid in descendants(os.getpid()))
            added = (pss(os.getpid()) + family - before) / self.workers
        return Sample(per_worker, {"whole_pool": added})


def pss(pid: int) -> float:
    """Return the proportional set size of a process in bytes; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024.0


def descendants(root: int) -> set[int]:
    """Return the ids of all processes that stem from `root`, without itself."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent is the second field after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
