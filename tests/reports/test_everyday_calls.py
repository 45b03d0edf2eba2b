"""What people write without looking it up: loops over queues and pipes, brackets in annotations.

Reports: python/cpython#119154, python/cpython#120499 (loops over queues), python/cpython#99509
(``multiprocessing.Queue[str]`` is a TypeError).
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from typing import Any, Generic, TypeVar, assert_type

import pytest

import manyhands as mh

T = TypeVar("T")

QUEUES: list[Callable[..., Any]] = [mh.Queue, mh.JoinableQueue, mh.SimpleQueue, mh.LifoQueue]


class Refuses:
    """It cannot be unpickled."""

    def __init__(self, error: type[BaseException], *args: object) -> None:
        self.raised = (error, *args)

    def __reduce__(self) -> Any:
        return raises, self.raised


def raises(error: type[BaseException], *args: object) -> Any:
    raise error(*args)


# Loops over queues


@pytest.mark.parametrize("kind", QUEUES)
def test_a_loop_over_a_queue_ends_when_it_is_shut_down_and_empty(kind: Any) -> None:
    items = kind()
    items.put_many("abc")
    items.shutdown()
    assert sorted(items) == ["a", "b", "c"]
    assert list(items) == []


def test_a_loop_over_a_priority_queue_goes_by_priority() -> None:
    items: mh.PriorityQueue[tuple[int, str]] = mh.PriorityQueue()
    items.put_many([(2, "b"), (1, "a")])
    items.shutdown()
    assert [item for _, item in items] == ["a", "b"]


@pytest.mark.parametrize("pool_kind", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_a_loop_waits_for_what_others_put(pool_kind: Any) -> None:
    items: mh.Queue[int] = mh.Queue(maxsize=2)

    def produce() -> None:
        for number in range(50):
            items.put(number)
        items.shutdown()

    with pool_kind(1) as pool:
        done = pool.submit(produce)
        assert list(items) == list(range(50))
        done.result()


def test_several_loops_share_the_items() -> None:
    items: mh.Queue[int] = mh.Queue()
    with mh.ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(list, items) for _ in range(4)]
        items.put_many(range(1000))
        items.shutdown()
        taken = [loop.result() for loop in loops]
    assert sorted(number for each in taken for number in each) == list(range(1000))


def test_a_loop_that_is_left_has_taken_no_more_than_it_got() -> None:
    items: mh.Queue[int] = mh.Queue()
    items.put_many(range(5))
    for item in items:
        if item == 1:
            break
    assert items.get() == 2


def test_items_are_done_when_the_loop_says_so() -> None:
    items: mh.JoinableQueue[int] = mh.JoinableQueue()
    items.put_many(range(3))
    items.shutdown()
    for _ in items:
        items.task_done()
    items.join()
    assert items.unfinished_tasks == 0


def test_a_dropped_queue_ends_loops_at_once() -> None:
    items: mh.Queue[int] = mh.Queue()
    items.put_many(range(3))
    items.shutdown(immediate=True)
    assert list(items) == []


def test_a_closed_queue_is_an_error_not_the_end() -> None:
    items: mh.Queue[int] = mh.Queue()
    items.close()
    with pytest.raises(ValueError, match="closed"):
        next(iter(items))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(StopIteration, RuntimeError), (mh.ShutDown, mh.ShutDown), (queue.Empty, queue.Empty)],
)
def test_what_an_item_raises_does_not_end_a_loop_quietly(raised: Any, expected: Any) -> None:
    items: mh.Queue[Any] = mh.Queue()
    items.put(Refuses(raised))
    items.put("next")
    with pytest.raises(expected):
        list(items)
    assert items.get() == "next"

    async def take() -> None:
        async for _ in items:
            pass

    items.put(Refuses(raised))
    with pytest.raises(expected):
        asyncio.run(take())


@pytest.mark.parametrize("kind", QUEUES)
def test_asking_whether_an_item_is_in_a_queue_takes_none(kind: Any) -> None:
    items = kind()
    items.put(1)
    with pytest.raises(TypeError):
        assert 1 in items
    assert items.qsize() == 1


@pytest.mark.parametrize("kind", QUEUES)
def test_a_coroutine_loops_as_well(kind: Any) -> None:
    items = kind()
    items.put_many("abc")
    items.shutdown()

    async def take() -> list[str]:
        return [item async for item in items]

    assert sorted(asyncio.run(take())) == ["a", "b", "c"]


def test_a_map_takes_its_input_from_a_queue() -> None:
    items: mh.Queue[int] = mh.Queue()
    items.put_many([-1, -2, -3])
    items.shutdown()
    assert mh.map(abs, items) == [1, 2, 3]


# Loops over pipes


def test_a_loop_over_a_connection_ends_when_the_other_end_is_closed() -> None:
    here, there = mh.Pipe()
    here.send("a")
    here.send("b")
    here.close()
    assert list(there) == ["a", "b"]


def test_what_a_message_raises_is_not_the_end() -> None:
    here, there = mh.Pipe()
    here.send(Refuses(EOFError, "Ran out of input"))
    here.send("next")
    with pytest.raises(EOFError, match="Ran out"):
        list(there)
    assert there.recv() == "next"

    async def take() -> None:
        async for _ in there:
            pass

    here.send(Refuses(EOFError, "Ran out of input"))
    with pytest.raises(EOFError, match="Ran out"):
        asyncio.run(take())


def test_asking_whether_a_message_is_in_a_pipe_receives_none() -> None:
    here, there = mh.Pipe()
    here.send(1)
    with pytest.raises(TypeError):
        assert 1 in there
    assert there.recv() == 1


# Brackets


@pytest.mark.parametrize(
    "kind",
    [mh.Queue, mh.JoinableQueue, mh.SimpleQueue, mh.LifoQueue, mh.PriorityQueue, mh.Future],
)
def test_classes_take_the_type_of_their_items_in_brackets(kind: Any) -> None:
    alias = kind[int]
    assert alias.__origin__ is kind
    assert alias.__args__ == (int,)
    made = alias()
    assert type(made) is kind


def test_an_end_of_a_pipe_takes_two_types_in_brackets() -> None:
    alias: Any = mh.Connection[int, str]
    assert (alias.__origin__, alias.__args__) == (mh.Connection, (int, str))


class Jobs(mh.Queue[int]):
    """Of one type."""


class Named(mh.Queue[T], Generic[T]):
    """Of any type."""


def test_subclasses_may_say_what_they_hold() -> None:
    jobs, named = Jobs(maxsize=3), Named[str]()
    jobs.put(1)
    named.put("a")
    assert_type(jobs.get(), int)
    assert_type(named.get(), str)
    assert jobs.maxsize == 3


def test_type_checkers_know_what_is_in_a_queue() -> None:
    numbers = mh.Queue[int]()
    numbers.put_many([1, 2, 3])
    assert_type(numbers.get(), int)
    assert_type(numbers.get_many(1), list[int])
    assert_type(next(iter(numbers)), int)
    anything = mh.Queue()
    anything.put("a")
    assert_type(anything.get(), Any)
    ranked: mh.PriorityQueue[tuple[int, str]] = mh.PriorityQueue()
    ranked.put((1, "a"))
    assert_type(ranked.get(), tuple[int, str])

    async def take() -> None:
        numbers.put(4)
        assert_type(await numbers.async_get(), int)
        assert_type(await numbers.async_get_many(1), list[int])

    numbers.put(5)
    asyncio.run(take())


def test_type_checkers_object_to_other_items() -> None:
    numbers: mh.Queue[int] = mh.Queue()
    numbers.put("a")  # type: ignore[arg-type]
    numbers.put_nowait("b")  # type: ignore[arg-type]
    numbers.put_many(["c"])  # type: ignore[list-item]
    assert numbers.qsize() == 3


def test_type_checkers_know_what_goes_over_a_pipe() -> None:
    here: mh.Connection[int, str]
    there: mh.Connection[str, int]
    here, there = mh.Pipe()
    here.send(1)
    there.send("a")
    assert_type(here.recv(), str)
    assert_type(there.recv(), int)
    there.send(1)  # type: ignore[arg-type]


def test_type_checkers_know_what_a_future_returns() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(len, "four")
        assert_type(future, mh.Future[int])
        assert_type(future.result(), int)
