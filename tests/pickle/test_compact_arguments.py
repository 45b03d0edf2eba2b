"""Arguments of tasks that travel without pickle, although they are more than plain values."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextvars import Context
from functools import partial
from typing import Any

import pytest

import manyhands as mh
import tasks
from manyhands import _native
from manyhands._task.chunk import ShippedFunction

numpy = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(tasks.pid).result()  # starts it here, not in the first test
        yield pool


def described(array: Any) -> Any:
    """Everything that a task can see of an array."""
    kind = type(array).__name__
    flags = (array.flags.writeable, array.flags.c_contiguous, array.flags.f_contiguous)
    return kind, array.shape, array.strides, array.dtype, flags, array.tobytes()


def filled(array: Any) -> None:
    array.fill(1)


def without_variables(fn: Any) -> Any:
    """Pickle takes context variables along where there are some, and with them the arguments."""
    return partial(Context().run, fn)


def not_pickled(*_: object) -> Any:
    raise AssertionError("this should go without pickle")


def views() -> Iterator[Any]:
    numbers = mh.share(numpy.arange(60.0).reshape(3, 4, 5), writable=True)
    yield numbers
    yield mh.share(numpy.arange(4.0))
    yield numbers[1:]
    yield numbers[:, ::-1, 1::2]
    yield numbers.T
    yield numbers[2, 3, 4:]
    for kind in "?bBhHiIlLqQefdg":
        yield mh.share(numpy.arange(7).astype(kind))


def test_a_shared_array_goes_without_pickle(
    pool: mh.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mh.SharedArray, "__reduce_ex__", not_pickled)
    submit = partial(without_variables(pool.submit), described)
    for array in views():
        assert submit(array).result() == described(array)
        assert submit(array=array).result() == described(array)


def others() -> Iterator[Any]:
    yield mh.share(numpy.arange(60.0))[3:4].reshape(())
    yield mh.SharedArray((2, 0, 3))
    yield mh.SharedArray((1, 2, 1, 2, 1, 2))
    yield mh.share(numpy.arange(4, dtype=">i4"))
    yield mh.share(numpy.array([(1, 2.0)], dtype=[("one", "i4"), ("two", "f8")]))
    yield mh.share(numpy.arange(3).astype("M8[s]"))
    yield mh.share(numpy.array(["one", "three"]))
    yield mh.share(numpy.arange(3.0).astype(numpy.dtype("f8", metadata={"unit": "m"})))
    yield mh.share(numpy.arange(3) * 1j)
    yield mh.SharedArray(16, "u1")[1:9].view("f8")


def test_any_other_arrives_as_well(pool: mh.ProcessPoolExecutor) -> None:
    for array in others():
        assert pool.submit(described, array).result() == described(array)
        told = pool.submit(operator.attrgetter("dtype.metadata"), array).result()
        assert told == array.dtype.metadata


def test_so_does_one_with_a_name(pool: mh.ProcessPoolExecutor) -> None:
    array = mh.SharedArray(3, name="test-compact-arguments")
    pool.submit(filled, array).result()
    assert array.tolist() == [1, 1, 1]
    assert pool.submit(operator.attrgetter("name"), array).result() == "test-compact-arguments"


def test_a_task_has_the_same_memory(pool: mh.ProcessPoolExecutor) -> None:
    array = mh.SharedArray((4, 4))
    pool.submit(filled, array[1:3, ::2]).result()
    assert array.sum() == 4
    assert array[1:3, ::2].tolist() == [[1, 1], [1, 1]]


def test_one_array_twice_is_one_array(pool: mh.ProcessPoolExecutor) -> None:
    array = mh.SharedArray(3)
    assert pool.submit(operator.is_, array, array).result()
    assert pool.submit(operator.is_, array, (array,)).result() is False


def test_a_task_keeps_its_array_until_it_has_ended(pool: mh.ProcessPoolExecutor) -> None:
    before, _ = _native.shared_memory()
    futures = [
        pool.submit(operator.itemgetter(-1), mh.share(numpy.full(1 << 17, number)))
        for number in range(50)
    ]
    assert [future.result() for future in futures] == list(range(50))
    del futures
    assert _native.shared_memory()[0] <= before + (8 << 20)


def break_arrays() -> None:
    from manyhands._memory import shared_array

    def fail(*_: object) -> Any:
        raise LookupError("no array today")

    vars(shared_array)["array_over"] = fail


def test_an_array_that_cannot_be_opened_is_the_tasks_error() -> None:
    with mh.ProcessPoolExecutor(1, initializer=break_arrays) as pool:
        error = pool.submit(filled, mh.SharedArray(3)).exception()
        assert isinstance(error, LookupError)
        assert str(error) == "no array today"
        assert any("raised in the worker" in note for note in error.__notes__)
        assert pool.submit(abs, -1).result() == 1


@pytest.mark.parametrize("fn", [abs, operator.neg, str])
def test_the_chunks_of_a_map_go_without_pickle(
    pool: mh.ProcessPoolExecutor, fn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShippedFunction, "__reduce__", not_pickled)
    monkeypatch.setattr(ShippedFunction, "__reduce_ex__", not_pickled, raising=False)
    expected = [fn(number) for number in range(-500, 500)]
    numbers = range(-500, 500)
    pool_map, own_map = without_variables(pool.map), without_variables(mh.map)
    assert list(pool_map(fn, numbers, chunksize=7)) == expected
    assert list(pool_map(fn, list(numbers), chunksize=300)) == expected
    assert own_map(fn, numbers, workers=pool) == expected


def test_others_arrive_as_well(pool: mh.ProcessPoolExecutor) -> None:
    big = tuple(range(100_000))
    assert list(pool.map(lambda index: big[index], range(10), chunksize=3)) == list(range(10))
    array = numpy.arange(10.0)
    assert list(pool.map(lambda index: float(array[index]), range(10), chunksize=3)) == list(array)
    retrying = pool.options(retries=2, retry_on=(KeyError, OSError))
    assert list(retrying.map(abs, range(10), chunksize=3)) == list(range(10))
    got = list(pool.map(operator.truediv, [1, 2], [0, 1], chunksize=2, return_exceptions=True))
    assert isinstance(got[0], ZeroDivisionError)
    assert got[1] == 2.0
