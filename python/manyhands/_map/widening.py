"""How many threads a map takes whose user has asked for threads, and not said how many.

Items that compute need as many as there are CPUs, or one, under the GIL. Items that wait need more,
and only what they leave of the CPU says how many.
"""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from manyhands._map.choice import MOST_THREADS, Resources
from manyhands._map.runnable import runnable_others
from manyhands._map.spare_memory import resident, spare
from manyhands._pool.process import default_workers
from manyhands._task.pace import Pace

if TYPE_CHECKING:
    from manyhands._map.loan import Loan
    from manyhands._map.work import Work
    from manyhands._task.window import Window

__all__ = ["Widening", "widen"]

T = TypeVar("T")

# Seconds from one look to the next.
LOOK: Final = 0.03
# If the program uses more than this part of what it could have of a CPU, its threads compute, or
# wait for the GIL.
BUSY: Final = 0.6
# After so many looks at a busy program, or at idle threads, there are no more.
VAIN_LOOKS: Final = 3
# The new threads' items may take this part of the memory that is left.
MEMORY_SHARE: Final = 0.5


class Widening(Generic[T]):
    """Gives a map twice the threads for as long as all it has are taken and the CPU is not.

    Until that is known, no task is submitted ahead of its time, where fewer threads than there will
    be would keep it waiting.

    Args:
        work: what is mapped, on threads.
        loan: lends executors.
        window: the map's tasks, none of which has been submitted yet.

    Attributes:
        starting: whether there is still something to be found out.
    """

    def __init__(self, work: Work[T], loan: Loan, window: Window[T]) -> None:
        self.starting = True
        self._work = work
        self._loan = loan
        self._window = window
        self._executor = loan.executor("thread")
        self._threads = self._first = self._executor._max_workers
        self._pace = Pace(self._first, work.chunksize)
        self._in_vain = 0
        self._held = resident()
        self._time = perf_counter()
        self._cpu = process_time()
        # Before any item of ours runs: what others leave of a CPU to a thread that computes.
        cpus = default_workers()
        others = runnable_others(1, cpus) or 0.0
        self._share = Resources(cpus, self._first, cpus, 0.0, others=others).computed(1)
        self._take(self._first)

    def _take(self, threads: int) -> None:
        if threads != self._threads:
            self._threads = threads
            self._pace = Pace(threads, self._work.chunksize)
        self._executor = self._loan.executor("thread", threads)
        submission = self._work.submission(self._executor)
        # More threads are another pool's; so long as the first one's are at work, they count.
        is_bound = self.starting or threads > self._first
        self._window.move(submission, threads, self._pace, threads if is_bound else None)

    def learn(self, kind: str, items: int, seconds: float) -> None:
        """Tasks have ended; what the program as a whole does says more than what they took."""

    def tick(self) -> bool:
        """Look at the CPU from time to time; return whether there is room for more tasks."""
        now = perf_counter()
        wall = now - self._time
        if wall < LOOK:
            return False
        cpu = process_time()
        used = (cpu - self._cpu) / wall
        self._time, self._cpu = now, cpu
        if self._window.ended:
            self.starting = False
            return False
        if self._executor._are_coming():
            return False  # threads that wait for a CPU to begin on say nothing of the items
        if used > BUSY * self._share or len(self._window) < self._threads:
            self._in_vain += 1
            self.starting = self._in_vain < VAIN_LOOKS
        else:
            wanted = min(2 * self._threads, MOST_THREADS, self._affordable())
            self.starting = wanted > self._threads
            if self.starting:
                self._take(wanted)
                return True
        if not self.starting and self._threads == self._first:
            self._take(self._first)
            return True
        return False

    def _affordable(self) -> int:
        """Return for how many threads there is memory, by what the items so far have taken."""
        each = max(1, (resident() - self._held) // max(1, len(self._window)))
        return self._threads + int(min(MOST_THREADS, MEMORY_SHARE * spare() / each))


def widen(work: Work[T], loan: Loan, window: Window[T]) -> None:
    """Have a map on threads take as many as its items need, unless its user has said how many."""
    if work.workers == "thread" and work.max_workers is None:
        window.guide = Widening(work, loan, window)
