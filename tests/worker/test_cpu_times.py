"""The CPU time that tasks are metered by."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from manyhands._native import cpu_times


@pytest.fixture
def endless_turns() -> Iterator[None]:
    """Have no thread leave the GIL to another one because its time is up."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def test_they_are_those_of_the_thread_and_of_the_process() -> None:
    def compute() -> None:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass

    thread, process = cpu_times()
    other = threading.Thread(target=compute)
    other.start()
    other.join(30)
    now, all_now = cpu_times()
    assert 0 <= now - thread < 0.1 <= all_now - process
    compute()
    assert cpu_times()[0] - now >= 0.1
    assert cpu_times()[0] == pytest.approx(time.thread_time(), abs=0.01)


@pytest.mark.usefixtures("endless_turns")
def test_to_read_them_lets_other_threads_in() -> None:
    """Whoever loses the CPU as the kernel answers must not hold the GIL."""
    came = False
    gate = threading.Event()

    def come() -> None:
        nonlocal came
        gate.wait(30)
        came = True

    other = threading.Thread(target=come)
    other.start()
    time.sleep(0.05)
    gate.set()
    deadline = time.monotonic() + 20
    while not came and time.monotonic() < deadline:
        cpu_times()
    assert came
    other.join()
