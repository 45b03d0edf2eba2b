"""Maps of async functions: ``workers="coroutine"``, and what ``"auto"`` makes of them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest

import manyhands as mh


@pytest.fixture(autouse=True)
def end_shared_pool() -> Iterator[None]:
    yield
    mh.shared_pool(workers="coroutine").shutdown()


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


# For type checkers a map of such a function gives coroutines: with threads it does.
double: Any = _double


@mh.coroutine
def double_by_steps(number: int) -> Any:
    yield
    return 2 * number


class Doubler:
    async def __call__(self, number: int) -> int:
        return 2 * number

    async def method(self, number: int) -> int:
        return 2 * number


ASYNC = [double, double_by_steps, Doubler(), Doubler().method, functools.partial(double)]


class Meter:
    """Counts how many calls are under way at once."""

    def __init__(self) -> None:
        self.most = self._now = 0

    async def __call__(self, number: int) -> int:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        return number


@pytest.mark.parametrize("fn", ASYNC)
@pytest.mark.parametrize("workers", ["coroutine", "auto"])
def test_map_awaits(fn: Callable[[int], Any], workers: Any) -> None:
    assert mh.map(fn, range(40), workers=workers) == [2 * n for n in range(40)]
    assert list(mh.imap(fn, range(40), workers=workers)) == [2 * n for n in range(40)]
    found = mh.imap(fn, range(40), workers=workers, ordered=False)
    assert sorted(found) == [2 * n for n in range(40)]


def test_auto_says_what_it_chose() -> None:
    mh.map(double, range(3))
    choice = mh.last_choice()
    assert choice is not None
    assert choice.kind == "coroutine"
    mh.map(abs, range(3))
    assert mh.last_choice() != choice


@pytest.mark.parametrize("bound", [1, 7, 2000])
def test_max_workers_is_the_bound(bound: int) -> None:
    meter: Any = Meter()
    assert mh.map(meter, range(50), workers="coroutine", max_workers=bound) == list(range(50))
    assert meter.most <= bound
    if bound == 7:
        assert meter.most > 1


def test_a_chunk_is_still_one_call_each() -> None:
    assert mh.map(double, range(10), workers="coroutine", chunksize=4) == [2 * n for n in range(10)]
    with mh.CoroutinePoolExecutor() as pool:
        assert list(pool.map(double, range(10), chunksize=4)) == [2 * n for n in range(10)]
        assert list(pool.imap(double, range(10), chunksize=4)) == [2 * n for n in range(10)]
        assert list(pool.starmap(double, [(1,), (2,)])) == [2, 4]


def test_imap_reads_an_endless_input_only_so_far() -> None:
    results = mh.imap(double, count(), workers="coroutine", buffersize=5)
    assert list(islice(results, 20)) == [2 * n for n in range(20)]
    results.close()


def test_the_item_that_fails_is_named() -> None:
    async def fails_at_seven(number: int) -> Any:
        if number == 7:
            raise ValueError("seven")
        return number

    with pytest.raises(ValueError, match="seven") as raised:
        mh.map(fails_at_seven, range(10), workers="coroutine")
    assert any("7" in note for note in raised.value.__notes__)
    found = mh.map(fails_at_seven, range(10), workers="coroutine", return_exceptions=True)
    assert [type(each) for each in found].index(ValueError) == 7


def test_an_executor_of_ones_own() -> None:
    with mh.CoroutinePoolExecutor(loops=2, max_tasks=3) as pool:
        assert mh.map(double, range(30), workers=pool) == [2 * n for n in range(30)]
        assert mh.starmap(double, [(1,)], workers=pool) == [2]


def test_amap_in_a_running_loop() -> None:
    async def main() -> list[int]:
        found: list[int] = await mh.amap(double, range(10))
        return found

    assert asyncio.run(main()) == [2 * n for n in range(10)]


def test_shared_pool_is_shared_and_resized() -> None:
    pool = mh.shared_pool(workers="coroutine")
    assert mh.shared_pool(7, workers="coroutine") is pool
    assert pool.submit(double, 4).result(30) == 8
    assert "workers=1/7" in repr(pool)
