"""What it costs to acquire and release: alone, and against another process."""

from __future__ import annotations

import mmap
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check, repeated, timed
from benches.peer import Peer
from benches.waits import sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.contender import Kind
    from benches.primitives import Primitives

# Pairs of acquire and release between two looks at the clock.
PAIRS = 20_000
CONTENDED_PAIRS = 50


class LockAlone(SyncMeasure):
    """One thread of one process, nobody else."""

    name = "lock"
    title = "Lock: acquire and release, alone"
    about = "`acquire()` and `release()` in a loop, methods in local variables, nobody else: a pair"
    unit: ClassVar[Unit] = "s"
    kind: ClassVar[Kind] = "lock"
    arguments: ClassVar[tuple[Any, ...]] = ()

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the seconds per pair: the mean of half a second's repetitions."""
        lock = library.make(self.kind, *self.arguments)
        self.pairs(lock, 1000)
        times = repeated(
            lambda: timed(lambda: self.pairs(lock, PAIRS)) / PAIRS,
            0.5 * scale,
            at_least=3,
            at_most=100,
        )
        return sample_of(times)

    def pairs(self, lock: Any, count: int) -> None:
        """Acquire and release `count` times."""
        acquire, release = lock.acquire, lock.release
        for _ in repeat(None, count):
            acquire()
            release()


class LockWith(LockAlone):
    """The same as people write it."""

    name = "lock_with"
    title = "Lock: `with lock`, alone"
    about = "`with lock: pass` in a loop, nobody else: one turn"

    def pairs(self, lock: Any, count: int) -> None:
        """Enter and leave `count` times."""
        for _ in repeat(None, count):
            with lock:
                pass


class SemaphoreAlone(LockAlone):
    """A semaphore that is never exhausted."""

    name = "semaphore"
    title = "Semaphore: acquire and release, alone"
    about = "`acquire()` and `release()` of `Semaphore(4)` in a loop, nobody else: a pair"
    kind: ClassVar[Kind] = "semaphore"
    arguments: ClassVar[tuple[Any, ...]] = (4,)


class BoundedSemaphoreAlone(SemaphoreAlone):
    """The same, bounded."""

    name = "bounded_semaphore"
    title = "BoundedSemaphore: acquire and release, alone"
    about = "`acquire()` and `release()` of `BoundedSemaphore(4)` in a loop, nobody else: a pair"
    kind: ClassVar[Kind] = "bounded_semaphore"


class LockContended(SyncMeasure):
    """Two processes that want nothing but the lock."""

    name = "lock_contended"
    title = "Lock: contended by two processes"
    about = "both acquire and release as fast as they can for a second: pairs of both together"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True
    kind: ClassVar[Kind] = "lock"
    details: ClassVar[Mapping[str, Unit]] = {"smaller_share": "x"}

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return pairs per second; the detail: the share of the process that got less."""
        lock = library.make(self.kind)
        page = mmap.mmap(-1, mmap.PAGESIZE)

        def act(request: tuple[float, float] | int) -> int:
            if isinstance(request, int):
                return counted(lock, page, request)
            return contend(lock, *request)

        with Peer(act) as one, Peer(act) as other:
            turns = 5000
            for peer in (one, other):
                peer.tell(turns)
            done = one.answer() + other.answer()
            # Outside the clock: that nobody else is in between.
            counts = memoryview(page).cast("Q")
            check(counts[0] == done == 2 * turns, "the lock did not keep the other one out")
            counts.release()
            start = time.perf_counter() + 0.02
            seconds = 1.0 * scale
            for peer in (one, other):
                peer.tell((start, start + seconds))
            pairs = [one.answer(), other.answer()]
        total = sum(pairs)
        return Sample(total / seconds, {"smaller_share": min(pairs) / total})


def counted(lock: Any, page: mmap.mmap, turns: int) -> int:
    """Add one to the number in `page` so often, under the lock."""
    counts = memoryview(page).cast("Q")
    for _ in repeat(None, turns):
        with lock:
            counts[0] += 1
    return turns


def contend(lock: Any, start: float, end: float) -> int:
    """Acquire and release from `start` to `end` (both of the monotonic clock); return how often."""
    acquire, release, clock = lock.acquire, lock.release, time.perf_counter
    while clock() < start:
        pass
    pairs = 0
    while True:
        for _ in repeat(None, CONTENDED_PAIRS):
            acquire()
            release()
        pairs += CONTENDED_PAIRS
        if clock() >= end:
            return pairs
