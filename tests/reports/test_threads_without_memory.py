"""Threads that begin late, or never, for want of memory: nobody waits for them.

Reports: python/cpython#140746. `threading.Thread.start` waits until the new thread says that it
runs; one that had no memory for its first frame never did.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
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
        with pytest.raises(RuntimeError, match="can't start new thread") as caught:
            pool.submit(abs, -1)
        assert isinstance(caught.value.__cause__, MemoryError)
        shortage.undo()
        assert pool.submit(abs, -2).result(30) == 2


def begin(begun: threading.Event, gate: threading.Event) -> bool:
    begun.set()
    return gate.wait(30)


class Late:
    """Threads that begin once there is a CPU for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = threading.Event()
        begin = threading.Thread._bootstrap  # type: ignore[attr-defined]

        def late(thread: threading.Thread) -> None:
            assert self.cpu.wait(50)
            begin(thread)

        monkeypatch.setattr(threading.Thread, "_bootstrap", late)


def test_others_do_the_work_of_a_worker_that_cannot_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, gate = threading.Event(), threading.Event()
    with mh.ThreadPoolExecutor(2) as pool:
        first = pool.submit(begin, begun, gate)
        assert begun.wait(30)
        monkeypatch.setattr(threading.Thread, "_bootstrap", runs_out)
        second = pool.submit(abs, -2)
        eventually(lambda: len(pool._threads) == 1, "the other cannot begin")
        assert not second.done()
        gate.set()
        assert first.result(30)
        assert second.result(30) == 2
        statistics = pool.statistics()
        assert (statistics["done"], statistics["failed"]) == (2, 0)


@pytest.mark.parametrize("begins", [True, False])
def test_who_is_idle_waits_for_no_thread_that_is_to_begin(
    begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()
    with mh.ThreadPoolExecutor(2) as pool:
        first = pool.submit(begin, begun, gate)
        assert begun.wait(30)
        if not begins:
            monkeypatch.setattr(threading.Thread, "_bootstrap", runs_out)
        late = Late(monkeypatch)
        second = pool.submit(abs, -2)
        gate.set()
        assert first.result(30)
        assert second.result(30) == 2
        assert [pool.submit(abs, -number).result(30) for number in range(3)] == [0, 1, 2]
        late.cpu.set()


def test_who_waits_for_a_task_that_nobody_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with mh.ThreadPoolExecutor(1) as pool:

        def ask() -> Any:
            queued = pool.submit(abs, -1)
            monkeypatch.setattr(threading.Thread, "_bootstrap", runs_out)
            # With a limit, another thread has to do it.
            return queued.exception(30)

        error = pool.submit(ask).result(40)
        assert isinstance(error, RuntimeError)
        assert "can't start new thread" in str(error)
        monkeypatch.undo()
        assert pool.submit(abs, -2).result(30) == 2


def test_submit_waits_for_the_first_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = threading.Event(), threading.Event()
    pool = mh.ThreadPoolExecutor(4)
    first = pool.submit(begin, begun, gate)
    assert begun.wait(30)
    late = Late(monkeypatch)
    futures = [pool.submit(abs, -number) for number in range(4)]
    assert len(pool._threads) == 4
    assert all(thread.is_alive() for thread in pool._threads)
    thread = next(each for each in pool._crew.threads if each.is_coming)
    thread.join(0.01)
    assert thread.is_alive()
    pool.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    late.cpu.set()
    assert [future.result(30) for future in futures] == [0, 1, 2, 3]
    gate.set()
    pool.shutdown()
    assert first.result(0)
    assert not thread.is_alive()


@pytest.mark.parametrize("limit", [None, 30])
def test_join_waits_for_a_thread_that_has_not_begun(
    limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(monkeypatch)
    done: list[object] = []

    def run() -> None:
        time.sleep(0.05)
        done.append(1)

    thread = SureThread(target=run)
    thread.begin(done.append)
    monkeypatch.undo()
    threading.Timer(0.05, late.cpu.set).start()
    thread.join(limit)
    assert done == [1]
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()


def test_join_ends_when_a_thread_cannot_begin(shortage: pytest.MonkeyPatch) -> None:
    causes: list[BaseException] = []
    thread = SureThread(target=print)
    thread.begin(causes.append)
    thread.join()
    assert not thread.is_alive()
    eventually(lambda: len(causes) == 1, "it is told why")
    assert isinstance(causes[0], MemoryError)
    with pytest.raises(RuntimeError, match="before it is started"):
        SureThread(target=print).join()


def test_it_is_told_as_soon_as_that_is_possible(shortage: pytest.MonkeyPatch) -> None:
    thread = SureThread(target=print)
    failures = iter([MemoryError(), MemoryError()])
    causes: list[BaseException] = []

    def fails_twice(cause: BaseException) -> None:
        for failure in failures:
            raise failure
        causes.append(cause)

    thread.begin(fails_twice)
    eventually(lambda: len(causes) == 1, "it is told why")
    assert isinstance(causes[0], MemoryError)
    assert next(failures, None) is None
