"""How many items go through a queue: one producer, one consumer."""

from __future__ import annotations

import threading
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check, repeated, timed
from benches.peer import Peer
from benches.waits import rate_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.contender import Kind
    from benches.primitives import Primitives

# Small ints per repetition, and per list where they go by the many.
INTS = 60_000
BATCHED_INTS = 200_000
BATCH = 1000
# Messages of 1 MiB per repetition.
LARGE = 16
LARGE_BYTES = 2**20


class Stream(SyncMeasure):
    """One producer that is told when to begin, one consumer; the clock stops at the last item."""

    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True

    def rate(
        self,
        begin: Callable[[], object],
        consume: Callable[[], list[Any]],
        finish: Callable[[], object],
        expected: list[Any],
        scale: float,
    ) -> Sample:
        """Return items per second: those of half a second's repetitions after a first one."""
        got: list[Any] = []

        def all_of_them() -> None:
            begin()
            got[:] = consume()

        def once() -> float:
            taken = timed(all_of_them)
            finish()
            check(got == expected, "the items are not those put, in order")
            return taken

        once()
        return rate_of(len(expected), repeated(once, 0.5 * scale, at_least=1, at_most=50))


class QueueInts(Stream):
    """Small ints from one process to another."""

    name = "queue"
    title = "Queue: small ints from process to process"
    about = f"one producer process, one consumer process, {INTS:,} ints, `put` and `get` of each"
    kind: ClassVar[Kind] = "queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return ints per second."""
        count = max(1000, int(INTS * scale))
        queue = library.make(self.kind)

        def produce(_: None) -> None:
            put = queue.put
            for item in range(count):
                put(item)

        def consume() -> list[int]:
            get = queue.get
            return [get() for _ in repeat(None, count)]

        with Peer(produce) as peer:
            expected = list(range(count))
            return self.rate(lambda: peer.tell(None), consume, peer.answer, expected, scale)


class QueueBatches(Stream):
    """The same in lists of a thousand."""

    name = "queue_many"
    title = f"Queue: small ints from process to process, {BATCH} at a time"
    about = f"{BATCHED_INTS:,} ints by `put_many` and `get_many` of {BATCH:,}, where there are"
    kind: ClassVar[Kind] = "batches"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return ints per second."""
        count = max(2, int(BATCHED_INTS / BATCH * scale)) * BATCH
        queue = library.make(self.kind)
        batches = [list(range(start, start + BATCH)) for start in range(0, count, BATCH)]

        def produce(_: None) -> None:
            put_many = queue.put_many
            for batch in batches:
                put_many(batch)

        def consume() -> list[int]:
            get_many = queue.get_many
            found: list[int] = []
            while len(found) < count:
                found += get_many(BATCH)
            return found

        with Peer(produce) as peer:
            expected = list(range(count))
            return self.rate(lambda: peer.tell(None), consume, peer.answer, expected, scale)


class ThreadQueue(Stream):
    """Small ints between threads."""

    name = "thread_queue"
    title = "Queue: small ints from thread to thread"
    about = f"one producer thread, one consumer thread, {INTS:,} ints, `put` and `get` of each"
    kind: ClassVar[Kind] = "thread_queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return ints per second."""
        count = max(1000, int(INTS * scale))
        queue = library.make(self.kind)
        producers: list[threading.Thread] = []

        def produce() -> None:
            put = queue.put
            for item in range(count):
                put(item)

        def begin() -> None:
            producers.append(threading.Thread(target=produce, daemon=True))
            producers[-1].start()

        def consume() -> list[int]:
            get = queue.get
            return [get() for _ in repeat(None, count)]

        expected = list(range(count))
        return self.rate(begin, consume, lambda: producers[-1].join(), expected, scale)


class QueueLarge(Stream):
    """Large messages."""

    name = "queue_large"
    title = "Queue: 1 MiB bytes from process to process"
    about = f"{LARGE} different bytes objects of 1 MiB, `put`, `get`, looked at, dropped: messages"
    kind: ClassVar[Kind] = "queue"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return messages per second."""
        count = max(2, int(LARGE * min(1.0, scale)))
        queue = library.make(self.kind)
        messages = [bytes([number + 1]) * LARGE_BYTES for number in range(count)]

        def produce(_: None) -> None:
            put = queue.put
            for message in messages:
                put(message)

        def consume() -> list[tuple[int, int, int]]:
            get = queue.get
            return [ends(get()) for _ in repeat(None, count)]

        with Peer(produce) as peer:
            # Outside the clock: that every byte arrives.
            peer.tell(None)
            check(all(queue.get() == message for message in messages), "a message is damaged")
            peer.answer()
            expected = [ends(message) for message in messages]
            return self.rate(lambda: peer.tell(None), consume, peer.answer, expected, scale)


def ends(message: bytes) -> tuple[int, int, int]:
    """Return the length, the first and the last byte."""
    return len(message), message[0], message[-1]
