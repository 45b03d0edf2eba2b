"""Between an asyncio task and a process or a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check
from benches.peer import Peer
from benches.waits import DETAILS, Meter, rate_of, sample_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benches.contender import Kind
    from benches.primitives import AsyncQueue, Primitives

# The first items show how many take long enough to be timed.
WARM_UP = 100
REPETITION_S = 0.3
MOST_ITEMS = 100_000


class AsyncGet(SyncMeasure):
    """A process produces, a task consumes."""

    name = "async_get"
    title = "asyncio: a task gets what a process puts"
    about = "`await queue.async_get()` of small ints that a process puts as fast as it can"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True
    kind: ClassVar[Kind] = "async_queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return ints per second: those of three repetitions after a first, short one."""
        queue: AsyncQueue = library.make(self.kind)
        with Peer(lambda number: self.other_side(queue, number)) as peer:
            return asyncio.run(self.repetitions(queue, peer, scale))

    async def repetitions(self, queue: AsyncQueue, peer: Peer, scale: float) -> Sample:
        """Return items per second."""
        first = WARM_UP / await self.time(queue, peer, WARM_UP)
        count = max(WARM_UP, min(MOST_ITEMS, int(first * REPETITION_S * scale)))
        return rate_of(count, [await self.time(queue, peer, count) for _ in range(3)])

    async def time(self, queue: AsyncQueue, peer: Peer, count: int) -> float:
        """Return the seconds that `count` items take."""
        start = time.perf_counter()
        peer.tell(count)
        got = await self.this_side(queue, count)
        answer = peer.answer()
        taken = time.perf_counter() - start
        check((got or answer) == list(range(count)), "the items are not those put, in order")
        return taken

    async def this_side(self, queue: AsyncQueue, count: int) -> list[int] | None:
        """Return what the task got."""
        get = queue.async_get
        return [await get() for _ in range(count)]

    def other_side(self, queue: AsyncQueue, count: int) -> list[int] | None:
        """Put so many."""
        put = queue.put
        for item in range(count):
            put(item)
        return None


class AsyncPut(AsyncGet):
    """A task produces, a process consumes."""

    name = "async_put"
    title = "asyncio: a process gets what a task puts"
    about = "`await queue.async_put(i)` of small ints that a process gets"

    async def this_side(self, queue: AsyncQueue, count: int) -> list[int] | None:
        """Put so many."""
        put = queue.async_put
        for item in range(count):
            await put(item)
        return None

    def other_side(self, queue: AsyncQueue, count: int) -> list[int] | None:
        """Return what the process got."""
        get = queue.get
        return [get() for _ in range(count)]


class AsyncRoundTrip(SyncMeasure):
    """One task and one peer, two queues."""

    name = "async_round_trip"
    title = "asyncio: round trip between a task and a process"
    about = "`await there.async_put(i)`, `await back.async_get()`; a process answers: mean wait"
    unit: ClassVar[Unit] = "s"
    details: ClassVar[Mapping[str, Unit]] = DETAILS
    kind: ClassVar[Kind] = "async_queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the mean round trip in seconds."""
        there, back = library.make(self.kind), library.make(self.kind)
        with Peer(lambda _: echo(there, back)) as peer:
            peer.tell(None)
            return asyncio.run(trips(there, back, scale))


class AsyncThreadRoundTrip(SyncMeasure):
    """The same with a thread."""

    name = "async_thread_round_trip"
    title = "asyncio: round trip between a task and a thread"
    about = "`await there.async_put(i)`, `await back.async_get()`; a thread answers: mean wait"
    unit: ClassVar[Unit] = "s"
    details: ClassVar[Mapping[str, Unit]] = DETAILS
    kind: ClassVar[Kind] = "async_thread_queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the mean round trip in seconds."""

        async def all_of_it() -> Sample:
            # Made here, since some queues belong to the running loop.
            there, back = library.make(self.kind), library.make(self.kind)
            thread = threading.Thread(target=echo, args=(there, back), daemon=True)
            thread.start()
            sample = await trips(there, back, scale)
            await there.async_put(None)
            thread.join()
            return sample

        return asyncio.run(all_of_it())


def echo(there: AsyncQueue, back: AsyncQueue) -> None:
    """Answer until None comes."""
    take, answer = there.get, back.put
    while (item := take()) is not None:
        answer(item)


async def trips(there: AsyncQueue, back: AsyncQueue, scale: float) -> Sample:
    """Return the mean of half a second's round trips."""
    put, get, clock = there.async_put, back.async_get, time.perf_counter
    waits: list[float] = []
    meter = Meter()
    end: float | None = None
    while len(waits) < 100 or end is None or clock() < end:
        number: Any = len(waits)
        start = clock()
        await put(number)
        answer = await get()
        waits.append(clock() - start)
        check(answer == number, "the answer belongs to another call")
        if end is None and len(waits) == WARM_UP:
            waits.clear()
            meter = Meter()
            end = clock() + 0.5 * scale
    return sample_of(waits, meter)
