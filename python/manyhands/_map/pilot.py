"""Measuring the first items of a map: the eyes of ``workers="auto"``.

The first items run on a thread, as pieces of 1, 1, 2, 4 … items, until they have shown what they
cost; tiny ones then run in the caller, since handing over a piece takes longer than they do. An
item that takes long is watched while it runs. If items compute, two pieces run side by side, to see
whether they hold each other up (the GIL); on a busy machine, one is probed for that. All results
are kept: every item runs once.
"""

from __future__ import annotations

from dataclasses import replace
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from manyhands._future.future import Future
from manyhands._map.choice import (
    FREE_SPEEDUP,
    TURNS,
    Choice,
    Measurements,
    Resources,
    at_once,
    choose,
)
from manyhands._map.crowd import Crowd, crowd_size
from manyhands._map.gil_probe import GilProbe
from manyhands._map.meter import HARDLY, Meter, Pair
from manyhands._map.piece import Piece, metered_call, metered_piece
from manyhands._map.runnable import runnable_others
from manyhands._map.spare_memory import resident, spare
from manyhands._pickle.own_settings import own_context
from manyhands._task.submission import named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyhands._map.loan import Loan
    from manyhands._map.meter import Overlap
    from manyhands._task.chunk import Outcome
    from manyhands._task.feed import Feed
    from manyhands._task.options import TaskOptions

__all__ = ["UNSEEN", "Pilot", "judge"]

T = TypeVar("T")

# Short items are run until they have taken this long together, in seconds.
BUDGET: Final = 0.005
# Items that take less than this, in seconds, run in the caller: a thread costs more than they do.
TINY: Final = 2e-5
# Of those that run in the caller, no more run between two looks at the clock than this part of all
# before: those to come may take much longer.
UNSEEN: Final = 1 / 64
# An item that takes longer than this is watched while it runs.
PATIENCE: Final = 0.02
# ... so often.
LOOK: Final = 0.01
# Of the memory that is left, items under way may hold this part.
MEMORY_SHARE: Final = 0.25
# Where no more items are left than this for each process, threads try none of them.
FEW: Final = 2
# An item that has no CPU is looked at again after that, up to so many times.
LOOKS: Final = 5
# Pieces run side by side for about this long: longer than the GIL's switch interval.
SIDE_BY_SIDE: Final = 0.01
# If they do not get a CPU in this time, nothing is found out.
STARVED: Final = 0.2
# Pairs are run until one says clearly whether threads take turns or not, at most so many.
PAIRS: Final = 3
# So many pairs that have hardly waited do not wait for the GIL.
ENOUGH_PAIRS: Final = 3
# Work shorter than this is not worth finding out whether threads help with it.
WORTH_TRYING: Final = 0.04
# An item that computes for less seconds than this gains nothing by releasing the GIL: to take it
# back costs as much.
NO_TIME_WITHOUT_GIL: Final = 1e-6
# Where one item takes no longer than this to be pickled, in seconds, all of them are.
BRIEF: Final = 0.001
# ... but no more of them than this: what they take on an average is known then.
SAMPLE: Final = 4096
# Shared memory takes about this many bytes per second when its pages are fresh.
COPY_RATE: Final = 2e9


def judge(found: Sequence[tuple[Overlap, bool]]) -> float | None:
    """Return the speed-up that some pairs show together; None if there is no telling.

    Other work on the machine makes threads wait for each other that would not have to. And it hides
    a part of what others wait for the GIL, which wake every few milliseconds to ask for it, and
    queue for a CPU then. So threads are free of each other only if they were seen to compute at the
    same time, or if several pairs have hardly waited: a wait for the GIL sleeps for some
    milliseconds between two looks. They take turns if the pair that says so most clearly does.

    Args:
        found: what each pair did, and whether both of it computed at the same time.
    """
    together = [each.speedup for each, at_once in found if at_once]
    if together:
        return max(together)
    waiting = sum(each.waiting for each, _ in found)
    wanting = sum(each.cpu + each.queued for each, _ in found)
    if len(found) >= ENOUGH_PAIRS and waiting < HARDLY * wanting:
        return max(each.speedup for each, _ in found)
    least = min((each.speedup for each, _ in found), default=None)
    return least if least is not None and least < TURNS else None


class Pilot(Generic[T]):
    """Runs the first items of `feed` on threads and says which kind of worker the rest needs.

    Args:
        loan: lends the executor to run them on.
        options: how items run.
        fn: the function.
        feed: the input; what the pilot takes from it is in `pieces`.
        have: what to choose from.
        most: the pilot may take at most this many items, None for no limit.
        return_exceptions: whether an item's exception takes the place of its result.
        growth: how many times the cost of the next items that of all the rest is taken to be.

    Attributes:
        pieces: what has been run or is running, in order.
        have: what to choose from, the memory included once it matters, and what others
            want of it.
        held: bytes of memory that this process held before.
    """

    def __init__(
        self,
        loan: Loan,
        options: TaskOptions,
        fn: Callable[..., T],
        feed: Feed,
        have: Resources,
        most: int | None = None,
        return_exceptions: bool = False,
        growth: int = 1,
    ) -> None:
        self.pieces: list[Piece] = []
        self._loan = loan
        self._options = options
        self._fn = fn
        self._feed = feed
        self.have = have
        self._left = most
        self._return_exceptions = return_exceptions
        self._growth = growth
        self._measured = 0
        self._others: list[float] = []
        self._probe = GilProbe()
        self.held = resident()
        # The piece that was still running when patience ended.
        self._slow: Piece | None = None

    def survey(self) -> Choice | None:
        """Run items until the choice is clear; None if one of them has failed."""
        self._count_others()
        own, cpu = self._run_until_known()
        if any(piece.failed() for piece in self.pieces):
            return None
        measured = Measurements(self._measured, own, cpu)
        remaining = self._feed.remaining if self.pieces else 0
        if self._slow is not None:
            return self._watch(self._slow)
        if remaining == 0:
            return choose(measured, remaining, self.have)
        return choose(self._tried(measured, self._rest(own)), self._grown(remaining), self.have)

    def _grown(self, items: int | None) -> int | None:
        """Return how many items like the next ones so many are worth."""
        return None if items is None else self._growth * items

    def _count_others(self) -> None:
        """Count who else wants the CPUs, at a moment in which no item runs."""
        others = runnable_others(1, self.have.cpus)
        if others is not None:
            self._others = sorted([*self._others, others])
            self.have = replace(self.have, others=self._others[len(self._others) // 2])

    def _tried(self, measured: Measurements, rest: float) -> Measurements:
        """Find out whether such items hold the GIL, and what it costs to send them elsewhere.

        Args:
            measured: what they take.
            rest: what all that are left take, in seconds.
        """
        if rest >= BUDGET:
            size, seconds, problem = self._payload()
            measured = replace(
                measured, payload_bytes=size, payload_seconds=seconds, unpicklable=problem
            )
        if rest < WORTH_TRYING or self.have.cpus < 2 or measured.waiting > 0.5:
            return measured
        is_too_short = measured.cpu_seconds < NO_TIME_WITHOUT_GIL
        if is_too_short if self.have.gil else self.have.is_busy:
            return measured
        remaining = self._feed.remaining
        few = remaining is not None and remaining < FEW * self.have.process_workers
        # Those that threads try are lost to processes, where they would not share a GIL.
        spare = not few or measured.payload_seconds is None
        if self.have.is_busy:
            return replace(measured, thread_speedup=self._probed(measured, spare))
        if not spare:
            return measured
        speedup = self._try_two(measured.item_seconds, measured.waiting)
        return replace(measured, thread_speedup=speedup)

    def _probed(self, measured: Measurements, spare: bool) -> float | None:
        """Return the speed-up of two threads by what one item does; None if nobody knows.

        On a busy machine pairs take long, and say little.

        Args:
            measured: what items take.
            spare: whether one may be begun for that.
        """
        piece = next((each for each in self.pieces if each.meter.running), None)
        if piece is None and spare and not self._probe.is_clear:
            piece = self._start(self._side_by_side(measured.item_seconds), Meter(True))
            if piece is not None and self._probe.watch(piece, STARVED):
                self._measured += len(piece.items)
        elif piece is not None:
            self._probe.watch(piece, PATIENCE)
        return self._probe.speedup

    def _watch(self, slow: Piece) -> Choice | None:
        """Watch items that take long, until one has ended or the choice is clear without it.

        What has run for a while is taken to run for as long again.
        """
        self.have = replace(self.have, memory=MEMORY_SHARE * spare())
        crowd = Crowd(slow.meter.began, self.held)
        first = len(self.pieces) - 1
        tried: Measurements | None = None
        pause = LOOK
        while True:
            pieces = self.pieces[first:]
            # Before the look, which may take long: what ends during it has been read too early.
            ended = {each.meter: len(each.items) for each in pieces if each.meter.last is not None}
            crowd.look([piece.meter for piece in pieces])
            if any(piece.failed() for piece in pieces):
                return None
            own, cpu = crowd.whole(ended) if ended else self._so_far(crowd, slow)
            waits = 1.0 - cpu / own if own > 0 else 0.0
            rest = self._rest(own)
            # Not before it has had a CPU: what costs nothing is not worth a try.
            if tried is None and waits <= 0.5 and rest >= BUDGET and self._feed.remaining != 0:
                tried = self._tried(Measurements(self._measured, own, cpu), rest)
                continue
            measured = replace(
                tried or Measurements(), items=self._measured, item_seconds=own, cpu_seconds=cpu
            )
            under_way = sum(len(each.items) for each in pieces if not each.future.done())
            measured = replace(measured, memory_bytes=crowd.bytes_each, under_way=under_way)
            if ended and tried is None and self._feed.remaining != 0:
                measured = self._tried(measured, rest)
            choice = choose(measured, self._grown(self._left_to_do()), self.have)
            if ended or not self._more():
                return choice
            unknown = 1.0 if self.have.gil else 2.0
            free = (measured.thread_speedup or unknown) > TURNS
            if waits <= 0.5 and (choice.kind == "process" or (choice.kind == "thread" and free)):
                return choice
            if not crowd.computing:
                self._join(crowd, len(pieces))
                pause = LOOK
            else:
                pause *= 1.5
            slow.wait(pause)

    def _join(self, crowd: Crowd, running: int) -> None:
        """Begin as many items more as are good beside those that wait."""
        most = at_once(self.have.thread_workers, crowd.bytes_each, self.have)
        size = crowd_size(crowd.waited, self._left_to_do(), self.have.cpus, most)
        for _ in range(size - running):
            if self._start(1, Meter(True), size) is None:
                return

    def _more(self) -> bool:
        """Whether an item can be begun."""
        return self._feed.remaining != 0 and self._left != 0

    def _left_to_do(self) -> int | None:
        """How many items have not ended; None if nobody knows."""
        remaining = self._feed.remaining
        if remaining is None:
            return None
        return remaining + sum(len(each.items) for each in self.pieces if not each.future.done())

    def _rest(self, item_seconds: float) -> float:
        """Return how long the items that have not ended take, one after the other."""
        left = self._grown(self._left_to_do())
        return float("inf") if left is None else left * item_seconds

    def _so_far(self, crowd: Crowd, slow: Piece) -> tuple[float, float]:
        own, cpu = crowd.spent(slow.meter)
        return own + cpu, 2 * cpu

    def _start(self, size: int, meter: Meter, threads: int | None = None) -> Piece | None:
        """Start a piece, where there are so many threads at least; None if no item is left."""
        items = self._take(size)
        if not len(items):
            return None
        options = self._options
        executor = self._loan.executor("thread", threads)
        future: Future[Any]
        # A timeout is per item and retries follow it, so both are left to the executor then.
        single = options.is_per_item()
        if single:
            call = tuple(items[0]) if self._feed.star else (items[0],)
            options = named(options, self._fn)
            future = executor._submit(options, metered_call, (meter, self._fn, call), {})
        else:
            retrying = (options.retries, options.retry_on, self._return_exceptions)
            args = (meter, self._fn, items, self._feed.star, *retrying)
            options = named(options._replace(retries=0), self._fn)
            future = executor._submit(options, metered_piece, args, {})
        return self._begun(future, items, single, meter)

    def _take(self, size: int) -> Sequence[Any]:
        """Take so many items of the input, as far as there are some that the pilot may take."""
        if self._left is not None:
            size = min(size, self._left)
        items = self._feed.take(size) if size else ()
        if self._left is not None:
            self._left -= len(items)
        return items

    def _begun(
        self, future: Future[Any], items: Sequence[Any], single: bool, meter: Meter
    ) -> Piece:
        first = self._feed.taken - len(items)
        piece = Piece(future, items, first, single, meter, self._return_exceptions)
        self.pieces.append(piece)
        return piece

    def _run_here(self, size: int, meter: Meter) -> Piece | None:
        """Run a piece in the caller, as far as it is quick; None if no item is left."""
        items = self._take(size)
        if not len(items):
            return None
        options = self._options
        outcome: Outcome[T] = own_context().run(
            metered_piece,
            meter,
            self._fn,
            items,
            self._feed.star,
            options.retries,
            options.retry_on,
            self._return_exceptions,
            max(1, int(UNSEEN * (self._feed.taken - len(items)))),
            PATIENCE,
        )
        results, failure, _ = outcome
        if failure is None and len(results) < len(items):
            self._give_back(items[len(results) :])
            items = items[: len(results)]
        future: Future[Outcome[T]] = Future()
        future.set_result(outcome)
        return self._begun(future, items, False, meter)

    def _give_back(self, items: Sequence[Any]) -> None:
        self._feed.give_back(items)
        if self._left is not None:
            self._left += len(items)

    def _run_until_known(self) -> tuple[float, float]:
        """Return seconds per item, of an idle machine and of a CPU."""
        size = 1
        counted = 0
        wall = own = cpu = 0.0
        first = (0.0, 0.0)
        total = 0.0
        while total < BUDGET:
            is_long = not counted or wall / counted * size > 0.1 * BUDGET
            exact = is_long or self.have.is_busy
            single = self._options.is_per_item()
            is_tiny = not single and size > 1 and own < TINY * counted
            start = self._run_here if is_tiny else self._start
            piece = start(1 if single else size, Meter(exact))
            if piece is None:
                break
            done = self._wait(piece)
            while not done and not piece.meter.running:
                # Not begun: the threads are busy with somebody else's tasks.
                done = piece.wait(PATIENCE)
            for _ in range(LOOKS):
                if done or piece.meter.settled:
                    break
                done = piece.wait(PATIENCE)
            spent = piece.meter.spent()
            if done and exact:
                self._count_others()
            self._measured += len(piece.items)
            total += spent.wall
            if not done:
                self._slow = piece
                return spent.own, spent.cpu
            if piece.failed():
                return spent.own, spent.cpu
            if len(self.pieces) == 1:
                # Often costs more than the rest: imports, caches. Counts only if it stays alone.
                first = (spent.own, spent.cpu)
            else:
                counted += len(piece.items)
                wall += spent.wall
                own += spent.own
                cpu += spent.cpu
                size = max(1, min(2 * size, int((BUDGET - total) * counted / max(wall, 1e-9))))
                if self._is_tiny(wall / counted):
                    break
        return (own / counted, cpu / counted) if counted else first

    def _wait(self, piece: Piece) -> bool:
        """Wait for the piece, with patience; return whether it is done."""
        if self.have.is_busy and self.have.gil:
            return self._probe.watch(piece, PATIENCE)
        return piece.wait(PATIENCE)

    def _side_by_side(self, item_seconds: float) -> int:
        """Return how many items take about as long as a look at them."""
        return max(1, int(SIDE_BY_SIDE / max(item_seconds, 1e-9)))

    def _is_tiny(self, item_seconds: float) -> bool:
        remaining = self._feed.remaining
        return remaining is not None and remaining * item_seconds < BUDGET / 10

    def _try_two(self, item_seconds: float, share: float) -> float | None:
        """Run pieces side by side and return their speed-up; None if there is no telling.

        Such an item waits for a `share` of its time when it is alone.
        """
        size = self._side_by_side(item_seconds)
        known = len(self.pieces)
        all_found: list[tuple[Overlap, bool]] = []
        taking_turns = 0
        for _ in range(PAIRS):
            meters = [piece.meter for piece in self.pieces]
            meters = [meter for meter in meters if meter.running and meter.exact][-2:]
            fresh = [Meter(True) for _ in range(2 - len(meters))]
            pair = Pair(meters + fresh, share)
            if None in [self._start(size, meter) for meter in fresh]:
                break
            found = pair.wait(5 * SIDE_BY_SIDE, STARVED)
            if found is not None:
                all_found.append((found, pair.together))
                if pair.together and found.speedup >= FREE_SPEEDUP:
                    break
                taking_turns += found.speedup < TURNS
                if taking_turns == 2 or (taking_turns == 1 and not found.doubtful):
                    break
            if not all(meter.begun for meter in fresh):
                # The threads are busy with somebody else's tasks.
                break
        self._measured += sum(len(piece.items) for piece in self.pieces[known:] if piece.wait(0.0))
        return judge(all_found)

    def _payload(self) -> tuple[int | None, float | None, str | None]:
        """Return pickled bytes and seconds per item, and why it cannot be pickled if so."""
        from manyhands._pickle.pickling import dumps

        piece = max(self.pieces, key=lambda each: (each.results() is not None, len(each.items)))
        items, results = piece.items, piece.results()
        size, seconds = 0, 0.0
        try:
            dumps(self._fn)
            # One by itself first, for it may be large. Then all, as they travel: one alone costs
            # tiny items more.
            for count in sorted({1, min(len(items), SAMPLE)}):
                # Not by the clock: others may have the CPU meanwhile.
                began = thread_time()
                size = 0
                for part in (items[:count], results and results[:count]):
                    data, buffers = dumps(part)
                    size += len(data) + sum(buffer.raw().nbytes for buffer in buffers)
                # Unpickling costs about half of what pickling does.
                seconds = (1.5 * (thread_time() - began) + size / COPY_RATE) / count
                if seconds > BRIEF:
                    break
        except Exception as error:
            return None, None, str(error)
        return size // count, seconds, None
