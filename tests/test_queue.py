"""Queues: between threads, processes and coroutines."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import queue as stdlib
import signal
import subprocess
import sys
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manyhands as mh
from eventually import eventually

WAIT_S = 30.0
MIB = 1 << 20
METHODS = ("fork", "spawn", "forkserver")
FIFOS = (mh.Queue, mh.JoinableQueue, mh.SimpleQueue)
SIZED = (mh.Queue, mh.JoinableQueue, mh.LifoQueue, mh.PriorityQueue)
EVERY = (*SIZED, mh.SimpleQueue)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def an_item(queue: Any, value: Any) -> Any:
    """What a queue of this kind takes."""
    return (0, value) if isinstance(queue, mh.PriorityQueue) else value


@contextmanager
def child(method: str, target: Callable[..., None], *args: Any) -> Iterator[Any]:
    """A process that must end by itself, and well."""
    process = multiprocessing.get_context(method).Process(target=target, args=args)  # type: ignore[attr-defined]
    process.start()
    try:
        yield process
        process.join(WAIT_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()


@contextmanager
def thread(target: Callable[..., object], *args: Any) -> Iterator[threading.Thread]:
    made = threading.Thread(target=target, args=args)
    made.start()
    yield made
    made.join(WAIT_S)
    assert not made.is_alive()


def is_waiting(queue: Any) -> Callable[[], bool]:
    """Whether somebody sleeps at the queue: seen from outside, by its thread's wait channel."""

    def look() -> bool:
        for task in os.listdir("/proc/self/task"):
            if int(task) != threading.get_native_id():
                try:
                    with open(f"/proc/self/task/{task}/wchan") as file:
                        if "futex" in file.read():
                            return True
                except OSError:
                    pass
        return False

    return look


# ---------------------------------------------------------------------- values

VALUES = {
    "None": None,
    "booleans": (True, False),
    "an int": 7,
    "a negative int": -129,
    "the smallest int of 64 bits": -(2**63),
    "an int beyond 64 bits": 2**64,
    "a float": -0.5,
    "a text": "tëxt",
    "a text with a lone surrogate": "\ud800",
    "a long text": "x" * 100_000,
    "no bytes": b"",
    "bytes": b"\0\xff" * 30,
    "a mebibyte": bytes(MIB),
    "a tuple": (1, ("two", (3.0, None))),
    "a deep tuple": (((((((1,),),),),),),),
    "a list": [1, [2]],
    "a dict": {"a": {1, 2}},
    "a bytearray": bytearray(b"abc"),
    "an exception class": ValueError,
}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_out_as_it_went_in(kind: Any, name: str) -> None:
    queue, value = kind(), VALUES[name]
    item = an_item(queue, value)
    queue.put(item)
    assert queue.qsize() == 1
    got = queue.get(timeout=WAIT_S)
    assert got == item
    assert type(got) is type(item)
    assert queue.empty()


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    LEAVES | st.binary(),
    lambda inner: st.lists(inner).map(tuple) | st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.lists(TREES, max_size=20))
@settings(max_examples=50, deadline=None)
def test_any_values_in_their_order(values: list[Any]) -> None:
    queue = mh.Queue()
    queue.put_many(values[:5])
    for value in values[5:]:
        queue.put(value)
    got = queue.get_many(3) if values else []
    got += [queue.get() for _ in range(len(values) - len(got))]
    assert got == values


@pytest.mark.parametrize("size", [10, 100_000])
def test_an_array_arrives_writable(size: int) -> None:
    queue = mh.Queue()
    array = np.arange(size)
    queue.put({"array": array, "again": array})
    got = queue.get()
    assert np.array_equal(got["array"], array)
    assert got["array"] is got["again"]
    got["array"][0] = 7
    read_only = np.arange(size)
    read_only.flags.writeable = False
    queue.put(read_only)
    assert not queue.get().flags.writeable


class Unloadable:
    def __reduce__(self) -> Any:
        return (int, ("not a number",))


@pytest.mark.parametrize("kind", EVERY)
def test_an_unpicklable_item_is_an_error_of_the_caller(kind: Any) -> None:
    queue = kind()
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        queue.put(an_item(queue, threading.Lock()))
    assert queue.qsize() == 0
    queue.put(an_item(queue, 1))
    assert queue.get() == an_item(queue, 1)


def test_an_item_that_cannot_be_loaded_is_lost_alone() -> None:
    queue = mh.Queue()
    queue.put_many([1, Unloadable(), 3])
    assert queue.get() == 1
    with pytest.raises(ValueError, match="not a number"):
        queue.get()
    assert queue.get() == 3
    queue.put_many([1, Unloadable(), 3])
    with pytest.raises(ValueError, match="not a number") as caught:
        queue.get_many(3)
    assert caught.value.items_taken == [1, 3]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- orders and sizes


def test_orders() -> None:
    fifo, lifo, priority = mh.Queue(), mh.LifoQueue(), mh.PriorityQueue()
    fifo.put_many("abc")
    lifo.put_many("abc")
    priority.put_many([(2, "b"), (1.5, "x"), (2, "c"), (-(2**62), "first"), (2.0, "d")])
    assert fifo.get_many(3) == ["a", "b", "c"]
    assert lifo.get_many(3) == ["c", "b", "a"]
    assert [item for _, item in priority.get_many(5)] == ["first", "x", "b", "c", "d"]


@pytest.mark.parametrize("item", ["text", 3, (1,), (1, 2, 3), ("a", 1), [1, 2], (None, 1)])
def test_a_priority_queue_says_what_it_takes(item: Any) -> None:
    queue = mh.PriorityQueue()
    with pytest.raises(TypeError, match=r"pairs \(number, item\)"):
        queue.put(item)
    assert queue.empty()


@pytest.mark.parametrize("number", [float("nan"), 2**63])
def test_numbers_without_a_place(number: float) -> None:
    with pytest.raises(ValueError, match="number of an item"):
        mh.PriorityQueue().put((number, "x"))


@pytest.mark.parametrize("kind", SIZED)
def test_full_and_empty(kind: Any) -> None:
    queue = kind(maxsize=2)
    assert queue.maxsize == 2
    assert queue.empty() and not queue.full()
    queue.put(an_item(queue, 1))
    queue.put_nowait(an_item(queue, 2))
    assert queue.full() and queue.qsize() == 2
    for put in (
        lambda item: queue.put(item, block=False),
        lambda item: queue.put(item, timeout=0.01),
        lambda item: queue.put(item, True, 0),
        queue.put_nowait,
    ):
        with pytest.raises(stdlib.Full):
            put(an_item(queue, 3))
    queue.get_many(2)
    for get in (
        lambda: queue.get(block=False),
        lambda: queue.get(timeout=0.01),
        lambda: queue.get(True, 0),
        queue.get_nowait,
        lambda: queue.get_many(2, timeout=0.01),
    ):
        with pytest.raises(stdlib.Empty):
            get()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_no_limit(maxsize: int) -> None:
    queue = mh.Queue(maxsize)
    queue.put_many(range(10_000))
    assert not queue.full()
    assert queue.get_many(20_000) == list(range(10_000))


def test_bad_arguments() -> None:
    queue = mh.Queue(1)
    for call in (lambda: queue.get(timeout=-1), lambda: queue.put(1, timeout=-0.1)):
        with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
            call()
    with pytest.raises(ValueError, match="NaN"):
        queue.get(timeout=float("nan"))
    with pytest.raises(TypeError):
        queue.get(timeout="soon")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        queue.get_many(-1)
    assert queue.get_many(0) == []
    with pytest.raises(ValueError, match="maxsize"):
        mh.Queue(2**40)
    with pytest.raises(TypeError):
        queue.put_many(3)  # type: ignore[arg-type]


def test_put_many_says_how_many_went_in() -> None:
    queue = mh.Queue(maxsize=3)
    with pytest.raises(stdlib.Full) as full:
        queue.put_many(range(10), timeout=0.01)
    assert full.value.items_put == 3  # type: ignore[attr-defined]

    def failing() -> Iterator[int]:
        yield 3
        raise KeyError("source")

    assert queue.get_many(3) == [0, 1, 2]
    with pytest.raises(KeyError, match="source") as failed:
        queue.put_many(failing())
    assert failed.value.items_put == 1  # type: ignore[attr-defined]
    assert queue.get() == 3


def test_many_items_of_all_sizes() -> None:
    queue = mh.Queue()
    items = [bytes(n) for n in (0, 10, 70_000, 5, 300_000, 64 * 1024, 65_535, 1)] * 3
    queue.put_many(items)
    assert queue.get_many(100) == items


def test_memory_has_a_limit() -> None:
    queue = mh.Queue(memory=1 << 20)
    with pytest.raises(ValueError, match="too large"):
        queue.put(bytes(2 << 20))
    with pytest.raises(stdlib.Full):
        queue.put_many([bytes(100_000)] * 100, timeout=0.01)
    count = queue.qsize()
    assert count > 2
    assert [len(item) for item in queue.get_many(100)] == [100_000] * count
    queue.put("goes on")
    assert queue.get() == "goes on"


# ---------------------------------------------------------------------- close, shutdown


@pytest.mark.parametrize("kind", EVERY)
def test_close_is_for_this_object(kind: Any) -> None:
    queue = kind()
    other = pickle.loads(pickle.dumps(queue))
    queue.put(an_item(queue, 1))
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.close()
    queue.close()
    queue.join_thread()
    queue.cancel_join_thread()
    for call in (
        lambda: queue.put(an_item(queue, 2)),
        lambda: queue.put_nowait(an_item(queue, 2)),
        queue.get,
        queue.get_nowait,
        lambda: queue.put_many([an_item(queue, 2)]),
        lambda: queue.get_many(1),
    ):
        with pytest.raises(ValueError, match=f"Queue <manyhands.{kind.__name__} .*> is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        queue.empty()
    assert other.get() == an_item(queue, 1)


@pytest.mark.parametrize("kind", SIZED)
def test_shutdown(kind: Any) -> None:
    queue = kind()
    queue.put_many([an_item(queue, n) for n in range(3)])
    queue.shutdown()
    assert queue.is_shutdown
    with pytest.raises(mh.ShutDown):
        queue.put(an_item(queue, 4))
    assert len(queue.get_many(10)) == 3
    for call in (queue.get, queue.get_nowait, lambda: queue.get_many(1)):
        with pytest.raises(mh.ShutDown):
            call()


@pytest.mark.parametrize("kind", SIZED)
def test_shutdown_at_once(kind: Any) -> None:
    queue = kind()
    queue.put_many([an_item(queue, n) for n in range(3)])
    queue.shutdown(immediate=True)
    assert queue.qsize() == 0
    with pytest.raises(mh.ShutDown):
        queue.get()
    queue.join()


@pytest.mark.skipif(not hasattr(stdlib, "ShutDown"), reason="queue.ShutDown came with 3.13")
def test_shutdown_is_the_stdlibs() -> None:
    assert mh.ShutDown is getattr(stdlib, "ShutDown")  # noqa: B009 - older types lack it


@pytest.mark.parametrize("waiting", ["get", "put", "join", "get_many"])
def test_shutdown_wakes_who_waits(waiting: str) -> None:
    queue = mh.Queue(maxsize=1)
    outcome: list[object] = []
    if waiting in ("put", "join"):
        queue.put(0)

    def wait() -> None:
        call: Callable[[], object] = {
            "get": queue.get,
            "put": lambda: queue.put(1),
            "join": queue.join,
            "get_many": lambda: queue.get_many(3),
        }[waiting]
        try:
            outcome.append(call())
        except mh.ShutDown:
            outcome.append("shut down")

    with thread(wait):
        eventually(is_waiting(queue), "the thread waits")
        queue.shutdown(immediate=True)
    assert outcome == ["shut down" if waiting != "join" else None]


# ---------------------------------------------------------------------- tasks


@pytest.mark.parametrize("kind", SIZED)
def test_join_waits_for_all_tasks(kind: Any) -> None:
    queue = kind()
    queue.join()
    queue.put_many([an_item(queue, n) for n in range(3)])
    done = threading.Event()

    def wait() -> None:
        queue.join()
        done.set()

    with thread(wait):
        for n in range(3):
            queue.get()
            assert not done.is_set()
            assert queue.statistics()["unfinished"] == 3 - n
            queue.task_done()
    assert done.is_set()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        queue.task_done()


def take_and_die(queue: Any, count: int) -> None:
    queue.get_many(count)
    os.kill(os.getpid(), signal.SIGKILL)


def test_join_tells_of_the_dead() -> None:
    queue = mh.JoinableQueue()
    queue.put_many(range(3))
    process = multiprocessing.get_context("fork").Process(target=take_and_die, args=(queue, 2))
    process.start()
    process.join(WAIT_S)
    queue.get()
    queue.task_done()
    with pytest.raises(mh.OwnerDied, match=f"process {process.pid} died with 2 items") as died:
        queue.join()
    assert died.value.pid == process.pid
    assert queue.recover() == 2
    queue.join()
    process.close()


# ---------------------------------------------------------------------- threads


@pytest.mark.parametrize("kind", EVERY)
def test_threads(kind: Any) -> None:
    queue = kind() if kind is mh.SimpleQueue else kind(maxsize=7)
    count, got = 3_000, []

    def consume() -> None:
        while (item := queue.get(timeout=WAIT_S)) != an_item(queue, None):
            got.append(item)

    def produce(start: int) -> None:
        for n in range(start, start + count):
            queue.put(an_item(queue, n), timeout=WAIT_S)

    with thread(consume), thread(consume):
        with thread(produce, 0), thread(produce, count):
            pass
        eventually(queue.empty, "everything is taken")
        queue.put_many([an_item(queue, None)] * 2)
    assert sorted(got) == [an_item(queue, n) for n in range(2 * count)]


def test_a_thread_that_waits_lets_others_run() -> None:
    queue = mh.Queue()
    with thread(queue.get):
        eventually(is_waiting(queue), "the thread waits")
        queue.put(1)


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
    with pytest.raises(ValueError, match=name):
        mh.Queue(maxsize=11, name=name)
    with pytest.raises(ValueError, match="of kind Queue, not LifoQueue"):
        mh.LifoQueue(name=name)
    queue.put("kept while somebody has it")
    del queue
    gc.collect()
    assert mh.Queue(maxsize=10, name=name).empty(), "gone with its last user"


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
        def sleeps() -> bool:
            with open(f"/proc/self/task/{main}/wchan") as file:
                return "futex" in file.read()

        eventually(sleeps, "the main thread waits")
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


@pytest.mark.parametrize("kind", EVERY)
def test_a_coroutine_waits_for_a_thread(kind: Any) -> None:
    queue = kind()

    async def main() -> Any:
        task = asyncio.create_task(queue.async_get())
        await asyncio.sleep(0)
        with thread(queue.put, an_item(queue, "x")):
            return await task

    assert run(main()) == an_item(queue, "x")


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


def test_many_coroutines_at_one_queue() -> None:
    queue = mh.Queue()

    async def main() -> list[int]:
        takers = [asyncio.create_task(queue.async_get()) for _ in range(50)]
        await asyncio.sleep(0)
        with thread(produce_numbers, queue, 0, 50):
            return sorted(await asyncio.gather(*takers))

    assert run(main()) == list(range(50))


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


# ---------------------------------------------------------------------- the object itself


class Named(mh.Queue):
    """A subclass with more to it."""

    def __init__(self, label: str) -> None:
        super().__init__(maxsize=4)
        self.label = label


def test_subclasses_keep_what_they_add() -> None:
    queue = Named("mine")
    other = pickle.loads(pickle.dumps(queue))
    assert (type(other), other.label, other.maxsize) == (Named, "mine", 4)
    other.put(1)
    assert queue.get() == 1


@pytest.mark.parametrize("kind", EVERY)
def test_weak_references_and_generic_aliases(kind: Any) -> None:
    queue = kind()
    reference = weakref.ref(queue)
    assert reference() is queue
    del queue
    gc.collect()
    assert reference() is None
    assert kind[int].__origin__ is kind


def test_a_queue_that_was_never_opened_says_so() -> None:
    queue = mh.Queue.__new__(mh.Queue)
    with pytest.raises(RuntimeError, match="__init__"):
        queue.put(1)
    assert "not open" in repr(queue)


def test_statistics() -> None:
    queue = mh.Queue(maxsize=5)
    queue.put_many(range(3))
    queue.get()
    found = queue.statistics()
    expected = {"size": 2, "maxsize": 5, "puts": 3, "gets": 1, "unfinished": 3, "deaths": 0}
    assert {key: found[key] for key in expected} == expected
    assert found["bytes_put"] > found["bytes_got"] > 0
    assert not found["is_shutdown"]


def test_pickles_of_what_is_gone() -> None:
    pickled = pickle.dumps(mh.Queue())
    gc.collect()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)
