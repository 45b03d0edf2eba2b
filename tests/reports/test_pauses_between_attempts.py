"""A pause before a failed task is tried again, during which no worker waits with it.

Reports: ray-project/ray#28015, chrisguidry/docket#4: what failed because a server is busy fails
again if it is tried at once, and a worker that sleeps in between does nothing for anybody else.
"""

from __future__ import annotations

import os
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

import manyhands as mh

Kind: TypeAlias = Literal["thread", "process", "auto"]
KINDS: list[Kind] = ["thread", "process", "auto"]
EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]


def note_and_fail(path: str, good: int) -> int:
    """Note the time, and fail unless this is the attempt number `good`."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{time.monotonic()}\n")
    attempts = len(Path(path).read_text(encoding="utf-8").split())
    if attempts < good:
        raise ConnectionError(attempts)
    return attempts


def die_first(path: str, good: int) -> int:
    """As `note_and_fail`, but the worker dies of it."""
    try:
        return note_and_fail(path, good)
    except ConnectionError:
        os._exit(1)


def hang_first(path: str, good: int) -> int:
    """As `note_and_fail`, but it takes too long."""
    try:
        return note_and_fail(path, good)
    except ConnectionError:
        mh.sleep(60)
        raise


def fail_after(path: str, seconds: float) -> None:
    """Say that it runs, and fail after a while."""
    Path(path).touch()
    time.sleep(seconds)
    raise ConnectionError


def gaps(path: Path) -> list[float]:
    """Return the seconds between attempts."""
    times = [float(line) for line in path.read_text(encoding="utf-8").split()]
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_pauses_double(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    with kind(1) as pool:
        view = pool.options(retries=3, backoff=0.2)
        assert view.submit(note_and_fail, str(path), 4).result() == 4
    first, second, third = gaps(path)
    assert first >= 0.14
    assert second >= 0.29
    assert third >= 0.59
    assert third > first


@pytest.mark.parametrize("kind", EXECUTORS)
def test_no_worker_waits(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    with kind(1) as pool:
        future = pool.options(retries=1, backoff=60).submit(note_and_fail, str(path), 2)
        while not path.exists():
            time.sleep(0.01)
        assert [pool.submit(abs, -n).result() for n in range(3)] == [0, 1, 2]
        assert not future.done()
        assert future.cancel()
        assert future.cancelled()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_leaving_with_waits_for_the_next_attempt(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    with kind(1) as pool:
        future = pool.options(retries=2, backoff=0.2).submit(note_and_fail, str(path), 3)
    assert future.done()
    assert future.result() == 3


@pytest.mark.parametrize("kind", EXECUTORS)
def test_shutting_down_with_cancelling(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    pool = kind(1)
    future = pool.options(retries=2, backoff=60).submit(note_and_fail, str(path), 3)
    while not pool.statistics()["retried"]:
        time.sleep(0.01)
    pool.shutdown(wait=True, cancel_futures=True)
    assert future.cancelled()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_what_fails_after_that_is_not_tried_again(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    pool = kind(1)
    view = pool.options(retries=2, backoff=60)
    future = view.submit(fail_after, str(path), 1.0)
    while not path.exists():
        time.sleep(0.01)
    pool.shutdown(wait=True, cancel_futures=True)
    with pytest.raises(ConnectionError):
        future.result()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_callable_says_how_long(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "times"
    asked: list[int] = []

    def pause(attempt: int) -> float:
        asked.append(attempt)
        return 0.3 if attempt == 2 else 0

    with kind(1) as pool:
        view = pool.options(retries=3, backoff=pause)
        assert view.submit(note_and_fail, str(path), 4).result() == 4
    assert asked == [1, 2, 3]
    assert gaps(path)[1] >= 0.29
    with kind(1) as pool, pytest.raises(ZeroDivisionError):
        pool.options(retries=1, backoff=lambda attempt: attempt / 0).submit(abs, 1)


def test_deaths_and_timeouts_wait_as_well(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        path = tmp_path / "deaths"
        future = pool.options(retries=1, backoff=0.4).submit(die_first, str(path), 2)
        assert future.result() == 2
        assert gaps(path)[0] >= 0.29
        path = tmp_path / "timeouts"
        view = pool.options(retries=1, backoff=0.4, timeout=1.5)
        assert view.submit(hang_first, str(path), 2).result() == 2
        assert gaps(path)[0] >= 1.79
    with mh.ThreadPoolExecutor(1) as threads:
        path = tmp_path / "threads"
        view = threads.options(retries=1, backoff=0.4, timeout=1.5)
        assert view.submit(hang_first, str(path), 2).result() == 2
        assert gaps(path)[0] >= 1.79


@pytest.mark.parametrize("workers", KINDS)
def test_maps_wait(workers: Kind, tmp_path: Path) -> None:
    def attempt(number: int) -> int:
        return note_and_fail(str(tmp_path / f"{workers}{number}"), 2 if number % 2 else 1)

    for start in (mh.map, mh.imap):
        for path in tmp_path.iterdir():
            path.unlink()
        results = start(attempt, range(6), workers=workers, retries=1, backoff=0.2)
        assert list(results) == [1, 2, 1, 2, 1, 2]
        for number in (1, 3, 5):
            assert gaps(tmp_path / f"{workers}{number}")[0] >= 0.14


@pytest.mark.parametrize("kind", EXECUTORS)
def test_items_of_a_map_wait_side_by_side(kind: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(20)]
    began = time.monotonic()
    with kind(1) as pool:
        view = pool.options(retries=1, backoff=lambda _: 1.0)
        assert list(view.map(note_and_fail, paths, [2] * 20)) == [2] * 20
    assert time.monotonic() - began < 19


def give(what: Any, _: int) -> Any:
    """Return what no number of seconds is."""
    return what


def test_wrong_values() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        wrong: Any
        for wrong in ("1", True, [1]):
            with pytest.raises(TypeError, match="backoff must be seconds"):
                pool.options(retries=1, backoff=wrong)
        value: Any
        for value in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="backoff must be seconds"):
                pool.options(retries=1, backoff=value)
            with pytest.raises(ValueError, match="backoff must be seconds"):
                mh.map(abs, [1], retries=1, backoff=value)
            with pytest.raises(ValueError, match="backoff must return seconds"):
                pool.options(retries=1, backoff=partial(give, value)).submit(abs, 1)
        with pytest.raises(TypeError, match="backoff must return seconds"):
            pool.options(retries=1, backoff=partial(give, "1")).submit(abs, 1)


def test_the_users_random_numbers_stay_as_they_are() -> None:
    import random

    random.seed(1)
    expected = random.random()
    random.seed(1)
    with mh.ThreadPoolExecutor(1) as pool:
        assert pool.options(retries=9, backoff=1).submit(abs, -1).result() == 1
    assert random.random() == expected
