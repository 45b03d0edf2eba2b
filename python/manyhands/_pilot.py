"""Measuring the first items of a map: the eyes of ``workers="auto"``.

The first items run on a thread, as pieces of 1, 1, 2, 4 … items, until they have shown what they
cost; an item that takes long is watched while it runs. If they compute, two pieces run side by
side, to see whether they hold each other up (the GIL). All results are kept: every item runs once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Event, Lock, get_ident, get_native_id
from time import clock_gettime, perf_counter, pthread_getcpuclockid
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from manyhands._choice import Choice, Measurements, Resources, choose
from manyhands._chunk import Outcome, run_chunk
from manyhands._submission import named, wait_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manyhands._executor import Executor, TaskOptions
    from manyhands._feed import Feed
    from manyhands._future import Future

__all__ = ["Piece", "Pilot"]

T = TypeVar("T")

# Short items are run until they have taken this long together, in seconds.
BUDGET: Final = 0.005
# An item that takes longer than this is watched while it runs.
PATIENCE: Final = 0.02
# Pieces run side by side for about this long: longer than the GIL's switch interval.
SIDE_BY_SIDE: Final = 0.01
# Work shorter than this is not worth finding out whether threads help with it.
WORTH_TRYING: Final = 0.04
# Shared memory takes about this many bytes per second when its pages are fresh.
COPY_RATE: Final = 2e9


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that a piece has taken.

    Attributes:
        wall: by the clock.
        cpu: on a CPU.
        queued: ready to run, but waiting for a CPU that had other work. What is neither was
            spent waiting: for the GIL, for input, or for time to pass.
    """

    wall: float
    cpu: float
    queued: float

    @property
    def busy(self) -> float:
        """Seconds that were not spent waiting."""
        return min(self.wall, self.cpu + self.queued)


class Meter:
    """What a piece takes, readable from outside while it runs.

    Args:
        exact: whether to count queueing, which costs two reads of a file in /proc. Without it, a
            machine with other work makes computing look like waiting.
    """

    def __init__(self, exact: bool) -> None:
        self.pair: Pair | None = None
        self._exact = exact
        self._began: float | None = None
        self._thread = 0
        self._clock = 0
        self._cpu_before = 0.0
        self._queued_before = 0.0
        self._spent: Spent | None = None

    def begin(self) -> None:
        """Start; called in the thread that runs the piece."""
        self._thread = get_native_id()
        self._clock = pthread_getcpuclockid(get_ident())
        self._queued_before = self._queued()
        self._cpu_before = clock_gettime(self._clock)
        self._began = perf_counter()
        if self.pair is not None:
            self.pair.meet()

    def end(self) -> None:
        """Stop; called in the same thread."""
        if self.pair is not None:
            self.pair.settle()
        self._spent = self.spent()

    def _queued(self) -> float:
        return _queued_seconds(self._thread) if self._exact else 0.0

    def spent(self) -> Spent:
        """Return what it has taken, so far or in all."""
        if self._spent is not None:
            return self._spent
        if self._began is None:
            return Spent(0.0, 0.0, 0.0)
        wall = perf_counter() - self._began
        try:
            cpu = clock_gettime(self._clock) - self._cpu_before
        except OSError:  # the thread has just ended
            return self._spent or Spent(wall, 0.0, 0.0)
        return Spent(wall, cpu, self._queued() - self._queued_before)

    @property
    def running(self) -> bool:
        """Whether the piece has begun and not ended."""
        return self._began is not None and self._spent is None


def _queued_seconds(thread: int) -> float:
    """Return how long a thread of this process has queued for a CPU; 0 if the kernel won't tell."""
    try:
        with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Pair:
    """Two pieces side by side: how many seconds both together compute per second.

    About 1 means that they take turns, 2 that they run at the same time.
    """

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = meters
        self._lock = Lock()
        self._missing = sum(not meter.running for meter in meters)
        self._met = Event()
        self._start: tuple[float, float, float] | None = None
        self._ended = Event()
        self._speedup: float | None = None
        for meter in meters:
            meter.pair = self

    def meet(self) -> None:
        """Wait for the other piece: the first could be over before the second gets the GIL.

        The last to come starts the watch.
        """
        with self._lock:
            self._missing -= 1
            if self._missing == 0:
                self._start = self._now()
                self._met.set()
        self._met.wait(SIDE_BY_SIDE)

    def settle(self) -> None:
        """Stop the watch; the piece that ends first does so, or whoever has waited enough."""
        with self._lock:
            if self._start is not None and self._speedup is None:
                began, cpu_before, busy_before = self._start
                now, cpu, busy = self._now()
                if now > began:
                    self._speedup = _speedup(
                        (cpu - cpu_before) / (now - began), (busy - busy_before) / (now - began)
                    )
        self._ended.set()

    def wait(self, seconds: float) -> float | None:
        """Return the figure as soon as it is known, at the latest after `seconds`."""
        self._ended.wait(seconds)
        self.settle()
        return self._speedup

    def _now(self) -> tuple[float, float, float]:
        spent = [meter.spent() for meter in self._meters]
        return (
            perf_counter(),
            sum(each.cpu for each in spent),
            sum(each.cpu + each.queued for each in spent),
        )


def _speedup(cpu_rate: float, busy_rate: float) -> float:
    # CPU time cannot deceive upwards, but says too little on a machine with other work. Queueing is
    # known less exactly, for a thread that waits for the GIL gets up now and then to ask for it,
    # so that it has to say clearly that both were ready to run.
    rate = busy_rate if cpu_rate < 1.2 and busy_rate > 1.8 else cpu_rate
    return min(2.0, max(1.0, rate))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the input that the pilot has run or is running.

    Attributes:
        future: its outcome, or, if `single`, the result of its only item.
        items: the input.
        single: see `future`.
        meter: what it costs.
    """

    future: Future[Any]
    items: Sequence[Any]
    single: bool
    meter: Meter

    def wait(self, seconds: float | None) -> bool:
        """Wait until the piece is done, or `seconds` have passed; return whether it is done."""
        return wait_done(self.future, seconds)

    def failed(self) -> bool:
        """Say whether the piece is done and an item of it has failed."""
        if not self.future.done():
            return False
        if self.future.cancelled() or self.future.exception() is not None:
            return True
        return not self.single and self.future.result()[1] is not None

    def results(self) -> list[Any] | None:
        """Return the results if it is done and has not failed."""
        if not self.future.done() or self.failed():
            return None
        value = self.future.result()
        return [value] if self.single else value[0]

    def outcome(self) -> list[Any]:
        """Wait for the piece and return its results; raise what an item raised."""
        if self.single:
            return [self.future.result()]
        results, failure, _ = self.future.result()
        if failure is not None:
            raise failure.exception
        return results  # type: ignore[no-any-return]


def _metered_piece(
    meter: Meter,
    fn: Callable[..., T],
    items: Iterable[Any],
    star: bool,
    retries: int,
    retry_on: tuple[type[BaseException], ...],
) -> Outcome[T]:
    meter.begin()
    try:
        return run_chunk(fn, items, star, retries, retry_on)
    finally:
        meter.end()


def _metered_call(meter: Meter, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
    meter.begin()
    try:
        return fn(*args)
    finally:
        meter.end()


class Pilot(Generic[T]):
    """Runs the first items of `feed` on `threads` and says which kind of worker the rest needs.

    Args:
        threads: a thread executor to run them on.
        options: how items run.
        fn: the function.
        feed: the input; what the pilot takes from it is in `pieces`.
        have: what there is to choose from.
        most: the pilot may take at most this many items, None for no limit.

    Attributes:
        pieces: what has been run or is running, in order.
    """

    def __init__(
        self,
        threads: Executor,
        options: TaskOptions,
        fn: Callable[..., T],
        feed: Feed,
        have: Resources,
        most: int | None = None,
    ) -> None:
        self.pieces: list[Piece] = []
        self._threads = threads
        self._options = options
        self._fn = fn
        self._feed = feed
        self._have = have
        self._left = most
        self._measured = 0
        # The piece that was still running when patience ended.
        self._slow: Piece | None = None

    def survey(self) -> Choice | None:
        """Run items until the choice is clear; None if one of them has failed."""
        wall, busy = self._run_until_known()
        if any(piece.failed() for piece in self.pieces):
            return None
        measured = Measurements(self._measured, wall, busy)
        remaining = self._feed.remaining if self.pieces else 0
        if remaining == 0 and self._slow is None:
            return choose(measured, remaining, self._have)
        rest = float("inf") if remaining is None or self._slow is not None else remaining * wall
        speedup = None
        if rest >= WORTH_TRYING and measured.waiting <= 0.5 and self._have.cpus > 1:
            speedup = self._try_two(wall)
        if rest >= BUDGET:
            size, seconds, problem = self._payload()
            measured = Measurements(self._measured, wall, busy, speedup, size, seconds, problem)
        choice = choose(measured, self._feed.remaining, self._have)
        return self._watch(choice) if self._slow is not None else choice

    def _watch(self, choice: Choice) -> Choice:
        """Watch an item that takes long until it has ended or workers are clearly worth it.

        What has run for a while is taken to run for as long again.
        """
        piece = self._slow
        assert piece is not None
        measured = choice.measurements
        patience = PATIENCE
        while choice.kind == "sequential" and self._feed.remaining != 0:
            ended = piece.wait(patience)
            patience *= 1.5
            busy = piece.meter.spent().busy * (1 if ended else 2)
            # Beside another item of the pilot it may have had to wait for the GIL.
            wall = busy / max(1e-3, 1 - measured.waiting)
            measured = replace(measured, item_seconds=wall, cpu_seconds=busy)
            choice = choose(measured, self._feed.remaining, self._have)
            if ended:
                break
        return choice

    def _start(self, size: int, meter: Meter) -> Piece | None:
        if self._left is not None:
            size = min(size, self._left)
        items = self._feed.take(size) if size else ()
        if not len(items):
            return None
        if self._left is not None:
            self._left -= len(items)
        options = self._options
        future: Future[Any]
        # A timeout is per item and retries follow it, so both are left to the executor then.
        single = options.timeout is not None
        if single:
            call = tuple(items[0]) if self._feed.star else (items[0],)
            options = named(options, self._fn)
            future = self._threads._submit(options, _metered_call, (meter, self._fn, call), {})
        else:
            args = (meter, self._fn, items, self._feed.star, options.retries, options.retry_on)
            options = named(replace(options, retries=0), self._fn)
            future = self._threads._submit(options, _metered_piece, args, {})
        piece = Piece(future, items, single, meter)
        self.pieces.append(piece)
        return piece

    def _run_until_known(self) -> tuple[float, float]:
        """Return wall and busy seconds per item."""
        size = 1
        counted = 0
        wall = busy = 0.0
        first = (0.0, 0.0)
        total = 0.0
        while total < BUDGET:
            exact = not counted or wall / counted * size > 0.1 * BUDGET
            single = self._options.timeout is not None
            piece = self._start(1 if single else size, Meter(exact))
            if piece is None:
                break
            done = piece.wait(PATIENCE)
            while not done and not piece.meter.running:
                # Not begun: the threads are busy with somebody else's tasks.
                done = piece.wait(PATIENCE)
            spent = piece.meter.spent()
            self._measured += len(piece.items)
            total += spent.wall
            if not done:
                self._slow = piece
                return spent.wall, spent.busy
            if piece.failed():
                return spent.wall, spent.busy
            if len(self.pieces) == 1:
                # Often dearer than the rest: imports, caches. Counts only if it stays alone.
                first = (spent.wall, spent.busy)
            else:
                counted += len(piece.items)
                wall += spent.wall
                busy += spent.busy
                size = max(1, min(2 * size, int((BUDGET - total) * counted / max(wall, 1e-9))))
                if self._is_tiny(wall / counted):
                    break
        return (wall / counted, busy / counted) if counted else first

    def _is_tiny(self, item_seconds: float) -> bool:
        remaining = self._feed.remaining
        return remaining is not None and remaining * item_seconds < BUDGET / 10

    def _try_two(self, item_seconds: float) -> float | None:
        """Run two pieces side by side and return their speed-up; None if there is no telling."""
        size = max(1, int(SIDE_BY_SIDE / max(item_seconds, 1e-9)))
        last = self.pieces[-1]
        meters = [last.meter if last.meter.running else Meter(True), Meter(True)]
        pair = Pair(meters)
        pieces = [self._start(size, meter) for meter in meters if meter is not last.meter]
        if None in pieces:
            return None
        speedup = pair.wait(5 * SIDE_BY_SIDE)
        for piece in pieces:
            assert piece is not None
            if piece.wait(0.0):
                self._measured += len(piece.items)
        return speedup

    def _payload(self) -> tuple[int | None, float | None, str | None]:
        """Return pickled bytes and seconds per item, and why it cannot be pickled if so."""
        from manyhands._pickling import dumps

        piece = max(self.pieces, key=lambda each: (each.results() is not None, len(each.items)))
        size = 0
        try:
            dumps(self._fn)
            began = perf_counter()
            for part in (piece.items, piece.results()):
                data, buffers = dumps(part)
                size += len(data) + sum(buffer.raw().nbytes for buffer in buffers)
        except Exception as error:
            return None, None, str(error)
        # Unpickling costs about half of what pickling does.
        seconds = 1.5 * (perf_counter() - began) + size / COPY_RATE
        return size // len(piece.items), seconds / len(piece.items), None
