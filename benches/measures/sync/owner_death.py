"""How soon a waiter has the lock whose owner has been killed."""

from __future__ import annotations

import os
import random
import signal
import time
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check
from benches.peer import Peer
from benches.waits import sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.contender import Kind
    from benches.primitives import Primitives


class OwnerDeath(SyncMeasure):
    """SIGKILL of the owner, until a waiter's `acquire` has returned (or raised OwnerDied)."""

    name = "owner_death"
    title = "Death of a lock's owner until a waiter has the lock"
    about = "a process is killed while it holds the lock another one waits for: 99th percentile"
    unit: ClassVar[Unit] = "s"
    details: ClassVar[Mapping[str, Unit]] = {"mean": "s", "most": "s"}
    kind: ClassVar[Kind] = "lock"
    kills: ClassVar[int] = 200
    # Seconds that the waiter has waited when the owner is killed.
    patience: ClassVar[tuple[float, float]] = (0.5e-3, 8e-3)

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the 99th percentile of all kills, in seconds."""
        chance = random.Random(1)
        kills = max(5, int(self.kills * scale))
        waits = []
        with Peer(kill_later) as killer:
            for _ in range(kills):
                waits.append(takeover(library, killer, chance.uniform(*self.patience)))
        sample = sample_of(waits)
        beside = {"mean": fmean(waits), "most": max(waits)}
        return Sample(sample.detail["p99"], {**sample.detail, **beside})


class OwnerDeathFallback(OwnerDeath):
    """The same where the kernel does not know `futex_waitv`."""

    name = "owner_death_fallback"
    title = "Death of a lock's owner until a waiter has the lock, without futex_waitv"
    environment: ClassVar[Mapping[str, str]] = {"MANYHANDS_NO_WAITV": "1"}
    kills: ClassVar[int] = 40
    # Long enough for the slices between two looks to have grown to their full length.
    patience: ClassVar[tuple[float, float]] = (0.05, 0.8)


def kill_later(request: tuple[int, float]) -> float:
    """Kill a process after so many seconds; return the time just before."""
    pid, seconds = request
    time.sleep(seconds)
    now = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    return now


def takeover(library: Primitives, killer: Peer, patience: float) -> float:
    """Return the seconds from the kill of a new lock's owner until this process has the lock."""
    lock: Any = library.make("lock")
    died: Any = library.owner_died

    with Peer(lambda _: lock.acquire()) as owner:
        owner.tell(None)
        owner.answer()
        killer.tell((owner.pid, patience))
        raised = False
        try:
            lock.acquire()
        except died:
            raised = True
        end = time.perf_counter()
        taken: float = end - killer.answer()
    check(raised, "nobody said that the owner died")
    check(taken > 0.0, "the lock was had while its owner was alive")
    lock.recover()
    lock.release()
    return taken
