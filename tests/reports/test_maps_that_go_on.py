"""A map tells which item failed, and goes on after it if asked to.

Reports: noxdafox/pebble#117, gevent#216, ipython/ipyparallel#504, sybrenjansen/mpire#110: one of
many items fails, and the traceback does not say which; or all the others are lost with it.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeAlias

import pytest

import manyhands as mh

Kind: TypeAlias = Literal["thread", "process", "auto"]
KINDS: list[Kind] = ["thread", "process", "auto"]
EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]


def tenth(number: int) -> int:
    """Fail for every tenth number."""
    if number % 10 == 3:
        raise ValueError(f"no {number}")
    return -number


def check(results: list[Any], count: int) -> None:
    """Check what `tenth` has made of ``range(count)``."""
    assert len(results) == count
    for number, result in enumerate(results):
        if number % 10 == 3:
            assert isinstance(result, ValueError)
            assert result.args == (f"no {number}",)
            noted = f"manyhands: raised for item {number} of the map: {number}"
            assert result.__notes__ == [noted]
        else:
            assert result == -number


def notes(error: BaseException) -> list[str]:
    """Return the notes of an exception."""
    found: list[str] = error.__notes__
    return found


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_others_go_on_in_maps(workers: Kind, chunksize: int | None) -> None:
    how: Any = {"workers": workers, "chunksize": chunksize, "return_exceptions": True}
    check(mh.map(tenth, range(64), **how), 64)
    check(list(mh.imap(tenth, range(64), **how)), 64)
    check(list(mh.imap(tenth, iter(range(64)), **how)), 64)
    ready = list(mh.imap(tenth, range(64), ordered=False, **how))
    check(sorted(ready, key=lambda each: int(str(each).removeprefix("no ").lstrip("-"))), 64)


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize("buffersize", [None, 20])
def test_others_go_on_in_maps_of_executors(
    kind: Any, chunksize: int | None, buffersize: int | None
) -> None:
    how: Any = {"chunksize": chunksize, "buffersize": buffersize, "return_exceptions": True}
    with kind(2) as pool:
        for maps in (pool, pool.options(name="one"), pool.options(retries=1)):
            check(list(maps.map(tenth, range(64), **how)), 64)
            check(list(maps.imap(tenth, range(64), **how)), 64)
            assert len(list(maps.imap_unordered(tenth, range(64), **how))) == 64
        results = list(pool.starmap(divmod, [(7, 2), (1, 0), (9, 4)], **how))
    assert results[::2] == [(3, 1), (2, 1)]
    assert isinstance(results[1], ZeroDivisionError)
    assert notes(results[1]) == ["manyhands: raised for item 1 of the map: (1, 0)"]


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize("timeout", [None, 5])
def test_the_failing_item_is_named(
    workers: Kind, chunksize: int | None, timeout: float | None
) -> None:
    def only(number: int) -> int:
        if number == 41:
            raise KeyError(number)
        return number

    for start in (mh.map, mh.imap):
        with pytest.raises(KeyError) as caught:
            list(start(only, range(64), workers=workers, chunksize=chunksize, timeout=timeout))
        assert notes(caught.value) == ["manyhands: raised for item 41 of the map: 41"]


def test_the_failing_item_is_named_by_every_map_of_a_pool() -> None:
    with mh.Pool(2) as pool:
        starts: list[Callable[[], Any]] = [
            lambda: pool.map(tenth, range(4, 32)),
            lambda: pool.map(tenth, range(4, 32), 1),
            lambda: list(pool.imap(tenth, range(4, 32))),
            lambda: list(pool.imap(tenth, range(4, 32), 5)),
        ]
        for start in starts:
            with pytest.raises(ValueError, match="no 13") as caught:
                start()
            assert notes(caught.value) == ["manyhands: raised for item 9 of the map: 13"]


class Job:
    def __init__(self, lock: Any) -> None:
        self.settings = {"lock": lock}


@pytest.mark.parametrize("chunksize", [None, 1, 2, 5])
def test_an_item_that_cannot_be_pickled_is_named(chunksize: int | None) -> None:
    """It was named by its place among the arguments of a task, of which nobody knows."""
    items = [1, 2, 3, Job(threading.Lock()), 5]
    twice = [(each, each) for each in items]
    with mh.ProcessPoolExecutor(1) as pool, mh.Pool(1) as others:
        alone: list[Callable[[], object]] = [
            lambda: mh.map(lambda item: item, items, workers="process", chunksize=chunksize),
            lambda: mh.map(id, items, workers="process", chunksize=chunksize, timeout=60),
            lambda: list(pool.map(lambda item: item, items, chunksize=chunksize)),
            lambda: list(pool.imap(id, items, chunksize=chunksize)),
            lambda: others.map(id, items, chunksize=chunksize),
        ]
        pairs: list[Callable[[], object]] = [
            lambda: mh.map(max, [0] * 5, items, workers="process", chunksize=chunksize),
            lambda: list(pool.starmap(lambda *pair: pair, twice, chunksize=chunksize)),
        ]
        for call in alone + pairs:
            with pytest.raises(TypeError) as caught:
                call()
            place = r"the item\.settings" if call in alone else r"the item\[[01]\]\.settings"
            assert re.search(rf"; the object is {place}\['lock'\]: <unlocked", str(caught.value))
            assert caught.value.__notes__ == ["manyhands: raised for item 3 of the map"]
            assert caught.value.__suppress_context__
        going_on = pool.map(str, items, chunksize=chunksize, return_exceptions=True)
        results = list(going_on)
    assert [str(each) for each in results if type(each) is str] == ["1", "2", "3", "5"]
    (error,) = [each for each in results if isinstance(each, TypeError)]
    assert "the object is the item.settings['lock']" in str(error)
    assert error.__notes__ == ["manyhands: raised for item 3 of the map"]


def test_maps_inside_maps_name_the_items_of_both() -> None:
    def inner(number: int) -> list[int]:
        return mh.map(tenth, range(number, number + 4), workers="thread")

    with pytest.raises(ValueError, match="no 3") as caught:
        mh.map(inner, [14, 5, 0], workers="process")
    assert notes(caught.value) == [
        "manyhands: raised for item 3 of the map: 3",
        "manyhands: raised for item 2 of the map: 0",
    ]


class Frozen(Exception):
    """Refuses notes."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("frozen")


class Secretive:
    """An item whose repr must not be asked for."""

    def __repr__(self) -> NoReturn:
        os._exit(3)


ALWAYS_THE_SAME = ValueError("the same")


def fail(item: object) -> NoReturn:
    """Fail, in a way that depends on the item."""
    if item == "frozen":
        raise Frozen
    if item == "exit":
        sys.exit(5)
    if item == "same":
        raise ALWAYS_THE_SAME
    raise ValueError(type(item).__name__)


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("chunksize", [1, 3])
def test_hard_cases(workers: Kind, chunksize: int) -> None:
    items = ["frozen", "exit", Secretive(), "x" * 1000, (1, [2]), 10**5000]
    how: Any = {"workers": workers, "chunksize": chunksize, "return_exceptions": True}
    found: list[Any] = mh.map(fail, items, **how)
    assert [type(each) for each in found] == [Frozen, SystemExit, *[ValueError] * 4]
    assert found[1].code == 5
    shown = f"manyhands: raised for item 3 of the map: '{'x' * 60}'..."
    assert notes(found[3]) in ([shown], [shown.partition(" map:")[0] + " map"])
    for index in (2, 4, 5):
        assert notes(found[index]) == [f"manyhands: raised for item {index} of the map"]


def test_an_exception_that_is_always_the_same_does_not_collect_notes() -> None:
    found: list[Any] = mh.map(fail, ["same"] * 99, workers="thread", return_exceptions=True)
    assert all(each is ALWAYS_THE_SAME for each in found)
    assert len(notes(ALWAYS_THE_SAME)) == 4
    assert notes(ALWAYS_THE_SAME)[-1] == "manyhands: raised for item 98 of the map: 'same'"


def lock_for(number: int) -> object:
    """Return what cannot come back, for 2."""
    return threading.Lock() if number == 2 else number


@pytest.mark.parametrize("chunksize", [1, 6, None])
def test_what_cannot_travel_takes_no_other_along(chunksize: int | None) -> None:
    how: Any = {"workers": "process", "chunksize": chunksize, "return_exceptions": True}
    found: list[Any] = mh.map(lock_for, range(6), **how)
    assert isinstance(found.pop(2), TypeError)
    assert found == [0, 1, 3, 4, 5]
    items = [1, 2, threading.Lock(), -4]
    with mh.ProcessPoolExecutor(2) as pool:
        for results in (
            mh.map(str, items, **how),
            list(pool.map(str, items, chunksize=chunksize, return_exceptions=True)),
            list(pool.imap(str, items, chunksize=chunksize, return_exceptions=True)),
        ):
            got: list[Any] = results
            assert isinstance(got[2], TypeError)
            assert notes(got[2]) == ["manyhands: raised for item 2 of the map"]
            assert got[:2] + got[3:] == ["1", "2", "-4"]


def die_for_three(number: int) -> int:
    """End the worker for 3."""
    if number == 3:
        os._exit(1)
    return number


def test_a_worker_that_dies_takes_its_chunk_along() -> None:
    how: Any = {"workers": "process", "return_exceptions": True}
    found: list[Any] = mh.map(die_for_three, range(6), chunksize=1, **how)
    assert isinstance(found[3], mh.WorkerDied)
    assert notes(found[3]) == ["manyhands: raised for item 3 of the map: 3"]
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]
    found = mh.map(die_for_three, range(6), chunksize=2, **how)
    assert found[:2] + found[4:] == [0, 1, 4, 5]
    assert isinstance(found[2], mh.WorkerDied)
    together = "manyhands: raised for items 2 to 3 of the map, which ran as one task"
    assert notes(found[2]) == [together]


def test_an_item_that_takes_too_long() -> None:
    found: list[Any] = mh.map(
        mh.sleep, [0, 60, 0], workers="process", timeout=0.3, return_exceptions=True
    )
    assert isinstance(found[1], mh.TaskTimeout)
    assert notes(found[1]) == ["manyhands: raised for item 1 of the map: 60"]
    assert found[::2] == [None, None]


@pytest.mark.parametrize("workers", KINDS)
def test_the_input_may_still_end_a_map(workers: Kind) -> None:
    def numbers() -> Any:
        yield 1
        raise OSError("no more input")

    with pytest.raises(OSError, match="no more input"):
        mh.map(abs, numbers(), workers=workers, return_exceptions=True)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_pool_that_is_shut_down_ends_a_map(kind: Any) -> None:
    pool = kind(1)
    results = pool.imap(abs, iter(range(1000)), return_exceptions=True)
    assert next(results) == 0
    pool.shutdown(wait=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_maps_of_executors_show_progress(kind: Any) -> None:
    with kind(2) as pool:
        for maps in (pool, pool.options(name="one")):
            for start in (maps.map, maps.imap, maps.imap_unordered):
                for how in ({}, {"buffersize": 10}):
                    seen: list[tuple[int, int | None]] = []
                    results = start(
                        abs, range(30), progress=lambda *told, seen=seen: seen.append(told), **how
                    )
                    assert seen == []
                    next(results)
                    assert seen == [(1, 30)]
                    assert len(list(results)) == 29
                    assert seen == [(done, 30) for done in range(1, 31)]
            seen = []
            pairs = [(7, 2)] * 3
            list(maps.starmap(divmod, pairs, progress=lambda *told: seen.append(told)))  # noqa: B023
            assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_bar_of_an_executor_is_called_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    with mh.ThreadPoolExecutor(2) as pool:
        list(pool.map(abs, range(3), progress="counting"))
        list(pool.map(abs, range(3), progress=True))
    told = capsys.readouterr().err
    assert "counting" in told
    assert "abs" in told
