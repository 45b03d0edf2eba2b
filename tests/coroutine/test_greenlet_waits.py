"""Our own waits in tasks that are greenlets: they switch, and their event loop goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from queue import Empty, Full
from typing import Any

import pytest

import manyhands as mh

pytest.importorskip("greenlet")


@pytest.fixture
def pool() -> Iterator[mh.GreenletPoolExecutor]:
    # A loop that is blocked shows: what would let the task go on runs in the same loop.
    with mh.GreenletPoolExecutor() as executor:
        yield executor


def pass_on(pool: mh.GreenletPoolExecutor, wait: Callable[[], Any], lets: Callable[[], Any]) -> Any:
    """Have a task wait, and another one of its loop let it go on; return what it waited for."""
    begins = threading.Event()

    def waits() -> Any:
        begins.set()
        return wait()

    future = pool.submit(waits)
    assert begins.wait(30)
    assert not future.done()
    pool.submit(lets).result(30)
    return future.result(30)


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock, mh.Semaphore, mh.BoundedSemaphore])
def test_what_is_acquired_is_waited_for(pool: mh.GreenletPoolExecutor, kind: Any) -> None:
    lock, held, order = kind(), mh.Event(), list[str]()

    def first() -> None:
        with lock:
            held.set()
            mh.sleep(0.02)
            order.append("first")

    def second() -> None:
        held.wait()
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0.001)
        with lock:
            order.append("second")
        assert lock.acquire()
        lock.release()

    futures = [pool.submit(second), pool.submit(first)]
    assert [future.result(30) for future in futures] == [None, None]
    assert order == ["first", "second"]
    assert not lock.locked()


def test_an_rlock_is_that_of_one_task(pool: mh.GreenletPoolExecutor) -> None:
    lock, inside = mh.RLock(), list[int]()

    async def again() -> int:
        async with lock:  # as a part of the same task
            return len(inside)

    def enter(number: int) -> None:
        with lock, lock:
            inside.append(number)
            mh.sleep(0.005)
            assert mh.await_(again()) == 1
            assert inside.pop() == number
        with pytest.raises(mh.ReleaseError):
            lock.release()

    assert list(pool.map(enter, range(5))) == [None] * 5


def test_threads_and_greenlets_share_a_lock(pool: mh.GreenletPoolExecutor) -> None:
    lock, count = mh.RLock(), 0

    def add() -> None:
        nonlocal count
        for _ in range(20):
            with lock:
                seen = count
                mh.sleep(0)
                count = seen + 1

    with mh.ThreadPoolExecutor(4) as threads:
        futures = [executor.submit(add) for executor in (pool, threads) for _ in range(4)]
        for future in futures:
            future.result(60)
    assert count == 160


def test_an_event_is_waited_for(pool: mh.GreenletPoolExecutor) -> None:
    event = mh.Event()
    assert pool.submit(event.wait, 0.001).result(30) is False
    assert pass_on(pool, event.wait, event.set) is True


@pytest.mark.parametrize("of", [mh.RLock, mh.Lock])
def test_a_condition_is_waited_for(pool: mh.GreenletPoolExecutor, of: Any) -> None:
    condition, items = mh.Condition(of()), list[int]()

    def take() -> int:
        with condition:
            assert condition.wait_for(lambda: items, 30)
            return items.pop()

    def give() -> None:
        with condition:
            items.append(3)
            condition.notify()

    def wait() -> bool:
        with condition:
            return condition.wait(0.001)

    assert pass_on(pool, take, give) == 3
    assert pool.submit(wait).result(30) is False
    assert isinstance(pool.submit(condition.wait).exception(30), RuntimeError)  # not acquired


def test_a_barrier_is_waited_for(pool: mh.GreenletPoolExecutor) -> None:
    acts = list[str]()
    barrier = mh.Barrier(3, lambda: acts.append("acts"))
    assert sorted(pool.map(lambda _: barrier.wait(30), range(3))) == [0, 1, 2]
    assert acts == ["acts"]
    with pytest.raises(threading.BrokenBarrierError):
        pool.submit(barrier.wait, 0.001).result(30)


@pytest.mark.parametrize("kind", [mh.Queue, mh.LifoQueue, mh.JoinableQueue])
def test_a_queue_is_waited_for(pool: mh.GreenletPoolExecutor, kind: Any) -> None:
    queue = kind(maxsize=1)
    assert pass_on(pool, queue.get, lambda: queue.put("item")) == "item"
    queue.task_done()
    queue.put(1)
    assert pass_on(pool, lambda: queue.put(2), queue.get) is None
    assert pool.submit(queue.get).result(30) == 2
    for _ in range(2):
        queue.task_done()

    def raises(error: type[Exception], call: Callable[..., Any], *args: Any) -> bool:
        with pytest.raises(error):
            call(*args)
        return True

    assert pool.submit(raises, Empty, queue.get, True, 0.001).result(30)
    assert pool.submit(raises, Empty, queue.get, False).result(30)
    assert pool.submit(raises, Empty, queue.get_many, 2, 0.001).result(30)
    queue.put("full")
    assert pool.submit(raises, Full, queue.put, 1, True, 0.001).result(30)
    assert pass_on(pool, queue.join, lambda: (queue.get(), queue.task_done())) is None


def test_many_items_are_waited_for(pool: mh.GreenletPoolExecutor) -> None:
    queue: mh.Queue[int] = mh.Queue(maxsize=2)

    def put() -> None:
        queue.put_many(range(10))
        queue.put_many([10, 11])
        queue.shutdown()

    def take() -> list[int]:
        first = queue.get_many(3, 30)
        return [*first, *queue]

    taken = pool.submit(take)
    pool.submit(put).result(30)
    assert taken.result(30) == [*range(12)]


def test_other_processes_are_waited_for(pool: mh.GreenletPoolExecutor) -> None:
    queue: mh.Queue[str] = mh.Queue()
    taken = pool.submit(queue.get)
    mh.shared_pool().submit(queue.put, "from far").result(30)
    assert taken.result(30) == "from far"


@pytest.mark.parametrize("kind", ["thread", "greenlet", "coroutine"])
def test_futures_are_waited_for(pool: mh.GreenletPoolExecutor, kind: str) -> None:
    event = mh.Event()

    async def waits() -> str:
        await event.async_wait()
        return "done"

    executors = {"thread": mh.ThreadPoolExecutor, "coroutine": mh.CoroutinePoolExecutor}
    # Greenlets may even wait for others of the same loop.
    executor = executors[kind]() if kind in executors else pool
    with executor if executor is not pool else threading.Lock():
        work: Any = event.wait if kind == "thread" else waits
        future = executor.submit(work)

        def look() -> None:
            with pytest.raises(TimeoutError):
                future.result(0.001)

        pool.submit(look).result(30)
        assert pass_on(pool, future.result, event.set)
        assert pool.submit(future.exception).result(30) is None


def test_what_became_of_a_future_is_told_as_anywhere(pool: mh.GreenletPoolExecutor) -> None:
    with mh.ThreadPoolExecutor(1) as threads:
        event = mh.Event()
        threads.submit(event.wait)
        failing, cancelled = threads.submit(int, "x"), threads.submit(int)

        def look() -> None:
            with pytest.raises(ValueError, match="invalid literal"):
                failing.result(30)
            assert isinstance(failing.exception(), ValueError)

        looks = pool.submit(look)

        def look_again() -> None:
            with pytest.raises(CancelledError):
                cancelled.result(30)

        looks_again = pool.submit(look_again)
        cancelled.cancel()
        event.set()
        assert looks.result(30) is looks_again.result(30) is None


def test_several_futures_are_waited_for(pool: mh.GreenletPoolExecutor) -> None:
    with mh.ThreadPoolExecutor(3) as threads:
        event = mh.Event()
        futures = [threads.submit(event.wait) for _ in range(3)]
        waited = pass_on(pool, lambda: mh.wait(futures, 30), event.set)
        assert waited.done == {*futures}
        assert set(pool.submit(lambda: [*mh.as_completed(futures)]).result(30)) == {*futures}
        assert pool.submit(mh.map, abs, [-1, 2], workers="thread").result(30) == [1, 2]


def test_a_wait_is_left_when_its_task_is_cancelled(pool: mh.GreenletPoolExecutor) -> None:
    lock, queue, event = mh.Lock(), mh.Queue[int](), mh.Event()
    lock.acquire()
    with mh.ThreadPoolExecutor(1) as threads:
        waited_for = threads.submit(event.wait)
        waits: list[Callable[[], Any]] = [
            lock.acquire,
            queue.get,
            event.wait,
            lambda: mh.sleep(60),
            waited_for.result,
            lambda: mh.wait([waited_for]),
        ]
        for wait in waits:
            begins = threading.Event()

            def run(wait: Callable[[], Any] = wait, begins: threading.Event = begins) -> None:
                begins.set()
                wait()

            future = pool.submit(run)
            assert begins.wait(30)
            assert future.cancel()
        event.set()
        assert waited_for.result(30) is True
    lock.release()
    queue.put(1)
    assert queue.get(timeout=30) == 1
    assert lock.acquire(timeout=30)


def test_sleeping_is_side_by_side(pool: mh.GreenletPoolExecutor) -> None:
    order = list[str]()

    def sleep(name: str, seconds: float) -> None:
        mh.sleep(seconds)
        order.append(name)

    futures = [pool.submit(sleep, "long", 0.2), pool.submit(sleep, "short", 0.01)]
    for future in futures:
        future.result(30)
    assert order == ["short", "long"]
    assert isinstance(pool.submit(mh.sleep, -1).exception(30), ValueError)


def test_coroutines_of_such_a_loop_wait_as_ever(pool: mh.GreenletPoolExecutor) -> None:
    event = mh.Event()

    async def blocks() -> bool:
        # Not a greenlet, but a function that one awaits: it may not switch.
        return event.wait(0.001)

    def waits() -> bool:
        return mh.await_(blocks())

    assert pool.submit(waits).result(30) is False
    started = time.monotonic()
    assert pool.submit(blocks).result(30) is False
    assert time.monotonic() - started > 0.0005
