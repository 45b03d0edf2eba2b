"""Which kind of worker a map needs: the arithmetic behind ``workers="auto"``.

This file decides; `manyhands._map.pilot` measures. From what the first items cost it predicts how
long the rest would take in the caller, on threads, and on processes:

- in the caller, items follow one another;
- threads share out the waiting, and of the computing only what does not hold the GIL;
- processes share out everything, but have to start, and items and results have to be pickled.

The caller wins unless another way is clearly shorter.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

__all__ = [
    "Choice",
    "Kind",
    "Measurements",
    "Resources",
    "at_once",
    "better",
    "choose",
    "expect_choice",
    "explained",
    "last_choice",
    "predict",
    "remember",
    "threads_for",
]

Kind: TypeAlias = Literal["sequential", "thread", "process", "coroutine"]

# Handing work to a pool and collecting it, in seconds. It is also what a prediction may be off by.
THREAD_OVERHEAD: Final = 0.0003
PROCESS_OVERHEAD: Final = 0.001
# Another way has to be shorter than the simpler one by this factor to be worth it.
CLEARLY: Final = 0.8
# What a move to other workers has to save, in seconds.
WORTH_MOVING: Final = 0.02
# Threads that wait cost little: a map of waiting items gets up to this many.
MOST_THREADS: Final = 32
# Below this speed-up two threads take turns.
TURNS: Final = 1.2
# Two threads that come this close to twice the speed of one hold each other up nowhere.
FREE_SPEEDUP: Final = 1.75
# Whoever has just slept gets a CPU first, so that threads which take turns get more than the share
# of one thread that goes on computing: that share to this power, as measured beside 1 to 4 others
# for each CPU, and no more than so many times what one gets.
TURNS_SHARE: Final = 0.8
TURN_GAIN: Final = 1.4
# Items that take less seconds cost threads more in being handed out than they gain by turns.
TINY: Final = 2e-5
# The machine is busy if a thread gets less than this part of a CPU.
BUSY: Final = 0.8
# On a busy machine it takes more threads to get as much of the CPUs: so many more, and so many for
# each thread of others if they do not hold each other up.
MORE_THREADS: Final = 4
FOR_EACH_OTHER: Final = 4
# Fewer items than this for each worker are not evenly shared out.
FEW_ITEMS: Final = 16
# Input of unknown length counts as this many seconds of work: it may be endless.
UNKNOWN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """What the first items of a map cost, per item.

    Attributes:
        items: how many were measured.
        item_seconds: time on an idle machine: what the CPUs' other work took is left out.
        cpu_seconds: CPU time; the rest was spent waiting.
        thread_speedup: how many times faster two threads were than one, from 1 (they hold the GIL)
            to 2 (they do not), or None if that was not tried.
        payload_bytes: pickled size of an item and its result, or None if that was not tried.
        payload_seconds: time to pickle and unpickle them, or None; without it, processes are not
            considered.
        unpicklable: why the work cannot go to a process, or None.
        memory_bytes: what an item holds while it runs, as far as it was seen.
        under_way: how many items threads have begun with and not ended.
        predicted: seconds that the rest would take, by kind.
    """

    items: int = 0
    item_seconds: float = 0.0
    cpu_seconds: float = 0.0
    thread_speedup: float | None = None
    payload_bytes: int | None = None
    payload_seconds: float | None = None
    unpicklable: str | None = None
    memory_bytes: float = 0.0
    under_way: int = 0
    predicted: dict[str, float] = field(default_factory=dict)

    @property
    def waiting(self) -> float:
        """What part of the time is waiting, from 0 to 1."""
        if self.item_seconds <= 0:
            return 0.0
        return max(0.0, 1.0 - self.cpu_seconds / self.item_seconds)


@dataclass(frozen=True, slots=True)
class Resources:
    """What to choose from.

    Attributes:
        cpus: CPUs that this process may use.
        thread_workers: workers that a thread pool would have.
        process_workers: workers that a process pool would have.
        process_start: seconds until a process pool could begin.
        enforce_timeout: whether items have a timeout, which the caller itself cannot enforce.
        memory: bytes that items under way may hold together.
        others: threads of other programs that want these CPUs at any moment.
        gil: whether this Python has a GIL, which threads that compute may take turns with.
    """

    cpus: int
    thread_workers: int
    process_workers: int
    process_start: float
    enforce_timeout: bool = False
    memory: float = float("inf")
    others: float = 0.0
    gil: bool = True

    def computed(self, threads: float) -> float:
        """Return the CPU seconds that so many threads of ours get in a second.

        The kernel shares out the CPUs evenly to all who want one.

        Example:
            >>> Resources(2, 32, 2, 0.1).computed(1)
            1.0
            >>> Resources(2, 32, 2, 0.1, others=8).computed(2)
            0.4
        """
        if threads + self.others <= self.cpus:
            return threads
        # One alone shares its CPU with as many as there are on each, until the kernel spreads them
        # again: between that, and what all would get if it did so all the time.
        ours = (threads + max(threads, self.cpus)) / 2
        return threads * min(1.0, self.cpus / (ours + self.others))

    def in_turns(self, threads: float) -> float:
        """Return the CPU seconds that threads get which take turns, as under the GIL."""
        alone = self.computed(1)
        share = self.cpus / (self.cpus + self.others)
        return alone if threads < 2 else min(max(alone, share**TURNS_SHARE), TURN_GAIN * alone)

    @property
    def is_busy(self) -> bool:
        """Whether one thread of ours would often be without a CPU."""
        return self.computed(1) < BUSY


@dataclass(frozen=True, slots=True)
class Choice:
    """How a map was run, and why; see `last_choice`.

    Attributes:
        kind: ``"sequential"`` (in the caller), ``"thread"``, ``"process"``, or ``"coroutine"``.
        reason: one line for people.
        measurements: the figures behind it.
        others: how many threads of other programs wanted the CPUs at the time.
    """

    kind: Kind
    reason: str
    measurements: Measurements
    others: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


# A list where the choice is made in a copy of the context, by another thread: it is put there.
_last: ContextVar[Choice | list[Choice] | None] = ContextVar("manyhands_last_choice", default=None)


def last_choice() -> Choice | None:
    """Return what the latest ``workers="auto"`` map of this context chose, None if there was none.

    Each thread and each asyncio task has a context of its own. Where threads inherit the context
    of whoever starts them (``sys.flags.thread_inherit_context``, as on free-threaded Python), that
    one begins with what was chosen before.

    Example:
        >>> mh.map(abs, [-1, 2])
        [1, 2]
        >>> mh.last_choice().kind
        'sequential'
    """
    last = _last.get()
    if isinstance(last, list):
        return last[-1] if last else None
    return last


def remember(choice: Choice) -> None:
    """Make `choice` this context's last one."""
    last = _last.get()
    if isinstance(last, list):
        last[:] = [choice]
    else:
        _last.set(choice)


def expect_choice() -> None:
    """Have what is chosen next in a copy of this context be this context's last choice."""
    _last.set([])


def at_once(most: int, memory_bytes: float, have: Resources) -> int:
    """Return how many items, `most` of all, may run at once by the memory that they hold."""
    return max(1, int(min(most, have.memory / max(memory_bytes, 1.0))))


def threads_for(measured: Measurements, have: Resources) -> int:
    """Return how many threads such items keep busy: the more they wait, the more.

    Example:
        >>> waits_half = Measurements(1, item_seconds=1.0, cpu_seconds=0.5)
        >>> threads_for(waits_half, Resources(2, 32, 2, 0.1))
        6
    """
    # As many as keep the CPUs busy, and no more: each of them holds what its item holds. Half as
    # many again, since now and then many wait at the same time.
    busy = max(1.0 - measured.waiting, 1.0 / have.thread_workers)
    least = have.cpus
    if have.is_busy:
        is_free = (measured.thread_speedup or 0.0) >= FREE_SPEEDUP
        least += int(FOR_EACH_OTHER * have.others) if is_free else MORE_THREADS
    wanted = max(least, int(1.5 * have.cpus / busy))
    return at_once(min(have.thread_workers, wanted), measured.memory_bytes, have)


def predict(measured: Measurements, remaining: int | None, have: Resources) -> dict[str, float]:
    """Return the seconds that `remaining` items (None: very many) would take, by kind."""
    wait, cpu = _parts(measured)
    count = UNKNOWN_SECONDS / (wait + cpu) if remaining is None else remaining
    predicted = {}
    alone = wait + cpu / have.computed(1)
    if not have.enforce_timeout:
        predicted["sequential"] = count * alone
    held = count * _seconds_under_gil(cpu, measured.thread_speedup, have.gil)
    threads = max(1, min(count, threads_for(measured, have)))
    got = have.computed(threads)
    shared = max(
        alone * _rounds(count, threads),
        count * cpu / got,
        held / (have.in_turns(threads) if cpu > TINY else have.computed(1)),
    )
    predicted["thread"] = shared + THREAD_OVERHEAD
    if measured.unpicklable is None and measured.payload_seconds is not None:
        predicted["process"] = PROCESS_OVERHEAD + _by_processes(measured, count, have)
    return predicted


def _parts(measured: Measurements) -> tuple[float, float]:
    """Return for how long an item waits, and how long it computes; together never nothing."""
    wall = max(measured.item_seconds, 1e-9)
    cpu = min(measured.cpu_seconds, wall)
    return wall - cpu, cpu


def _by_processes(measured: Measurements, count: float, have: Resources) -> float:
    """Return the seconds that `count` items take on processes, their start included."""
    wait, cpu = _parts(measured)
    alone = wait + cpu / have.computed(1)
    # Until processes have started, the caller does what it can, and threads end what they are at.
    start = have.process_start / have.computed(1)
    early = min(count, max(_whole(start / alone, count), measured.under_way))
    moved = count - early
    most = at_once(have.process_workers, measured.memory_bytes, have)
    processes = max(1, min(moved, most))
    got = have.computed(processes)
    # Pickling is mostly the parent's work: it is not shared out, and needs a CPU as items do.
    transfer = moved * (measured.payload_seconds or 0.0) / have.computed(1)
    behind = max(0.0, early * alone - start)
    computed = count * cpu - min(early * cpu, have.process_start)
    after = max(
        behind,
        (wait + cpu * processes / got) * _rounds(moved, processes),
        computed / have.computed(processes + (behind > 0.0)),
        transfer,
    )
    return start + after + transfer / processes


def _whole(items: float, count: float) -> float:
    """How many of some items are done, where none but whole ones count."""
    return float(int(items)) if count < FEW_ITEMS else items


def _rounds(count: float, workers: float) -> float:
    """How many items the busiest worker gets; whole ones where there are few."""
    return -(-count // workers) if count < FEW_ITEMS * workers else count / workers


def _seconds_under_gil(cpu: float, speedup: float | None, gil: bool) -> float:
    """Estimate for how much of an item's CPU time no other thread can compute."""
    if speedup is None:
        return cpu if gil else 0.0
    if speedup >= FREE_SPEEDUP:
        return 0.0
    # Two items of `cpu` seconds each took 2 * cpu / speedup: the held parts, one after the other.
    return cpu / max(1.0, speedup)


def choose(measured: Measurements, remaining: int | None, have: Resources) -> Choice:
    """Choose the kind of worker for `remaining` items (None if not known).

    Example:
        >>> waits = Measurements(items=1, item_seconds=0.02, cpu_seconds=0.0001)
        >>> choose(waits, 100, Resources(2, 6, 2, 0.1)).kind
        'thread'
    """
    predicted = predict(measured, remaining, have)
    order: tuple[Kind, ...] = ("sequential", "thread", "process")
    possible = [kind for kind in order if kind in predicted]
    kind = possible[0]
    for other in possible[1:]:
        if predicted[other] < CLEARLY * predicted[kind]:
            kind = other
    return explained(kind, measured, remaining, have)


def better(kind: Kind, measured: Measurements, remaining: int | None, have: Resources) -> Kind:
    """Return where the rest should run that now runs on workers of `kind`: there, if in doubt.

    Example:
        >>> waits = Measurements(items=1, item_seconds=0.02, cpu_seconds=0.0001)
        >>> better("process", waits, 100, Resources(2, 32, 2, 0.1))
        'thread'
    """
    predicted = predict(measured, remaining, have)
    # Nothing moves to the caller: threads are as good.
    other: Kind = "thread" if kind == "process" else "process"
    if other not in predicted or kind not in predicted:
        return kind
    saved = predicted[kind] - predicted[other]
    return other if saved > max(WORTH_MOVING, (1.0 - CLEARLY) * predicted[kind]) else kind


def explained(kind: Kind, measured: Measurements, remaining: int | None, have: Resources) -> Choice:
    """Return the choice of `kind`, with the reason and the figures."""
    measured = replace(measured, predicted=predict(measured, remaining, have))
    reason = _reason(kind, measured, remaining, have)
    if have.is_busy and measured.items:
        others = f"{have.others:.0f} other threads compete for its {have.cpus} CPUs"
        reason += f"; the machine is busy: {others}"
    return Choice(kind, reason, measured, have.others)


def _reason(kind: Kind, measured: Measurements, remaining: int | None, have: Resources) -> str:
    if not measured.items:
        return "there are no items"
    each = _time(measured.item_seconds)
    if kind == "process":
        return f"items compute {each} each{_under_gil(measured, have)}{_threads_tried(measured)}"
    if kind == "thread":
        if measured.waiting > 0.5:
            threads = threads_for(measured, have)
            return f"items wait for {measured.waiting:.0%} of their {each}: {threads} threads"
        if measured.thread_speedup is not None and measured.thread_speedup > TURNS:
            return f"items compute {each} each without the GIL{_threads_tried(measured)}"
        if measured.thread_speedup is None and not have.gil and have.cpus > 1:
            return f"items compute {each} each, and this Python has no GIL"
        if measured.thread_speedup is None and measured.waiting < 0.2 and have.cpus > 1:
            return f"items compute {each} each, and threads may help"
        if measured.unpicklable is not None:
            return f"items cannot go to a process: {measured.unpicklable}"
        if have.enforce_timeout:
            return f"items take {each} each, and their timeout needs workers"
        return f"items compute for {_time(measured.cpu_seconds)} of the {each} that each takes"
    if remaining == 0:
        return f"items took {each} each, and none is left to share out"
    total = measured.predicted["sequential"]
    best = min((seconds, name) for name, seconds in measured.predicted.items())
    if remaining is not None and total < 0.02:
        return f"items take {each} each: too little in all to share out"
    if have.cpus == 1:
        return f"items compute, {each} each, and there is one CPU"
    if measured.unpicklable is not None:
        why = "hold the GIL" if have.gil else "hold each other up"
        return f"items {why} and cannot go to a process: {measured.unpicklable}"
    payload = measured.payload_seconds or 0.0
    if payload > 0.25 * measured.item_seconds:
        return f"pickling an item and its result takes {_time(payload)}, computing it {each}"
    return (
        f"the rest takes {_time(total)} in the caller, {_time(best[0])} at best by {best[1]}"
        if best[1] != "sequential"
        else f"the rest takes {_time(total)} in the caller, and workers would not be faster"
    )


def _under_gil(measured: Measurements, have: Resources) -> str:
    if not have.gil:
        return "" if measured.thread_speedup is None else ", and hold each other up as threads"
    if measured.thread_speedup is None:
        return ", perhaps under the GIL"
    return " under the GIL" if measured.thread_speedup < 1.3 else ", in part under the GIL"


def _threads_tried(measured: Measurements) -> str:
    if measured.thread_speedup is None:
        return ""
    return f" (2 threads: {measured.thread_speedup:.1f}×)"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
