"""Queues between processes and in coroutines; deaths, names, signals."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import queue as stdlib
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import manyhands as mh
from children import METHODS, WAIT_S, child, sleeps, thread
from eventually import eventually

MIB = 1 << 20
FIFOS = (mh.Queue, mh.JoinableQueue, mh.SimpleQueue)
SIZED = (mh.Queue, mh.JoinableQueue, mh.LifoQueue, mh.PriorityQueue)
EVERY = (*SIZED, mh.SimpleQueue)


def an_item(queue: Any, value: Any) -> Any:
    """Return what a queue of this kind takes."""
    return (0, value) if isinstance(queue, mh.PriorityQueue) else value


# ---------------------------------------------------------------------- processes


def produce_numbers(queue: Any, start: int, count: int) -> None:
    for n in range(start, start + count):
        queue.put(an_item(queue, n))


def echo(source: Any, target: Any) -> None:
    while (item := source.get(timeout=WAIT_S)) is not None:
        target.put(item)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", EVERY)
def test_processes(kind: Any, method: str) -> None:
    queue = kind()
    with child(method, produce_numbers, queue, 0, 100):
        got = [queue.get(timeout=WAIT_S) for _ in range(100)]
    assert sorted(got) == [an_item(queue, n) for n in range(100)]


@pytest.mark.parametrize("method", METHODS)
def test_back_and_forth(method: str) -> None:
    there, back = mh.Queue(maxsize=3), mh.SimpleQueue()
    with child(method, echo, there, back):
        for item in (1, "two", [3], bytes(MIB), np.arange(5)):
            there.put(item)
            got = back.get(timeout=WAIT_S)
            assert np.array_equal(got, item)
        there.put(None)


def start_and_forget(method: str, queue: Any) -> Any:
    context = multiprocessing.get_context(method)
    process = context.Process(target=produce_numbers, args=(mh.Queue(), 0, 1))  # type: ignore[attr-defined]
    process.start()
    return process


@pytest.mark.parametrize("method", METHODS)
def test_a_queue_that_only_the_child_will_have(method: str) -> None:
    process = start_and_forget(method, None)
    gc.collect()
    process.join(WAIT_S)
    assert process.exitcode == 0
    process.close()


def test_tasks_get_queues() -> None:
    queue = mh.Queue()
    with mh.ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(produce_numbers, queue, n * 100, 100) for n in range(4)]
        got = [queue.get(timeout=WAIT_S) for _ in range(400)]
        for future in futures:
            future.result(timeout=WAIT_S)
        assert sorted(got) == list(range(400))
        same = pool.submit(lambda q: q, queue).result(timeout=WAIT_S)
        same.put("the same")
        assert queue.get(timeout=WAIT_S) == "the same"


def put_when_told(queue: Any, go: Any, back: Any) -> None:
    go.get(timeout=WAIT_S)
    queue.put("still there")
    back.put(queue.get(timeout=WAIT_S))


def test_a_child_goes_on_when_its_parent_lets_go() -> None:
    queue, go, back = mh.Queue(), mh.Queue(), mh.Queue()
    with child("fork", put_when_told, queue, go, back):
        del queue
        gc.collect()
        go.put(None)
        assert back.get(timeout=WAIT_S) == "still there"


def by_name(name: str, program: str) -> None:
    command = [sys.executable, "-c", f"import manyhands as mh\nname = {name!r}\n{program}"]
    subprocess.run(command, check=True, timeout=WAIT_S)


def test_names() -> None:
    name = f"queue-{uuid.uuid4()}"
    queue = mh.Queue(maxsize=10, name=name)
    assert queue.name == name
    assert f"name={name!r}" in repr(queue)
    by_name(name, "mh.Queue(maxsize=10, name=name).put({'from': 'elsewhere'})")
    assert queue.get(timeout=WAIT_S) == {"from": "elsewhere"}
    with pytest.raises(ValueError, match=f"{name}.* made with maxsize 10, not 11"):
        mh.Queue(maxsize=11, name=name)
    with pytest.raises(ValueError, match="of kind Queue, not LifoQueue"):
        mh.LifoQueue(name=name)
    queue.put("kept while somebody has it")
    del queue
    gc.collect()
    # `top`, which looks at everything, may have it for a moment.
    eventually(lambda: mh.Queue(maxsize=10, name=name).empty(), "gone with its last user")


def test_who_opens_a_queue_by_name_need_not_say_how_much_memory() -> None:
    name = str(uuid.uuid4())
    queue = mh.Queue(name=name, memory=MIB)
    by_name(name, "mh.Queue(name=name).put(1)")
    mh.Queue(name=name, memory=8 * MIB).put(2)
    assert queue.get_many(3) == [1, 2]
    with pytest.raises(ValueError, match="too large"):
        mh.Queue(name=name, memory=8 * MIB).put(bytes(2 * MIB))


@pytest.mark.parametrize("method", METHODS)
def test_one_queue_many_processes(method: str) -> None:
    tasks, results, workers, count = mh.Queue(maxsize=20), mh.Queue(), 3, 600
    processes = [child(method, echo, tasks, results) for _ in range(workers)]
    with processes[0], processes[1], processes[2]:
        with thread(tasks.put_many, range(count)):
            got = [results.get(timeout=WAIT_S) for _ in range(count)]
        tasks.put_many([None] * workers)
    assert Counter(got) == Counter(range(count))


def put_for_ever(queue: Any) -> None:
    item = 0
    while True:
        queue.put((item, "x" * (item % 3000)))
        item += 1


def get_for_ever(queue: Any, taken: Any) -> None:
    while True:
        taken.put(queue.get())


def test_killed_producers_leave_whole_items() -> None:
    queue = mh.Queue(maxsize=50)
    context = multiprocessing.get_context("fork")
    for _ in range(15):
        process = context.Process(target=put_for_ever, args=(queue,))
        process.start()
        for _ in range(100):
            queue.get(timeout=WAIT_S)
        process.kill()
        process.join()
        process.close()
        left = queue.get_many(60, timeout=0) if not queue.empty() else []
        assert all(text == "x" * (number % 3000) for number, text in left)
        numbers = [number for number, _ in left]
        assert numbers == list(range(numbers[0], numbers[-1] + 1) if numbers else ())
    queue.put("goes on")
    assert queue.get(timeout=WAIT_S) == "goes on"


def test_killed_consumers_lose_what_they_took_and_no_more() -> None:
    queue, taken = mh.Queue(), mh.Queue()
    context = multiprocessing.get_context("fork")
    rounds, count = 15, 3000
    queue.put_many(range(count))
    got: list[int] = []
    for _ in range(rounds):
        process = context.Process(target=get_for_ever, args=(queue, taken))
        process.start()
        got += [taken.get(timeout=WAIT_S) for _ in range(50)]
        process.kill()
        process.join()
        process.close()
    got += taken.get_many(count) if taken.qsize() else []
    got += queue.get_many(count) if queue.qsize() else []
    assert len(got) == len(set(got))
    assert len(got) >= count - rounds, "at most what each of them had in hand"


def test_a_stopped_consumer_is_not_robbed_of_its_place() -> None:
    queue, taken = mh.Queue(), mh.Queue()
    with child("fork", echo, queue, taken) as process:
        queue.put(1)
        assert taken.get(timeout=WAIT_S) == 1
        os.kill(process.pid, signal.SIGSTOP)
        queue.put(2)
        assert queue.get(timeout=WAIT_S) == 2, "who runs may take it"
        queue.put(3)
        os.kill(process.pid, signal.SIGCONT)
        assert taken.get(timeout=WAIT_S) == 3
        queue.put(None)


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize("waiting", ["get", "put", "join", "get_many"])
def test_ctrl_c_ends_a_wait_and_loses_nothing(waiting: str) -> None:
    queue = mh.Queue(maxsize=1)
    if waiting in ("put", "join"):
        queue.put(0)
    calls: dict[str, Callable[[], object]] = {
        "get": queue.get,
        "put": lambda: queue.put(1),
        "join": queue.join,
        "get_many": lambda: queue.get_many(2),
    }
    main = threading.get_native_id()

    def interrupt() -> None:
        eventually(lambda: sleeps(main), "the main thread waits")
        os.kill(os.getpid(), signal.SIGINT)

    with thread(interrupt):
        with pytest.raises(KeyboardInterrupt):
            calls[waiting]()
    assert queue.qsize() == (1 if waiting in ("put", "join") else 0)
    if queue.full():
        assert queue.get() == 0
        queue.task_done()
    queue.put(5)
    assert queue.get() == 5


@pytest.mark.on_each_python
def test_a_signal_handler_may_use_the_queue_that_is_waited_for() -> None:
    queue = mh.Queue()
    before = signal.signal(signal.SIGALRM, lambda *_: queue.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert queue.get(timeout=WAIT_S) == "from the handler"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------- coroutines


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, WAIT_S))


@pytest.mark.on_each_python
@pytest.mark.parametrize("kind", EVERY)
def test_a_coroutine_waits_for_a_thread(kind: Any) -> None:
    queue = kind()

    async def main() -> Any:
        task = asyncio.create_task(queue.async_get())
        await asyncio.sleep(0)
        with thread(queue.put, an_item(queue, "x")):
            return await task

    assert run(main()) == an_item(queue, "x")


@pytest.mark.on_each_python
@pytest.mark.parametrize("method", METHODS)
def test_coroutines_and_processes(method: str) -> None:
    there, back = mh.Queue(maxsize=2), mh.Queue(maxsize=2)

    async def send(count: int) -> None:
        for n in range(count):
            await there.async_put(n)
        await there.async_put(None)

    async def main(count: int) -> list[Any]:
        sender = asyncio.create_task(send(count))
        got = [await back.async_get() for _ in range(count)]
        await sender
        return got

    with child(method, echo, there, back):
        assert run(main(300)) == list(range(300))


@pytest.mark.on_each_python
def test_many_coroutines_at_one_queue() -> None:
    queue = mh.Queue()

    async def main() -> list[int]:
        takers = [asyncio.create_task(queue.async_get()) for _ in range(50)]
        await asyncio.sleep(0)
        with thread(produce_numbers, queue, 0, 50):
            return sorted(await asyncio.gather(*takers))

    assert run(main()) == list(range(50))


@pytest.mark.on_each_python
def test_times_of_coroutines() -> None:
    queue = mh.Queue(maxsize=1)

    async def main() -> None:
        with pytest.raises(stdlib.Empty):
            await queue.async_get(timeout=0.01)
        with pytest.raises(stdlib.Empty):
            await queue.async_get_many(3, timeout=0.01)
        await queue.async_put(1)
        with pytest.raises(stdlib.Full):
            await queue.async_put(2, timeout=0.01)
        assert not await queue.async_join(timeout=0.01)
        assert await queue.async_get_many(3) == [1]
        queue.task_done()
        assert await queue.async_join()

    run(main())


@pytest.mark.on_each_python
def test_async_put_many_and_async_for() -> None:
    queue = mh.Queue(maxsize=3)

    async def produce() -> None:
        await queue.async_put_many(range(100))
        queue.shutdown()

    async def main() -> list[int]:
        producer = asyncio.create_task(produce())
        got = [item async for item in queue]
        await producer
        return got

    assert run(main()) == list(range(100))


@pytest.mark.on_each_python
@pytest.mark.parametrize("kind", [mh.Queue, mh.PriorityQueue])
def test_async_put_many_says_how_many_went_in(kind: Any) -> None:
    queue = kind(3)
    items = [an_item(queue, n) for n in range(10)]

    async def main() -> None:
        with pytest.raises(stdlib.Full) as full:
            await queue.async_put_many(items, timeout=0.01)
        assert full.value.items_put == 3  # type: ignore[attr-defined]
        assert len(await queue.async_get_many(2)) == 2
        task = asyncio.create_task(queue.async_put_many(items))
        while not queue.full():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert cancelled.value.items_put == 2  # type: ignore[attr-defined]

    run(main())
    assert queue.qsize() == 3


def put_and_get_long_items(queue: Any) -> None:
    item = bytes(32 * MIB)
    while True:
        queue.put(item)
        queue.get()


def stop_in_the_middle(process: Any, queue: Any) -> None:
    """Stop the process while it copies an item in or out: nobody else gets at the queue."""
    moments = random.Random(7)
    for _ in range(200):
        # Not to wait for something: at any moment, and not always at the same.
        time.sleep(moments.uniform(0.01, 0.06))
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        if queue.statistics()["unfinished"] is None:
            return
        os.kill(process.pid, signal.SIGCONT)
    raise AssertionError("the process was never in the middle of an item")


def longest_pause_with_one_stopped_in_the_middle() -> float:
    queue = mh.LifoQueue()
    pauses = []

    async def beat() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - before)

    async def main() -> None:
        heart = asyncio.create_task(beat())
        for refused, call in (
            (stdlib.Full, queue.async_put("x", timeout=0.05)),
            (stdlib.Full, queue.async_put_many(["x"], timeout=0.05)),
            (stdlib.Empty, queue.async_get(timeout=0.05)),
            (stdlib.Empty, queue.async_get_many(2, timeout=0.05)),
        ):
            with pytest.raises(refused):
                await call
        assert not await queue.async_join(timeout=0.05)
        heart.cancel()

    process = multiprocessing.get_context("fork").Process(
        target=put_and_get_long_items, args=(queue,), daemon=True
    )
    process.start()
    try:
        stop_in_the_middle(process, queue)
        run(main())
    finally:
        process.kill()
        process.join()
    queue.put("goes on")
    assert queue.get(timeout=WAIT_S) == "goes on"
    return max(pauses)


def test_who_is_stopped_in_the_middle_does_not_keep_the_event_loop() -> None:
    # Whoever waits for the one that is stopped waits a second, every time. On a busy machine the
    # loop may have to wait as long for its turn, but not every time.
    assert any(longest_pause_with_one_stopped_in_the_middle() < 0.5 for _ in range(4))


@pytest.mark.on_each_python
def test_a_cancelled_coroutine_takes_nothing_along() -> None:
    queue = mh.Queue()

    async def main() -> list[str]:
        first = asyncio.create_task(queue.async_get())
        second = asyncio.create_task(queue.async_get())
        await asyncio.sleep(0)
        queue.put("x")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        got = [await second]
        queue.put("y")
        return got + [await queue.async_get()]

    assert run(main()) == ["x", "y"]


@pytest.mark.on_each_python
def test_an_item_is_pickled_when_async_put_is_called() -> None:
    queue = mh.Queue(maxsize=1)
    item = ["before"]

    async def main() -> Any:
        queue.put(0)
        task = asyncio.create_task(queue.async_put(item))
        await asyncio.sleep(0)
        item.append("after")
        assert queue.get() == 0
        await task
        return queue.get()

    assert run(main()) == ["before"]


@pytest.mark.on_each_python
def test_errors_of_coroutines() -> None:
    queue = mh.Queue(maxsize=1)

    async def main() -> None:
        with pytest.raises((TypeError, pickle.PicklingError)):
            await queue.async_put(threading.Lock())
        task = asyncio.create_task(queue.async_get())
        await asyncio.sleep(0)
        queue.shutdown()
        with pytest.raises(mh.ShutDown):
            await task
        with pytest.raises(mh.ShutDown):
            await queue.async_put(1)
        queue.close()
        with pytest.raises(ValueError, match="is closed"):
            await queue.async_get()

    run(main())
