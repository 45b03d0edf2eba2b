"""`mh.map`, `mh.imap` and the shared pools behind them."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manyhands as mh
from manyhands._pool.executor import Executor
from manyhands._task.feed import Feed

KINDS = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}
WORKERS = ["thread", "process", "auto"]


@pytest.fixture(scope="module", params=list(KINDS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with KINDS[request.param](max_workers=2) as pool:
        # What a pool starts once belongs to the module, not to the first test.
        pool.submit(int).result()
        yield pool


def double(number: int) -> int:
    return 2 * number


def fail_on(numbers: set[int], number: int) -> int:
    if number in numbers:
        raise ValueError(number)
    return number


def where(_: object) -> tuple[int, int]:
    return os.getpid(), threading.get_native_id()


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def touch(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("x")


# --- map ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("size", [0, 1, 2, 100, 30_000])
def test_map_returns_the_list_of_the_builtin(workers: Any, size: int) -> None:
    assert mh.map(double, range(size), workers=workers) == list(range(0, 2 * size, 2))


@pytest.mark.parametrize("workers", WORKERS)
def test_map_takes_any_iterable(workers: Any) -> None:
    expected = [2, 4, 6]
    for items in ([1, 2, 3], (1, 2, 3), iter([1, 2, 3]), {1: 0, 2: 0, 3: 0}, range(1, 4)):
        assert mh.map(double, items, workers=workers) == expected
    assert mh.map(ord, "abc", workers=workers) == [97, 98, 99]


@pytest.mark.parametrize("workers", WORKERS)
def test_map_takes_several_iterables(workers: Any) -> None:
    assert mh.map(pow, [2, 3, 4], (5, 2), workers=workers) == [32, 9]
    assert mh.map(divmod, range(500), iter(range(1, 501)), workers=workers) == list(
        builtins.map(divmod, range(500), range(1, 501))
    )


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    chunksize=st.none() | st.integers(1, 50),
)
@settings(max_examples=30, deadline=None)
def test_map_is_the_builtin_map(sizes: list[int], chunksize: int | None) -> None:
    lists = [list(range(size)) for size in sizes]

    def join(*parts: int) -> tuple[int, ...]:
        return parts

    expected = list(builtins.map(join, *lists))
    assert mh.map(join, *lists, workers="thread", chunksize=chunksize) == expected


@pytest.mark.parametrize("chunksize", [None, 1, 5, 1000])
def test_map_on_an_executor(executor: Executor, chunksize: int | None) -> None:
    assert mh.map(double, range(500), workers=executor, chunksize=chunksize) == list(
        range(0, 1000, 2)
    )


def test_map_on_an_executor_with_options(executor: Executor, tmp_path: Path) -> None:
    path = str(tmp_path / "tries")

    def fails_twice(_: int) -> str:
        touch(path)
        if Path(path).stat().st_size < 3:
            raise OSError
        return "third"

    assert mh.map(fails_twice, [0], workers=executor.options(retries=2)) == ["third"]
    Path(path).unlink()
    assert mh.map(fails_twice, [0], workers=executor, retries=2) == ["third"]


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_work_runs_in_workers(workers: Any) -> None:
    places = mh.map(where, range(50), workers=workers)
    assert (os.getpid(), threading.get_native_id()) not in places
    if workers == "process":
        assert os.getpid() not in {pid for pid, _ in places}
    else:
        assert {pid for pid, _ in places} == {os.getpid()}


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("max_workers", [1, 2, 9])
def test_max_workers_is_kept_to(workers: Any, max_workers: int, tmp_path: Path) -> None:
    active, peak = 0, 0
    lock = threading.Lock()

    def at_once(_: int) -> None:
        nonlocal active, peak
        with lock:
            active += 1
            peak = max(peak, active)
        time.sleep(0.002)
        with lock:
            active -= 1

    if workers == "thread":
        mh.map(at_once, range(60), workers="thread", max_workers=max_workers, chunksize=1)
        assert 1 <= peak <= max_workers
    else:
        places = mh.map(where, range(60), workers="process", max_workers=max_workers, chunksize=1)
        assert 1 <= len(set(places)) <= max(max_workers, 2)


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_the_first_failure_in_order_is_raised(workers: Any, chunksize: int | None) -> None:
    from functools import partial

    work = partial(fail_on, {3, 50, 51, 99})
    with pytest.raises(ValueError, match=r"(?m)^3$"):
        mh.map(work, range(100), workers=workers, chunksize=chunksize)


def test_an_earlier_failure_that_comes_later_wins(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    def work(number: int) -> None:
        if number == 0:
            wait_for(gate)
        else:
            touch(gate)
        raise ValueError(number)

    with pytest.raises(ValueError, match=r"(?m)^0$"):
        mh.map(work, [0, 1], workers="thread", max_workers=2, chunksize=1)


def test_a_failure_ends_the_map(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def work(number: int) -> None:
        touch(str(trace))
        raise ValueError(number)

    with pytest.raises(ValueError):
        mh.map(work, range(10_000), workers="process", chunksize=1)
    assert trace.stat().st_size < 100


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_an_error_of_the_input_is_raised(workers: Any) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise OSError("input")

    with pytest.raises(OSError, match="input"):
        mh.map(double, numbers(), workers=workers)


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_timeout_is_per_item(workers: Any) -> None:
    assert mh.map(mh.sleep, [0.05] * 20, workers=workers, timeout=10) == [None] * 20
    with pytest.raises(mh.TaskTimeout):
        mh.map(mh.sleep, [0, 30, 0], workers=workers, timeout=0.2)


def test_a_dead_worker_fails_its_items_only_if_nothing_is_retried(tmp_path: Path) -> None:
    path = str(tmp_path / "died")

    def work(number: int) -> int:
        if number == 5 and not Path(path).exists():
            touch(path)
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(mh.WorkerDied) as caught:
        mh.map(work, range(10), workers="process")
    assert caught.value.task is not None
    assert caught.value.task.endswith("work")
    Path(path).unlink()
    assert mh.map(work, range(10), workers="process", retries=1) == list(range(10))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"workers": "fork"},
            ValueError,
            "'auto', 'thread', 'process', 'coroutine', 'greenlet', got 'fork'",
        ),
        (
            {"workers": None},
            ValueError,
            "'auto', 'thread', 'process', 'coroutine', 'greenlet', got None",
        ),
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "2"}, TypeError, "max_workers must be an integer, not str"),
        ({"timeout": -1}, ValueError, "timeout must be greater than 0"),
        ({"retries": -1}, ValueError, "retries must not be negative"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"progress": 7}, TypeError, "progress must be"),
    ],
)
@pytest.mark.parametrize("call", [mh.map, mh.imap])
def test_nonsense_is_refused(
    call: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(abs, [1], **options)


@pytest.mark.parametrize("call", [mh.map, mh.imap])
def test_a_map_of_nothing_is_refused(call: Any) -> None:
    with pytest.raises(TypeError, match="at least one iterable"):
        call(abs)
    with pytest.raises(TypeError, match="needs a callable, not int"):
        call(3, [1])


def test_a_map_in_a_task_of_the_shared_pool_does_not_wait_for_itself() -> None:
    pool = mh.shared_pool(workers="thread")

    def inner(number: int) -> int:
        return sum(mh.map(double, range(number), workers="thread"))

    many = 4 * pool._max_workers
    assert mh.map(inner, [10] * many, workers="thread", chunksize=1) == [90] * many


def test_a_map_in_a_process_has_a_pool_of_its_own() -> None:
    def inner(number: int) -> list[int]:
        return mh.map(double, range(number), workers="process")

    assert mh.map(inner, [3, 4], workers="process") == [[0, 2, 4], [0, 2, 4, 6]]


def test_ctrl_c_ends_a_map(tmp_path: Path) -> None:
    program = f"""
import os, signal, threading, time
import manyhands as mh
def step(number):
    open({str(tmp_path / "begun")!r}, "w").close()
    time.sleep(60)
def press():
    while not os.path.exists({str(tmp_path / "begun")!r}):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    mh.map(step, range(100), workers="process")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert ended.stdout == "interrupted\n"
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert time.monotonic() - began < 40


# --- imap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("ordered", [True, False])
def test_imap_yields_every_result(workers: Any, ordered: bool) -> None:
    results = mh.imap(double, range(3000), workers=workers, ordered=ordered)
    assert (list(results) if ordered else sorted(results)) == list(range(0, 6000, 2))


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("ordered", [True, False])
def test_imap_takes_endless_input(workers: Any, ordered: bool) -> None:
    results = mh.imap(double, count(), workers=workers, ordered=ordered)
    assert len(set(islice(results, 5000))) == 5000
    results.close()
    assert list(results) == []


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("buffersize", [1, 5])
def test_imap_reads_no_further_than_its_buffer(workers: Any, buffersize: int) -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    results = mh.imap(double, source(), workers=workers, buffersize=buffersize)
    for taken in range(1, 30):
        assert next(results) == 2 * taken
        assert read <= taken + buffersize
    results.close()


def test_imap_on_an_executor(executor: Executor) -> None:
    assert list(mh.imap(pow, [2, 3], [3, 2], workers=executor)) == [8, 9]


def test_imap_with_workers_of_its_own_gives_them_back() -> None:
    results = mh.imap(where, range(100), workers="thread", max_workers=40)
    next(results)
    results.close()
    assert list(results) == []


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_imap_raises_in_place(workers: Any) -> None:
    from functools import partial

    results = mh.imap(partial(fail_on, {3}), range(10), workers=workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"(?m)^3$"):
        next(results)


# --- the shared pool ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_the_shared_pool_is_one(workers: Any) -> None:
    pool = mh.shared_pool(workers=workers)
    assert mh.shared_pool(workers=workers) is pool
    assert pool.submit(double, 4).result() == 8
    assert mh.shared_pool(3, workers=workers) is pool
    assert pool._max_workers == 3


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_the_shared_pool_survives_a_shutdown(workers: Any) -> None:
    pool = mh.shared_pool(workers=workers)
    pool.shutdown()
    fresh = mh.shared_pool(workers=workers)
    assert fresh is not pool
    assert fresh.submit(double, 4).result() == 8


def test_the_shared_pool_refuses_nonsense() -> None:
    with pytest.raises(
        ValueError, match="'thread', 'process', 'coroutine', 'greenlet', got 'auto'"
    ):
        mh.shared_pool(workers="auto")
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        mh.shared_pool(0)


def test_a_forked_child_has_a_shared_pool_of_its_own() -> None:
    assert mh.map(double, range(10), workers="thread") == list(range(0, 20, 2))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if mh.map(double, range(10), workers="thread") == list(range(0, 20, 2)):
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert mh.map(double, range(10), workers="thread") == list(range(0, 20, 2))


# --- the input ----------------------------------------------------------------------------------


@given(
    size=st.integers(0, 200),
    takes=st.lists(st.integers(1, 60), max_size=10),
    listed=st.booleans(),
)
def test_a_feed_loses_nothing(size: int, takes: list[int], listed: bool) -> None:
    source = range(size) if listed else iter(range(size))
    feed = Feed([source], star=False)
    assert feed.remaining == (size if listed else None)
    assert Feed([set(range(size)), "x" * 7], star=False).remaining == min(size, 7)
    taken: list[int] = []
    for take in takes:
        taken.extend(feed.take(take))
        assert not listed or feed.remaining == size - len(taken)
    assert [*taken, *feed.rest()] == list(range(size))


@pytest.mark.parametrize("workers", WORKERS)
def test_arrays_are_mapped_item_by_item(workers: Any) -> None:
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(5000, dtype="int32")
    doubled = mh.map(double, numbers, workers=workers)
    assert doubled == list(range(0, 10_000, 2))
    assert {type(each) for each in doubled} == {numpy.int32}
    table = numbers.reshape(100, 50)
    assert mh.map(numpy.sum, table, workers=workers) == [row.sum() for row in table]
    assert list(mh.imap(numpy.sum, table[:, ::2], workers=workers)) == [
        row.sum() for row in table[:, ::2]
    ]
    assert mh.map(double, numpy.empty(0), workers=workers) == []
    with pytest.raises(TypeError, match="0-d"):
        mh.map(double, numpy.array(3), workers=workers)


def test_a_feed_tells_an_error_after_the_items_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise OSError("input")

    feed = Feed([numbers()], star=False)
    assert list(feed.take(3)) == [0, 1, 2]
    assert list(feed.take(3)) == [3, 4]
    with pytest.raises(OSError, match="input"):
        feed.take(3)
    assert list(feed.take(3)) == []
