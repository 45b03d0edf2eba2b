"""Primitives in asyncio: awaited, cancelled, shared with threads and processes at the same time."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

LOCKS: list[Callable[[], Any]] = [mh.Lock, mh.RLock, mh.Semaphore, mh.BoundedSemaphore]


def name_of(kind: Any) -> str:
    return str(kind.__name__)


def run(main: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main, seconds)

    return asyncio.run(limited())


async def waiting(primitive: Any, count: int) -> None:
    """Lets the loop run until so many wait for the primitive."""
    while primitive.statistics()["waiting"] != count:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_coroutines_take_turns(kind: Callable[[], Any]) -> None:
    lock, total = kind(), [0]

    async def work() -> None:
        for _ in range(50):
            async with lock:
                seen = total[0]
                await asyncio.sleep(0)
                total[0] = seen + 1

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(4)))

    run(main())
    assert total == [200]


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_time_limit(kind: Callable[[], Any]) -> None:
    lock = kind()
    with mh.ThreadPoolExecutor(1) as other:
        other.submit(lock.acquire).result()
        assert run(lock.async_acquire(0)) is False
        assert run(lock.async_acquire(0.02)) is False
        other.submit(lock.release).result()
        assert run(lock.async_acquire(0)) is True


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_time_limit_is_a_number(kind: Callable[[], Any]) -> None:
    lock = kind()
    with mh.ThreadPoolExecutor(1) as other:
        other.submit(lock.acquire).result()
        with pytest.raises(ValueError, match="NaN"):
            run(lock.async_acquire(math.nan))
        other.submit(lock.release).result()


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_thread_lets_a_coroutine_go_on(kind: Callable[[], Any]) -> None:
    lock = kind()

    async def main(other: mh.ThreadPoolExecutor) -> None:
        other.submit(lock.acquire).result()
        task = asyncio.create_task(lock.async_acquire())
        await waiting(lock, 1)
        assert not task.done()
        other.submit(lock.release).result()
        assert await task is True
        if kind is mh.RLock:
            assert not lock.acquire(False), "the task owns it, not its thread"

    with mh.ThreadPoolExecutor(1) as other:
        run(main(other))


def test_the_loop_runs_while_a_coroutine_waits() -> None:
    lock = mh.Lock()

    async def main() -> int:
        await lock.async_acquire()
        task = asyncio.create_task(lock.async_acquire())
        rounds = 0
        while rounds < 100:
            await asyncio.sleep(0)
            rounds += 1
        lock.release()
        await task
        return rounds

    assert run(main()) == 100


def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    lock = mh.Lock()

    async def main() -> None:
        await lock.async_acquire()
        first = asyncio.create_task(lock.async_acquire())
        await waiting(lock, 1)
        second = asyncio.create_task(lock.async_acquire())
        await waiting(lock, 2)
        lock.release()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second
        assert lock.locked()
        lock.release()
        assert lock.statistics()["waiting"] == 0

    run(main())


def test_an_rlock_belongs_to_a_task() -> None:
    lock = mh.RLock()

    async def inner() -> bool:
        return bool(await lock.async_acquire(0.01))

    async def main() -> None:
        async with lock:
            async with lock:
                assert await asyncio.create_task(inner()) is False
            assert await asyncio.create_task(inner()) is False
            await lock.async_acquire()
            lock.release()
        assert await asyncio.create_task(inner()) is True

    run(main())


def test_an_event_is_awaited() -> None:
    event = mh.Event()

    async def main() -> None:
        assert await event.async_wait(0.01) is False
        tasks = [asyncio.create_task(event.async_wait()) for _ in range(5)]
        await waiting(event, 5)
        thread = threading.Thread(target=set_and_clear, args=(event,))
        thread.start()
        assert await asyncio.gather(*tasks) == [True] * 5
        thread.join()

    run(main())


def set_it(event: Any) -> None:
    event.set()


def set_and_clear(event: Any) -> None:
    event.set()
    event.clear()


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_a_process_wakes_a_coroutine(start: str) -> None:
    event = mh.Event()
    process = multiprocessing.get_context(start).Process(target=set_it, args=(event,))  # type: ignore[attr-defined]

    async def main() -> None:
        task = asyncio.create_task(event.async_wait())
        await waiting(event, 1)
        process.start()
        assert await task is True

    run(main(), 60)
    process.join(60)
    process.close()


@pytest.mark.parametrize("make_lock", [mh.Lock, mh.RLock], ids=name_of)
def test_a_condition_is_awaited(make_lock: Callable[[], Any]) -> None:
    condition, box = mh.Condition(make_lock()), [0]

    async def consume() -> int:
        async with condition:
            await condition.async_wait_for(lambda: box[0] > 0)
            box[0] -= 1
            return 1

    def produce() -> None:
        for _ in range(3):
            with condition:
                box[0] += 1
                condition.notify()

    async def main() -> None:
        async with condition:
            assert await condition.async_wait(0.01) is False
        tasks = [asyncio.create_task(consume()) for _ in range(3)]
        await waiting(condition, 3)
        thread = threading.Thread(target=produce)
        thread.start()
        assert sum(await asyncio.gather(*tasks)) == 3
        thread.join()

    run(main())
    assert box == [0]


def test_waiting_without_the_lock_is_an_error() -> None:
    condition = mh.Condition()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="un-acquired"):
            await condition.async_wait()

    run(main())


def test_a_cancelled_wait_for_a_condition_comes_back_with_the_lock() -> None:
    condition = mh.Condition()
    owned = []

    async def wait() -> None:
        async with condition:
            try:
                await condition.async_wait()
            finally:
                owned.append(condition._lock.locked())

    async def main() -> None:
        task = asyncio.create_task(wait())
        await waiting(condition, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert owned == [True]
    assert not condition._lock.locked()


def test_a_barrier_is_awaited_with_threads() -> None:
    barrier = mh.Barrier(3)

    async def main() -> None:
        with mh.ThreadPoolExecutor(1) as pool:
            thread = pool.submit(barrier.wait)
            numbers = await asyncio.gather(barrier.async_wait(), barrier.async_wait())
            assert sorted([*numbers, thread.result()]) == [0, 1, 2]
            with pytest.raises(threading.BrokenBarrierError):
                await barrier.async_wait(0.01)
            assert barrier.broken

    run(main())


def test_two_loops_wait_for_one_lock() -> None:
    lock = mh.Lock()
    lock.acquire()
    order: list[int] = []

    async def work(number: int) -> None:
        async with lock:
            order.append(number)

    with mh.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(asyncio.run, work(number)) for number in range(2)]
        eventually(lambda: lock.statistics()["waiting"] == 2, "both wait")
        lock.release()
        for future in futures:
            future.result()
    assert sorted(order) == [0, 1]


def test_a_loop_that_is_closed_without_shutdown_leaves_no_socket() -> None:
    def sockets() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(str(link.readlink()).startswith("socket:") for link in links)

    def wait() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(mh.Event().async_wait(0.001))
        loop.close()

    wait()
    before = sockets()
    for _ in range(20):
        wait()
    assert sockets() <= before + 1
    run(mh.Event().async_wait(0.001))


@pytest.mark.parametrize("lock", [None, mh.Lock, mh.RLock])
def test_coroutines_notify_each_other(lock: Callable[[], Any] | None) -> None:
    condition = mh.Condition(None if lock is None else lock())
    items: list[int] = []

    async def consume() -> int:
        async with condition:
            await condition.async_wait_for(lambda: items)
            return items.pop()

    async def main() -> list[int]:
        consumers = [asyncio.create_task(consume()) for _ in range(4)]
        await waiting(condition, 4)
        for number in range(2):
            async with condition:
                items.append(number)
                condition.notify()
        async with condition:
            items.extend([2, 3])
            condition.notify_all()
        return await asyncio.gather(*consumers)

    assert sorted(run(main())) == [0, 1, 2, 3]


def test_who_may_notify_and_wait_is_the_owner_not_a_task_beside_it() -> None:
    condition = mh.Condition()

    async def beside() -> None:
        with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
            condition.notify()
        with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
            await condition.async_wait(1)

    async def main() -> None:
        async with condition:
            await asyncio.create_task(beside())
            with pytest.raises(RuntimeError, match="await async_wait"):
                condition.wait(1)
            condition.notify_all()

    run(main())
    assert not condition._lock.locked()


def test_thousands_of_coroutines_wait() -> None:
    async def main() -> None:
        condition = mh.Condition(mh.Lock())

        async def wait() -> None:
            async with condition:
                await condition.async_wait()

        tasks = [asyncio.create_task(wait()) for _ in range(1500)]
        await waiting(condition, len(tasks))
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)

    run(main())
