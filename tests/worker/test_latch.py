"""The latch that threads of a process wait at: for another to begin, or for a piece of a map."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from manyhands._native import Latch


def test_an_open_latch_holds_up_nobody() -> None:
    latch = Latch()
    assert not latch.is_open
    assert latch.open()
    assert not latch.open()
    assert latch.is_open
    assert latch.wait()
    assert latch.wait(0)


@pytest.mark.parametrize("seconds", [0, -1, 0.05])
def test_a_wait_ends_when_its_time_is_up(seconds: float) -> None:
    began = time.monotonic()
    assert not Latch().wait(seconds)
    assert time.monotonic() - began >= seconds


@pytest.mark.parametrize("limit", [None, 50])
def test_all_who_wait_are_woken(limit: float | None) -> None:
    latch = Latch()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(latch.wait(limit))) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    latch.open()
    for thread in threads:
        thread.join()
    assert found == [True] * 5


def test_a_handler_may_end_a_wait_or_open_the_latch() -> None:
    latch = Latch()
    acts: Iterator[Callable[[], object]] = iter([lambda: 1 / 0, latch.open])
    before = signal.signal(signal.SIGALRM, lambda *_: next(acts)())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(ZeroDivisionError):
            latch.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert latch.wait(50)
    finally:
        signal.signal(signal.SIGALRM, before)
