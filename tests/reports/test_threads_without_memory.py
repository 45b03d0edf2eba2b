"""A thread that has no memory to begin with: whoever starts it is told, and does not wait for it.

Reports: python/cpython#140746. `threading.Thread.start` waits until the new thread says that it
runs; one that had no memory for its first frame never did.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

import manyhands as mh
from manyhands._interpreter.sure_thread import SureThread


def runs_out(thread: threading.Thread) -> None:
    raise MemoryError


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(threading.Thread, "_bootstrap", runs_out)
    return monkeypatch


@pytest.mark.usefixtures("shortage")
def test_the_start_fails_and_leaves_nothing() -> None:
    before = threading.enumerate()
    thread = SureThread(target=print)
    with pytest.raises(RuntimeError, match="can't start new thread") as caught:
        thread.start()
    assert isinstance(caught.value.__cause__, MemoryError)
    assert threading.enumerate() == before


@pytest.mark.parametrize("make", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_a_pool_can_be_used_when_there_is_memory_again(
    make: Any, shortage: pytest.MonkeyPatch
) -> None:
    with make(1) as pool:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(abs, -1)
        shortage.undo()
        assert pool.submit(abs, -2).result(30) == 2


def test_it_is_told_as_soon_as_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = SureThread(target=print)
    told = thread._started.set  # type: ignore[attr-defined]
    failures = iter([MemoryError(), MemoryError()])

    def fails_twice() -> None:
        for failure in failures:
            raise failure
        told()

    monkeypatch.setattr(threading.Thread, "_bootstrap", runs_out)
    monkeypatch.setattr(thread._started, "set", fails_twice)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        thread.start()
    assert next(failures, None) is None
