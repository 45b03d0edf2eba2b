"""What a process pool does when all goes well."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, let_go
from manyhands._worker.interpreter import has_gil


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        executor.submit(tasks.pid).result()  # starts it here, not in the first test
        yield executor


def workers_of(executor: mh.ProcessPoolExecutor) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = executor.statistics()["workers"]
    return workers


# Calls


def test_a_result(pool: mh.ProcessPoolExecutor) -> None:
    future = pool.submit(pow, 2, 10)
    assert isinstance(future, mh.Future)
    assert isinstance(future, Future)
    assert future.result() == 1024
    assert future.done()
    assert not future.running()
    assert future.exception() is None


def test_arguments_arrive_as_they_are(pool: mh.ProcessPoolExecutor) -> None:
    args: tuple[Any, ...] = (1, -(2**70), 2.5, 1j, "ä\0\U0001f600", b"\0\xff", None, True, ...)
    kwargs = {"fn": [1, {2: {3}}], "self": ((),), "timeout": range(3)}
    assert pool.submit(tasks.everything, *args, **kwargs).result() == (args, kwargs)


@pytest.mark.parametrize("size", [0, 1, 150, 192, 193, 255, 256, 257, 5_000, 3_000_000])
def test_every_size_goes_both_ways(pool: mh.ProcessPoolExecutor, size: int) -> None:
    data = os.urandom(size)
    assert pool.submit(tasks.identity, data).result() == data
    text = "ü" * (size // 2)
    assert pool.submit(tasks.identity, text).result() == text
    numbers = list(range(size // 8))
    assert pool.submit(tasks.identity, numbers).result() == numbers


def test_identity_within_a_call_is_kept(pool: mh.ProcessPoolExecutor) -> None:
    shared = [1]
    first, second = pool.submit(tasks.identity, (shared, shared)).result()
    assert first is second
    assert first is not shared


def test_an_exception_comes_with_the_traceback_of_the_worker(
    pool: mh.ProcessPoolExecutor,
) -> None:
    future = pool.submit(tasks.fail, KeyError("nowhere"))
    with pytest.raises(KeyError, match="nowhere") as caught:
        future.result()
    assert future.exception() is caught.value
    assert "tasks.py" in str(caught.value.__cause__)
    assert "raise error" in str(caught.value.__cause__)


def test_tasks_run_in_other_processes_at_the_same_time(
    pool: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    futures = [pool.submit(tasks.hold, tmp_path, name) for name in "ab"]
    pids = {begun(tmp_path, name) for name in "ab"}
    assert all(future.running() for future in futures)
    let_go(tmp_path)
    assert {future.result() for future in futures} == pids
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_more_tasks_than_fit_into_shared_memory_at_once(pool: mh.ProcessPoolExecutor) -> None:
    futures = [pool.submit(tasks.square, number) for number in range(10_000)]
    assert [future.result() for future in futures] == [number**2 for number in range(10_000)]


def test_more_tasks_than_slots_while_nobody_waits(pool: mh.ProcessPoolExecutor) -> None:
    futures = [pool.submit(tasks.square, number) for number in range(6_000)]
    eventually(lambda: all(future.done() for future in futures), "all are done by themselves")
    assert sum(future.result() for future in futures) == sum(n * n for n in range(6_000))


def test_many_threads_submit_and_wait(pool: mh.ProcessPoolExecutor) -> None:
    wrong: list[object] = []

    def use(start: int) -> None:
        for number in range(start, start + 150):
            result = pool.submit(tasks.square, number).result()
            if result != number * number:
                wrong.append((number, result))

    threads = [threading.Thread(target=use, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_taken_in_reverse(pool: mh.ProcessPoolExecutor) -> None:
    futures = [pool.submit(tasks.square, number) for number in range(500)]
    assert [future.result() for future in reversed(futures)] == [n * n for n in range(499, -1, -1)]


def test_result_with_a_timeout(pool: mh.ProcessPoolExecutor, tmp_path: Path) -> None:
    future = pool.submit(tasks.hold, tmp_path)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.02)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    let_go(tmp_path)
    assert future.result(timeout=20) > 0


def test_wait_and_as_completed_and_callbacks(pool: mh.ProcessPoolExecutor) -> None:
    futures = [pool.submit(tasks.square, number) for number in range(50)]
    called: Counter[int] = Counter()
    everyone = threading.Event()

    def count(future: Future[int]) -> None:
        called[id(future)] += 1
        if len(called) == len(futures):
            everyone.set()

    for future in futures:
        future.add_done_callback(count)
    assert sorted(f.result() for f in as_completed(futures)) == [n * n for n in range(50)]
    done, pending = wait(futures)
    assert (len(done), len(pending)) == (50, 0)
    assert everyone.wait(20)
    assert set(called.values()) == {1}


def test_a_callback_may_submit(pool: mh.ProcessPoolExecutor) -> None:
    last: Future[int] = Future()

    def go_on(future: Future[int]) -> None:
        if future.result() < 20:
            pool.submit(tasks.identity, future.result() + 1).add_done_callback(go_on)
        else:
            last.set_result(future.result())

    pool.submit(tasks.identity, 0).add_done_callback(go_on)
    assert last.result(timeout=20) == 20


def test_callbacks_come_whoever_takes_the_results(pool: mh.ProcessPoolExecutor) -> None:
    """A thread that waits and the one that runs callbacks often find the other was faster."""
    for number in range(500):
        called = threading.Event()
        futures = [pool.submit(tasks.square, number) for _ in range(3)]
        futures[1].add_done_callback(lambda _, called=called: called.set())  # type: ignore[misc]
        assert futures[number % 3].result() == number * number
        assert called.wait(20)


def test_the_map_family(pool: mh.ProcessPoolExecutor) -> None:
    squares = [number * number for number in range(300)]
    assert list(pool.map(tasks.square, range(300))) == squares
    assert list(pool.map(tasks.square, range(300), chunksize=7)) == squares
    assert list(pool.map(pow, [2, 3], [5, 2], timeout=20)) == [32, 9]
    assert list(pool.starmap(pow, [(2, 5), (3, 2)])) == [32, 9]
    assert list(itertools.islice(pool.imap(tasks.square, itertools.count()), 300)) == squares
    assert sorted(pool.imap_unordered(tasks.square, range(300))) == squares


def test_an_exception_in_a_map_stands_in_its_place(pool: mh.ProcessPoolExecutor) -> None:
    results = pool.map(lambda number: 12 // (3 - number), range(6))
    assert [next(results) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_million_small_items(pool: mh.ProcessPoolExecutor) -> None:
    assert sum(pool.map(abs, range(1_000_000))) == sum(range(1_000_000))


def test_asyncio(pool: mh.ProcessPoolExecutor) -> None:
    async def work() -> tuple[list[int], int, int]:
        loop = asyncio.get_running_loop()
        many = await asyncio.gather(*(pool.run(tasks.square, number) for number in range(300)))
        wrapped = await asyncio.wrap_future(pool.submit(tasks.square, 12))
        through_loop = await loop.run_in_executor(pool, tasks.square, 13)
        return many, wrapped, through_loop

    assert asyncio.run(work()) == ([n * n for n in range(300)], 144, 169)


def test_lambdas_closures_methods_and_partials(pool: mh.ProcessPoolExecutor) -> None:
    base = [1]

    def add(number: int) -> int:
        return base[0] + number

    class Adder:
        def __init__(self, amount: int) -> None:
            self.amount = amount

        def add(self, number: int) -> int:
            return self.amount + number

    assert pool.submit(lambda number: number + 1, 1).result() == 2
    assert pool.submit(add, 1).result() == 2
    base[0] = 10  # what a closure refers to is looked at again with every submit
    assert pool.submit(add, 1).result() == 11
    adder = Adder(5)
    assert pool.submit(adder.add, 1).result() == 6
    adder.amount = 7
    assert pool.submit(adder.add, 1).result() == 8
    assert type(pool.submit(tasks.identity, adder).result()) is Adder


def test_functions_made_in_a_loop_are_not_confused(pool: mh.ProcessPoolExecutor) -> None:
    def make(number: int) -> Callable[[], int]:
        return lambda: number

    functions = [make(number) for number in range(200)]
    assert [pool.submit(function).result() for function in functions] == list(range(200))


def test_arguments_and_results_are_let_go(pool: mh.ProcessPoolExecutor) -> None:
    class Large:
        pass

    argument, seen = Large(), list[weakref.ref[Any]]()
    future = pool.submit(tasks.identity, argument)
    seen.append(weakref.ref(argument))
    seen.append(weakref.ref(future.result()))
    del argument, future

    def are_let_go() -> bool:
        # Without a GIL whoever made it frees it, when there is something to do; as in the stdlib.
        if not has_gil():
            pool.submit(str).result()
        return all(ref() is None for ref in seen)

    eventually(are_let_go, "nothing is kept")


# Options


def test_priorities_and_order(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        file = tmp_path / "order"
        for name, priority in [("c", 0), ("e", -1), ("d", 0), ("a", 5), ("b", 5)]:
            executor.options(priority=priority).submit(tasks.note, file, name)
        let_go(tmp_path)
    assert file.read_text().split() == ["a", "b", "c", "d", "e"]


def test_a_high_priority_overtakes_many(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        file = tmp_path / "order"
        for number in range(3_000):
            executor.submit(tasks.note, file, str(number))
        executor.options(priority=1).submit(tasks.note, file, "urgent")
        let_go(tmp_path)
    assert file.read_text().split() == ["urgent", *map(str, range(3_000))]


def test_retries(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        thrice = executor.options(retries=3)
        assert thrice.submit(tasks.fail_at_first, tmp_path, 2, OSError()).result() == 3
        statistics = executor.statistics()
    assert (statistics["retried"], statistics["done"], statistics["failed"]) == (2, 1, 0)


def test_retries_end(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.options(retries=2).submit(
            tasks.fail_at_first, tmp_path, 9, OSError("again")
        )
        with pytest.raises(OSError, match="again"):
            future.result()
        statistics = executor.statistics()
    assert (statistics["retried"], statistics["done"], statistics["failed"]) == (2, 0, 1)
    assert len(list(tmp_path.iterdir())) == 3


def test_only_the_named_exceptions_are_retried(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        view = executor.options(retries=5, retry_on=(OSError, KeyError))
        with pytest.raises(ValueError, match="no"):
            view.submit(tasks.fail_at_first, tmp_path, 9, ValueError("no")).result()
        assert len(list(tmp_path.iterdir())) == 1
        assert view.submit(tasks.fail_at_first, tmp_path, 3, KeyError()).result() == 4


def test_a_name_is_seen_in_statistics(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.options(name="the long one").submit(tasks.hold, tmp_path)
        pid = begun(tmp_path)
        (worker,) = workers_of(executor)
        let_go(tmp_path)
    assert (worker["pid"], worker["state"], worker["task"]) == (pid, "running", "the long one")


def test_options_on_a_map(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        view = executor.options(retries=1, timeout=30)
        assert list(view.map(tasks.square, range(40))) == [n * n for n in range(40)]


# Workers


def test_statistics_add_up(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        assert executor.statistics()["workers"] == []
        for number in range(7):
            executor.submit(tasks.square, number).result()
        with pytest.raises(KeyError):
            executor.submit(tasks.fail, KeyError()).result()
        executor.submit(tasks.burn, 0.05).result()
        executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        waiting = [executor.submit(tasks.square, number) for number in range(5)]
        assert waiting[0].cancel()
        statistics = executor.statistics()
        let_go(tmp_path)
        (worker,) = statistics.pop("workers")
    assert statistics == {
        "queued": 4,
        "running": 1,
        "done": 8,
        "failed": 1,
        "retried": 0,
        "cancelled": 1,
    }
    assert worker["tasks_done"] == 9
    assert worker["cpu_s"] >= 0.04
    assert 1 << 20 < worker["rss_bytes"] < 1 << 40
    assert worker["restarts"] == 0
    assert worker["task"] == "hold"


def test_workers_are_started_as_they_are_needed(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=4) as executor:
        executor.submit(tasks.pid).result()
        assert len(workers_of(executor)) == 1
        futures = [executor.submit(tasks.hold, tmp_path, str(index)) for index in range(3)]
        assert len({begun(tmp_path, str(index)) for index in range(3)}) == 3
        assert len(workers_of(executor)) == 3
        let_go(tmp_path)
        wait(futures)


def test_resize(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        futures = [executor.submit(tasks.hold, tmp_path, str(index)) for index in range(3)]
        begun(tmp_path, "0")
        assert len(workers_of(executor)) == 1
        executor.resize(3)
        assert len({begun(tmp_path, str(index)) for index in range(3)}) == 3
        executor.resize(1)
        assert all(future.running() for future in futures)
        let_go(tmp_path)
        pids = {future.result() for future in futures}
        eventually(lambda: len(workers_of(executor)) == 1, "two workers leave")
        assert executor.submit(tasks.pid).result() in pids


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.once("who is replaced, and in which slot, is decided in Rust")
def test_many_workers_over_a_long_life() -> None:
    """There are 510 places for workers in one program's shared memory; they are used again."""
    gate = mh.Event()
    for _ in range(5):
        gate.clear()
        with mh.ProcessPoolExecutor(max_workers=110) as executor:
            futures = [executor.submit(gate.wait) for _ in range(110)]
            eventually(lambda: len(workers_of(executor)) == 110, "all are started")
            gate.set()
            assert all(future.result() for future in futures)


def test_resize_before_the_start() -> None:
    with mh.ProcessPoolExecutor(max_workers=3) as executor:
        executor.resize(1)
        list(executor.map(tasks.square, range(50), chunksize=1))
        assert len(workers_of(executor)) == 1


def test_initializer_and_finalizer(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(
        max_workers=2,
        initializer=tasks.count_initialization,
        initargs=(tmp_path, "key", [1, 2]),
        finalizer=lambda: tasks.announce(tmp_path, f"finalized-{os.getpid()}"),
    ) as executor:
        holding = [executor.submit(tasks.hold, tmp_path, name) for name in "ab"]
        pids = {begun(tmp_path, name) for name in "ab"}
        let_go(tmp_path)
        wait(holding)
        assert [executor.submit(tasks.get_state, "key").result() for _ in range(9)] == [[1, 2]] * 9
    for what in ("initialized", "finalized"):
        names = {path.name for path in tmp_path.glob(f"{what}-*")}
        assert names == {f"{what}-{pid}.pid" for pid in pids}


@pytest.mark.parametrize("limit", ["max_tasks_per_child", "max_memory_per_child"])
def test_a_limit_beyond_all_numbers_is_none(limit: str) -> None:
    settings: dict[str, Any] = {limit: 2**80}
    with mh.ProcessPoolExecutor(1, **settings) as executor:
        assert executor.submit(abs, -1).result() == 1


def test_a_worker_is_replaced_after_so_many_tasks() -> None:
    with mh.ProcessPoolExecutor(max_workers=1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(tasks.pid).result() for _ in range(9)]
        assert sorted(Counter(pids).values()) == [3, 3, 3]
        futures = [executor.submit(tasks.pid) for _ in range(30)]
        assert set(Counter(future.result() for future in futures).values()) == {3}
        statistics = executor.statistics()
    assert statistics["done"] == 39
    assert statistics["failed"] == statistics["retried"] == 0


def test_a_worker_that_has_grown_is_replaced() -> None:
    with mh.ProcessPoolExecutor(max_workers=1, max_memory_per_child=200 << 20) as executor:
        small = {executor.submit(tasks.allocate, 1 << 10).result() for _ in range(5)}
        assert len(small) == 1
        assert executor.submit(tasks.allocate, 220 << 20).result() in small
        assert executor.submit(tasks.pid).result() not in small


def test_preload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_module.py").write_text("import os\nPID = os.getpid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def who(folder: Path, name: str) -> tuple[int, int]:
        import heavy_module  # type: ignore[import-not-found]

        return tasks.hold(folder, name), heavy_module.PID

    with mh.ProcessPoolExecutor(max_workers=2, preload=["heavy_module"]) as executor:
        futures = [executor.submit(who, tmp_path, name) for name in "ab"]
        for name in "ab":
            begun(tmp_path, name)
        let_go(tmp_path)
        (first, home), (second, same) = (future.result() for future in futures)
    assert len({first, second, home}) == 3
    assert home == same


def test_idle_workers_leave_and_come_back() -> None:
    with mh.ProcessPoolExecutor(max_workers=2, idle_timeout=0.1) as executor:
        first = executor.submit(tasks.pid).result()
        eventually(lambda: not workers_of(executor), "idle workers leave")
        second = executor.submit(tasks.pid).result()
    assert first != second


def test_workers_do_not_leave_in_the_middle_of_a_task(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2, idle_timeout=0.05) as executor:
        long = executor.submit(tasks.hold, tmp_path)
        pid = begun(tmp_path)
        for _ in range(3):
            executor.submit(tasks.nap, 0.06, 1).result()
        assert pid in {worker["pid"] for worker in workers_of(executor)}
        let_go(tmp_path)
        assert long.result() == pid


def test_context_variables_travel(pool: mh.ProcessPoolExecutor) -> None:
    assert pool.submit(tasks.colour).result() == "none"
    token = tasks.COLOUR.set("blue")
    try:
        assert pool.submit(tasks.colour).result() == "blue"
        assert pool.submit(tasks.paint, "red").result() == "red"
        assert tasks.COLOUR.get() == "blue"
        assert list(pool.map(lambda _: tasks.colour(), range(10))) == ["blue"] * 10
    finally:
        tasks.COLOUR.reset(token)
    colours = [pool.submit(tasks.paint, "red"), *(pool.submit(tasks.colour) for _ in range(6))]
    assert [future.result() for future in colours] == ["red"] + ["none"] * 6


def test_a_pool_within_a_task(pool: mh.ProcessPoolExecutor) -> None:
    outer = [pool.submit(tasks.nested, list(range(start, start + 20))) for start in (0, 50)]
    assert [future.result() for future in outer] == [
        [number * number for number in range(start, start + 20)] for start in (0, 50)
    ]
    worker, inner = pool.submit(tasks.nested_pids).result()
    assert len({worker, inner, os.getpid()}) == 3


def test_a_thread_pool_and_a_stdlib_process_within_a_task(pool: mh.ProcessPoolExecutor) -> None:
    def threads() -> list[int]:
        with mh.ThreadPoolExecutor(2) as inner:
            return list(inner.map(tasks.square, range(5)))

    def process() -> int | None:
        import multiprocessing

        child = multiprocessing.get_context("spawn").Process(target=tasks.square, args=(2,))
        child.start()
        child.join()
        return child.exitcode

    assert pool.submit(threads).result() == [0, 1, 4, 9, 16]
    assert pool.submit(process).result() == 0


def test_workers_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "17")
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        assert executor.submit(tasks.environment, "OMP_NUM_THREADS").result() == str(cpus)
        assert executor.submit(tasks.environment, "MKL_NUM_THREADS").result() == "17"
    with mh.ProcessPoolExecutor(max_workers=100 * cpus) as executor:
        assert executor.submit(tasks.environment, "OMP_NUM_THREADS").result() == "1"
    with mh.ProcessPoolExecutor(max_workers=1, worker_threads=3) as executor:
        assert executor.submit(tasks.environment, "OPENBLAS_NUM_THREADS").result() == "3"
    assert "OMP_NUM_THREADS" not in os.environ


# The end


def test_leaving_the_with_block_waits(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        futures = [executor.submit(tasks.nap, 0.01, number) for number in range(30)]
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(tasks.pid)
    executor.shutdown()


def test_shutdown_without_waiting(tmp_path: Path) -> None:
    executor = mh.ProcessPoolExecutor(max_workers=1)
    futures = [executor.submit(tasks.hold, tmp_path), executor.submit(tasks.pid)]
    begun(tmp_path)
    executor.shutdown(wait=False)
    assert not futures[0].done()
    let_go(tmp_path)
    assert [future.result() > 0 for future in futures] == [True, True]


def test_shutdown_cancels_what_has_not_begun(tmp_path: Path) -> None:
    executor = mh.ProcessPoolExecutor(max_workers=1)
    running = executor.submit(tasks.hold, tmp_path)
    queued = [executor.submit(tasks.pid) for _ in range(3_000)]
    begun(tmp_path)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    let_go(tmp_path)
    assert running.result() > 0
    executor.shutdown()


def test_terminate_ends_what_runs(tmp_path: Path) -> None:
    executor = mh.ProcessPoolExecutor(max_workers=1)
    futures = [executor.submit(tasks.hold, tmp_path), executor.submit(tasks.pid)]
    begun(tmp_path)
    executor.terminate()
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()


@pytest.mark.parametrize(
    ("how", "number"), [("terminate_workers", signal.SIGTERM), ("kill_workers", signal.SIGKILL)]
)
def test_workers_are_ended_as_they_are(how: str, number: int, tmp_path: Path) -> None:
    executor = mh.ProcessPoolExecutor(max_workers=1)
    running = executor.options(retries=3).submit(tasks.hold, tmp_path)
    queued = executor.submit(tasks.pid)
    worker = executor._processes[begun(tmp_path)]
    getattr(executor, how)()
    with pytest.raises(mh.WorkerDied):
        running.result()
    assert queued.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.pid)
    worker.join()
    assert worker.exitcode == -number
    executor.shutdown()
    # Neither without workers, nor twice, is it an error.
    getattr(executor, how)()
    getattr(mh.ProcessPoolExecutor(), how)()


def test_a_pool_that_nobody_keeps_ends_when_its_tasks_are_done(tmp_path: Path) -> None:
    def start() -> tuple[weakref.ref[Any], Future[int]]:
        executor = mh.ProcessPoolExecutor(max_workers=1)
        return weakref.ref(executor), executor.submit(tasks.hold, tmp_path)

    executor, future = start()
    begun(tmp_path)
    assert executor() is None
    let_go(tmp_path)
    assert future.result() > 0
    # That its processes and threads are gone is looked at after every test.


def test_kept_futures_do_not_keep_the_pool() -> None:
    def work() -> list[Future[int]]:
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            return [executor.submit(tasks.square, number) for number in range(5)]

    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    work()
    before = open_files()
    kept = [work() for _ in range(5)]
    eventually(lambda: open_files() <= before, "the pools' descriptors are closed")
    assert [future.result() for future in kept[0]] == [0, 1, 4, 9, 16]


# Nonsense


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": 10_000}, ValueError, "max_workers must be <= 500"),
        ({"max_workers": "two"}, TypeError, "max_workers"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"finalizer": 5}, TypeError, "finalizer must be a callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
        ({"max_memory_per_child": -1}, ValueError, "max_memory_per_child must be >= 1"),
        ({"worker_threads": 0}, ValueError, "worker_threads must be >= 1"),
        ({"preload": "json"}, TypeError, "preload must be a sequence of module names"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must not be negative"),
        ({"grace": "long"}, TypeError, "grace must be a number of seconds"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        mh.ProcessPoolExecutor(**arguments)


def test_what_cannot_be_called(pool: mh.ProcessPoolExecutor) -> None:
    nothing: Any = 5
    with pytest.raises(TypeError, match="callable"):
        pool.submit(nothing).result()
    with pytest.raises(TypeError):
        pool.submit()  # type: ignore[call-arg]


def test_nonsense_sizes(pool: mh.ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        pool.resize(0)
    with pytest.raises(ValueError, match="<= 500"):
        pool.resize(501)


def test_a_preload_that_fails_is_told() -> None:
    with mh.ProcessPoolExecutor(max_workers=1, preload=["no_such_module_here"]) as executor:
        with pytest.raises(
            BrokenProcessPool, match=r"(?s)^workers cannot start.*no_such_module_here"
        ):
            executor.submit(tasks.pid).result()
