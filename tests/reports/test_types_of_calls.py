"""Type checkers know what a call returns, exceptions in the places of results included.

Reports: python/typeshed#3266 (with ``return_exceptions``, results were said to be no exceptions),
PrefectHQ/prefect#5985 (a future as an argument did not type-check), noxdafox/pebble#167 (results
were Any, and wrong arguments went unnoticed).

What is asserted of types is checked by mypy, which `make lint` runs on the tests, too.
"""

from __future__ import annotations

import asyncio
from concurrent import futures
from typing import Any, assert_type

import pytest

import manyhands as mh


def whole(text: str) -> int:
    """Read a whole number."""
    return int(text)


def twice(number: int) -> float:
    """Double a number."""
    return 2.0 * number


def kinds(results: list[Any]) -> list[type]:
    """Return what the results are."""
    return [type(result) for result in results]


def test_maps_of_functions() -> None:
    texts = ["1", "two"]
    assert_type(mh.map(whole, ["1"]), list[int])
    assert_type(mh.map(whole, ["1"], return_exceptions=False), list[int])
    found = mh.map(whole, texts, return_exceptions=True, workers="thread")
    assert_type(found, list[int | BaseException])
    assert kinds(found) == [int, ValueError]
    unpacked = mh.starmap(whole, [("1",), ("two",)], return_exceptions=True)
    assert_type(unpacked, list[int | BaseException])
    assert kinds(unpacked) == [int, ValueError]
    assert_type(mh.starmap(whole, [("1",)]), list[int])
    assert_type(next(mh.imap(whole, texts, ordered=True)), int)
    lazy = mh.imap(whole, texts, buffersize=1, return_exceptions=True)
    assert_type(next(lazy), int | BaseException)
    assert kinds(list(lazy)) == [ValueError]
    assert_type(next(mh.imap_unordered(whole, ["1"])), int)
    ready = mh.imap_unordered(whole, ["two"], return_exceptions=True)
    assert_type(next(ready), int | BaseException)
    assert_type(asyncio.run(mh.amap(whole, ["1"])), list[int])
    awaited = asyncio.run(mh.amap(whole, texts, return_exceptions=True))
    assert_type(awaited, list[int | BaseException])
    assert kinds(awaited) == [int, ValueError]


@pytest.mark.parametrize("go_on", [False, True])
def test_maps_of_functions_whose_flag_is_not_known(go_on: bool) -> None:
    assert_type(mh.map(whole, ["1"], return_exceptions=go_on), list[int | BaseException])


@pytest.mark.parametrize("kind", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_maps_of_executors(kind: type[mh.ThreadPoolExecutor | mh.ProcessPoolExecutor]) -> None:
    texts = ["1", "two"]
    with kind(1) as pool:
        assert_type(next(pool.map(whole, texts, timeout=50)), int)
        found = pool.map(whole, texts, return_exceptions=True)
        assert_type(next(found), int | BaseException)
        assert kinds(list(found)) == [ValueError]
        assert_type(next(pool.starmap(whole, [("1",)], 50)), int)
        unpacked = pool.starmap(whole, [("two",)], 50, return_exceptions=True)
        assert_type(next(unpacked), int | BaseException)
        assert_type(next(pool.imap(whole, texts)), int)
        assert_type(next(pool.imap(whole, texts, return_exceptions=True)), int | BaseException)
        assert_type(next(pool.imap_unordered(whole, ["1"])), int)
        ready = pool.options(retries=1).imap_unordered(whole, texts, return_exceptions=True)
        assert_type(next(ready), int | BaseException)
        assert kinds(sorted(ready, key=str)) in ([int], [ValueError])


def test_futures_as_arguments() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        after = pool.options(wait_for_futures=True)
        first = after.submit(whole, "4")
        assert_type(first, mh.Future[int])
        second = after.submit(twice, first)
        assert_type(second, mh.Future[float])
        third = after.submit(sum, [second, second]).then(str)
        assert third.result() == "16.0"

        async def main() -> float:
            result = await after.run(twice, second)
            return assert_type(result, float)

        assert asyncio.run(main()) == 16.0


def test_views_know_whether_they_wait_for_futures() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        after = pool.options(wait_for_futures=True, retries=1)
        patient = pool.options(retries=1)
        source = pool.submit(whole, "4")
        assert after.options(priority=2).submit(twice, source).result() == 8.0
        assert patient.options(wait_for_futures=True).submit(twice, source).result() == 8.0
        # Without it, a future is an argument like others, and here a wrong one.
        with pytest.raises(TypeError):
            patient.submit(twice, source).result()  # type: ignore[arg-type]
        at_once = after.options(wait_for_futures=False)
        with pytest.raises(TypeError):
            at_once.submit(twice, source).result()  # type: ignore[arg-type]
        assert "wait_for_futures" not in repr(at_once)
        assert "wait_for_futures=True" in repr(after)


def test_wrong_options_are_noticed() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        with pytest.raises(TypeError):
            pool.options(retrys=3)  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            pool.options().options(retries="three")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        mh.map(whole, ["1"], retrys=3)  # type: ignore[call-overload]


def test_futures_come_as_what_they_are() -> None:
    with mh.ThreadPoolExecutor(1) as pool, futures.ThreadPoolExecutor(1) as foreign:
        for ours in mh.as_completed([pool.submit(whole, "1")]):
            assert_type(ours, mh.Future[int])
            assert ours.then(twice).result() == 2.0
        for theirs in mh.as_completed([foreign.submit(whole, "1")]):
            assert_type(theirs, futures.Future[int])
            assert theirs.result() == 1


def test_what_has_been_waited_for_keeps_its_type() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        ready = mh.wait([pool.submit(whole, "4")])
        assert_type(ready.done, set[mh.Future[int]])
        done, not_done = ready
        assert_type(not_done, set[mh.Future[int]])
        assert [future.then(twice).result() for future in done] == [8.0]
    with futures.ThreadPoolExecutor(1) as other:
        of_the_library = mh.wait([other.submit(whole, "4")])
        assert_type(of_the_library.done, set[futures.Future[int]])
        assert [future.result() for future in of_the_library.done] == [4]
