"""What `statistics` says is the same for threads and processes: its keys, its words, its counts."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]
COUNTS = {"queued", "running", "done", "failed", "retried", "cancelled"}
FACTS = {"pid", "state", "task", "task_s", "tasks_done", "cpu_s", "rss_bytes", "restarts"}


def sleeps() -> None:
    mh.sleep(600)


def ignores() -> str:
    try:
        mh.sleep(600)
    except mh.TaskCancelled:
        pass
    return "done nevertheless"


def counts(pool: Any) -> dict[str, int]:
    """Return the counts that are not 0."""
    found = pool.statistics()
    del found["workers"]
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_new_executor_has_done_nothing(kind: Any) -> None:
    with kind(2) as pool:
        assert pool.statistics() == {**dict.fromkeys(COUNTS, 0), "workers": []}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_keys_and_states(kind: Any) -> None:
    with kind(1) as pool:
        running = pool.options(name="night shift").submit(sleeps)
        eventually(lambda: pool.statistics()["running"], "it runs")
        found = pool.statistics()
        running.cancel()
        assert found.keys() == COUNTS | {"workers"}
        (worker,) = found["workers"]
        assert worker.keys() >= FACTS
        assert (worker["state"], worker["task"]) == ("running", "night shift")
        assert isinstance(worker["cpu_s"], float)
        assert worker["rss_bytes"] > 1_000_000
        eventually(lambda: states(pool) in (["idle"], []), "the worker has nothing to do")


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("timeout", [None, 600.0])
def test_how_long_a_task_has_been_running(kind: Any, timeout: float | None) -> None:
    gates = [mh.Event(), mh.Event()]
    with kind(1) as pool:

        def spell() -> float | None:
            for worker in pool.statistics()["workers"]:
                assert (worker["task_s"] is None) == (worker["task"] is None)
                found: float | None = worker["task_s"]
                return found
            return None

        begun = time.monotonic()
        tasks = [pool.options(timeout=timeout).submit(gate.wait, 30) for gate in gates]
        eventually(lambda: (spell() or 0.0) > 0.5, "it runs for a while")
        found = spell()
        assert found is not None
        assert 0.5 < found <= time.monotonic() - begun
        begun = time.monotonic()
        gates[0].set()
        assert tasks[0].result()
        eventually(tasks[1].running, "the next one runs")
        found = spell()
        assert found is not None
        assert 0 <= found <= time.monotonic() - begun
        gates[1].set()
        assert tasks[1].result()
        eventually(lambda: spell() is None, "the worker has nothing to do")


def test_each_attempt_begins_anew() -> None:
    gate = threading.Event()

    def fails() -> None:
        begun.append(time.monotonic())
        gate.wait(0.3 if len(begun) == 1 else None)
        raise ValueError(len(begun))

    begun: list[float] = []
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.options(retries=1).submit(fails)
        eventually(lambda: len(begun) == 2, "it is tried again")
        (worker,) = pool.statistics()["workers"]
        assert worker["task_s"] <= time.monotonic() - begun[0] - 0.3
        gate.set()
        with pytest.raises(ValueError, match="2"):
            future.result()


def states(pool: Any) -> list[str]:
    return [worker["state"] for worker in pool.statistics()["workers"]]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_each_task_is_counted_once(kind: Any) -> None:
    with kind(1) as pool:
        mh.wait([pool.submit(abs, number) for number in range(3)])
        assert pool.submit(divmod, 1, 0).exception() is not None
        assert pool.options(retries=2).submit(divmod, 1, 0).exception() is not None
        running = pool.submit(sleeps)
        eventually(running.running, "it runs")
        queued = [pool.submit(abs, 1) for _ in range(4)]
        assert counts(pool) == {"queued": 4, "running": 1, "done": 3, "failed": 2, "retried": 2}
        assert [future.cancel() for future in queued] == [True] * 4
        assert [future.cancel() for future in queued] == [True] * 4
        assert running.cancel()
        assert running.cancel()
        expected = {"done": 3, "failed": 2, "retried": 2, "cancelled": 5}
        eventually(lambda: counts(pool) == expected, "all is done")
        assert pool.submit(abs, -1).result() == 1
        assert counts(pool) == {**expected, "done": 4}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_what_shutdown_cancels_is_counted(kind: Any) -> None:
    pool = kind(1)
    running = pool.submit(sleeps)
    eventually(running.running, "it runs")
    queued = [pool.submit(abs, 1) for _ in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    assert counts(pool) == {"running": 1, "cancelled": 3}
    running.cancel()
    pool.shutdown()


def test_a_cancelled_call_that_returns_nevertheless_is_cancelled() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(ignores)
        eventually(lambda: future.running() and future.cancel(), "it waits, and is ended")
        assert future.cancelled()
        assert pool.submit(abs, -1).result() == 1
        assert counts(pool) == {"done": 1, "cancelled": 1}


def test_a_call_that_stops_by_itself_when_asked_is_cancelled() -> None:
    asked = threading.Event()

    def polls() -> None:
        while not asked.wait(0.001):
            pass
        mh.check_cancelled()

    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(polls)
        eventually(future.running, "it runs")
        assert future.cancel() is False
        asked.set()
        eventually(future.cancelled, "it stops")
        eventually(lambda: counts(pool) == {"cancelled": 1}, "that is counted")


def test_what_waits_for_another_attempt_can_be_cancelled() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.options(timeout=0.05, retries=1000).submit(sleeps)
        eventually(lambda: counts(pool).get("retried", 0) >= 2, "it is tried again")
        eventually(future.cancel, "it is cancelled, in an attempt or between two")
        eventually(lambda: counts(pool).get("cancelled") == 1, "that is counted")
        eventually(lambda: "running" not in counts(pool), "the last attempt has ended")
        assert counts(pool).keys() == {"retried", "cancelled"}


def test_what_a_broken_pool_cannot_run_has_failed() -> None:
    def initialize() -> None:
        raise ValueError("broken")

    with mh.ThreadPoolExecutor(1, initializer=initialize) as pool:
        futures = [pool.submit(abs, 1) for _ in range(1)]
        assert futures[0].exception() is not None
        assert counts(pool) == {"failed": 1}
