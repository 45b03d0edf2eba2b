"""A worker that dies takes one task along, and nobody else notices."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, is_running, let_go, parent_of

WAYS = {
    "SIGKILL": (signal.SIGKILL, None),
    "SIGTERM": (signal.SIGTERM, None),
    "exit 3": (None, 3),
    "exit 0": (None, 0),
    "segfault": (signal.SIGSEGV, None),
    "abort": (signal.SIGABRT, None),
}


def worker_pids(executor: mh.ProcessPoolExecutor) -> list[int]:
    return [worker["pid"] for worker in executor.statistics()["workers"] if worker["pid"]]


@pytest.mark.parametrize("how", WAYS)
def test_only_the_task_of_the_dead_worker_fails(how: str, tmp_path: Path) -> None:
    number, exitcode = WAYS[how]
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        first = executor.submit(tasks.pid)
        dying = executor.submit(tasks.announce_and_die, tmp_path, how)
        queued = [executor.submit(tasks.square, n) for n in range(100)]
        with pytest.raises(mh.WorkerDied) as caught:
            dying.result()
        assert [future.result() for future in queued] == [n * n for n in range(100)]
        statistics = executor.statistics()
        (worker,) = statistics["workers"]
    error = caught.value
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, mh.ManyhandsError)
    assert error.pid == begun(tmp_path, "dying") == first.result()
    assert (error.task, error.signal, error.exitcode) == ("announce_and_die", number, exitcode)
    assert error.rss_bytes is not None
    assert 1 << 20 < error.rss_bytes < 1 << 36
    assert "announce_and_die" in str(error)
    assert str(error.pid) in str(error)
    assert (signal.Signals(number).name if number else f"exit code {exitcode}") in str(error)
    assert worker["pid"] != error.pid
    assert worker["restarts"] == 1
    assert (statistics["done"], statistics["failed"], statistics["retried"]) == (101, 1, 0)


def test_the_error_travels_well(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        error = executor.options(name="doomed").submit(tasks.die, "exit 7").exception()
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, mh.WorkerDied)
    assert (str(copy), copy.task, copy.exitcode) == (str(error), "doomed", 7)


@pytest.mark.parametrize("how", ["SIGKILL", "exit 3", "segfault"])
def test_a_task_is_tried_again(how: str, tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        future = executor.options(retries=3).submit(tasks.die_at_first, tmp_path, 2, how)
        assert future.result() == 3
        statistics = executor.statistics()
    assert (statistics["done"], statistics["failed"], statistics["retried"]) == (1, 0, 2)


def test_tries_come_to_an_end(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.options(retries=2).submit(tasks.die_at_first, tmp_path, 99, "SIGKILL")
        with pytest.raises(mh.WorkerDied):
            future.result()
        assert executor.statistics()["retried"] == 2
        assert executor.submit(tasks.square, 3).result() == 9
    assert len(list(tmp_path.iterdir())) == 3


def test_a_death_is_not_retried_when_only_other_errors_are(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        view = executor.options(retries=5, retry_on=OSError)
        with pytest.raises(mh.WorkerDied):
            view.submit(tasks.die_at_first, tmp_path, 99, "SIGKILL").result()
    assert len(list(tmp_path.iterdir())) == 1


def test_many_deaths_in_a_row(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        dying = [executor.submit(tasks.die, "SIGKILL") for _ in range(25)]
        for future in dying:
            with pytest.raises(mh.WorkerDied):
                future.result()
        assert executor.submit(tasks.square, 4).result() == 16
        assert executor.statistics()["failed"] == 25


def test_all_workers_at_once(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=4) as executor:
        holding = [executor.submit(tasks.hold, tmp_path, str(index)) for index in range(4)]
        queued = [executor.submit(tasks.square, n) for n in range(50)]
        pids = [begun(tmp_path, str(index)) for index in range(4)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        errors = [future.exception() for future in holding]
        assert all(isinstance(error, mh.WorkerDied) for error in errors)
        assert [error.pid for error in errors if isinstance(error, mh.WorkerDied)] == pids
        assert [future.result() for future in queued] == [n * n for n in range(50)]


def test_an_idle_worker_that_dies_is_not_missed() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        pid = executor.submit(tasks.pid).result()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in worker_pids(executor), "the death is noticed")
        assert executor.submit(tasks.pid).result() != pid
        statistics = executor.statistics()
    assert (statistics["done"], statistics["failed"]) == (2, 0)


def test_a_death_just_before_a_submit() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        for _ in range(20):
            pid = executor.submit(tasks.pid).result()
            os.kill(pid, signal.SIGKILL)
            # The dying worker may or may not be known to be dead: the task runs all the same.
            assert executor.submit(tasks.square, 5).result() == 25


def test_the_zygote_dies(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        running = [executor.submit(tasks.hold, tmp_path, name) for name in "ab"]
        pids = [begun(tmp_path, name) for name in "ab"]
        queued = [executor.submit(tasks.square, n) for n in range(20)]
        os.kill(parent_of(pids[0]), signal.SIGKILL)
        for future, pid in zip(running, pids, strict=True):
            with pytest.raises(mh.WorkerDied) as caught:
                future.result()
            assert caught.value.pid == pid
            eventually(lambda pid=pid: not is_running(pid), "workers go with the zygote")  # type: ignore[misc]
        assert [future.result() for future in queued] == [n * n for n in range(20)]


def test_a_stopped_worker_is_not_dead(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        future = executor.submit(tasks.hold, tmp_path)
        pid = begun(tmp_path)
        os.kill(pid, signal.SIGSTOP)
        try:
            let_go(tmp_path)
            assert [executor.submit(tasks.square, n).result() for n in range(50)][-1] == 49**2
            assert future.running()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert future.result() == pid
        assert executor.statistics()["failed"] == 0


def test_a_death_in_the_middle_of_a_map() -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        results = executor.map(tasks.die_if, range(40), [25] * 40, chunksize=1)
        assert [next(results) for _ in range(25)] == list(range(25))
        with pytest.raises(mh.WorkerDied):
            next(results)


def test_callbacks_and_asyncio_hear_of_a_death() -> None:
    heard: list[BaseException | None] = []

    def listen(future: Future[Any]) -> None:
        heard.append(future.exception())

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(tasks.die, "SIGKILL").add_done_callback(listen)
        eventually(lambda: heard, "the callback is called")
    assert isinstance(heard[0], mh.WorkerDied)


def test_workers_that_die_as_they_start_break_the_pool() -> None:
    with mh.ProcessPoolExecutor(max_workers=2, initializer=os._exit, initargs=(5,)) as executor:
        futures = [executor.submit(tasks.square, n) for n in range(10)]
        for future in futures:
            with pytest.raises(BrokenProcessPool, match="die as soon as they start"):
                future.result()
        with pytest.raises(BrokenProcessPool, match="die as soon as they start"):
            executor.submit(tasks.square, 2)


def test_a_worker_that_dies_once_as_it_starts(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(
        max_workers=1, initializer=tasks.die_at_first, initargs=(tmp_path, 1, "SIGKILL")
    ) as executor:
        assert executor.submit(tasks.square, 3).result() == 9


# Out of memory


def run_out_of_memory(size: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))
    try:
        return len(bytearray(8 * size))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def limit_for_good() -> list[int]:
    """Leaves the worker with hardly any memory, and needs some for its result."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))
    return list(range(10_000_000))


def test_a_memory_error_is_an_error_like_any_other() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        with pytest.raises(MemoryError):
            executor.submit(run_out_of_memory, 1 << 30).result()
        assert executor.submit(tasks.square, 3).result() == 9
        assert executor.statistics()["workers"][0]["restarts"] == 0


@pytest.mark.skipif(
    "t" in sys.abiflags, reason="such Pythons have more addresses in reserve than the limit takes"
)
def test_a_worker_without_memory_harms_nobody_else(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        other = executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        starved = executor.submit(limit_for_good).exception()
        assert isinstance(starved, MemoryError | mh.WorkerDied)
        # Small tasks go on; they may be unlucky in the starved worker, but never hang.
        for number in range(50):
            future = executor.submit(tasks.square, number)
            error = future.exception()
            assert error is None or isinstance(error, MemoryError | mh.WorkerDied)
        let_go(tmp_path)
        assert other.result() > 0


def test_the_kernel_kills_the_worker_that_takes_too_much(tmp_path: Path) -> None:
    """The kernel's killer sends SIGKILL; the error tells how much memory the worker had."""
    size = 300 << 20

    def take_and_die() -> None:
        tasks.allocate(size)
        tasks.die("SIGKILL")

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        error = executor.submit(take_and_die).exception()
    assert isinstance(error, mh.WorkerDied)
    assert error.rss_bytes is not None
    assert error.rss_bytes >= size
    assert "MiB" in str(error)
