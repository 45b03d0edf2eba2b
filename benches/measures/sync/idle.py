"""What waiting costs while nothing happens."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar

from benches.measure import Sample, SyncMeasure, Unit, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.contender import Kind
    from benches.primitives import Primitives

# Seconds that pass before the clock starts: whoever spins before sleeping is asleep by then.
SETTLE_S = 0.3
WAIT_S = 2.0


class Idle(SyncMeasure):
    """Four threads wait: for a lock, an event, a condition and a queue."""

    name = "idle"
    title = "Idle waiting: CPU time per second"
    about = "waiting for a lock, an event, a condition and an item at once: mean of the four"
    unit: ClassVar[Unit] = "s"
    kind: ClassVar[Kind] = "idle"

    def run(self, library: Primitives, scale: float) -> Sample:
        """Return the CPU seconds per waiter and second, over all threads of the process."""
        lock, event = library.make("lock"), library.make("event")
        condition, queue = library.make("condition"), library.make("queue")

        def wait_for_condition() -> None:
            with condition:
                condition.wait()

        waits: list[Callable[[], object]] = [
            lock.acquire,
            event.wait,
            wait_for_condition,
            queue.get,
        ]
        threads = [threading.Thread(target=wait, daemon=True) for wait in waits]
        lock.acquire()
        for thread in threads:
            thread.start()
        time.sleep(SETTLE_S)
        start, before = time.perf_counter(), time.process_time()
        time.sleep(WAIT_S * max(0.2, scale))
        used, passed = time.process_time() - before, time.perf_counter() - start
        check(all(thread.is_alive() for thread in threads), "a waiter did not wait")
        lock.release()
        event.set()
        with condition:
            condition.notify_all()
        queue.put(0)
        for thread in threads:
            thread.join(10.0)
        check(not any(thread.is_alive() for thread in threads), "a waiter was not woken")
        return Sample(used / passed / len(waits), {"seconds": passed})
