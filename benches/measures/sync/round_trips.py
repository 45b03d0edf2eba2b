"""There and back between two processes: events, conditions, queues and pipes."""

from __future__ import annotations

import abc
import mmap
import time
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, ClassVar

from benches.load import busy
from benches.measure import Sample, SyncMeasure, Unit, check
from benches.peer import Peer
from benches.waits import DETAILS, Meter, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benches.contender import Kind
    from benches.primitives import Primitives

# Round trips between two looks at the clock that ends the sample.
CHUNK = 100


@dataclass(frozen=True)
class Sides:
    """One round trip: the caller hands over a number and returns the answer; the peer answers."""

    call: Callable[[int], int]
    serve: Callable[[], object]


class SyncRoundTrip(SyncMeasure):
    """Ping-pong with one peer process."""

    unit: ClassVar[Unit] = "s"
    details: ClassVar[Mapping[str, Unit]] = DETAILS

    @abc.abstractmethod
    def sides(self, library: Primitives) -> Sides:
        """Return both sides' calls, on new objects."""

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the mean round trip in seconds; the detail holds the distribution."""
        sides = self.sides(library)
        call, serve, clock = sides.call, sides.serve, time.perf_counter

        def act(count: int) -> None:
            for _ in repeat(None, count):
                serve()

        def trips(peer: Peer, seconds: float) -> Iterator[float]:
            end = clock() + seconds
            chunks = 0
            while chunks < 3 or clock() < end:
                # One more, since the first of a chunk also waits for the peer to begin.
                peer.tell(CHUNK + 1)
                call(0)
                for number in range(CHUNK):
                    start = clock()
                    answer = call(number)
                    yield clock() - start
                    check(answer == number, "the answer belongs to another call")
                peer.answer()
                chunks += 1

        with busy(self.others) as others, Peer(act) as peer:
            for _ in trips(peer, 0.1 * scale):
                pass
            meter = Meter(others)
            return sample_of(list(trips(peer, 0.5 * scale)), meter)


class EventRoundTrip(SyncRoundTrip):
    """Two events, one for each direction."""

    name = "event"
    title = "Event: round trip between two processes"
    about = "`ping.set()`, `pong.wait()`, `pong.clear()`; the peer the other way: mean wait"
    kind: ClassVar[Kind] = "event"

    def sides(self, library: Primitives) -> Sides:
        """Return the calls on two events."""
        ping, pong = library.make("event"), library.make("event")

        def call(number: int) -> int:
            ping.set()
            pong.wait()
            pong.clear()
            return number

        def serve() -> None:
            ping.wait()
            ping.clear()
            pong.set()

        return Sides(call, serve)


class ConditionRoundTrip(SyncRoundTrip):
    """One condition and whose turn it is."""

    name = "condition"
    title = "Condition: round trip between two processes"
    about = "each hands the turn over under the condition, notifies and waits for it: mean wait"
    kind: ClassVar[Kind] = "condition"

    def sides(self, library: Primitives) -> Sides:
        """Return the calls on one condition; the turn is a byte of shared memory."""
        condition = library.make("condition")
        turn = mmap.mmap(-1, mmap.PAGESIZE)

        def call(number: int) -> int:
            with condition:
                turn[0] = 1
                condition.notify()
                while turn[0] == 1:
                    condition.wait()
            return number

        def serve() -> None:
            with condition:
                while turn[0] == 0:
                    condition.wait()
                turn[0] = 0
                condition.notify()

        return Sides(call, serve)


class QueueRoundTrip(SyncRoundTrip):
    """Two queues, one for each direction."""

    name = "queue_round_trip"
    title = "Queue: round trip between two processes"
    about = "`put` a small int, `get` it back by another queue: mean wait"
    kind: ClassVar[Kind] = "queue"

    def sides(self, library: Primitives) -> Sides:
        """Return the calls on two queues."""
        there, back = library.make("queue"), library.make("queue")
        put, get = there.put, back.get
        answer, take = back.put, there.get

        def call(number: int) -> int:
            put(number)
            result: int = get()
            return result

        return Sides(call, lambda: answer(take()))


class PipeRoundTrip(SyncRoundTrip):
    """One pipe, both directions."""

    name = "pipe_round_trip"
    title = "Pipe: round trip between two processes"
    about = "`send` a small int, `recv` it back by the same pipe: mean wait"
    kind: ClassVar[Kind] = "pipe"

    def sides(self, library: Primitives) -> Sides:
        """Return the calls on the two ends."""
        ours, theirs = library.make("pipe")
        send, recv = ours.send, ours.recv
        answer, take = theirs.send, theirs.recv

        def call(number: int) -> int:
            send(number)
            result: int = recv()
            return result

        return Sides(call, lambda: answer(take()))
