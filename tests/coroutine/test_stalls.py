"""Calls that block an event loop: they are found and named, and other loops do the work."""

from __future__ import annotations

import asyncio
import threading

import pytest

import manyhands as mh
from eventually import eventually

LIMIT = 0.05


async def number(n: int) -> int:
    return n


async def now() -> float:
    return asyncio.get_running_loop().time()


class Blocker:
    """Blocks its loop until it is let go."""

    def __init__(self) -> None:
        self.blocks = threading.Event()
        self._go_on = threading.Event()

    async def block(self) -> str:
        self.blocks.set()
        self._go_on.wait(60)  # this line is the culprit
        return "done"

    def let_go(self) -> None:
        self._go_on.set()


def stalls(pool: mh.CoroutinePoolExecutor) -> int:
    found: int = pool.statistics()["stalls"]
    return found


def test_a_loop_that_is_blocked_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    blocker = Blocker()
    with mh.CoroutinePoolExecutor(stall_after=LIMIT, thread_name_prefix="loop") as pool:
        future = pool.submit(blocker.block)
        assert blocker.blocks.wait(30)
        eventually(lambda: stalls(pool) == 1, "it is found")
        blocker.let_go()
        assert future.result(30) == "done"
        eventually(lambda: caplog.records, "it is told")
        assert stalls(pool) == 1
        assert pool.statistics()["workers"][0]["stalls"] == 1
    (record,) = caplog.records
    text = record.getMessage()
    assert record.name == "manyhands"
    assert "thread loop_0" in text
    assert "was blocked for 0." in text
    assert "test_stalls.py" in text
    assert "in block:" in text
    assert "this line is the culprit" in text


def test_one_that_does_not_end_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    blocker = Blocker()
    with mh.CoroutinePoolExecutor(stall_after=0.01) as pool:
        pool.submit(blocker.block)
        eventually(lambda: caplog.records, "it is told while it lasts")
        assert "has been blocked" in caplog.records[0].getMessage()
        blocker.let_go()
        assert pool.submit(number, 1).result(30) == 1
    assert len(caplog.records) == 1


def test_waiting_is_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    with mh.CoroutinePoolExecutor(stall_after=0.02) as pool:
        mh.wait([pool.submit(asyncio.sleep, 0.3) for _ in range(20)])
        assert stalls(pool) == 0
    assert not caplog.records


def test_many_short_calls_are_no_stall(caplog: pytest.LogCaptureFixture) -> None:
    async def short() -> None:
        for _ in range(10_000):
            pass

    with mh.CoroutinePoolExecutor(max_tasks=10_000, stall_after=0.25) as pool:
        # All of them wait for one moment, and then run in one turn of the loop.
        loop_time = pool.submit(now).result(30) + 0.5

        async def all_at_once() -> None:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            loop.call_at(loop_time, future.set_result, None)
            await future
            await short()

        mh.wait([pool.submit(all_at_once) for _ in range(5000)])
        assert stalls(pool) == 0
    assert not caplog.records


def test_nobody_looks_if_that_is_not_wanted() -> None:
    with mh.CoroutinePoolExecutor(stall_after=None, thread_name_prefix="loop") as pool:
        pool.submit(number, 1).result(30)
        names = [thread.name for thread in threading.enumerate()]
        assert "loop_0" in names
        assert "loop-stalls" not in names


def test_a_blocked_loop_gets_no_more_tasks() -> None:
    blocker = Blocker()
    with mh.CoroutinePoolExecutor(loops=2) as pool:
        future = pool.submit(blocker.block)
        assert blocker.blocks.wait(30)
        # Two would be one for each, if the first loop answered.
        for n in range(50):
            assert pool.submit(number, n).result(30) == n
        assert not future.done()
        blocker.let_go()
        assert future.result(30) == "done"


def test_what_a_blocked_loop_was_promised_goes_to_another() -> None:
    blocker, inside = Blocker(), threading.Semaphore(0)

    async def stand() -> None:
        inside.release()
        await asyncio.sleep(60)

    with mh.CoroutinePoolExecutor(loops=2, stall_after=0.02) as pool:
        futures = [pool.submit(stand) for _ in range(6)]
        for _ in range(6):
            assert inside.acquire(timeout=30)
        blocked = pool.submit(blocker.block)
        assert blocker.blocks.wait(30)
        # The other loop has as many now, so it is the blocked one's turn for some of these.
        futures += [pool.submit(stand) for _ in range(4)]
        for _ in range(4):
            assert inside.acquire(timeout=30)
        assert not blocked.done()
        blocker.let_go()
        blocked.result(30)
        for future in futures:
            future.cancel()


def test_the_watch_sleeps_when_there_is_nothing_to_do() -> None:
    with mh.CoroutinePoolExecutor(stall_after=0.004) as pool:
        pool.submit(number, 1).result(30)
        watch = pool._loops._watch
        assert watch is not None
        eventually(lambda: not watch._called.is_open, "it sleeps")
        blocker = Blocker()
        future = pool.submit(blocker.block)
        eventually(lambda: stalls(pool) == 1, "it is awake again")
        blocker.let_go()
        future.result(30)
