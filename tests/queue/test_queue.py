"""Queues: what goes in comes out, in its order; the interface; threads."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import queue as stdlib
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manyhands as mh
from children import WAIT_S, another_sleeps, thread
from eventually import eventually

MIB = 1 << 20
FIFOS = (mh.Queue, mh.JoinableQueue, mh.SimpleQueue)
SIZED = (mh.Queue, mh.JoinableQueue, mh.LifoQueue, mh.PriorityQueue)
EVERY = (*SIZED, mh.SimpleQueue)


def an_item(queue: Any, value: Any) -> Any:
    """Return what a queue of this kind takes."""
    return (0, value) if isinstance(queue, mh.PriorityQueue) else value


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
    with pytest.raises(TypeError, match=r"takes \(number, item\) pairs"):
        queue.put(item)
    assert queue.empty()


def test_numbers_of_all_kinds_have_a_priority() -> None:
    numbers = [np.int64(3), np.float32(2.5), Fraction(9, 4), np.uint8(2), True, Decimal("-1.5")]
    queue = mh.PriorityQueue()
    queue.put_many([(number, str(number)) for number in numbers])
    assert queue.get_many(6) == [(number, str(number)) for number in reversed(numbers)]


@pytest.mark.parametrize("number", [float("nan"), 2**63, np.uint64(2**63), np.float32("nan")])
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
    assert queue.maxsize == pickle.loads(pickle.dumps(queue)).maxsize == maxsize
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
    with pytest.raises(ValueError, match="count must not be negative: -1"):
        queue.get_many(-1)
    with pytest.raises(ValueError, match="memory must be at least 131072 bytes, not -1"):
        mh.Queue(memory=-1)
    for named in (*EVERY, mh.Lock, mh.RLock, mh.Semaphore, mh.Event, mh.Condition):
        with pytest.raises(ValueError, match="a name must not be empty"):
            named(name="")
    assert queue.get_many(0) == []
    with pytest.raises(ValueError, match="memory must be at least"):
        mh.Queue(memory=10)
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


@pytest.mark.parametrize("source", [list, iter])
@pytest.mark.parametrize("kind", SIZED)
def test_ctrl_c_says_how_many_went_in(kind: Any, source: Any) -> None:
    queue = kind(10)

    def interrupt() -> None:
        eventually(queue.full, "the queue is full")
        os.kill(os.getpid(), signal.SIGINT)

    with thread(interrupt), pytest.raises(KeyboardInterrupt) as stopped:
        queue.put_many(source([an_item(queue, n) for n in range(100)]))
    assert stopped.value.items_put == queue.qsize() == 10  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", [range, iter])
def test_ctrl_c_in_the_middle_of_very_many(source: Any) -> None:
    queue, stopped_putting, taken = mh.Queue(1000), threading.Event(), 0

    def consume() -> None:
        nonlocal taken
        interrupted = False
        while not stopped_putting.is_set():
            try:
                taken += len(queue.get_many(500, timeout=0.01))
            except stdlib.Empty:
                continue
            if taken > 5_000 and not interrupted:
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)

    with thread(consume):
        with pytest.raises(KeyboardInterrupt) as stopped:
            queue.put_many(range(10**12) if source is range else itertools.count())
        stopped_putting.set()
    assert stopped.value.items_put == taken + queue.qsize()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", EVERY)
def test_a_generator_can_wait_for_answers_to_what_it_yields(kind: Any) -> None:
    there, back = kind(), mh.Queue()

    def ask() -> Iterator[Any]:
        for n in range(100):
            yield an_item(there, n)
            assert back.get(timeout=WAIT_S) == an_item(there, n)

    def answer() -> None:
        for _ in range(100):
            back.put(there.get(timeout=WAIT_S))

    with thread(answer):
        there.put_many(ask())
    assert there.empty()
    assert back.empty()


def test_what_put_many_takes() -> None:
    queue = mh.Queue()
    for kind in (list, tuple, set, frozenset, dict.fromkeys, iter):
        queue.put_many(kind([1, 2]))
        assert queue.get_many(10) == [1, 2]
    queue.put_many("ab")
    queue.put_many(b"ab")
    queue.put_many(np.array([1.5, 2.5]))
    assert queue.get_many(10) == ["a", "b", 97, 98, 1.5, 2.5]


@pytest.mark.parametrize("kind", EVERY)
def test_memory_is_given_back(kind: Any) -> None:
    queue = kind()

    def memory() -> int:
        return int(queue.statistics()["memory_bytes"])

    queue.put_many([an_item(queue, bytes(MIB))] * 60)
    assert memory() > 60 * MIB
    for _ in range(60):
        queue.get()
    assert memory() <= 17 * MIB
    queue.put_many([an_item(queue, bytes(MIB))] * 60)
    queue.put(an_item(queue, "short"))
    queue.shutdown()
    assert memory() > 60 * MIB
    assert len(queue.get_many(100)) == 61
    assert memory() < MIB
    queue = kind()
    queue.put_many([an_item(queue, bytes(MIB))] * 60)
    queue.shutdown(immediate=True)
    assert memory() < MIB


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
        eventually(another_sleeps, "the thread waits")
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
        eventually(another_sleeps, "the thread waits")
        queue.put(1)


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


@pytest.mark.on_each_python
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
