"""Options of tasks in event loops: timeouts, retries, pauses, names."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

tries: contextvars.ContextVar[int] = contextvars.ContextVar("tries", default=0)


@pytest.fixture
def pool() -> Iterator[mh.CoroutinePoolExecutor]:
    with mh.CoroutinePoolExecutor() as executor:
        yield executor


class Flaky:
    """Fails so many times."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self.failures = failures

    async def __call__(self, *_: Any) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls <= self.failures:
            raise OSError(self.calls)
        return self.calls


def test_a_timeout_cancels_and_names_the_task(pool: mh.CoroutinePoolExecutor) -> None:
    ended = []

    async def stand() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    future = pool.options(timeout=0.01, name="standing").submit(stand)
    with pytest.raises(mh.TaskTimeout, match="'standing' was stopped") as raised:
        future.result(30)
    assert (raised.value.task, raised.value.timeout) == ("standing", 0.01)
    assert ended
    assert pool.statistics()["failed"] == 1


def test_a_task_within_its_time_keeps_its_outcome(pool: mh.CoroutinePoolExecutor) -> None:
    assert pool.options(timeout=60).submit(asyncio.sleep, 0.001, 5).result(30) == 5


def test_a_task_that_survives_its_timeout_keeps_its_result(
    pool: mh.CoroutinePoolExecutor,
) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "made it"
        return "in time"

    assert pool.options(timeout=0.01).submit(stubborn).result(30) == "made it"


@pytest.mark.parametrize("backoff", [None, 0.001, lambda _: 0.001])
def test_failures_are_tried_again(pool: mh.CoroutinePoolExecutor, backoff: Any) -> None:
    flaky = Flaky(2)
    assert pool.options(retries=2, backoff=backoff).submit(flaky).result(30) == 3
    assert pool.statistics()["retried"] == 2
    assert pool.statistics()["done"] == 1
    with pytest.raises(OSError, match="2"):
        pool.options(retries=1, backoff=backoff).submit(Flaky(2)).result(30)


def test_only_what_is_worth_it_is_tried_again(pool: mh.CoroutinePoolExecutor) -> None:
    flaky = Flaky(1)
    with pytest.raises(OSError):
        pool.options(retries=3, retry_on=KeyError).submit(flaky).result(30)
    assert flaky.calls == 1


def test_a_timeout_is_tried_again(pool: mh.CoroutinePoolExecutor) -> None:
    calls = []

    async def slow_at_first() -> int:
        calls.append(True)
        await asyncio.sleep(60 if len(calls) == 1 else 0)
        return len(calls)

    assert pool.options(timeout=0.02, retries=1).submit(slow_at_first).result(30) == 2


def test_each_attempt_has_a_context_of_its_own(pool: mh.CoroutinePoolExecutor) -> None:
    seen = []

    async def fails_once() -> None:
        seen.append(tries.get())
        tries.set(tries.get() + 1)
        if len(seen) == 1:
            raise OSError

    pool.options(retries=1).submit(fails_once).result(30)
    assert seen == [0, 0]


def test_a_task_between_two_attempts_is_cancelled(pool: mh.CoroutinePoolExecutor) -> None:
    flaky = Flaky(1)
    future = pool.options(retries=1, backoff=lambda _: 1000.0).submit(flaky)
    eventually(lambda: pool.statistics()["retried"] == 1, "it has failed")
    assert pool.statistics()["running"] == 0
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(30)
    eventually(lambda: pool.statistics()["queued"] == 0, "it is forgotten")
    assert flaky.calls == 1


def test_shutdown_cancels_what_waits_for_its_next_attempt() -> None:
    pool = mh.CoroutinePoolExecutor()
    future = pool.options(retries=1, backoff=lambda _: 1000.0).submit(Flaky(1))
    eventually(lambda: pool.statistics()["retried"] == 1, "it has failed")
    pool.shutdown(cancel_futures=True)
    assert future.cancelled()


def test_while_one_waits_for_its_next_attempt_others_run() -> None:
    with mh.CoroutinePoolExecutor(max_tasks=1) as pool:
        future = pool.options(retries=1, backoff=lambda _: 1000.0).submit(Flaky(1))
        eventually(lambda: pool.statistics()["retried"] == 1, "it has failed")
        assert pool.submit(Flaky(0)).result(30) == 1
        future.cancel()


def test_maps_have_options_too(pool: mh.CoroutinePoolExecutor) -> None:
    async def slow_for_one(number: int) -> int:
        await asyncio.sleep(60 if number == 1 else 0)
        return number

    results = pool.options(timeout=0.05).map(slow_for_one, range(3), return_exceptions=True)
    first, second, third = results
    assert (first, type(second), third) == (0, mh.TaskTimeout, 2)
