"""What threads pay for each other on a busy machine: for a start, and for an item there and back.

Python's own locks do not know that others compute; without a GIL they are slow to find out. Run
this with each Python that you have: ``python3.14t examples/busy_machine.py``.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import manyhands as mh

SECONDS = 0.5  # for each figure
THREADS = 6


def compute() -> None:
    """Take a CPU until somebody ends this."""
    while True:
        sum(range(10_000))


def there_and_back(make: Callable[[], Any]) -> float:
    """Return the seconds that an item takes to another thread and back, in the mean."""
    there, back = make(), make()

    def answer() -> None:
        while (item := there.get()) is not None:
            back.put(item)

    thread = threading.Thread(target=answer)
    thread.start()
    items, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SECONDS:
        there.put(items)
        back.get()
        items += 1
    there.put(None)
    thread.join()
    return took / items


def start(executor: Callable[[int], Any]) -> float:
    """Return the seconds for which a new pool holds up whoever gives it tasks, in the mean."""
    taken: list[float] = []
    while sum(taken) < SECONDS and len(taken) < 20:
        with executor(THREADS) as pool:
            began = time.perf_counter()
            for _ in range(THREADS):
                pool.submit(time.sleep, 0.01)
            taken.append(time.perf_counter() - began)
    return sum(taken) / len(taken)


def show(heading: str) -> None:
    """Measure, and print a table."""
    print(f"\n{heading:28}{'standard library':>18}{'manyhands':>18}")
    for row, measure, theirs, ours in (
        ("an item there and back", there_and_back, queue.Queue, mh.Queue),
        (f"{THREADS} threads of a pool start", start, ThreadPoolExecutor, mh.ThreadPoolExecutor),
    ):
        figures = [f"{measure(make) * 1e6:,.1f} µs" for make in (theirs, ours)]
        print(f"{row:28}{figures[0]:>18}{figures[1]:>18}", flush=True)


def main() -> None:
    """Measure twice: alone, and beside a process for each CPU."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"CPython {sys.version.split()[0]}, {'with' if gil else 'without'} a GIL")
    show("idle")
    cpus = len(os.sched_getaffinity(0))
    with mh.ProcessPoolExecutor(cpus) as pool:
        tasks = [pool.submit(compute) for _ in range(cpus)]
        while not all(task.running() for task in tasks):
            time.sleep(0.01)
        show(f"beside {cpus} that compute")
        pool.terminate()


if __name__ == "__main__":
    main()
