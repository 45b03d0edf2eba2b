"""Where the rest of a map runs: decided again as items end, and changed if that pays."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from manyhands._map.choice import TURNS, better, explained, remember, threads_for
from manyhands._map.choice import at_once as at_once_by_memory
from manyhands._map.spare_memory import resident
from manyhands._map.tally import Tally
from manyhands._pool.shared import is_warm
from manyhands._task.chunk import Cost
from manyhands._task.pace import Pace
from manyhands._task.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyhands._future.future import Future
    from manyhands._map.choice import Choice, Kind, Measurements
    from manyhands._map.loan import Loan
    from manyhands._map.pilot import Pilot
    from manyhands._map.work import Work
    from manyhands._task.submission import Submission

__all__ = ["Course"]

T = TypeVar("T")

# The rest is reconsidered at most so often, in seconds, and moves at most so many times.
REVIEW: Final = 0.02
MOVES: Final = 4
# Threads beyond this many begin once some items have shown what memory they take.
FIRST_THREADS: Final = 16
# Items that wait for less than this part of their time do so by the way.
WAITING: Final = 0.1
# Items that take longer travel to threads one by one, none of them ahead of its time.
LONG: Final = 0.001
# On a busy machine the start of processes has to be worth so many times what it takes.
DEAR_START: Final = 2.0


class Course(Generic[T]):
    """Runs the rest of a map where its items turn out to belong.

    While the first processes of a program start, threads go on with the work; so nothing is lost
    if they end it before.

    Args:
        work: what to map.
        loan: lends executors.
        pilot: what has run the first items.
        choice: what it has chosen: threads or processes.
        in_order: whether results are taken in the order of the input.

    Attributes:
        window: the tasks under way, of all kinds.
        starting: whether processes are being started for this map.
    """

    def __init__(
        self, work: Work[T], loan: Loan, pilot: Pilot[T], choice: Choice, in_order: bool
    ) -> None:
        # What the pilot's threads are at counts as under way in the window from now on.
        measured = replace(choice.measurements, under_way=0)
        self.starting = False
        self._work = work
        self._loan = loan
        self._have = pilot.have
        self._measured = measured
        self._choice = choice
        # The kind that `last_choice` tells.
        self._told = choice.kind
        self._in_order = in_order
        self._held = pilot.held
        self._tally = Tally(
            measured.cpu_seconds, max(0.0, measured.item_seconds - measured.cpu_seconds)
        )
        self._reviewed = perf_counter()
        self._moves = 0
        self._start: Sequence[Future[Any]] = ()
        self._processes: Submission[T] | None = None
        self.kind: Kind = "thread"
        self.threads = 1
        if choice.kind == "process" and self._is_known(measured) and not self._begin_processes():
            self.kind = "process"
        if self.kind == "process":
            place = self._by_processes()
        else:
            place = self._by_threads()
        self.window: Window[T] = Window(place[0], work.feed, *place[1:3], work.buffersize, place[3])
        work.tasks = self.window
        self.window.guide = self
        if not in_order:
            self.window.watch()
        for piece in pilot.pieces:
            self.window.adopt(piece.future, piece.first, piece.items, piece.single, 0.0)

    def _is_known(self, measured: Measurements) -> bool:
        """Say whether processes are better for certain: not where threads may hold up nobody.

        On a busy machine the pilot does not try that, and the start of processes takes from what
        threads get; soon those show what they do.
        """
        return (
            not self._have.is_busy or self._need_not_start() or measured.thread_speedup is not None
        )

    def _need_not_start(self) -> bool:
        """Say whether starting processes beforehand would gain nothing."""
        return is_warm("process") or self._have.enforce_timeout

    def _begin_processes(self) -> bool:
        """Have processes started if there are none; return whether they are still to come."""
        if self._need_not_start():
            return False
        executor = self._loan.executor("process", self._work.max_workers)
        self._processes = self._work.submission(executor, metered=True)
        self._start = [self._processes.warm_up() for _ in range(self._have.process_workers)]
        self.starting = True
        return True

    def _by_processes(self) -> tuple[Submission[T], int, Pace, int | None]:
        executor = self._loan.executor("process", self._work.max_workers)
        most = at_once_by_memory(
            self._have.process_workers, self._measured.memory_bytes, self._have
        )
        count = min(most, executor._max_workers)
        submission = self._processes or self._work.submission(executor, metered=True)
        self._processes = submission
        bound = None if count == executor._max_workers else count
        return submission, count, self._pace(count), bound

    def _by_threads(self) -> tuple[Submission[T], int, Pace, int | None]:
        count = threads_for(self._measured, self._have)
        speedup = self._measured.thread_speedup
        if speedup is None and self._have.gil:
            speedup = 1.0
        takes_turns = speedup is not None and speedup < TURNS and self._measured.waiting < WAITING
        if self.starting and takes_turns:
            count = 1
        if not self._tally.seen:
            count = min(count, FIRST_THREADS)
        self.threads = count
        executor = self._loan.executor("thread", count)
        submission = self._work.submission(executor, metered=True)
        is_long = self._measured.item_seconds > LONG and not self._in_order
        bound = count if is_long or count < executor._max_workers else None
        if self._have.is_busy and count >= executor._max_workers:
            # Handing out items waits for a CPU, too: each thread has one more at hand.
            bound = 2 * count
        return submission, count, self._pace(count), bound

    def _pace(self, count: int) -> Pace:
        known = self._measured.item_seconds
        return Pace(count, self._work.chunksize, max(known, 1e-9))

    def learn(self, kind: str, items: int, seconds: float) -> None:
        """Take in what a task of so many items has cost, and move the rest if that is better."""
        if items and isinstance(seconds, Cost):
            threads = self.threads if kind == "thread" else 1
            self._tally.learn(items, seconds, threads)
        now = perf_counter()
        if now - self._reviewed >= REVIEW:
            self._reviewed = now
            self._review()

    def tick(self) -> bool:
        """Look whether processes have started; return whether the rest has moved."""
        if not self.starting or not all(future.done() for future in self._start):
            return False
        self.starting = False
        for future in self._start:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                # They cannot do it; threads can.
                self._measured = replace(self._measured, unpicklable=str(error))
        self._start = ()
        self._have = replace(self._have, process_start=0.0)
        return self._review()

    def _known(self) -> Measurements:
        tally = self._tally
        if not tally.seen:
            return self._measured
        speedup = self._measured.thread_speedup
        if self.kind == "thread":
            found = tally.speedup(self.threads)
            if found is not None and (speedup is None or not self._have.is_busy):
                speedup = found
            under_way = max(1, len(self.window))
            each = (resident() - self._held) / under_way
            memory = max(self._measured.memory_bytes, each)
        else:
            memory = self._measured.memory_bytes
        return replace(
            self._measured,
            items=self._measured.items + tally.seen,
            item_seconds=tally.cpu + tally.wait,
            cpu_seconds=tally.cpu,
            thread_speedup=speedup,
            memory_bytes=memory,
        )

    def _review(self) -> bool:
        """Judge the rest by what is known now; return whether it has moved."""
        remaining = self._work.feed.remaining
        if remaining == 0 or self.window.ended:
            return False
        measured = self._known()
        have = self._have
        if have.process_start and have.is_busy and not self.starting:
            # Their start takes from what the threads would get.
            have = replace(have, process_start=DEAR_START * have.process_start)
        kind = better(self.kind, measured, remaining, have)
        self._choice = explained(kind, measured, remaining, self._have)
        is_new = kind == "process" and self.kind != "process"
        if is_new and (self.starting or not self._is_known(measured) or self._begin_processes()):
            kind = self.kind
        if kind == self.kind:
            return kind == "thread" and self._adjust(measured)
        if self._moves == MOVES:
            return False
        self._moves += 1
        self._measured = measured
        self.kind = kind
        self.window.move(*(self._by_processes() if kind == "process" else self._by_threads()))
        self._told = kind
        remember(self._choice)
        return True

    def _adjust(self, measured: Measurements) -> bool:
        """Take more threads or fewer, as many as such items need."""
        count = threads_for(measured, self._have)
        if self.starting and measured.waiting < WAITING:
            # The rest is going to leave the threads.
            return False
        if 0.75 * self.threads <= count <= 1.3 * self.threads:
            return False
        self._measured = measured
        self.window.move(*self._by_threads())
        return True

    def end(self) -> None:
        """Say how it was, if that is not what was said before."""
        self.window.guide = None
        for future in self._start:
            future.cancel()
        if self._told != self.kind:
            remember(explained(self.kind, self._measured, 0, self._have))
