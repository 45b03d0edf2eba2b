"""How many items of a map travel as one task.

Many items per task spread the cost of a task; few keep all workers busy until the end and bring
the first results early. Two answers: `ramp`, when everything is submitted before anything is
known, and `Pace`, which follows what items turn out to cost.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Pace", "ramp"]

# A chunk should last this long: about a hundred times the cost of a task.
CHUNK_SECONDS: Final = 0.003
# Below this the cost of a task starts to show, so that even the last chunks are not shorter.
SHORTEST_SECONDS: Final = 0.0005
# More small items than this fall out of the CPU's caches on their way: that costs more than a task.
LARGEST: Final = 4096
# Pickling a chunk holds up the caller, and its bytes sit in shared memory.
SUBMIT_SECONDS: Final = 0.002
# The cost of the first few items says little about the rest: grow by steps.
GROWTH: Final = 16
# Every worker should get about this many of the remaining chunks, so that all end together.
ROUNDS: Final = 3


def ramp(count: int, workers: int) -> Iterator[int]:
    """Yield chunk sizes for `count` items: growing from few to many, and shrinking to the end.

    Small first chunks bring early results when items are slow, small last ones let all workers end
    together, and big ones between them keep the number of chunks small.

    Example:
        >>> list(ramp(100, 2))
        [1, 1, 2, 2, 4, 4, 8, 8, 12, 12, 8, 8, 8, 8, 4, 4, 2, 2, 1, 1]
    """
    largest = max(1, min(LARGEST, count // (4 * workers)))
    step = max(1, count // (4096 * workers))
    rising: list[int] = []
    total = 0
    while step < largest and total + 2 * workers * step <= count:
        rising += [step] * workers
        total += 2 * workers * step
        step *= 2
    middle = count - total
    pieces = -(-middle // largest) if middle else 0
    even = (middle * (i + 1) // pieces - middle * i // pieces for i in range(pieces))
    return chain(rising, even, reversed(rising))


class Pace:
    """Size of the next chunk, from what the chunks so far have cost.

    Args:
        workers: how many workers share the items.
        fixed: the size that the user asked for, or None.
        item_seconds: what an item costs, if something is known already.

    Example:
        >>> pace = Pace(workers=2, fixed=None)
        >>> pace.size(remaining=1_000_000)
        1
        >>> pace.learn(items=1, call_seconds=1e-6, submit_seconds=1e-5)
        >>> pace.size(remaining=999_999)
        16
    """

    __slots__ = ("_call_seconds", "_fixed", "_largest", "_submit_seconds", "_workers")

    def __init__(
        self, workers: int, fixed: int | None = None, item_seconds: float | None = None
    ) -> None:
        self._workers = workers
        self._fixed = fixed
        self._call_seconds = item_seconds
        self._submit_seconds = 0.0
        self._largest = 1 if item_seconds is None else GROWTH * GROWTH

    def learn(self, items: int, call_seconds: float, submit_seconds: float) -> None:
        """Take in that `items` cost so many seconds to call, and to submit (pickle and copy)."""
        if not items:
            return
        call = call_seconds / items
        known = self._call_seconds
        # Halfway to the new figure: follows a drift within a few chunks, outlives one freak.
        self._call_seconds = call if known is None or items > 8 else (known + call) / 2
        self._submit_seconds = submit_seconds / items
        if items * GROWTH > self._largest:
            self._largest = items * GROWTH

    def size(self, remaining: int | None) -> int:
        """Return how many items the next chunk should hold; `remaining` is None if unknown."""
        if self._fixed is not None:
            return self._fixed
        cost = self._call_seconds
        if cost is None:
            return 1
        wanted = CHUNK_SECONDS / max(cost, 1e-9)
        if self._submit_seconds:
            wanted = min(wanted, SUBMIT_SECONDS / self._submit_seconds)
        if remaining is not None:
            share = remaining / (ROUNDS * self._workers)
            wanted = min(wanted, max(share, SHORTEST_SECONDS / max(cost, 1e-9)))
        return max(1, min(int(wanted), self._largest, LARGEST))
