"""``workers="thread"``: as many threads as waiting needs, and no more than computing does.

Reports: ross/requests-futures#66, python/cpython#13618 (bpo-35279): pools of threads are as large
as suits computing, so that requests to a slow server take several times as long as they need.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import manyhands as mh
from manyhands._map import widening


class Crowd:
    """Counts how many are in it at once."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> float:
        """Be in it for so long."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(seconds)
        with self._lock:
            self._now -= 1
        return seconds

    def compute(self, number: int) -> int:
        """Be in it, and compute under the GIL."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        total = sum(n * n for n in range(200_000 + number))
        with self._lock:
            self._now -= 1
        return total


@pytest.mark.parametrize("how", [{}, {"timeout": 30}, {"chunksize": 1}, {"retries": 1}])
def test_items_that_wait_get_many(how: Any) -> None:
    crowd = Crowd()
    assert mh.map(crowd.wait, [0.5] * 64, workers="thread", **how) == [0.5] * 64
    assert 24 <= crowd.most <= 32
    for ordered in (True, False):
        crowd = Crowd()
        results = mh.imap(crowd.wait, [0.5] * 64, workers="thread", ordered=ordered, **how)
        assert list(results) == [0.5] * 64
        assert 24 <= crowd.most <= 32


def test_items_that_compute_get_few() -> None:
    crowd = Crowd()
    results = mh.map(crowd.compute, range(60), workers="thread", chunksize=1)
    assert len(results) == 60
    assert crowd.most <= 2 * mh.shared_pool(workers="thread")._max_workers


def test_half_a_cpu_is_much_where_others_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # As items that compute beside four programs per CPU, of which the GIL lets one compute.
    monkeypatch.setattr(widening, "runnable_others", lambda own, cpus: 4.0 * cpus)
    monkeypatch.setattr(widening, "process_time", lambda: 0.5 * time.perf_counter())
    crowd = Crowd()
    mh.map(crowd.wait, [0.1] * 40, workers="thread", chunksize=1)
    assert crowd.most <= mh.shared_pool(workers="thread")._max_workers


def test_whoever_says_how_many_gets_so_many() -> None:
    crowd = Crowd()
    mh.map(crowd.wait, [0.05] * 40, workers="thread", max_workers=3)
    assert crowd.most <= 3
    crowd = Crowd()
    with mh.ThreadPoolExecutor(4) as pool:
        mh.map(crowd.wait, [0.05] * 40, workers=pool)
    assert crowd.most <= 4
    crowd = Crowd()
    assert len(list(mh.imap(crowd.wait, [0.05] * 40, workers="thread", buffersize=5))) == 40
    assert crowd.most <= 5


def test_short_maps_and_failures() -> None:
    assert mh.map(abs, [], workers="thread") == []
    assert mh.map(abs, range(-3, 0), workers="thread") == [3, 2, 1]
    assert mh.map(abs, range(-100_000, 0), workers="thread")[0] == 100_000

    def wait_and_fail(number: int) -> float:
        time.sleep(0.1)
        return 1 / (number - 40)

    with pytest.raises(ZeroDivisionError) as caught:
        mh.map(wait_and_fail, range(64), workers="thread")
    assert "item 40" in caught.value.__notes__[0]
