"""Whoever opens an object by its name need not repeat its size or type; values have names, too."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import manyhands as mh


class Point(ctypes.Structure):
    """As C has it."""

    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a name that nobody else uses."""
    yield f"{os.getpid()} {request.node.name}"
    gc.collect()


def python(code: str, *args: str) -> str:
    """Run a program that knows nothing of this one; what it prints."""
    command = [sys.executable, "-c", "import sys, manyhands as mh\n" + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Sizes


SIZED: dict[str, tuple[Callable[..., Any], Callable[[Any], Any], int]] = {
    "Semaphore": (mh.Semaphore, lambda made: made.get_value(), 3),
    "BoundedSemaphore": (mh.BoundedSemaphore, lambda made: made.get_value(), 3),
    "Barrier": (mh.Barrier, lambda made: made.parties, 3),
    "Queue": (mh.Queue, lambda made: made.maxsize, 3),
    "JoinableQueue": (mh.JoinableQueue, lambda made: made.maxsize, 3),
    "LifoQueue": (mh.LifoQueue, lambda made: made.maxsize, 3),
    "PriorityQueue": (mh.PriorityQueue, lambda made: made.maxsize, 3),
}


@pytest.mark.parametrize("kind", SIZED)
def test_the_size_is_that_of_what_is_there(kind: str, name: str) -> None:
    make, size, number = SIZED[kind]
    made = make(number, name=name)
    opened = make(name=name)
    assert size(opened) == size(made) == number
    assert python(f"print(mh.{kind}(name=sys.argv[1]).__repr__())", name).count(name) == 1
    with pytest.raises(ValueError, match=f"was made with .*{number}, not 4"):
        make(4, name=name)
    del made
    assert size(make(name=name)) == number


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore", "Queue", "LifoQueue"])
def test_what_has_a_usual_size_is_made_with_it(kind: str, name: str) -> None:
    make, size, _ = SIZED[kind]
    made = make(name=name)
    assert size(made) == size(make())
    usual = size(made)
    assert size(make(usual, name=name)) == usual
    with pytest.raises(ValueError, match="was made with"):
        make(usual + 5, name=name)


def test_a_size_that_is_said_counts_even_if_it_is_the_usual_one(name: str) -> None:
    kept = mh.Semaphore(3, name=name)
    with pytest.raises(ValueError, match="made with value 3, not 1"):
        mh.Semaphore(1, name=name)
    with pytest.raises(ValueError, match="kind Semaphore, not Queue"):
        mh.Queue(name=name)
    del kept
    queue = mh.Queue(3, name=name)
    with pytest.raises(ValueError, match="made with maxsize 3, not 0"):
        mh.Queue(0, name=name)
    with pytest.raises(ValueError, match="kind Queue, not Barrier"):
        mh.Barrier(name=name)
    assert queue.maxsize == 3


def test_a_barrier_must_be_made_by_somebody(name: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no process has a Barrier named .*pass its parties"
    ):
        mh.Barrier(name=name)
    with pytest.raises(TypeError, match="parties"):
        mh.Barrier()


def test_copies_of_what_was_opened_by_name_alone(name: str) -> None:
    for make, size, number in SIZED.values():
        kept = make(number, name=name)
        opened = make(name=name)
        assert size(pickle.loads(pickle.dumps(opened))) == number
        with mh.ProcessPoolExecutor(1) as pool:
            assert pool.submit(repr, opened).result().count(name) == 1
        del kept, opened
        gc.collect()


def test_many_at_once_agree(name: str) -> None:
    together = threading.Barrier(8)

    def ask(number: int) -> Any:
        together.wait()
        return mh.Queue(name=name) if number % 2 else mh.Queue(7, name=name)

    with mh.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask, number) for number in range(8)]
        errors = [future.exception() for future in futures]
        queues = [future.result() for future in futures if future.exception() is None]
    # The first one decides; one that says something else is told.
    sizes = {queue.maxsize for queue in queues}
    assert len(sizes) == 1
    assert all(isinstance(error, ValueError) for error in errors if error is not None)
    assert len(queues) >= 4


# Values and arrays of ctypes


def test_a_value_by_name(name: str) -> None:
    counter = mh.Value("i", 7, name=name)
    assert counter.name == name
    code = """
value = mh.Value("i", 1000, name=sys.argv[1])
with value.get_lock():
    value.value += 1
same = mh.Value(name=sys.argv[1])
same.value += 1
print(same.value)
"""
    assert python(code, name) == "9"
    assert counter.value == 9
    assert name in repr(counter)
    del counter
    gc.collect()
    with pytest.raises(FileNotFoundError, match=r"no process has a Value named .*pass its type"):
        mh.Value(name=name)


def test_the_lock_of_a_value_is_one(name: str) -> None:
    value = mh.Value("i", name=name)
    with value.get_lock():
        code = "print(mh.Value(name=sys.argv[1]).get_lock().acquire(timeout=0.05))"
        assert python(code, name) == "False"
    assert python(code, name) == "True"


def test_values_by_name_without_lock(name: str) -> None:
    bare = mh.Value(ctypes.c_double, 0.5, lock=False, name=name)
    same = mh.Value(name=name, lock=False)
    same.value *= 3
    assert bare.value == 1.5


def test_an_array_by_name(name: str) -> None:
    array = mh.Array("i", [1, 2, 3], name=name)
    assert python("print(mh.Array(name=sys.argv[1])[:])", name) == "[1, 2, 3]"
    assert python("print(mh.Array('i', 3, name=sys.argv[1])[:])", name) == "[1, 2, 3]"
    assert mh.Array("i", name=name)[:] == [1, 2, 3]
    for wrong in (("i", 4), ("d", 3), ("h", 6), ("d",)):
        with pytest.raises(ValueError, match=r"c_int\[3\], not"):
            mh.Array(*wrong, name=name)
    with pytest.raises(ValueError, match=r"is Array of c_int\[3\], not a Value"):
        mh.Value(name=name)
    with pytest.raises(ValueError, match=r"is Array of c_int\[3\], not Value of c_int"):
        mh.Value("i", name=name)
    with pytest.raises(ValueError, match="kind Array, not Lock"):
        mh.Lock(name=name)
    assert array[:] == [1, 2, 3]


def test_structures_by_name(name: str) -> None:
    made = mh.Value(Point, 1.0, 2.0, name=name)
    assert (mh.Value(name=name).x, mh.Value(Point, name=name).y) == (1.0, 2.0)

    class Other(ctypes.Structure):
        _fields_ = [("x", ctypes.c_double), ("z", ctypes.c_double)]

    with pytest.raises(ValueError, match=r"Point\(x: c_double, y: c_double\), not"):
        mh.Value(Other, name=name)
    del made
    gc.collect()
    # Nobody else could find this type; a process that has it can say it.
    mine = mh.Value(Other, 3.0, name=name)
    assert mh.Value(Other, name=name).x == 3.0
    with pytest.raises(ValueError, match="pass its type"):
        mh.Value(name=name)
    assert mine.x == 3.0


def test_values_by_name_travel(name: str) -> None:
    value = mh.Value("i", 4, name=name)
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(lambda: (value.value, value.name)).result() == (4, name)
        assert pool.submit(lambda: mh.Value(name=name).value).result() == 4


@pytest.mark.parametrize("make", [mh.Value, mh.Array, mh.SharedArray])
def test_neither_type_nor_name(make: Any) -> None:
    with pytest.raises(TypeError, match="or the name of an existing one"):
        make()


# Arrays of NumPy


def test_a_shared_array_by_name_alone(name: str) -> None:
    table = mh.SharedArray((2, 3), "<i4", name=name)
    table[:] = [[1, 2, 3], [4, 5, 6]]
    opened = mh.SharedArray(name=name)
    assert (opened.shape, opened.dtype, opened.name) == ((2, 3), np.dtype("<i4"), name)
    opened[0, 0] = 7
    assert table[0, 0] == 7
    code = "a = mh.SharedArray(name=sys.argv[1]); print(a.shape, a.dtype, int(a.sum()))"
    assert python(code, name) == "(2, 3) int32 27"
    with pytest.raises(ValueError, match=r"shape \(2, 3\), not"):
        mh.SharedArray((3, 2), "<i4", name=name)
    with pytest.raises(ValueError, match="is of int32, not"):
        mh.SharedArray(dtype=float, name=name)
    with pytest.raises(ValueError, match=r"is SharedArray of .*, not a Value"):
        mh.Value(name=name)
    del table, opened
    gc.collect()
    with pytest.raises(FileNotFoundError, match=r"SharedArray named .*pass its shape"):
        mh.SharedArray(name=name)


def test_records_and_empty_arrays_by_name(name: str) -> None:
    kind = np.dtype([("when", "M8[s]"), ("what", "U5"), ("where", "f4", (2,))])
    made = mh.SharedArray(4, kind, name=name)
    assert mh.SharedArray(name=name).dtype == kind
    del made
    gc.collect()
    empty = mh.SharedArray((0, 5), int, name=name)
    assert mh.SharedArray(name=name).shape == empty.shape


# Pipes


def test_a_pipe_by_name(name: str) -> None:
    here, there = mh.Pipe(name=name)
    assert here.name == there.name == name
    assert name in repr(here)
    code = """
_, end = mh.Pipe(name=sys.argv[1])
end.send(end.recv() + 1)
"""
    here.send(41)
    python(code, name)
    assert here.recv() == 42
    with pytest.raises(ValueError, match=r"Pipe named .* was made with"):
        mh.Pipe(False, name=name)
    with pytest.raises(ValueError, match="kind Pipe, not Queue"):
        mh.Queue(name=name)


def test_a_pipe_one_way_by_name(name: str) -> None:
    receiver, sender = mh.Pipe(duplex=False, name=name)
    python("mh.Pipe(False, name=sys.argv[1])[1].send('said')", name)
    assert receiver.recv() == "said"
    sender.close()
    with pytest.raises(EOFError):
        receiver.recv()


def test_an_unnamed_pipe_has_no_name() -> None:
    here, _ = mh.Pipe()
    assert here.name is None
