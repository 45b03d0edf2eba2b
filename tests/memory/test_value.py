"""Value and Array: ctypes objects in shared memory, with a lock."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing import sharedctypes
from typing import Any

import pytest

import manyhands as mh
from children import METHODS, WAIT_S, child


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


CODES = {
    "b": -5,
    "B": 200,
    "h": -3000,
    "H": 60_000,
    "i": -70_000,
    "I": 4_000_000_000,
    "l": -(2**40),
    "L": 2**40,
    "q": -(2**62),
    "Q": 2**63,
    "f": 0.5,
    "d": 1e300,
    "c": b"x",
    "u": "ü",
}


@pytest.mark.parametrize("lock", [True, False, None], ids=str)
@pytest.mark.parametrize("code", CODES)
def test_values_of_all_codes(code: str, lock: bool | None) -> None:
    value = mh.Value(code, CODES[code], lock=lock)
    assert value.value == CODES[code]
    zero = mh.Value(code, lock=lock)
    assert zero.value == {"c": b"\0", "u": "\0"}.get(code, 0)
    zero.value = CODES[code]
    assert zero.value == CODES[code]


def test_a_value_has_the_stdlibs_interface() -> None:
    value = mh.Value("i", 7)
    assert issubclass(type(value), sharedctypes.SynchronizedBase)
    assert isinstance(value.get_obj(), ctypes.c_int)
    assert repr(value).startswith("<Synchronized wrapper for <c_int object at")
    with value.get_lock():
        value.value += 1
    with value:
        value.get_obj().value += 1
    assert value.acquire()
    value.release()
    assert value.value == 9


def test_whose_lock_it_is() -> None:
    for lock in (mh.Lock(), mh.RLock(), threading.RLock(), multiprocessing.RLock()):
        assert mh.Value("i", lock=lock).get_lock() is lock
    assert isinstance(mh.Value("i").get_lock(), type(mh.RLock()))
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        mh.Value("i", lock="navalue")
    with pytest.raises(AttributeError, match="has no method 'acquire'"):
        mh.Array("i", 3, lock=object())


@pytest.mark.parametrize("kind", ["x", "ii", int, None, 3])
def test_types_that_are_none(kind: Any) -> None:
    makes: list[Callable[[], object]] = [lambda: mh.Value(kind), lambda: mh.Array(kind, 3)]
    for make in makes:
        with pytest.raises(TypeError, match="neither a ctypes type nor one of the codes") as caught:
            make()
        # As `multiprocessing` says it.
        assert str(caught.value).startswith("bad typecode: ") == (kind is not None)


def test_structures() -> None:
    point = mh.Value(Point, 3, 0.5)
    point.x += 1
    assert (point.x, point.y, type(point).__name__) == (4, 0.5, "SynchronizedPoint")
    points = mh.Array(Point, [(1, 2.0), (3, 4.0)])
    points[1].y = 9.0
    assert [(each.x, each.y) for each in points] == [(1, 2.0), (3, 9.0)]


def test_arrays() -> None:
    squares = mh.Array("i", 5)
    assert squares[:] == [0] * 5
    squares[1:4] = [1, 4, 9]
    squares[4] = 16
    assert squares[:] == [0, 1, 4, 9, 16]
    assert (len(squares), squares[-1], list(squares)) == (5, 16, [0, 1, 4, 9, 16])
    assert mh.Array("d", [0.5, 1.5], lock=False)[1] == 1.5
    with pytest.raises(IndexError):
        squares[5]
    with pytest.raises(ValueError):
        mh.Array("i", -1)
    assert len(mh.Array("i", 0)) == 0


def test_characters() -> None:
    text = mh.Array("c", 8)
    text.value = b"hello"
    assert (text.value, text.raw) == (b"hello", b"hello\0\0\0")
    assert mh.Array("c", b"abc").value == b"abc"


def test_what_is_dropped_is_reused() -> None:
    from manyhands._memory.share import shared_memory

    mh.Array("d", 100_000)
    gc.collect()
    before = shared_memory()[0]
    for _ in range(20):
        mh.Array("d", 100_000)
    gc.collect()
    assert shared_memory()[0] <= before


# ---------------------------------------------------------------------- processes


def count_up(value: Any, times: int) -> None:
    for _ in range(times):
        with value.get_lock():
            value.value += 1


@pytest.mark.parametrize("method", METHODS)
def test_counting_together(method: str) -> None:
    counter = mh.Value("q")
    with child(method, count_up, counter, 500), child(method, count_up, counter, 500):
        count_up(counter, 500)
    assert counter.value == 1500


def change_all(*objects: Any) -> None:
    value, bare, array, nested, point, text = objects
    value.value = 1
    bare.value = 2
    array[:] = [3, 4]
    nested[1][2] = 5
    point.x = 6
    text.value = b"7"


@pytest.mark.parametrize("method", [*METHODS, "task"])
def test_the_same_object_everywhere(method: str) -> None:
    objects = (
        mh.Value("i"),
        mh.Value("i", lock=False),
        mh.Array("h", 2),
        mh.Array(ctypes.c_int * 3, 2, lock=False),
        mh.Value(Point),
        mh.Array("c", 4),
    )
    if method == "task":
        with mh.ProcessPoolExecutor(1) as pool:
            pool.submit(change_all, *objects).result(timeout=WAIT_S)
    else:
        with child(method, change_all, *objects):
            pass
    value, bare, array, nested, point, text = objects
    assert (value.value, bare.value, array[:], nested[1][2]) == (1, 2, [3, 4], 5)
    assert (point.x, text.value) == (6, b"7")


def test_pickles_are_the_same_object() -> None:
    value = mh.Value("i", 5)
    other = pickle.loads(pickle.dumps(value))
    other.value += 1
    assert value.value == 6
    assert type(other) is type(value)
    bare = pickle.loads(pickle.dumps(mh.Value("i", 5, lock=False)))
    assert bare.value == 5


def die_with(value: Any) -> None:
    value.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_owner_is_no_obstacle() -> None:
    value = mh.Value("i", 3)
    process = multiprocessing.get_context("fork").Process(target=die_with, args=(value,))
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL
    process.close()
    value.value += 1
    assert value.value == 4


MADE: dict[str, Callable[[Any], Any]] = {
    "a number": lambda lock: mh.Value("i", 3, lock=lock),
    "characters": lambda lock: mh.Array("c", b"abc", lock=lock),
    "an array": lambda lock: mh.Array("i", [1, 2], lock=lock),
    "a structure": lambda lock: mh.Value(Point, 1, 2.5, lock=lock),
}
READ: dict[str, Callable[[Any], Any]] = {
    "a number": lambda made: made.value,
    "characters": lambda made: made.raw,
    "an array": lambda made: made[0],
    "a structure": lambda made: made.y,
}


@pytest.mark.parametrize("what", MADE)
@pytest.mark.parametrize("lock_class", [mh.Lock, mh.RLock])
def test_whoever_is_told_of_a_death_is_not_left_with_the_lock(what: str, lock_class: Any) -> None:
    made = MADE[what](lock_class())
    process = multiprocessing.get_context("fork").Process(target=die_with, args=(made.get_lock(),))
    process.start()
    process.join(WAIT_S)
    process.close()
    with pytest.raises(mh.OwnerDied):
        READ[what](made)
    assert not made.get_lock().locked()
    with pytest.raises(mh.OwnerDied):
        made.get_lock().acquire()
    made.get_lock().recover()
    made.get_lock().release()
    READ[what](made)
