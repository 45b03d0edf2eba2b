"""Lock, RLock, Semaphore, Event, Condition, Barrier: one object for all kinds of workers."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import pickle
import threading
import weakref
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

STARTS = ["fork", "spawn", "forkserver"]
LOCKS: list[Callable[[], Any]] = [mh.Lock, mh.RLock, mh.Semaphore, mh.BoundedSemaphore]


def name_of(kind: Any) -> str:
    return str(kind.__name__)


def add(lock: Any, total: Any, times: int) -> None:
    """Add to a number in two steps, between which others would lose their additions."""
    for _ in range(times):
        with lock:
            seen = total[0]
            total[0] = seen + 1


def started(context: BaseContext, fn: Callable[..., None], *args: Any) -> Any:
    process = context.Process(target=fn, args=args)  # type: ignore[attr-defined]
    process.start()
    return process


def ended_well(*processes: Any) -> None:
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_acquire_and_release(kind: Callable[[], Any]) -> None:
    lock = kind()
    assert lock.acquire() is True
    if kind is not mh.RLock:
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0.01) is False
        assert lock.acquire(blocking=False) is False
        assert lock.acquire(block=False) is False
    assert lock.release() is None
    with lock as entered:
        assert entered is True
    assert lock.acquire(True, 5)
    lock.release()
    assert lock.acquire(block=True, timeout=None)
    lock.release()


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_arguments_that_make_no_sense(kind: Callable[[], Any]) -> None:
    lock = kind()
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(False, 1)
    if kind in (mh.Lock, mh.RLock):
        with pytest.raises(ValueError, match="non-negative"):
            lock.acquire(timeout=-100)
    with pytest.raises(OverflowError):
        lock.acquire(timeout=1e100)
    with pytest.raises(TypeError):
        lock.acquire(True, "soon")
    with pytest.raises(TypeError):
        lock.acquire(True, 1, 2)
    with pytest.raises(TypeError, match="until"):
        lock.acquire(until=1)
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock, mh.BoundedSemaphore], ids=name_of)
@pytest.mark.parametrize("error", [RuntimeError, ValueError, AssertionError, mh.ManyhandsError])
def test_release_without_acquire(kind: Callable[[], Any], error: type[Exception]) -> None:
    lock = kind()
    with pytest.raises(error):
        lock.release()
    assert lock.acquire(False)
    lock.release()


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("start", STARTS)
def test_processes_take_turns(kind: Callable[[], Any], start: str) -> None:
    context = multiprocessing.get_context(start)
    lock, total = kind(), context.Array("q", 1, lock=False)
    processes = [started(context, add, lock, total, 300) for _ in range(2)]
    add(lock, total, 300)
    ended_well(*processes)
    assert total[0] == 900


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_threads_take_turns(kind: Callable[[], Any]) -> None:
    lock, total = kind(), [0]
    with mh.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: add(lock, total, 200), range(4)))
    assert total == [800]


def add_in_task(lock: Any, total: Any, times: int) -> int:
    add(lock, total, times)
    return times


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_tasks_take_turns(kind: Callable[[], Any]) -> None:
    np = pytest.importorskip("numpy")
    lock = kind()
    total = mh.share(np.zeros(1, dtype=np.int64), writable=True)
    with mh.ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(add_in_task, lock, total, 100) for _ in range(4)]
        add(lock, total, 100)
        assert sum(future.result() for future in futures) == 400
    assert total[0] == 500


@pytest.mark.on_each_python
def test_one_lock_for_threads_tasks_and_processes_at_once() -> None:
    context = multiprocessing.get_context("spawn")
    lock, total = mh.Lock(), context.Array("q", 1, lock=False)
    process = started(context, add, lock, total, 200)
    thread = threading.Thread(target=add, args=(lock, total, 200))
    thread.start()

    async def coroutine() -> None:
        for _ in range(200):
            async with lock:
                seen = total[0]
                await asyncio.sleep(0)
                total[0] = seen + 1

    async def two() -> None:
        await asyncio.gather(coroutine(), coroutine())

    asyncio.run(two())
    thread.join()
    ended_well(process)
    assert total[0] == 800


def hold(lock: Any, held: Any, go_on: Any) -> None:
    with lock:
        held.set()
        go_on.wait()


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock], ids=name_of)
def test_statistics_and_repr_name_the_owner(kind: Callable[[], Any]) -> None:
    lock = kind()
    assert "unlocked" in repr(lock)
    with lock:
        assert "unlocked" not in repr(lock)
        assert "locked" in repr(lock)
        assert lock.statistics()["owner"]["pid"] == multiprocessing.current_process().pid
    assert lock.statistics()["owner"] is None


def test_a_lock_can_be_released_by_another_thread_and_process() -> None:
    context = multiprocessing.get_context("fork")
    lock = mh.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(timeout=0)
    ended_well(started(context, lock.release))
    assert lock.acquire(timeout=0)
    lock.release()


def test_an_rlock_counts_and_knows_its_owner() -> None:
    lock = mh.RLock()
    for _ in range(3):
        assert lock.acquire()
    with mh.ThreadPoolExecutor(1) as other:
        assert other.submit(lock.acquire, False).result() is False
        for _ in range(2):
            lock.release()
            assert other.submit(lock.acquire, False).result() is False
        with pytest.raises(RuntimeError, match="un-acquired"):
            other.submit(lock.release).result()
        lock.release()
        assert other.submit(lock.acquire, False).result() is True
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()
        other.submit(lock.release).result()


def test_a_semaphore_has_as_many_permits_as_said() -> None:
    semaphore = mh.Semaphore(3)
    assert [semaphore.acquire(False) for _ in range(4)] == [True, True, True, False]
    semaphore.release(2)
    assert semaphore.get_value() == 2
    semaphore.release(5)
    assert semaphore.get_value() == 7
    with pytest.raises(ValueError, match="one or more"):
        semaphore.release(0)
    with pytest.raises(ValueError, match=">= 0"):
        mh.Semaphore(-1)
    empty = mh.Semaphore(0)
    assert not empty.acquire(False)
    empty.release()
    assert empty.acquire(False)


def test_a_bounded_semaphore_is_bounded() -> None:
    semaphore = mh.BoundedSemaphore(2)
    semaphore.acquire()
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release(2)
    semaphore.release()
    assert semaphore.get_value() == 2


@pytest.mark.parametrize("start", STARTS)
def test_an_event_between_processes(start: str) -> None:
    context = multiprocessing.get_context(start)
    lock, held, go_on = mh.Lock(), mh.Event(), mh.Event()
    process = started(context, hold, lock, held, go_on)
    assert held.wait(60)
    assert not lock.acquire(False)
    go_on.set()
    ended_well(process)
    assert lock.acquire(False)
    assert held.is_set()
    held.clear()
    assert not held.is_set()
    assert held.wait(0.01) is False


def test_a_waiter_sees_an_event_that_was_set_and_cleared() -> None:
    event = mh.Event()
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(event.wait)
        eventually(lambda: event.statistics()["waiting"] == 1, "the thread waits")
        event.set()
        event.clear()
        assert future.result() is True


def consume(condition: Any, box: Any, taken: Any) -> None:
    with condition:
        condition.wait_for(lambda: box[0] > 0)
        box[0] -= 1
        taken[0] += 1


@pytest.mark.parametrize("start", STARTS)
def test_a_condition_between_processes(start: str) -> None:
    context = multiprocessing.get_context(start)
    condition = mh.Condition()
    box, taken = context.Array("q", 1, lock=False), context.Array("q", 1, lock=False)
    processes = [started(context, consume, condition, box, taken) for _ in range(3)]
    for sent in range(3):
        with condition:
            box[0] += 1
            condition.notify()
            assert condition.wait_for(lambda: True)
        assert sent < 3
    with condition:
        condition.notify_all()
    ended_well(*processes)
    assert (box[0], taken[0]) == (0, 3)


def meet(barrier: Any, numbers: Any) -> None:
    numbers[barrier.wait(60)] += 1


@pytest.mark.parametrize("start", STARTS)
def test_a_barrier_between_processes(start: str) -> None:
    context = multiprocessing.get_context(start)
    barrier, numbers = mh.Barrier(3), context.Array("q", 3, lock=False)
    processes = [started(context, meet, barrier, numbers) for _ in range(2)]
    meet(barrier, numbers)
    ended_well(*processes)
    assert list(numbers) == [1, 1, 1]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


@pytest.mark.on_each_python
@pytest.mark.parametrize(
    "make",
    [
        mh.Lock,
        mh.RLock,
        mh.Semaphore,
        mh.BoundedSemaphore,
        mh.Event,
        mh.Condition,
        lambda: mh.Barrier(2),
    ],
)
def test_pickled_and_loaded_it_is_the_same_object(make: Callable[[], Any]) -> None:
    original = make()
    copy: Any = pickle.loads(pickle.dumps(original))
    assert type(copy) is type(original)
    assert weakref.ref(copy)() is not None
    if hasattr(original, "set"):
        original.set()
        assert copy.is_set()
    elif hasattr(original, "parties"):
        original.abort()
        assert copy.broken
    else:
        with original, mh.ThreadPoolExecutor(1) as other:
            assert other.submit(copy.acquire, False).result() is False
    del original
    repr(copy)


def test_names() -> None:
    first, second = mh.Lock(name="test-names"), mh.Lock(name="test-names")
    assert first.name == second.name == "test-names"
    with first:
        assert not second.acquire(False)
    assert mh.Lock().name is None
    with pytest.raises(ValueError, match="test-names"):
        mh.Event(name="test-names")
    del first, second
    assert mh.Event(name="test-names").is_set() is False


@pytest.mark.parametrize("make", [mh.Lock, mh.RLock])
def test_a_condition_says_whether_its_lock_is_taken(make: Callable[[], Any]) -> None:
    condition = mh.Condition(make())
    assert not condition.locked()
    with condition:
        assert condition.locked()
    assert not condition.locked()


@pytest.mark.on_each_python
def test_no_number_is_no_time_to_wait_for_a_condition() -> None:
    condition = mh.Condition()
    with condition, pytest.raises(ValueError, match="NaN"):
        condition.wait_for(lambda: False, math.nan)

    async def wait() -> None:
        async with condition:
            await condition.async_wait_for(lambda: False, math.nan)

    with pytest.raises(ValueError, match="NaN"):
        asyncio.run(wait())


def test_an_rlock_shows_how_often_it_is_acquired() -> None:
    lock = mh.RLock()
    assert " count=0 " in repr(lock)
    with lock, lock:
        assert " count=2 " in repr(lock)
