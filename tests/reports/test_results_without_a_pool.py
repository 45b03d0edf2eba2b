"""Results of a Pool that nobody refers to any more: they arrive, and the pool ends afterwards.

Reports: python/cpython#79559 (bpo-35378), python/cpython#79810. The tasks were cancelled.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

import manyhands as mh

pytestmark = pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool")


def double(number: int) -> int:
    time.sleep(0.01)
    return 2 * number


def called_back(start: Callable[..., Any]) -> list[int]:
    results = mh.SimpleQueue()
    start(callback=results.put)
    gc.collect()
    value = results.get()
    return value if isinstance(value, list) else [value]


WAYS: dict[str, Callable[[], list[int]]] = {
    "imap": lambda: list(mh.Pool(1).imap(double, range(5))),
    "imap_unordered": lambda: sorted(mh.Pool(1).imap_unordered(double, range(5))),
    "map_async": lambda: mh.Pool(1).map_async(double, range(5)).get(),
    "starmap_async": lambda: mh.Pool(1).starmap_async(double, [(n,) for n in range(5)]).get(),
    "apply_async": lambda: [mh.Pool(1).apply_async(double, (2,)).get()],
    "threads": lambda: list(mh.Pool(1, workers="thread").imap(double, range(5))),
    "callback": lambda: called_back(
        lambda callback: mh.Pool(1).map_async(double, range(5), callback=callback) and None
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_results_arrive_although_only_they_refer_to_the_pool(way: str) -> None:
    expected = [4] if way == "apply_async" else [0, 2, 4, 6, 8]
    assert WAYS[way]() == expected
    gc.collect()
