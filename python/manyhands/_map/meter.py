"""What threads spend their time on: computing, queueing for a CPU, or waiting.

On a machine with other work a thread that computes is often without a CPU. By the clock that looks
like waiting, for the GIL or for input; but the kernel knows how long a thread was ready to run, and
that time is left out here. What remains is the same whether the machine is idle or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock, get_ident, get_native_id
from time import clock_gettime, perf_counter, pthread_getcpuclockid, sleep
from typing import TYPE_CHECKING, Final

from manyhands._native import Latch, read_at_once
from manyhands._task.queued import queued_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Meter", "Overlap", "Pair", "Reading", "Spent", "overlap"]

# A piece waits this long, in seconds, for the other one of its pair to begin.
MEETING: Final = 0.03
# Pieces that go on are looked at this often.
LOOK: Final = 0.01
# Of one that has no CPU nothing is known until it gets one: it is looked at more often then.
LOOK_AGAIN: Final = 0.002
# Two threads that overlap for less than this, or compute less in it, show nothing; and so much
# CPU time of both shows enough.
SHORTEST: Final = 0.002
ENOUGH: Final = 0.02
# Of two threads the one had little to do with the other if it did less than this part.
EVEN: Final = 1 / 3
# CPU seconds of both per second that has passed: above this they have not taken turns.
TOGETHER: Final = 1.2
# Threads that wait for less than this part of the time in which they have a CPU or want one do not
# wait for the GIL.
HARDLY: Final = 0.04
# Figures that were not read within this time do not belong together: there was no CPU for a while.
AT_ONCE: Final = 0.0002
TRIES: Final = 3
# How long a thread takes to go to sleep, in seconds.
TO_SLEEP: Final = 0.00005


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel has counted for a thread until one moment.

    Attributes:
        at: the moment, by the clock, in seconds.
        cpu: seconds on a CPU.
        queued: seconds ready to run, but without a CPU.
        settled: False if it is without a CPU right now, since nobody knows when.
    """

    at: float
    cpu: float
    queued: float = 0.0
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Spent:
    """What happened to a thread between two readings, in seconds.

    Attributes:
        wall: by the clock.
        cpu: on a CPU.
        queued: ready to run, while the CPUs had other work.
    """

    wall: float
    cpu: float
    queued: float

    @classmethod
    def between(cls, first: Reading, last: Reading) -> Spent:
        """Return what lies between two readings of the same thread."""
        return cls(last.at - first.at, last.cpu - first.cpu, last.queued - first.queued)

    @property
    def waiting(self) -> float:
        """Seconds that were spent waiting: for the GIL, for input, or for time to pass."""
        return max(0.0, self.wall - self.cpu - self.queued)

    @property
    def own(self) -> float:
        """Seconds that it would have taken on an idle machine."""
        return self.cpu + self.waiting


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two threads did while both had work, in seconds of both together.

    Attributes:
        cpu: on a CPU.
        waiting: waiting for each other.
        queued: ready to run, while the CPUs had other work.
    """

    cpu: float
    waiting: float
    queued: float

    @property
    def speedup(self) -> float:
        """How many times faster two threads are than one: 1 if they take turns, 2 at best."""
        return max(1.0, 2.0 * self.cpu / (self.cpu + self.waiting))

    @property
    def doubtful(self) -> bool:
        """Whether other work may be to blame that they waited.

        On a busy machine a thread may lose its CPU while it has the GIL.
        """
        return self.queued > self.cpu / 4


def overlap(
    readings: Sequence[tuple[Reading, Reading]], ended: float | None, share: float
) -> Overlap | None:
    """Return what two threads did side by side; None if that says nothing.

    Args:
        readings: the first and the last one of each thread.
        ended: when the first of the threads had no more work, None if both still have. After
            that nobody holds up the other.
        share: what part of its time such work waits when it is alone, from 0 to 1.
    """
    cpu = waiting = queued = 0.0
    own = []
    for first, last in readings:
        spent = Spent.between(first, last)
        until = last.at if ended is None else min(last.at, ended)
        if until - first.at < SHORTEST:
            return None
        computed = spent.cpu * (until - first.at) / spent.wall
        alone = spent.cpu * share / (1.0 - share) if share < 1.0 else spent.waiting
        waited = max(0.0, spent.waiting - alone)
        cpu += computed
        waiting += waited
        queued += spent.queued
        own.append(computed + waited)
    if cpu < SHORTEST or min(own) < EVEN * max(own):
        return None
    return Overlap(cpu, waiting, queued)


class Meter:
    """What a piece takes, readable from outside while it runs.

    Args:
        exact: whether to count queueing, which costs two reads of a file in /proc. Without it, a
            machine with other work makes computing look like waiting.
    """

    def __init__(self, exact: bool) -> None:
        self.pair: Pair | None = None
        self.exact = exact
        self._thread = 0
        self._clock = 0
        # What the kernel had counted when the piece began, and when that was.
        self._cpu = 0.0
        self._queued = 0.0
        self._began: float | None = None
        self.last: Reading | None = None

    def begin(self) -> None:
        """Start; called in the thread that runs the piece."""
        self._thread = get_native_id()
        self._clock = pthread_getcpuclockid(get_ident())
        for _ in range(TRIES):
            before = perf_counter()
            self._queued = self._queued_by_now()
            self._cpu = clock_gettime(self._clock)
            # As late as can be: items may take less time than this.
            self._began = perf_counter()
            if self._began - before < AT_ONCE:
                break
        if self.pair is not None:
            self.pair.meet(self)

    def end(self) -> None:
        """Stop; called in the same thread."""
        for _ in range(TRIES):
            at = perf_counter()
            cpu = clock_gettime(self._clock)
            queued = self._queued_by_now()
            if perf_counter() - at < AT_ONCE:
                break
        self.last = Reading(at, cpu, queued)
        if self.pair is not None:
            self.pair.leave(self.last)

    def _queued_by_now(self) -> float:
        return queued_seconds(self._thread) if self.exact else 0.0

    def look(self) -> Reading | None:
        """Return the latest reading: the one of its end, or one from outside; None before it."""
        if self._began is None or self.last is not None:
            return self.last
        try:
            if not self.exact:
                return Reading(perf_counter(), clock_gettime(self._clock))
            reading = self._read()
            for _ in range(TRIES):
                if reading.settled:
                    break
                # One that waits for the GIL is about to sleep, as long as this thread keeps it.
                until = perf_counter() + TO_SLEEP
                while perf_counter() < until:
                    pass
                reading = self._read()
        except OSError:  # the thread has just ended
            return self.last
        return reading

    def _read(self) -> Reading:
        before = clock_gettime(self._clock)
        could_run = _can_run(self._thread)
        queued = queued_seconds(self._thread)
        at = perf_counter()
        cpu = clock_gettime(self._clock)
        return Reading(at, cpu, queued, cpu > before or not could_run)

    def cpu(self) -> float | None:
        """Return the CPU seconds of its thread by now; None if the thread has gone."""
        try:
            return clock_gettime(self._clock)
        except OSError:
            return None

    def spent(self) -> Spent:
        """Return what it has taken, so far or in all."""
        last = self.look()
        return Spent(0.0, 0.0, 0.0) if last is None else self.spent_by(last)

    def spent_by(self, reading: Reading) -> Spent:
        """Return what it had taken by a reading of it."""
        return Spent.between(Reading(self.began, self._cpu, self._queued), reading)

    @property
    def began(self) -> float:
        """When it began, by the clock; now, if it has not."""
        return perf_counter() if self._began is None else self._began

    @property
    def settled(self) -> bool:
        """Whether all that it has taken so far is known."""
        last = self.look()
        return last is not None and last.settled

    @property
    def begun(self) -> bool:
        """Whether a thread has begun with the piece."""
        return self._began is not None

    @property
    def computing(self) -> bool:
        """Whether the piece runs and its thread has a CPU or wants one."""
        return self.running and _can_run(self._thread)

    @property
    def running(self) -> bool:
        """Whether the piece has begun and not ended."""
        return self.begun and self.last is None


def _can_run(thread: int) -> bool:
    """Say whether a thread of this process has a CPU or wants one."""
    try:
        # Behind the name of the program, which may hold anything.
        return read_at_once(f"/proc/self/task/{thread}/stat").rpartition(b")")[2].split()[:1] == [
            b"R"
        ]
    except OSError:
        return False


class Pair:
    """Two pieces side by side: whether they hold each other up.

    Args:
        meters: those of the two pieces; one may be running already.
        share: what part of its time such a piece waits when it is alone, from 0 to 1.
    """

    def __init__(self, meters: Sequence[Meter], share: float = 0.0) -> None:
        self._meters = meters
        self._share = share
        self._lock = RLock()
        self._missing = sum(not meter.running for meter in meters)
        self._waiting: set[Meter] = set()
        self._met = Latch()
        self._start = 0.0
        self._first: dict[Meter, Reading] = {}
        self._last: dict[Meter, Reading] = {}
        self._ended: float | None = None
        self._one_ended = Latch()
        # CPU time of both when they met, or were last compared, and when that was.
        self._cpu: float | None = None
        self._compared = 0.0
        self._most = 0.0
        for meter in meters:
            meter.pair = self
        if not self._missing:
            self._begin()

    @property
    def together(self) -> bool:
        """Whether both have computed at the same time.

        Threads that take turns have had the CPUs for no longer than the time that has passed, both
        together; no other work on the machine makes that seem longer.
        """
        return self._most > TOGETHER

    def _begin(self) -> None:
        self._start = self._compared = perf_counter()
        self._cpu = self._cpu_of_both()
        self._met.open()

    def _cpu_of_both(self) -> float | None:
        seconds = [meter.cpu() for meter in self._meters]
        known = [each for each in seconds if each is not None]
        return sum(known) if len(known) == len(seconds) else None

    def _compare(self) -> None:
        """Compare the CPU time of both with the time that has passed, while both have work."""
        # Before and after: should this thread lose its CPU in between, they seem to have done less
        # in the time, never more.
        before = perf_counter()
        cpu = self._cpu_of_both()
        passed = perf_counter() - self._compared
        if cpu is not None and self._cpu is not None and passed >= SHORTEST:
            self._most = max(self._most, (cpu - self._cpu) / passed)
            # Measured from here on: later they may have other CPUs.
            self._cpu, self._compared = cpu, before

    def meet(self, meter: Meter) -> None:
        """Wait for the other piece: the first could be over before the second gets the GIL."""
        with self._lock:
            self._waiting.add(meter)
            self._missing -= 1
            if self._missing == 0:
                for each in self._waiting:
                    reading = each.look()
                    if reading is not None and reading.settled:
                        self._first[each] = reading
                self._begin()
        self._met.wait(MEETING)
        with self._lock:
            self._waiting.discard(meter)
            if self._met.is_open and meter not in self._first:
                reading = meter.look()
                assert reading is not None
                self._first[meter] = reading

    def leave(self, last: Reading) -> None:
        """Note that a piece has ended."""
        with self._lock:
            if self._ended is None and self._met.is_open:
                self._ended = last.at
                self._compare()
        self._one_ended.open()

    def wait(self, seconds: float, limit: float) -> Overlap | None:
        """Return what is known as soon as it says something.

        Args:
            seconds: how long to look at pieces that go on.
            limit: after how long to give up if they do not get a CPU.
        """
        began = perf_counter()
        while True:
            self._one_ended.wait(LOOK)
            found = self._look()
            now = perf_counter()
            if found is not None:
                is_clear = found.cpu >= ENOUGH and not 1.15 < found.speedup < 1.85
                if self._ended is not None or is_clear or now - self._start >= seconds:
                    return found
            elif self._one_ended.is_open and not self._overlap_to_come():
                return None
            if now - began >= limit:
                return found
            if self._one_ended.is_open:
                sleep(LOOK_AGAIN)

    def _overlap_to_come(self) -> bool:
        """Whether the pieces have met and one goes on, so that there is more to learn."""
        return self._met.is_open and any(meter.last is None for meter in self._meters)

    def _look(self) -> Overlap | None:
        """Take readings of what goes on; what they say together."""
        if not self._met.is_open:
            return None
        with self._lock:
            ended = self._ended
            if ended is None:
                self._compare()
        for meter in self._meters:
            reading = meter.look()
            if reading is None or not reading.settled:
                continue
            if meter in self._first:
                self._last[meter] = reading
            elif meter.running:
                self._first[meter] = reading
        known = [(self._first.get(meter), self._last.get(meter)) for meter in self._meters]
        readings = [
            (first, last) for first, last in known if first is not None and last is not None
        ]
        if len(readings) < len(self._meters):
            return None
        if ended is not None and any(last.at < ended for _, last in readings):
            return None
        return overlap(readings, ended, self._share)
