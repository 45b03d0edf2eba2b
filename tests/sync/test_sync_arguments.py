"""What is given to locks and queues is understood as the standard library does."""

from __future__ import annotations

import queue
import threading
import typing
from collections.abc import Callable
from typing import Any

import pytest

import manyhands as mh

ODD: list[Any] = [None, False, True, 0, 1, "", "x", [], 1.5]
MAKERS: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (mh.Lock, threading.Lock),
    (mh.Semaphore, threading.Semaphore),
    (mh.BoundedSemaphore, threading.BoundedSemaphore),
]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("blocking", ODD, ids=repr)
@pytest.mark.parametrize(("ours", "theirs"), MAKERS, ids=lambda maker: str(maker.__name__))
def test_whether_to_wait(ours: Any, theirs: Any, blocking: Any) -> None:
    mine, standard = ours(), theirs()
    assert outcome(lambda: mine.acquire(blocking)) == outcome(lambda: standard.acquire(blocking))
    assert mine.locked() is (not standard.acquire(False))


@pytest.mark.parametrize("blocking", [value for value in ODD if not value], ids=repr)
@pytest.mark.parametrize(("ours", "theirs"), MAKERS, ids=lambda maker: str(maker.__name__))
def test_nobody_waits_who_was_told_not_to(ours: Any, theirs: Any, blocking: Any) -> None:
    mine, standard = ours(), theirs()
    mine.acquire()
    standard.acquire()
    expected = outcome(lambda: standard.acquire(blocking))
    assert outcome(lambda: mine.acquire(blocking)) == expected
    assert outcome(lambda: mine.acquire(block=blocking)) == expected


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock, mh.Semaphore], ids=lambda kind: kind.__name__)
def test_the_same_is_not_said_twice(kind: Any) -> None:
    lock = kind()
    with pytest.raises(TypeError, match="not both"):
        lock.acquire(False, block=True)
    with pytest.raises(TypeError, match="not both"):
        lock.acquire(blocking=True, block=True)
    assert lock.acquire(False)


@pytest.mark.parametrize("block", [None, 0, "", []], ids=repr)
@pytest.mark.parametrize("kind", [mh.Queue, mh.LifoQueue, mh.PriorityQueue])
def test_a_queue_that_is_told_not_to_wait(kind: Any, block: Any) -> None:
    items = kind(1)
    with pytest.raises(queue.Empty):
        items.get(block)
    with pytest.raises(queue.Empty):
        items.get(block=block, timeout=10)
    items.put((1, "item"), block)
    with pytest.raises(queue.Full):
        items.put((2, "item"), block)
    assert items.get(1) == (1, "item")


@pytest.mark.parametrize(
    "kind",
    [mh.Lock, mh.RLock, mh.Semaphore, mh.BoundedSemaphore, mh.Event, mh.Condition, mh.Barrier,
     mh.Queue, mh.SimpleQueue],
    ids=lambda kind: kind.__name__,
)  # fmt: skip
def test_types_of_arguments_can_be_asked_for(kind: Any) -> None:
    assert "name" in typing.get_type_hints(kind.__init__)


def test_an_unknown_argument_is_refused() -> None:
    kinds: list[Any] = [
        mh.Lock, mh.RLock, mh.Semaphore, mh.BoundedSemaphore, mh.Event, mh.Condition, mh.Barrier
    ]  # fmt: skip
    for kind in kinds:
        with pytest.raises(TypeError):
            kind(colour="red")
    too_many: list[tuple[Any, tuple[int, ...]]] = [(mh.Lock, (1,)), (mh.Semaphore, (1, 2))]
    for kind, arguments in too_many:
        with pytest.raises(TypeError):
            kind(*arguments)


def test_is_set_under_its_old_name() -> None:
    event = mh.Event()
    with pytest.warns(DeprecationWarning, match="is_set"):
        assert event.isSet() is False
    event.set()
    with pytest.warns(DeprecationWarning, match="is_set"):
        assert event.isSet() is True
