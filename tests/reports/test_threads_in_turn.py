"""What several threads do to one pool of threads at once: nothing is lost between two steps.

Found by use, mostly without the GIL; with it where one step runs Python code, which releases it.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Iterator

import pytest

import manyhands as mh
from eventually import eventually

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")


@pytest.fixture
def many_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("many_switches")
def test_every_queued_task_can_be_withdrawn() -> None:
    gate = threading.Event()
    with mh.ThreadPoolExecutor(1) as pool:
        pool.submit(gate.wait)
        eventually(lambda: pool.statistics()["running"] == 1, "the first task runs")
        futures: list[list[mh.Future[int]]] = [[] for _ in range(4)]

        def submit(into: list[mh.Future[int]]) -> None:
            variable.set(1)  # copying the context runs Python code
            for number in range(1500):
                into.append(pool.submit(abs, number))

        threads = [threading.Thread(target=submit, args=(into,)) for into in futures]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.statistics()["queued"] == 6000
        assert all(future.cancel() for into in futures for future in into)
        assert pool.statistics()["queued"] == 0
        gate.set()


def test_a_request_to_stop_between_two_attempts_is_heard() -> None:
    asked, between = threading.Event(), threading.Event()
    attempts = []

    class Local:
        def __del__(self) -> None:
            # The first attempt has failed, and its frames go.
            between.set()
            asked.wait(30)

    def fail() -> None:
        local = Local()
        attempts.append(1)
        raise ValueError(local)

    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.options(retries=1000).submit(fail)
        assert between.wait(30)
        future.cancel()
        asked.set()
        mh.wait([future], timeout=30)
        assert future.cancelled()
    assert len(attempts) == 1


def test_the_thread_of_deadlines_does_not_outlive_them() -> None:
    def fail() -> None:
        raise ValueError

    def threads() -> list[str]:
        import os

        names = []
        for number in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{number}/comm") as file:
                    names.append(file.read().strip())
            except OSError:
                continue  # it has ended
        return names

    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.options(timeout=600).submit(fail)
        assert isinstance(future.exception(30), ValueError)
        eventually(lambda: "mh-deadlines" in threads(), "the thread has its name")
    eventually(lambda: "mh-deadlines" not in threads(), "the thread has ended", patience=20)
