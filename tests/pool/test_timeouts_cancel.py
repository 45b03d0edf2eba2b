"""Tasks that run too long, and tasks that nobody wants any more."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, is_running, let_go

# Soon over.
SHORT_S = 0.15
# Even a busy machine does in this time what takes a moment.
ENOUGH_S = 2.0

# Why some run on one Python only. On each run those in whose tasks something is raised.
KILLED = "Rust kills the worker, of which Python hears nothing"
DECIDED = "whose time is up, and what becomes of the task, is decided in Rust"


@contextmanager
def pool(max_workers: int = 1, grace: float = 5.0) -> Iterator[mh.ProcessPoolExecutor]:
    """Return a pool whose workers have nothing to import: that may take longer than SHORT_S."""
    with mh.ProcessPoolExecutor(max_workers, preload=["tasks"], grace=grace) as executor:
        yield executor


def worker_pids(executor: mh.ProcessPoolExecutor) -> set[int]:
    return {worker["pid"] for worker in executor.statistics()["workers"] if worker["pid"]}


# Timeouts


def test_a_task_that_takes_too_long(tmp_path: Path) -> None:
    with pool() as executor:
        future = executor.options(timeout=SHORT_S, name="slow").submit(
            tasks.sleep_for_ever, tmp_path
        )
        queued = [executor.submit(tasks.square, number) for number in range(20)]
        with pytest.raises(mh.TaskTimeout) as caught:
            future.result()
        assert [each.result() for each in queued] == [number**2 for number in range(20)]
        replacement = executor.submit(tasks.pid).result()
        statistics = executor.statistics()
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, mh.ManyhandsError)
    assert (error.task, error.timeout) == ("slow", SHORT_S)
    assert "slow" in str(error)
    assert "0.15" in str(error)
    # It was asked first, and replaced all the same.
    assert replacement != begun(tmp_path, "task-stopped")
    assert (statistics["failed"], statistics["done"]) == (1, 21)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.task, copy.timeout) == (str(error), "slow", SHORT_S)


@pytest.mark.once(KILLED)
@pytest.mark.parametrize("deaf", [tasks.be_stubborn, tasks.block_signals, tasks.compute_in_c])
def test_a_task_that_does_not_listen_is_killed(deaf: Callable[[Path], Any], tmp_path: Path) -> None:
    with pool(grace=0.1) as executor:
        future = executor.options(timeout=SHORT_S).submit(deaf, tmp_path)
        with pytest.raises(mh.TaskTimeout):
            future.result()
        pid = begun(tmp_path)
        assert executor.submit(tasks.square, 3).result() == 9
        eventually(lambda: not is_running(pid), "the worker is killed")
        assert executor.statistics()["failed"] == 1


@pytest.mark.once(KILLED)
@pytest.mark.parametrize("how", ["timeout", "cancel", "terminate"])
def test_programs_that_a_killed_task_has_started_end_with_it(how: str, tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1, grace=0.1) as executor:
        options = executor.options(timeout=60 if how != "timeout" else 1)
        future = options.submit(tasks.start_and_be_stubborn, tmp_path)
        begun(tmp_path)
        child, daemon = begun(tmp_path, "child"), begun(tmp_path, "daemon")
        if how == "cancel":
            future.cancel()
        elif how == "terminate":
            executor.terminate()
        try:
            eventually(lambda: not is_running(child), "the child of the killed worker ends")
            assert is_running(daemon), "what has a session of its own is meant to stay"
        finally:
            os.kill(daemon, signal.SIGKILL)


@pytest.mark.once(DECIDED)
def test_waiting_in_the_queue_does_not_count(tmp_path: Path) -> None:
    with pool() as executor:
        executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        future = executor.options(timeout=ENOUGH_S).submit(tasks.square, 3)
        patience = time.monotonic() + 1.2 * ENOUGH_S
        eventually(lambda: time.monotonic() > patience, "the timeout passes")
        let_go(tmp_path)
        assert future.result() == 9


@pytest.mark.once(DECIDED)
def test_a_task_in_time_is_left_alone() -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        view = executor.options(timeout=20)
        pids = {view.submit(tasks.pid).result() for _ in range(200)}
        assert executor.statistics()["failed"] == 0
    assert len(pids) <= 2


@pytest.mark.once(DECIDED)
def test_a_task_that_timed_out_is_tried_again(tmp_path: Path) -> None:
    with pool() as executor:
        view = executor.options(timeout=ENOUGH_S, retries=2)
        assert view.submit(tasks.sleep_at_first, tmp_path, 2).result() == 3
        statistics = executor.statistics()
    assert (statistics["retried"], statistics["done"], statistics["failed"]) == (2, 1, 0)


@pytest.mark.once(DECIDED)
def test_a_timeout_is_not_retried_when_only_other_errors_are(tmp_path: Path) -> None:
    with pool() as executor:
        view = executor.options(timeout=ENOUGH_S, retries=5, retry_on=KeyError)
        with pytest.raises(mh.TaskTimeout):
            view.submit(tasks.sleep_at_first, tmp_path, 9).result()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.once(DECIDED)
def test_only_the_slow_item_of_a_map_fails() -> None:
    with pool(2) as executor:
        results = executor.options(timeout=ENOUGH_S).map(
            tasks.nap, [0.0, 0.0, 60.0], range(3), chunksize=1
        )
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(mh.TaskTimeout):
            next(results)


@pytest.mark.once(KILLED)
def test_timeouts_are_noticed_while_nobody_waits_and_python_is_busy(tmp_path: Path) -> None:
    with pool(grace=0.05) as executor:
        future = executor.options(timeout=SHORT_S).submit(tasks.be_stubborn, tmp_path)
        pid = begun(tmp_path)
        # One long call that keeps the interpreter to itself: deadlines are not Python's business.
        deadline = time.monotonic() + 30
        while is_running(pid):
            sum(range(20_000_000))
            assert time.monotonic() < deadline
        assert isinstance(future.exception(), mh.TaskTimeout)


def test_timeout_of_a_task_that_prints_all_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    def chatter() -> None:
        while True:
            print("chatter")

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        with pytest.raises(mh.TaskTimeout):
            executor.options(timeout=SHORT_S).submit(chatter).result()
        assert executor.submit(tasks.square, 2).result() == 4
    assert set(capsys.readouterr().out.split()) == {"chatter"}


# Cancelling


@pytest.mark.once(DECIDED)
def test_a_queued_task_is_withdrawn(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(tasks.hold, tmp_path)
        begun(tmp_path)
        called: list[Future[str]] = []
        file = tmp_path / "notes"
        futures = [executor.submit(tasks.note, file, str(number)) for number in range(5_000)]
        futures[0].add_done_callback(called.append)
        for future in futures[::2]:
            assert future.cancel()
            assert future.cancel()
            assert future.cancelled()
        with pytest.raises(CancelledError):
            futures[0].result()
        eventually(lambda: called == [futures[0]], "its callback is called")
        let_go(tmp_path)
        assert [future.result() for future in futures[1::2]] == [
            str(number) for number in range(1, 5_000, 2)
        ]
        assert not futures[1].cancel()
        assert executor.statistics()["cancelled"] == 2_500
    assert len(file.read_text().split()) == 2_500


def test_a_running_task_is_ended_and_only_it(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        other = executor.submit(tasks.hold, tmp_path, "other")
        future = executor.submit(tasks.sleep_for_ever, tmp_path)
        other_pid = begun(tmp_path, "other")
        pid = begun(tmp_path)
        queued = [executor.submit(tasks.square, number) for number in range(100)]
        assert future.running()
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        with pytest.raises(CancelledError):
            future.result()
        assert begun(tmp_path, "task-stopped") == pid
        assert [each.result() for each in queued] == [number**2 for number in range(100)]
        assert not other.done()
        let_go(tmp_path)
        assert other.result() == other_pid
        statistics = executor.statistics()
        assert worker_pids(executor) == {pid, other_pid}, "a worker that listens is kept"
    assert (statistics["cancelled"], statistics["done"], statistics["failed"]) == (1, 101, 0)


@pytest.mark.once(KILLED)
@pytest.mark.parametrize("deaf", [tasks.be_stubborn, tasks.block_signals, tasks.compute_in_c])
def test_a_running_task_that_does_not_listen(deaf: Callable[[Path], Any], tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1, grace=0.1) as executor:
        future = executor.submit(deaf, tmp_path)
        pid = begun(tmp_path)
        queued = executor.submit(tasks.square, 7)
        assert future.cancel()
        assert future.cancelled()
        assert queued.result() == 49
        eventually(lambda: not is_running(pid), "its worker is killed")
        statistics = executor.statistics()
        assert (statistics["cancelled"], statistics["done"], statistics["failed"]) == (1, 1, 0)


def test_a_task_that_ends_in_its_grace_is_not_killed(tmp_path: Path) -> None:
    def finish_the_work() -> str:
        try:
            tasks.sleep_for_ever(tmp_path)
        except BaseException:
            return "dropped"
        return "never"

    with mh.ProcessPoolExecutor(max_workers=1, grace=60) as executor:
        future = executor.submit(finish_the_work)
        pid = begun(tmp_path)
        assert future.cancel()
        assert executor.submit(tasks.pid).result() == pid
        assert future.cancelled()


@pytest.mark.parametrize("quiet", [tasks.wait_without_a_look, tasks.wait_in_a_destructor])
def test_no_signal_is_lost(quiet: Callable[[Path], None], tmp_path: Path) -> None:
    with pool(grace=60.0) as executor:
        future = executor.submit(quiet, tmp_path)
        pid = begun(tmp_path)
        assert future.cancel()
        assert begun(tmp_path, "task-stopped") == pid
        assert executor.submit(tasks.pid).result() == pid


def test_cancelling_what_is_done(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.submit(tasks.square, 3)
        assert future.result() == 9
        assert not future.cancel()
        assert not future.cancelled()
        assert future.result() == 9


def test_a_waiting_thread_hears_of_a_cancel(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.submit(tasks.sleep_for_ever, tmp_path)
        begun(tmp_path)
        heard: list[BaseException] = []

        def listen() -> None:
            try:
                future.result()
            except BaseException as error:
                heard.append(error)

        threads = [threading.Thread(target=listen) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert future.cancel()
        for thread in threads:
            thread.join()
        assert [type(error) for error in heard] == [CancelledError] * 3


def test_cancelling_an_asyncio_task_ends_the_work(tmp_path: Path) -> None:
    async def change_of_mind(executor: mh.ProcessPoolExecutor) -> None:
        work = asyncio.ensure_future(executor.run(tasks.sleep_for_ever, tmp_path))
        while not (tmp_path / "task.pid").exists():
            await asyncio.sleep(0.002)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        asyncio.run(change_of_mind(executor))
        assert begun(tmp_path, "task-stopped") == begun(tmp_path)


def test_an_interrupt_from_elsewhere_is_not_for_the_task(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal; what it means is for the parent to say."""
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.submit(tasks.hold, tmp_path)
        pid = begun(tmp_path)
        for _ in range(20):
            os.kill(pid, signal.SIGINT)
        let_go(tmp_path)
        assert future.result() == pid
        os.kill(pid, signal.SIGINT)  # now it is idle
        assert executor.submit(tasks.pid).result() == pid


def test_many_cancels_hit_nobody_else() -> None:
    """A signal that comes late must not strike the next task of the same worker."""
    choice = random.Random(1)
    with mh.ProcessPoolExecutor(max_workers=2, grace=20) as executor:
        futures = []
        for number in range(600):
            futures.append(executor.submit(tasks.nap, choice.uniform(0, 0.004), number))
            if choice.random() < 0.4:
                choice.choice(futures[-8:]).cancel()
        for number, future in enumerate(futures):
            if not future.cancelled():
                assert future.result() == number
        cancelled = sum(future.cancelled() for future in futures)
        statistics = executor.statistics()
    assert cancelled > 50
    assert (statistics["cancelled"], statistics["done"]) == (cancelled, 600 - cancelled)
    assert statistics["failed"] == 0


@pytest.mark.once(DECIDED)
def test_cancelled_then_retried_is_not_run_again(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.options(retries=5).submit(tasks.sleep_at_first, tmp_path, 99)
        eventually((tmp_path / "call-1").exists, "the first attempt begins")
        assert future.cancel()
        assert executor.submit(tasks.square, 2).result() == 4
    assert len(list(tmp_path.iterdir())) == 1
