"""`mh.Pool`: the interface of `multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from rules import ROOT

KINDS = ["process", "thread"]


@pytest.fixture(scope="module", params=KINDS)
def pool(request: pytest.FixtureRequest) -> Iterator[mh.Pool]:
    with mh.Pool(2, workers=request.param) as made:
        # What a pool starts once belongs to the module, not to the first test.
        made.apply(int)
        yield made


@pytest.fixture(params=KINDS)
def fresh(request: pytest.FixtureRequest) -> Iterator[mh.Pool]:
    """Return a pool for the test alone."""
    with mh.Pool(2, workers=request.param) as made:
        yield made


def square(number: int, wait: float = 0.0) -> int:
    time.sleep(wait)
    return number * number


def multiply(one: int, other: int) -> int:
    return one * other


def fails_at_three(number: int) -> int:
    if number == 3:
        raise SayingSo("three")
    return number


class SayingSo(Exception):
    pass


def wait_for(path: str) -> str:
    while not Path(path).exists():
        mh.sleep(0.005)
    return path


def test_apply(pool: mh.Pool) -> None:
    assert pool.apply(square, (5,)) == 25
    assert pool.apply(square, (), {"number": 3, "wait": 0.001}) == 9
    with pytest.raises(SayingSo):
        pool.apply(fails_at_three, (3,))


@pytest.mark.parametrize("chunksize", [None, 1, 20, 1000])
def test_map(pool: mh.Pool, chunksize: int | None) -> None:
    expected = [number * number for number in range(100)]
    assert pool.map(square, range(100), chunksize) == expected
    assert pool.map(square, iter(range(100)), chunksize=chunksize) == expected
    assert pool.map_async(square, list(range(100)), chunksize).get() == expected
    assert pool.map(square, [], chunksize) == []


@pytest.mark.parametrize("chunksize", [None, 1, 30])
def test_starmap(pool: mh.Pool, chunksize: int | None) -> None:
    pairs = list(zip(range(100), range(1, 101), strict=True))
    expected = [one * other for one, other in pairs]
    assert pool.starmap(multiply, pairs, chunksize) == expected
    assert pool.starmap_async(multiply, iter(pairs), chunksize).get(30) == expected


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_imap(pool: mh.Pool, chunksize: int) -> None:
    expected = [number * number for number in range(200)]
    assert list(pool.imap(square, range(200), chunksize)) == expected
    assert sorted(pool.imap_unordered(square, range(200), chunksize)) == expected
    results = pool.imap(square, iter(range(3)))
    assert [results.next(), next(results), results.next(timeout=30)] == [0, 1, 4]
    with pytest.raises(StopIteration):
        results.next()
    with pytest.raises(StopIteration):
        next(results)


def test_imap_reads_endless_input_a_little_ahead(pool: mh.Pool) -> None:
    source = count()
    results = pool.imap(square, source)
    assert [next(results) for _ in range(100)] == [number * number for number in range(100)]
    assert next(source) < 200


def test_imap_goes_on_after_a_failure(pool: mh.Pool) -> None:
    results = pool.imap(fails_at_three, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SayingSo):
        next(results)
    assert list(results) == [4, 5]
    results = pool.imap_unordered(fails_at_three, range(6))
    good, bad = [], 0
    while True:
        try:
            good.append(next(results))
        except SayingSo:
            bad += 1
        except StopIteration:
            break
    assert (sorted(good), bad) == ([0, 1, 2, 4, 5], 1)


def test_imap_tells_an_error_of_the_input_in_its_place(pool: mh.Pool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(4)
        raise SayingSo("input")

    for method in (pool.imap, pool.imap_unordered):
        results = method(square, numbers())
        assert sorted(next(results) for _ in range(4)) == [0, 1, 4, 9]
        with pytest.raises(SayingSo, match="input"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
    with pytest.raises(SayingSo, match="input"):
        pool.map(square, numbers())


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_next_has_a_timeout(pool: mh.Pool, method: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    results = getattr(pool, method)(wait_for, [str(gate)])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.05)
    gate.touch()
    assert results.next(timeout=30) == str(gate)


def test_a_result_that_is_not_there_yet(pool: mh.Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    result = pool.apply_async(wait_for, (str(gate),))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    gate.touch()
    assert result.get(timeout=30) == str(gate)
    assert result.ready()
    assert result.successful()


def test_a_failed_result(pool: mh.Pool) -> None:
    result = pool.apply_async(fails_at_three, (3,))
    result.wait()
    assert result.ready()
    assert not result.successful()
    with pytest.raises(SayingSo, match="three"):
        result.get()


def test_a_failed_map_raises_the_first_in_order_when_all_have_ended(pool: mh.Pool) -> None:
    result = pool.map_async(fails_at_three, [1, 3, 2, 3], chunksize=1)
    result.wait()
    assert result.ready()
    assert not result.successful()
    with pytest.raises(SayingSo):
        result.get()


@pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
def test_callbacks(pool: mh.Pool, method: str) -> None:
    values: list[Any] = []
    errors: list[BaseException] = []
    called = threading.Event()

    def keep(value: Any) -> None:
        values.append(value)
        called.set()

    def keep_error(error: BaseException) -> None:
        errors.append(error)
        called.set()

    good: Any = {"apply_async": (5,), "map_async": [1, 2], "starmap_async": [(1,), (2,)]}[method]
    bad: Any = {"apply_async": (3,), "map_async": [1, 3], "starmap_async": [(1,), (3,)]}[method]
    work = getattr(pool, method)
    expected = work(fails_at_three, good, callback=keep, error_callback=keep_error).get()
    assert called.wait(30)
    called.clear()
    with pytest.raises(SayingSo):
        work(fails_at_three, bad, callback=keep, error_callback=keep_error).get()
    assert called.wait(30)
    assert values == [expected]
    assert [type(error) for error in errors] == [SayingSo]


def test_the_callback_of_an_empty_map_is_called(pool: mh.Pool) -> None:
    values: list[Any] = []
    pool.map_async(square, [], callback=values.append)
    assert values == [[]]


def test_close_and_join(fresh: mh.Pool) -> None:
    results = [fresh.apply_async(square, (number,)) for number in range(50)]
    fresh.close()
    for refused in (
        lambda: fresh.apply_async(square, (1,)),
        lambda: fresh.map(square, [1]),
        lambda: fresh.imap(square, [1]),
        lambda: fresh.starmap(multiply, [(1, 2)]),
        lambda: fresh.__enter__(),
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            refused()
    fresh.join()
    assert [result.get() for result in results] == [number * number for number in range(50)]


def test_join_needs_close(fresh: mh.Pool) -> None:
    with pytest.raises(ValueError, match="Pool is still running"):
        fresh.join()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_join_does_the_rest_of_an_imap(fresh: mh.Pool, method: str) -> None:
    results = getattr(fresh, method)(square, iter(range(300)))
    fresh.close()
    fresh.join()
    assert sorted(results) == [number * number for number in range(300)]


def test_an_imap_can_be_read_after_close(fresh: mh.Pool) -> None:
    results = fresh.imap(square, iter(range(300)))
    fresh.close()
    assert list(results) == [number * number for number in range(300)]
    fresh.join()


def test_leaving_the_context_terminates(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with mh.Pool(1) as pool:
        result = pool.apply_async(wait_for, (str(gate),))
    assert "state=TERMINATE" in repr(pool)
    assert result.ready()
    assert not result.successful()
    pool.join()


def test_a_worker_that_dies_fails_its_task_only() -> None:
    with mh.Pool(2) as pool:
        with pytest.raises(mh.WorkerDied):
            pool.apply(die)
        assert pool.map(square, range(10)) == [number * number for number in range(10)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


STATE: list[int] = []


def set_up(value: int) -> None:
    STATE.append(value)


def state(_: object = None) -> tuple[int, list[int]]:
    return os.getpid(), STATE


def test_an_initializer_runs_in_each_worker() -> None:
    with mh.Pool(2, initializer=set_up, initargs=(7,)) as pool:
        assert {tuple(seen) for _, seen in pool.map(state, range(20), 1)} == {(7,)}


def test_workers_are_replaced_after_so_many_tasks() -> None:
    with mh.Pool(1, maxtasksperchild=3) as pool:
        pids = [pool.apply(state)[0] for _ in range(9)]
    assert len(set(pids)) == 3
    assert pids == sorted(pids, key=pids.index)


def test_context_is_accepted() -> None:
    with mh.Pool(1, context=multiprocessing.get_context("spawn")) as pool:
        assert pool.apply(square, (3,)) == 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"processes": 0}, ValueError, "Number of processes must be at least 1"),
        ({"maxtasksperchild": 0}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": 1.5}, ValueError, "maxtasksperchild must be a positive int"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"workers": "auto"}, ValueError, "'thread', 'process', got 'auto'"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mh.Pool(**options)


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered", "starmap"])
def test_nonsense_chunk_sizes_are_refused(pool: mh.Pool, method: str) -> None:
    with pytest.raises(ValueError, match="Chunksize must be 1"):
        getattr(pool, method)(square, [(1,)], chunksize=0)


def test_a_pool_is_not_pickled(pool: mh.Pool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pickle.dumps(pool)


def test_a_pool_that_is_dropped_says_so() -> None:
    pool = mh.Pool(1, workers="thread")
    assert repr(pool).startswith("<manyhands.Pool state=RUN pool_size=1 over <manyhands.Thread")
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool <manyhands"):
        del pool


def test_a_callback_has_been_called_when_the_result_is_ready(pool: mh.Pool) -> None:
    def slow(value: Any) -> None:
        time.sleep(0.05)
        values.append(value)

    for _ in range(5):
        values: list[Any] = []
        pool.apply_async(square, (3,), callback=slow).wait()
        assert values == [9]
        pool.map_async(square, [1, 2], callback=slow).get()
        assert values == [9, [1, 4]]


@pytest.mark.borrowed
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_the_suite_of_multiprocessing_itself(kind: str) -> None:
    if find_spec("test._test_multiprocessing") is None:
        pytest.skip("this Python was installed without its tests")
    ended = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", f"mp_pool_suite.{kind.title()}Tests"],
        cwd=ROOT / "tests" / "conformance",
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    ran = re.search(r"Ran (\d+) tests", ended.stderr)
    assert ran is not None
    assert int(ran[1]) > 20


def test_lambdas_and_closures(pool: mh.Pool) -> None:
    offset = 3
    assert pool.map(lambda number: number + offset, range(10)) == list(range(3, 13))
