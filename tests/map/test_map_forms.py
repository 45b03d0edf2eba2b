"""`mh.starmap` and `mh.imap_unordered`, on every kind of worker."""

from __future__ import annotations

import time
from typing import Any

import pytest

import manyhands as mh

KINDS = ["auto", "thread", "process"]


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_starmap_unpacks_each_item(workers: Any, count: int) -> None:
    pairs = [(n, 3) for n in range(count)]
    expected = [divmod(n, 3) for n in range(count)]
    assert mh.starmap(divmod, pairs, workers=workers) == expected
    lazily = (list(pair) for pair in pairs)
    assert mh.starmap(divmod, lazily, workers=workers) == expected


def test_starmap_takes_the_options_of_a_map() -> None:
    seen: list[object] = []
    pairs = [(2, 10), (3, "four"), (5, 2)]
    found = mh.starmap(
        pow,
        pairs,
        workers="thread",
        max_workers=2,
        timeout=30,
        chunksize=1,
        retries=1,
        progress=lambda *numbers: seen.append(numbers),
        return_exceptions=True,
    )
    assert [found[0], type(found[1]), found[2]] == [1024, TypeError, 25]
    assert seen[-1] == (3, 3)


def test_starmap_runs_on_an_executor_and_on_a_view_of_one() -> None:
    with mh.ThreadPoolExecutor(2) as pool:
        assert mh.starmap(pow, [(2, 3)], workers=pool) == [8]
        assert mh.starmap(pow, [(2, 3)], workers=pool.options(retries=1)) == [8]


def test_starmap_of_what_cannot_be_unpacked_is_an_error() -> None:
    with pytest.raises(TypeError):
        mh.starmap(abs, [1, 2])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        mh.starmap(abs, 1)  # type: ignore[call-overload]


@pytest.mark.parametrize("workers", KINDS)
def test_imap_unordered_yields_everything_once(workers: Any) -> None:
    found = mh.imap_unordered(pow, range(300), [2] * 300, workers=workers, buffersize=40)
    assert sorted(found) == [n * n for n in range(300)]


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_imap_unordered_does_not_wait_for_the_first() -> None:
    naps = [0.5, 0.01, 0.01]
    found = mh.imap_unordered(nap, naps, workers="thread", max_workers=3, chunksize=1)
    assert list(found) == [0.01, 0.01, 0.5]
