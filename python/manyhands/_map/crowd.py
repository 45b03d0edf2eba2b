"""Items that run side by side on threads, before it is known what an item costs.

An item that takes long may wait for all of its time, or compute as soon as its answer has come.
While nobody computes, more items beside it cost nothing; as soon as somebody does, no more are
begun until an item has ended and shown what it costs as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

from manyhands._map.meter import Spent
from manyhands._map.spare_memory import resident

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manyhands._map.meter import Meter

__all__ = ["Crowd", "Seen", "crowd_size"]

# Somebody computes if all together want this part of a CPU; from the second one on they may hold
# each other up, so that nobody knows what they wait for.
COMPUTING: Final = 0.5
# One more item after that many seconds of waiting, soon more, and after so many as many as will do.
STEP: Final = 0.01
DOUBLE: Final = 0.05
SURE: Final = 0.06


def crowd_size(waited: float, items: int | None, cpus: int, most: int) -> int:
    """Return how many items may run at once.

    Args:
        waited: seconds for which the items so far have waited and nobody has computed.
        items: how many there are, those that run included; None if that is not known.
        cpus: CPUs that this process may use. Should the items compute after all, so many parts
            of them can be computed at once, by processes; no more than one part is begun here.
        most: how many may run at once in any case.

    Example:
        >>> [crowd_size(waited, 100, 2, 32) for waited in (0.0, 0.02, 0.05, 0.2)]
        [1, 3, 11, 32]
    """
    if waited < SURE and items is not None:
        most = min(most, max(2, items // cpus))
    return max(1, min(most, int(1 + waited / STEP * (1 + waited / DOUBLE))))


@dataclass(frozen=True, slots=True)
class Seen:
    """An item that has begun: its meter, what it has spent, and whether that is all of it."""

    who: object
    spent: Spent
    settled: bool = True


class Crowd:
    """What items that run side by side do.

    Args:
        began: when the item began that has run for the longest time, by the clock.
        held: bytes of memory that this process held before it began.

    Attributes:
        computing: whether somebody has computed since the last look but one.
        waited: seconds for which nobody has computed.
        bytes_each: the most memory that an item was seen to hold, by the mean of all.
    """

    def __init__(self, began: float, held: int) -> None:
        self.computing = False
        self.waited = 0.0
        self.bytes_each = 0.0
        self._held = held
        self._looked = began
        self._used = process_time()
        self._seen: dict[object, Spent] = {}
        self._waited: dict[object, float] = {}

    def look(self, meters: Sequence[Meter]) -> None:
        """See what has happened since the last look."""
        readings = [meter.look() for meter in meters]
        # After that, and in one moment: where others compute, each look waits for the GIL, so that
        # the readings are of different times.
        now, cpu = perf_counter(), process_time()
        used, self._used = cpu - self._used, cpu
        begun = [
            Seen(meter, meter.spent_by(reading), reading.settled)
            for meter, reading in zip(meters, readings, strict=True)
            if reading is not None
        ]
        running = sum(meter.running for meter in meters)
        self.learn(now, begun, used)
        if running:
            self.bytes_each = max(self.bytes_each, (resident() - self._held) / running)

    def learn(self, now: float, begun: Sequence[Seen], used: float = 0.0) -> None:
        """Take in what all that have begun have spent until `now`.

        Args:
            now: the time by the clock.
            begun: those that have begun.
            used: CPU seconds of the whole process since the last look.
        """
        passed = max(now - self._looked, 1e-9)
        self._looked = now
        wanted = 0.0
        waited: dict[object, float] = {}
        for item in begun:
            if not item.settled:
                wanted += passed
                continue
            before = self._seen.get(item.who, Spent(0.0, 0.0, 0.0))
            self._seen[item.who] = item.spent
            wanted += item.spent.cpu - before.cpu + item.spent.queued - before.queued
            waited[item.who] = max(0.0, item.spent.waiting - before.waiting)
        wanted = max(wanted, used)
        self.computing = wanted > COMPUTING * passed
        if not self.computing:
            self.waited += passed
        # What one waits while others compute may be for the GIL: only the rest of the time counts.
        idle = passed if len(begun) == 1 else max(0.0, passed - wanted)
        for who, seconds in waited.items():
            self._waited[who] = self._waited.get(who, 0.0) + min(seconds, idle)

    def spent(self, who: object) -> tuple[float, float]:
        """Return seconds of one's own and of a CPU, by the last look.

        What one waits while others compute is not its own: it may be the GIL that it waits for.
        """
        cpu = self._seen[who].cpu if who in self._seen else 0.0
        return cpu + self._waited.get(who, 0.0), cpu

    def whole(self, ended: Mapping[Meter, int]) -> tuple[float, float]:
        """Return seconds of an item's own and of a CPU, by those that have ended.

        Args:
            ended: how many items each has run.
        """
        count = sum(ended.values())
        cpu = sum(self.spent(who)[1] for who in ended) / count
        # Of what most waited a part is unknown, and some waited for others that computed beside
        # them: the truth lies between the mean and the longest.
        waited = [self._waited.get(who, 0.0) / items for who, items in ended.items()]
        return cpu + (max(waited) + sum(waited) / len(waited)) / 2, cpu
