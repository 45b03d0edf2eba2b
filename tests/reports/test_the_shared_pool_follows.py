"""The shared pool sees the program as it is now, not as it was at the first map.

Reports: joblib#1705 (sys.path), joblib#1085 and joblib#1135 (edited modules), loky#217
(environment), joblib#1591 and #832 (filters of warnings), joblib#1017 (levels of loggers),
GridTools/gt4py#2698 and aiidateam/aiida-core#6044 (the recursion limit).
Notebooks and test runs change all of it between two maps.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

import manyhands as mh
import manyhands.joblib
from manyhands._pool.running import Running
from manyhands._worker.start_state import StartState


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a module that comes to be while the pool runs."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    mh.map(abs, [-1], workers="process")
    monkeypatch.syspath_prepend(tmp_path)
    yield write(tmp_path, 3)
    sys.modules.pop("a_new_shop", None)
    mh.shared_pool().shutdown()


def write(folder: Path, factor: int) -> Path:
    module = folder / "a_new_shop.py"
    module.write_text(f"def price(n):\n    return n * {factor}\n")
    # A compiled module counts for a source of the same size and the same second.
    seconds = 1e9 + factor
    os.utime(module, (seconds, seconds))
    return module


def test_a_module_on_a_new_path_that_is_edited(shop: Path) -> None:
    module: Any = importlib.import_module("a_new_shop")
    assert mh.map(module.price, [1, 2], workers="process") == [3, 6]
    assert mh.map(lambda n: module.price(n), [1], workers="process") == [3]
    write(shop.parent, 40)
    importlib.reload(module)
    assert mh.map(module.price, [1, 2], workers="process") == [40, 80]
    assert list(mh.imap(module.price, [1, 2], workers="process")) == [40, 80]
    assert mh.shared_pool().submit(module.price, 3).result() == 120
    del sys.modules["a_new_shop"]
    write(shop.parent, 5)
    importlib.invalidate_caches()
    again: Any = importlib.import_module("a_new_shop")
    assert mh.map(again.price, [1], workers="process") == [5]


def test_a_module_that_comes_while_another_goes(shop: Path) -> None:
    """As many modules as before are not the same ones."""
    state = StartState.now()
    name = next(name for name in ("this", "antigravity", "colorsys") if name not in sys.modules)
    sys.modules[name] = type(sys)(name)
    assert state.is_current()
    del sys.modules[name]
    module: Any = importlib.import_module("a_new_shop")
    assert state.is_current()
    write(shop.parent, 40)
    importlib.reload(module)
    assert not state.is_current()
    assert mh.map(module.price, [1, 2], workers="process") == [40, 80]


def test_the_environment_and_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mh.map(abs, [-1], workers="process")
    monkeypatch.setenv("A_NEW_SHOP", "open")
    monkeypatch.chdir(tmp_path)
    assert mh.map(os.environ.get, ["A_NEW_SHOP"], workers="process") == ["open"]
    assert mh.map(lambda _: os.getcwd(), [0], workers="process") == [str(tmp_path)]
    monkeypatch.delenv("A_NEW_SHOP")
    assert mh.map(os.environ.get, ["A_NEW_SHOP"], workers="process") == [None]
    mh.shared_pool().shutdown()


def warn(n: int) -> int:
    warnings.warn(f"{n} is too much", UserWarning, stacklevel=1)
    return n


def test_filters_of_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="1 is too much"):
            mh.map(warn, [1], workers="process")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert mh.map(warn, [2] * 3, workers="process") == [2] * 3
    assert [str(each.message) for each in seen] == ["2 is too much"] * 3


def test_what_is_ignored_needs_no_new_workers() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()  # pytest's make errors
        warnings.simplefilter("always")
        pids = pids_after(mh.map(warn, [1], workers="process"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert pids_after(mh.map(warn, [2], workers="process")) == pids
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pids_after(None).isdisjoint(pids)
    assert "1 is too much" in [str(each.message) for each in seen]


def pids_after(_: object) -> set[int]:
    """Process ids of the shared pool's present workers."""
    return set(mh.shared_pool()._processes)


def test_levels_of_loggers(caplog: pytest.LogCaptureFixture) -> None:
    def tell(n: int) -> bool:
        logging.getLogger("shop.till").debug("%s sold", n)
        return logging.getLogger("shop.till").isEnabledFor(logging.DEBUG)

    assert mh.map(tell, [1], workers="process") == [False]
    with caplog.at_level(logging.DEBUG, "shop"):
        assert mh.map(tell, [2], workers="process") == [True]
    assert mh.map(tell, [3], workers="process") == [False]
    assert caplog.messages == ["2 sold"]
    mh.shared_pool().shutdown()


@pytest.fixture
def no_kept_pools() -> Iterator[None]:
    yield
    for _, executor in manyhands.joblib._kept:
        executor.shutdown()
    manyhands.joblib._kept.clear()


@pytest.mark.usefixtures("no_kept_pools")
def depth(calls: int) -> int:
    return 0 if calls == 0 else 1 + depth(calls - 1)


def test_how_deep_calls_may_go() -> None:
    before = sys.getrecursionlimit()
    try:
        assert mh.map(depth, [10], workers="process") == [10]
        sys.setrecursionlimit(before + 2500)
        assert mh.map(depth, [before + 2000], workers="process") == [before + 2000]
        with mh.ProcessPoolExecutor(1) as pool:
            assert pool.submit(depth, before + 2000).result() == before + 2000
        state = StartState.now()
        sys.setrecursionlimit(before)  # as a library does that has raised it for a while
        assert state.is_current()
    finally:
        sys.setrecursionlimit(before)


def test_how_many_digits_an_int_may_have() -> None:
    before = sys.get_int_max_str_digits()
    try:
        for limit in (0, 1000):
            sys.set_int_max_str_digits(limit)
            assert mh.map(lambda _: sys.get_int_max_str_digits(), [0], workers="process") == [limit]
    finally:
        sys.set_int_max_str_digits(before)


def test_joblib_follows(shop: Path) -> None:
    manyhands.joblib.register()
    with joblib.parallel_config("manyhands", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(abs)(-n) for n in (1, 2)) == [1, 2]
        module: Any = importlib.import_module("a_new_shop")
        assert joblib.Parallel()(joblib.delayed(module.price)(n) for n in (1, 2)) == [3, 6]
        write(shop.parent, 4)
        importlib.reload(module)
        assert joblib.Parallel()(joblib.delayed(module.price)(n) for n in (1, 2)) == [4, 8]


def test_workers_stay_while_nothing_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = mh.shared_pool()
    before = pool.submit(os.getpid).result(), pool._started()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")
    importlib.import_module("colorsys")
    assert mh.shared_pool() is pool
    assert pool._started() == before[1]
    pool.shutdown()


def test_tasks_that_run_while_the_pool_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = mh.shared_pool(2)
    begun = mh.Event()
    go_on = mh.Event()

    def begin() -> bool:
        begun.set()
        return go_on.wait(50)

    running = pool.submit(begin)
    waiting = [pool.submit(abs, -n) for n in range(100)]
    assert begun.wait(50)
    monkeypatch.setenv("A_NEW_SHOP", "open")
    assert mh.map(os.environ.get, ["A_NEW_SHOP"], workers="process") == ["open"]
    go_on.set()
    assert running.result() is True
    assert [each.result() for each in waiting] == list(range(100))
    pool.shutdown()


def test_submits_while_others_renew(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = mh.shared_pool()
    stop = threading.Event()
    done: list[int] = []

    def keep_submitting() -> None:
        while not stop.is_set():
            done.append(pool.submit(abs, -1).result())

    threads = [threading.Thread(target=keep_submitting) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            monkeypatch.setenv("A_NEW_SHOP", str(number))
            assert mh.shared_pool().submit(os.getenv, "A_NEW_SHOP").result() == str(number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(done) == {1}
    pool.shutdown()
    assert not any(not each.has_ended for each in pool._started())


class SlowStart:
    """Starts of pools that go on only once the test, or the clock, says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.meanwhile: Callable[[], object] = bool
        start = Running.start

        def slowly(running: Running, prepare: bool) -> None:
            start(running, prepare)
            if not self.begun.is_set():
                self.begun.set()
                assert self.go_on.wait(50)
                self.meanwhile()

        monkeypatch.setattr(Running, "start", slowly)


def test_a_change_while_another_thread_starts_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = mh.shared_pool()
    slow = SlowStart(monkeypatch)
    starter = threading.Thread(target=lambda: pool.submit(abs, -1).result())
    starter.start()
    assert slow.begun.wait(50)
    monkeypatch.setenv("A_NEW_SHOP", "open")
    threading.Timer(0.2, slow.go_on.set).start()
    assert mh.shared_pool().submit(os.getenv, "A_NEW_SHOP").result() == "open"
    starter.join()
    pool.shutdown()


def test_a_handler_in_a_start_that_another_thread_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = mh.shared_pool()
    slow = SlowStart(monkeypatch)
    slow.go_on.set()
    got: list[int] = []

    def ask() -> None:
        got.append(mh.shared_pool().submit(abs, -1).result())

    other = threading.Thread(target=ask)

    def handle(*_: object) -> None:
        other.start()
        time.sleep(0.2)  # until the other thread waits for this start
        ask()

    # As a signal handler, which Python calls in the main thread between two steps of a start.
    slow.meanwhile = handle
    assert pool.submit(abs, -2).result() == 2
    other.join(50)
    assert got == [1, 1]
    pool.shutdown()


def test_a_resize_while_another_thread_starts_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowStart(monkeypatch)
    with mh.ProcessPoolExecutor(1) as pool:
        starter = threading.Thread(target=lambda: pool.submit(abs, -1).result())
        starter.start()
        assert slow.begun.wait(50)
        pool.resize(2)
        slow.go_on.set()
        starter.join()
        together = mh.Barrier(2)
        assert sorted(pool.map(lambda _: together.wait(50), range(2))) == [0, 1]


def keep_on(begun: Any, asked: Any) -> None:
    """Say when one is asked to stop, and do not."""
    while True:
        try:
            begun.put(None)
            time.sleep(60)
        except BaseException:
            asked.put(time.monotonic())


def busy_and_retired(pool: Any, count: int, monkeypatch: pytest.MonkeyPatch, asked: Any) -> None:
    """Have the pool renew its workers while tasks run that do not stop; so many are left busy."""
    begun = mh.Queue[None]()
    for number in range(count):
        monkeypatch.setenv("A_NEW_SHOP", str(number))
        pool._follow()
        pool.submit(keep_on, begun, asked)
        begun.get(timeout=50)
    assert len(pool._started()) == count


@pytest.mark.once("a signal of the whole pool, whose workers Rust ends")
def test_ctrl_c_ends_retired_workers_within_one_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mh.Queue[float]()
    pool = mh.ProcessPoolExecutor(1, grace=1.0)
    busy_and_retired(pool, 6, monkeypatch, asked)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), pool:
        raise KeyboardInterrupt
    took = time.monotonic() - began
    times = asked.get_many(6, timeout=0)
    assert len(times) == 6
    # One after another, each would be asked a grace after the one before, and all would take six.
    assert max(times) - min(times) < 1.0
    assert 1.0 <= took < 4.0
    assert all(running.has_ended for running in pool._started())


def test_terminating_ends_retired_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = mh.Queue[float]()
    pool = mh.ProcessPoolExecutor(1, grace=30.0)
    busy_and_retired(pool, 3, monkeypatch, asked)
    pool.terminate()
    assert asked.qsize() == 0
    assert all(running.has_ended for running in pool._started())


def test_an_executor_of_ones_own_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        first = pool.submit(os.getpid).result()
        monkeypatch.setenv("A_NEW_SHOP", "open")
        assert pool.submit(os.getpid).result() == first
        assert pool.submit(os.getenv, "A_NEW_SHOP").result() is None


def test_a_state_notices_what_it_should(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = StartState.now()
    assert state.is_current()
    monkeypatch.syspath_prepend(tmp_path)
    assert not state.is_current()
    monkeypatch.undo()
    assert state.is_current()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")
    assert state.is_current()
