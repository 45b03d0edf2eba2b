"""A map does not wait for a thread that goes on after its time is up.

Found by use, with a server that does not answer: `mh.map(fetch, urls, workers="thread", timeout=1)`
had all its results after a second, and returned when the last connection had ended.
"""

from __future__ import annotations

import time
from threading import Event
from typing import Any

import pytest

import manyhands as mh

TIMEOUT_S = 0.3
OF_ITS_OWN = {"workers": "thread", "max_workers": 20}


def wait_unless(last: int, gate: Event, number: int) -> int:
    """Wait a moment, or, as the last one, until the test is over."""
    if number == last:
        gate.wait(30)
    else:
        time.sleep(0.02)
    return number


@pytest.mark.parametrize("count", [3, 60])  # few for the shared threads, and more than those
@pytest.mark.parametrize("keywords", [{"workers": "thread"}, OF_ITS_OWN, {}])
@pytest.mark.parametrize("retries", [0, 1])
def test_a_map_returns_when_all_results_are_there(
    count: int, keywords: dict[str, Any], retries: int
) -> None:
    gate = Event()
    keywords = keywords | {"timeout": TIMEOUT_S, "retries": retries, "return_exceptions": True}
    began = time.monotonic()
    try:
        results = mh.map(lambda n: wait_unless(count - 1, gate, n), range(count), **keywords)
        assert time.monotonic() - began < 15
    finally:
        gate.set()
    assert results[:-1] == list(range(count - 1))
    assert type(results[-1]) is mh.TaskTimeout


@pytest.mark.parametrize("keywords", [OF_ITS_OWN, {}])
def test_a_map_raises_when_an_item_takes_too_long(keywords: dict[str, Any]) -> None:
    gate = Event()
    began = time.monotonic()
    try:
        said = "task '.*lambda>' was asked to stop: it ran longer than its timeout of 0.3 s"
        with pytest.raises(mh.TaskTimeout, match=said):
            mh.map(lambda n: wait_unless(0, gate, n), range(60), timeout=TIMEOUT_S, **keywords)
        assert time.monotonic() - began < 15
    finally:
        gate.set()
