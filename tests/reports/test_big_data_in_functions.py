"""Functions that hold big data: partials, closures, bound methods, joblib's batches.

Reports: joblib's memmapping and its issues; found by use: an array inside a function cost twelve
times what it costs as an argument, and went along with every task.
"""

from __future__ import annotations

import functools
import operator
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pytest

import manyhands as mh
import manyhands.joblib
from manyhands._pickle import by_value

SIZE = 300_000


class Model:
    def __init__(self) -> None:
        self.weights = np.ones(SIZE)

    def predict(self, place: int) -> float:
        return float(self.weights[place])


class Counted:
    """Counts how often it is pickled."""

    pickled = 0

    def __reduce__(self) -> tuple[object, ...]:
        Counted.pickled += 1
        return Counted, ()


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, -1).result()
        yield executor


def take(table: Any, place: int) -> float:
    return float(table[place])


def spoil(table: Any, place: int) -> float:
    table[place] += 1
    return float(table[place])


def functions(call: Callable[[Any, int], float], table: Any) -> dict[str, Callable[[int], float]]:
    def default(place: int, table: Any = table) -> float:
        return call(table, place)

    return {
        "partial": functools.partial(call, table),
        "closure": lambda place: call(table, place),
        "default": default,
    }


@pytest.mark.parametrize("how", ["partial", "closure", "default"])
def test_every_way_gives_the_right_result(pool: mh.ProcessPoolExecutor, how: str) -> None:
    table = np.arange(SIZE, dtype=float)
    fn = functions(take, table)[how]
    assert pool.submit(fn, 7).result() == 7
    for chunksize in (1, 3, None):
        assert list(pool.map(fn, range(9), chunksize=chunksize)) == list(range(9))
    assert mh.map(fn, range(9), workers="process") == list(range(9))


@pytest.mark.parametrize("how", ["partial", "closure"])
def test_what_a_task_writes_nobody_else_sees(pool: mh.ProcessPoolExecutor, how: str) -> None:
    table = np.zeros(SIZE)
    fn = functions(spoil, table)[how]
    assert [pool.submit(fn, 3).result() for _ in range(3)] == [1, 1, 1]
    list(pool.map(fn, [3, 3, 3]))
    assert table[3] == 0


def test_what_the_caller_writes_the_next_task_sees(pool: mh.ProcessPoolExecutor) -> None:
    table = np.zeros(SIZE)
    fn = functools.partial(take, table)
    assert pool.submit(fn, 3).result() == 0
    table[3] = 5
    assert pool.submit(fn, 3).result() == 5
    assert list(pool.map(fn, [3])) == [5]


def test_bound_methods_carry_their_object(pool: mh.ProcessPoolExecutor) -> None:
    assert pool.submit(Model().predict, 3).result() == 1
    assert list(pool.map(Model().predict, [1, 2], chunksize=1)) == [1, 1]


def test_buffers_stay_out_of_the_pickle() -> None:
    table = np.zeros(SIZE)
    data, buffers = by_value.dumps(lambda: table.sum())
    assert len(data) < 10_000
    assert sum(buffer.raw().nbytes for buffer in buffers) == table.nbytes


@pytest.mark.parametrize("chunksize", [1, 4, None])
def test_a_map_pickles_its_function_once(
    pool: mh.ProcessPoolExecutor, chunksize: int | None
) -> None:
    counted = Counted()
    Counted.pickled = 0
    assert list(pool.map(lambda n: (counted, n)[1], range(50), chunksize=chunksize)) == [*range(50)]
    assert Counted.pickled == 1


def test_messages_name_the_function_and_not_who_calls_it(pool: mh.ProcessPoolExecutor) -> None:
    table = np.zeros(SIZE)

    def die() -> None:
        os._exit(int(table[0]) + 3)

    with pytest.raises(mh.WorkerDied, match=r"while running task '.*die'"):
        pool.submit(die).result()
    holds_a_lock = functools.partial(operator.is_, threading.Lock())
    with pytest.raises(TypeError, match=r"the object is fn\.args\[0\]: <unlocked _thread\.lock"):
        pool.submit(holds_a_lock, 1)
    with pytest.raises(TypeError, match=r"the object is args\[1\]: <unlocked _thread\.lock"):
        pool.submit(lambda *_: table, 1, threading.Lock())


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return what joblib's backend places in shared memory."""
    arrays: list[Any] = []

    def share(array: Any, *, writable: bool = False) -> Any:
        arrays.append(array)
        return mh.share(array, writable=writable)

    monkeypatch.setattr(manyhands.joblib, "share", share)
    manyhands.joblib.register()
    yield arrays
    while manyhands.joblib._kept:
        manyhands.joblib._kept.pop()[1].shutdown()


def read_only(table: Any, place: int) -> tuple[str, bool, float]:
    return type(table).__name__, bool(table.flags.writeable), float(table[place])


def test_joblib_places_an_array_once(placed: list[Any]) -> None:
    table = np.arange(SIZE, dtype=float)
    calls = [joblib.delayed(read_only)(table, place) for place in range(10)]
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        with joblib.Parallel() as parallel:
            assert parallel(calls) == [("ndarray", False, place) for place in range(10)]
            assert len(placed) == 1 and placed[0] is table
            table[3] = 99
            assert parallel(calls)[3] == ("ndarray", False, 99)
        assert len(placed) == 2
        copies = joblib.Parallel(mmap_mode="c")(calls)
        assert copies is not None and copies[3] == ("ndarray", True, 99)
        joblib.Parallel(max_nbytes=None)(calls)
        assert len(placed) == 2
